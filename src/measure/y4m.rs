//! Recorded pictures, one after the other, for measuring.

use anyhow::{Context, Result, bail};
use halloo_engine::{
    Timestamp,
    media::{Plane, VideoFrame},
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// Reads a recording's frames in order. Only what the engine's own recordings hold: 8-bit 4:2:0.
#[derive(Debug)]
pub struct Frames {
    file: BufReader<File>,
    width: u32,
    height: u32,
    /// Frames per second.
    pub frame_rate: f64,
}

impl Frames {
    /// Opens a recording.
    ///
    /// # Errors
    /// Where it cannot be read or is no Y4M file.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let mut file = BufReader::new(File::open(path).with_context(|| format!("could not read {name}"))?);
        let mut header = String::new();
        file.by_ref().take(4_096).read_line(&mut header).with_context(|| format!("could not read {name}"))?;
        if !header.starts_with("YUV4MPEG2 ") {
            bail!("{name} is no Y4M file");
        }
        let field = |tag: char| header.split_ascii_whitespace().find_map(|f| f.strip_prefix(tag));
        let (Some(width), Some(height)) =
            (field('W').and_then(|v| v.parse().ok()), field('H').and_then(|v| v.parse().ok()))
        else {
            bail!("{name} does not say its size");
        };
        let rate = field('F')
            .and_then(|f| f.split_once(':'))
            .and_then(|(n, d)| Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok().filter(|d| *d > 0.0)?));
        Ok(Self { file, width, height, frame_rate: rate.unwrap_or(30.0) })
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn read(&mut self) -> Result<Option<VideoFrame>> {
        let mut line = Vec::new();
        self.file.by_ref().take(256).read_until(b'\n', &mut line)?;
        if !line.starts_with(b"FRAME") {
            return Ok(None);
        }
        let (w, h) = (self.width as usize, self.height as usize);
        let mut plane = |w: usize, h: usize| -> Result<Option<Plane>> {
            let mut data = vec![0; w * h];
            Ok(match self.file.read_exact(&mut data) {
                Ok(()) => Some(Plane { data: data.into(), stride: w }),
                // A recording of a killed process may end within a frame.
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => None,
                Err(e) => return Err(e.into()),
            })
        };
        let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
        let (Some(y), Some(u), Some(v)) = (plane(w, h)?, plane(half_w, half_h)?, plane(half_w, half_h)?) else {
            return Ok(None);
        };
        Ok(Some(VideoFrame::new(self.width, self.height, [y, u, v], Timestamp::ZERO)?))
    }
}

impl Iterator for Frames {
    type Item = Result<VideoFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
