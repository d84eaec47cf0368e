//! A Y4M file as a source, paced by its own frame rate and streamed from disk.

use super::{Header, MAX_LINE};
use crate::{
    Timestamp,
    media::{MediaError, Plane, VideoFrame, VideoPoll, VideoSource},
    video::pace::Pace,
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// What happens at the end of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// The source ends.
    Once,
    /// It begins again, without a pause.
    Forever,
}

/// A Y4M file that plays.
#[derive(Debug)]
pub struct Y4mSource {
    path: PathBuf,
    reader: BufReader<File>,
    header: Header,
    first_frame_at: u64,
    repeat: Repeat,
    pace: Pace,
    /// Frames read or skipped so far, through all repetitions.
    position: u64,
    ended: bool,
}

impl Y4mSource {
    /// Opens a file and reads its first line.
    ///
    /// # Errors
    /// Where it cannot be read, is no Y4M file, is of an unsupported kind (the text names which), or holds no whole frame.
    pub fn open(path: impl AsRef<Path>, repeat: Repeat) -> Result<Self, MediaError> {
        let path = path.as_ref().to_owned();
        let file =
            File::open(&path).map_err(|e| MediaError::new(format!("{} cannot be opened: {e}", path.display())))?;
        let mut reader = BufReader::with_capacity(256 * 1024, file);
        let line = read_line(&mut reader)
            .map_err(|e| unreadable(&path, &e))?
            .ok_or_else(|| MediaError::new(format!("{} is not a Y4M file: it has no first line", path.display())))?;
        let header = Header::parse(&line).map_err(|e| MediaError::new(format!("{} {e}", path.display())))?;
        let pace = Pace::from_ratio(header.rate.0, header.rate.1)?;
        let first_frame_at = reader.stream_position().map_err(|e| unreadable(&path, &e))?;
        let mut source = Self { path, reader, header, first_frame_at, repeat, pace, position: 0, ended: false };
        if source.read_frame(Timestamp::ZERO)?.is_none() {
            return Err(MediaError::new(format!("{} holds no whole frame", source.path.display())));
        }
        source.rewind()?;
        Ok(source)
    }

    /// Width and height of its pictures.
    pub fn size(&self) -> (u32, u32) {
        (self.header.width, self.header.height)
    }

    fn rewind(&mut self) -> Result<(), MediaError> {
        self.reader.seek(SeekFrom::Start(self.first_frame_at)).map(drop).map_err(|e| unreadable(&self.path, &e))
    }

    /// The next frame; `None` at the end, and where the last frame is cut off.
    fn read_frame(&mut self, at: Timestamp) -> Result<Option<VideoFrame>, MediaError> {
        if !self.read_frame_line()? {
            return Ok(None);
        }
        let mut data = vec![0; self.header.frame_len()];
        match self.reader.read_exact(&mut data) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(unreadable(&self.path, &e)),
        }
        let mut rest = Bytes::from(data);
        let (w, h) = (self.header.width as usize, self.header.height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let planes =
            [(w, w * h), (cw, cw * ch), (cw, cw * ch)].map(|(stride, len)| Plane { data: rest.split_to(len), stride });
        VideoFrame::new(self.header.width, self.header.height, planes, at)
            .map(Some)
            .map_err(|e| MediaError::new(format!("{}: {e}", self.path.display())))
    }

    /// Passes over the next frame; whether there was one.
    fn skip_frame(&mut self) -> Result<bool, MediaError> {
        if !self.read_frame_line()? {
            return Ok(false);
        }
        let len = self.header.frame_len() as i64;
        self.reader.seek_relative(len - 1).map_err(|e| unreadable(&self.path, &e))?;
        // Seeking past the end succeeds; reading does not.
        let last = self.reader.read(&mut [0]).map_err(|e| unreadable(&self.path, &e))?;
        Ok(last == 1)
    }

    fn read_frame_line(&mut self) -> Result<bool, MediaError> {
        let line = read_line(&mut self.reader).map_err(|e| unreadable(&self.path, &e))?;
        match line {
            None => Ok(false),
            Some(line) if line == b"FRAME" || line.starts_with(b"FRAME ") => Ok(true),
            Some(_) => Err(MediaError::new(format!(
                "{} is damaged: where frame {} should begin stands something else",
                self.path.display(),
                self.position
            ))),
        }
    }

    /// Begins again where that is wanted; whether it goes on.
    fn at_end(&mut self) -> Result<bool, MediaError> {
        self.ended = self.repeat == Repeat::Once;
        if !self.ended {
            self.rewind()?;
        }
        Ok(!self.ended)
    }
}

