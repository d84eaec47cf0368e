//! When each numbered picture was captured and shown: a source or sink that also logs the number in every picture.
//!
//! # File
//! JSON lines. A source writes `{"number":7,"captured_ns":...,"at_ns":...}`, a sink `{"number":7,"at_ns":...}`, on the
//! monotonic clock; `number` is null where none could be read. Written by a thread of its own; lines that do not fit its
//! queue are dropped and counted in a last line `{"dropped":3}`.

use anyhow::{Context, Result};
use halloo_engine::{
    Timestamp, clock,
    media::{MediaError, SourceWaker, VideoFrame, VideoPoll, VideoSink, VideoSource},
    video::frame_number,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};

/// Ten seconds at 60 pictures a second.
const QUEUE: usize = 600;

/// A picture that was captured or shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Picture {
    /// The number in the picture.
    pub number: Option<u32>,
    /// When it was captured; sources only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captured_ns: Option<u64>,
    /// When it was handed over or shown.
    pub at_ns: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Picture(Picture),
    Dropped { dropped: u64 },
}

/// Reads a log. A last line that was cut off, as by `kill -9`, is left out.
///
/// # Errors
/// Where the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Picture>> {
    let file = File::open(path).with_context(|| format!("could not read the video log {}", path.display()))?;
    let mut pictures = Vec::new();
    for line in BufReader::new(file).lines() {
        if let Ok(Line::Picture(picture)) = serde_json::from_str(&line?) {
            pictures.push(picture);
        }
    }
    Ok(pictures)
}

struct LogWriter {
    queue: Option<SyncSender<Line>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    dropped: u64,
}

impl LogWriter {
    fn create(path: &Path) -> Result<Self, MediaError> {
        let failed =
            |e: std::io::Error| MediaError::new(format!("could not write the video log {}: {e}", path.display()));
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        let (queue, lines) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("video-log".into())
            .spawn(move || {
                while let Ok(line) = lines.recv() {
                    serde_json::to_writer(&mut file, &line)?;
                    file.write_all(b"\n")?;
                    file.flush()?;
                }
                Ok(())
            })
            .map_err(failed)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), dropped: 0 })
    }

    fn log(&mut self, picture: Picture) {
        if let Some(queue) = &self.queue
            && queue.try_send(Line::Picture(picture)).is_err()
        {
            self.dropped += 1;
        }
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        if self.dropped > 0 {
            // The writer is gone only where it failed, and then says so below.
            let _ = queue.send(Line::Dropped { dropped: self.dropped });
        }
        drop(queue);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(e))) => Err(MediaError::new(format!("the video log could not be completed: {e}"))),
            Some(Err(_)) => Err(MediaError::new("the video log's thread failed; the log is incomplete")),
            _ => Ok(()),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "video log");
        }
    }
}

/// A source that logs the pictures that it hands over.
pub struct LoggedVideoSource {
    inner: Box<dyn VideoSource>,
    log: LogWriter,
}

impl LoggedVideoSource {
    /// Logs `inner` to `path`.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn new(inner: Box<dyn VideoSource>, path: &Path) -> Result<Self, MediaError> {
        Ok(Self { inner, log: LogWriter::create(path)? })
    }
}

impl VideoSource for LoggedVideoSource {
    fn start(&mut self, waker: SourceWaker) -> Result<(), MediaError> {
        self.inner.start(waker)
    }

    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
        let poll = self.inner.poll(now)?;
        if let VideoPoll::Frame(frame) = &poll {
            self.log.log(Picture {
                number: frame_number::read(frame),
                captured_ns: Some(frame.captured_at.as_nanos()),
                at_ns: clock::now().as_nanos(),
            });
        }
        Ok(poll)
    }

    fn frame_rate(&self) -> f64 {
        self.inner.frame_rate()
    }
}

/// A sink that logs the pictures that it takes.
pub struct LoggedVideoSink {
    inner: Box<dyn VideoSink>,
    log: LogWriter,
}

impl LoggedVideoSink {
    /// Logs `inner` to `path`.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn new(inner: Box<dyn VideoSink>, path: &Path) -> Result<Self, MediaError> {
        Ok(Self { inner, log: LogWriter::create(path)? })
    }
}

impl VideoSink for LoggedVideoSink {
    fn write(&mut self, now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError> {
        let at_ns = clock::now().as_nanos();
        self.log.log(Picture { number: frame_number::read(frame), captured_ns: None, at_ns });
        self.inner.write(now, frame)
    }

    fn finish(&mut self, now: Timestamp) -> Result<(), MediaError> {
        let inner = self.inner.finish(now);
        self.log.finish().and(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_engine::video::{CallbackSink, pattern};

    #[test]
    fn numbers_and_times_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shown.jsonl");
        let mut sink = LoggedVideoSink::new(Box::new(CallbackSink::new(|_, _: &VideoFrame| {})), &path).unwrap();
        for number in [3, 4, 9] {
            sink.write(clock::now(), &pattern::draw(320, 180, number, Timestamp::ZERO).unwrap()).unwrap();
        }
        sink.finish(clock::now()).unwrap();
        let pictures = read(&path).unwrap();
        assert_eq!(pictures.iter().map(|p| p.number).collect::<Vec<_>>(), [Some(3), Some(4), Some(9)]);
        assert!(pictures.iter().all(|p| p.at_ns <= clock::now().as_nanos()));
    }
}
