//! Snapshots as PNG files.

use super::convert::to_rgb;
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoSink},
};
use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
};

/// Writes a picture to a file.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, frame: &VideoFrame) -> Result<(), MediaError> {
    let path = path.as_ref();
    let cannot =
        |e: &dyn std::fmt::Display| MediaError::new(format!("the picture {} cannot be written: {e}", path.display()));
    let rgb = to_rgb(frame)?;
    let file = File::create(path).map_err(|e| cannot(&e))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), frame.width(), frame.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|e| cannot(&e))?;
    writer.write_image_data(&rgb).map_err(|e| cannot(&e))?;
    writer.finish().map_err(|e| cannot(&e))
}

/// Writes the first picture it sees to a file, and ignores the rest.
#[derive(Debug)]
pub struct PngSnapshot {
    path: PathBuf,
    taken: bool,
}

impl PngSnapshot {
    /// A snapshot to be written to this file.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), taken: false }
    }
}

impl VideoSink for PngSnapshot {
    fn write(&mut self, _now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError> {
        if !self.taken {
            write_png(&self.path, frame)?;
            self.taken = true;
        }
        Ok(())
    }

    fn finish(&mut self, _now: Timestamp) -> Result<(), MediaError> {
        if self.taken {
            return Ok(());
        }
        Err(MediaError::new(format!("the snapshot {} was not taken: no picture came", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::pattern;

    #[test]
    fn the_first_picture_is_kept() {
        let path = std::env::temp_dir().join(format!("halloo-snapshot-{}.png", std::process::id()));
        let mut sink = PngSnapshot::new(&path);
        for (width, number) in [(321, 0), (100, 1)] {
            sink.write(Timestamp::ZERO, &pattern::draw(width, 181, number, Timestamp::ZERO).unwrap()).unwrap();
        }
        sink.finish(Timestamp::ZERO).unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(path).unwrap()));
        let reader = decoder.read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (321, 181));
    }
}