impl VideoSource for Y4mSource {
    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
        if self.ended {
            return Ok(VideoPoll::Ended);
        }
        let due = match self.pace.due(now) {
            Ok(due) => due,
            Err(next) => return Ok(VideoPoll::Wait(next)),
        };
        while self.position < due {
            if !self.skip_frame()? && (!self.at_end()? || !self.skip_frame()?) {
                return Ok(VideoPoll::Ended);
            }
            self.position += 1;
        }
        let mut frame = self.read_frame(now)?;
        if frame.is_none() && self.at_end()? {
            frame = self.read_frame(now)?;
        }
        self.position += 1;
        Ok(frame.map_or(VideoPoll::Ended, VideoPoll::Frame))
    }

    fn frame_rate(&self) -> f64 {
        self.pace.frame_rate()
    }
}

/// A line without its line feed; `None` at the end of the file, also in the middle of a line.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.len() as u64 == MAX_LINE {
        // No line at all, but something else: let the caller see that.
        return Ok(Some(line));
    }
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

fn unreadable(path: &Path, error: &io::Error) -> MediaError {
    MediaError::new(format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn file(name: &str, header: &str, frames: &[(&str, u8)], cut: usize) -> PathBuf {
        let path = std::env::temp_dir().join(format!("halloo-y4m-{}-{name}", std::process::id()));
        let mut data = format!("{header}\n").into_bytes();
        for (line, luma) in frames {
            data.extend(format!("{line}\n").bytes());
            data.extend([[*luma; 15].as_slice(), &[128; 12]].concat());
        }
        data.truncate(data.len() - cut);
        std::fs::write(&path, data).unwrap();
        path
    }

    const HEADER: &str = "YUV4MPEG2 W5 H3 F10:1 C420jpeg";

    fn lumas(source: &mut Y4mSource, times: &[u64]) -> Vec<Option<u8>> {
        let poll = |t: &u64| match source.poll(Timestamp::from_millis(1_000 + t)).unwrap() {
            VideoPoll::Frame(frame) => Some(frame.row(0, 0)[0]),
            _ => None,
        };
        times.iter().map(poll).collect()
    }

    #[test]
    fn frames_come_at_the_files_own_rate_and_late_ones_are_skipped() {
        let path = file("pace", HEADER, &[("FRAME", 1), ("FRAME Ip", 2), ("FRAME", 3), ("FRAME", 4)], 0);
        let mut source = Y4mSource::open(path, Repeat::Once).unwrap();
        assert_eq!(source.size(), (5, 3));
        assert_eq!(lumas(&mut source, &[0, 50, 100, 350, 360]), [Some(1), None, Some(2), Some(4), None]);
        assert!(matches!(source.poll(Timestamp::from_millis(1_400)).unwrap(), VideoPoll::Ended));
    }

    #[test]
    fn a_repeated_file_goes_on_without_a_pause() {
        let path = file("loop", HEADER, &[("FRAME", 1), ("FRAME", 2), ("FRAME", 3)], 0);
        let mut source = Y4mSource::open(path, Repeat::Forever).unwrap();
        assert_eq!(lumas(&mut source, &[0, 100, 200, 300, 700, 800]), [1, 2, 3, 1, 2, 3].map(Some));
    }

    #[test]
    fn a_cut_off_last_frame_ends_the_file_at_the_one_before() {
        for cut in [1, 20, 27, 30] {
            let path = file("cut", HEADER, &[("FRAME", 1), ("FRAME", 2), ("FRAME", 3)], cut);
            let mut source = Y4mSource::open(&path, Repeat::Once).unwrap();
            assert_eq!(lumas(&mut source, &[0, 100, 200]), [Some(1), Some(2), None], "cut {cut}");
            let mut source = Y4mSource::open(&path, Repeat::Forever).unwrap();
            assert_eq!(lumas(&mut source, &[0, 100, 200, 500]), [1, 2, 1, 2].map(Some), "cut {cut}");
        }
    }

    #[test]
    fn the_next_frame_is_announced() {
        let path = file("wait", HEADER, &[("FRAME", 1), ("FRAME", 2)], 0);
        let mut source = Y4mSource::open(path, Repeat::Once).unwrap();
        let start = Timestamp::from_millis(1_000);
        assert!(matches!(source.poll(start).unwrap(), VideoPoll::Frame(_)));
        let VideoPoll::Wait(next) = source.poll(start).unwrap() else { panic!("not due") };
        assert_eq!(next, start + Duration::from_millis(100));
    }

    #[test]
    fn unusable_files_are_named_with_the_reason() {
        let open = |path: PathBuf| Y4mSource::open(path, Repeat::Once).unwrap_err().to_string();
        assert!(open("/nonexistent/clip.y4m".into()).contains("/nonexistent/clip.y4m cannot be opened"));
        assert!(open(file("empty", HEADER, &[], 0)).contains("no whole frame"));
        assert!(open(file("444", "YUV4MPEG2 W5 H3 C444", &[("FRAME", 1)], 0)).contains("C444"));
        assert!(open(file("junk", &"x".repeat(9_000), &[], 0)).contains("not a Y4M"));
        assert!(open(file("damaged", HEADER, &[("FRAMING", 1)], 0)).contains("damaged"));
    }
}
