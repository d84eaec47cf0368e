//! A recording: constant frame rate and picture size, as long as the time it covers.
//!
//! Slot `n` of the file shows the newest picture that had arrived at `start + (n + 1) / rate`. Pictures are written by a thread
//! of its own behind a bounded queue; where the disk cannot keep up, a picture is dropped and the one before it repeated, so
//! that the length stays right. The file is flushed with every picture: cut off anywhere, it plays to that point.

use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoSink},
    video::{i420::I420Buffer, pace::Pace, scale::letterbox},
};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

/// How a recording is written.
#[derive(Clone, Copy, Debug)]
pub struct Y4mSinkOptions {
    /// Frames per second of the file.
    pub frame_rate: u32,
}

impl Default for Y4mSinkOptions {
    fn default() -> Self {
        Self { frame_rate: 30 }
    }
}

/// What became of the pictures, final after `finish`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Y4mSinkStats {
    /// Frames in the file.
    pub frames: u64,
    /// Pictures that the file shows.
    pub pictures: u64,
    /// Pictures dropped since the disk could not keep up.
    pub dropped: u64,
}

/// Pictures that may wait for the disk: a second of them at 30 frames per second.
const QUEUE: usize = 30;
/// Size of a recording that never got a picture.
const EMPTY_SIZE: (u32, u32) = (640, 360);

/// A Y4M file that records.
#[derive(Debug)]
pub struct Y4mSink {
    path: PathBuf,
    rate: u32,
    start: Option<Timestamp>,
    /// The picture of the slot that is not over yet.
    current: Option<VideoFrame>,
    /// Slots handed to the writer, or owed to it.
    slots: u64,
    /// Slots to add to the next message, since the queue was full.
    owed: u64,
    queue: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<io::Result<u64>>>,
    stats: Y4mSinkStats,
}

/// The next `slots` slots of the file.
struct Message {
    /// What they show; `None`: what was shown before, or black.
    picture: Option<VideoFrame>,
    slots: u64,
    /// Slots of what was shown before, which come first.
    before: u64,
}

impl Y4mSink {
    /// Creates (or empties) a file.
    ///
    /// # Errors
    /// Where it cannot be created, or the rate is not possible.
    pub fn create(path: impl AsRef<Path>, options: Y4mSinkOptions) -> Result<Self, MediaError> {
        Pace::from_ratio(options.frame_rate.into(), 1)?;
        let path = path.as_ref().to_owned();
        let cannot = |e: io::Error| MediaError::new(format!("the recording {} cannot be created: {e}", path.display()));
        let file = File::create(&path).map_err(cannot)?;
        let (queue, messages) = sync_channel(QUEUE);
        let rate = options.frame_rate;
        let writer = std::thread::Builder::new()
            .name("y4m-writer".into())
            .spawn(move || Writer::new(file, rate).run(&messages))
            .map_err(cannot)?;
        Ok(Self {
            path,
            rate,
            start: None,
            current: None,
            slots: 0,
            owed: 0,
            queue: Some(queue),
            writer: Some(writer),
            stats: Y4mSinkStats::default(),
        })
    }

    /// The recording begins here. Without this it begins with the first picture.
    pub fn start(&mut self, now: Timestamp) {
        self.start.get_or_insert(now);
    }

    /// What became of the pictures.
    pub fn stats(&self) -> Y4mSinkStats {
        self.stats
    }

    /// Hands over the slots up to `end`, which show the current picture.
    fn close_slots(&mut self, end: u64) -> Result<(), MediaError> {
        if end <= self.slots {
            return Ok(());
        }
        let picture = self.current.take();
        let has_picture = picture.is_some();
        let message = Message { picture, slots: end - self.slots, before: self.owed };
        match self.queue.as_ref().map(|queue| queue.try_send(message)) {
            Some(Ok(())) => {
                self.owed = 0;
                self.stats.pictures += u64::from(has_picture);
            }
            Some(Err(TrySendError::Full(_))) => {
                self.owed += end - self.slots;
                self.stats.dropped += u64::from(has_picture);
            }
            Some(Err(TrySendError::Disconnected(_))) | None => return self.join(),
        }
        self.slots = end;
        Ok(())
    }

    /// How many slots are over at `now`.
    fn slots_at(&self, now: Timestamp, round: impl Fn(f64) -> f64) -> u64 {
        self.start.map_or(0, |start| round(now.since(start).as_secs_f64() * f64::from(self.rate)) as u64)
    }

    fn join(&mut self) -> Result<(), MediaError> {
        self.queue = None;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let failed =
            |why: String| MediaError::new(format!("the recording {} cannot be written: {why}", self.path.display()));
        match writer.join() {
            Ok(Ok(frames)) => {
                self.stats.frames = frames;
                Ok(())
            }
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed("its writer stopped".into())),
        }
    }
}

impl VideoSink for Y4mSink {
    fn write(&mut self, now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError> {
        self.start(now);
        // Rounding down by a hair keeps a picture that arrives exactly on a slot's edge out of the slot before.
        self.close_slots(self.slots_at(now, |slots| (slots + 1e-6).floor()))?;
        self.current = Some(frame.clone());
        Ok(())
    }

    fn finish(&mut self, now: Timestamp) -> Result<(), MediaError> {
        if self.writer.is_none() {
            return Ok(());
        }
        self.start(now);
        let end = self.slots_at(now, f64::round).max(self.slots);
        let message = Message { picture: self.current.take(), slots: end - self.slots, before: self.owed };
        if let Some(queue) = &self.queue {
            // The end may wait for the disk. An error shows in the join.
            let _ = queue.send(message);
        }
        self.join()
    }
}

impl Drop for Y4mSink {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// The thread that owns the file.
struct Writer {
    file: BufWriter<File>,
    rate: u32,
    size: Option<(u32, u32)>,
    shown: Option<VideoFrame>,
    /// Slots before the size was known.
    black: u64,
    frames: u64,
}

impl Writer {
    fn new(file: File, rate: u32) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), rate, size: None, shown: None, black: 0, frames: 0 }
    }

    fn run(mut self, messages: &Receiver<Message>) -> io::Result<u64> {
        while let Ok(message) = messages.recv() {
            self.repeat(message.before)?;
            if let Some(picture) = message.picture {
                self.show(&picture)?;
            }
            self.repeat(message.slots)?;
            self.file.flush()?;
        }
        if self.size.is_none() {
            self.begin(EMPTY_SIZE)?;
        }
        self.file.flush()?;
        Ok(self.frames)
    }

    fn show(&mut self, picture: &VideoFrame) -> io::Result<()> {
        let size = self.size.unwrap_or((picture.width(), picture.height()));
        if self.size.is_none() {
            self.begin(size)?;
        }
        self.shown = Some(letterbox(picture, size.0, size.1).map_err(io::Error::other)?);
        Ok(())
    }

    fn begin(&mut self, size: (u32, u32)) -> io::Result<()> {
        let (w, h) = size;
        writeln!(self.file, "YUV4MPEG2 W{w} H{h} F{}:1 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED", self.rate)?;
        self.size = Some(size);
        self.shown = Some(I420Buffer::black(w, h).into_frame(Timestamp::ZERO).map_err(io::Error::other)?);
        let black = std::mem::take(&mut self.black);
        self.repeat(black)
    }

    fn repeat(&mut self, slots: u64) -> io::Result<()> {
        let Some(frame) = &self.shown else {
            self.black += slots;
            return Ok(());
        };
        for _ in 0..slots {
            self.file.write_all(b"FRAME\n")?;
            for index in 0..3 {
                let (w, h) = frame.plane_size(index);
                let plane = frame.plane(index);
                if plane.stride == w {
                    self.file.write_all(&plane.data[..w * h])?;
                } else {
                    (0..h).try_for_each(|y| self.file.write_all(frame.row(index, y)))?;
                }
            }
            self.frames += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::{VideoPoll, VideoSource},
        video::y4m::{Repeat, Y4mSource},
    };

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("halloo-y4m-sink-{}-{name}.y4m", std::process::id()))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(5_000 + millis)
    }

    fn grey(size: (u32, u32), luma: u8) -> VideoFrame {
        let mut picture = I420Buffer::black(size.0, size.1);
        picture.plane_mut(0).fill(luma);
        picture.into_frame(Timestamp::ZERO).unwrap()
    }

    /// Luma in the middle of every frame.
    fn recorded(path: &Path) -> ((u32, u32), Vec<u8>) {
        let mut source = Y4mSource::open(path, Repeat::Once).unwrap();
        let mut lumas = vec![];
        let mut now = Timestamp::ZERO;
        loop {
            match source.poll(now).unwrap() {
                VideoPoll::Frame(frame) => {
                    lumas.push(frame.row(0, frame.height() as usize / 2)[frame.width() as usize / 2])
                }
                VideoPoll::Wait(next) => now = next,
                VideoPoll::Ended => return (source.size(), lumas),
            }
        }
    }

    #[test]
    fn gaps_are_filled_and_the_length_is_the_time_that_passed() {
        let path = path("gaps");
        let mut sink = Y4mSink::create(&path, Y4mSinkOptions { frame_rate: 10 }).unwrap();
        sink.start(at(0));
        for (millis, luma) in [(200, 50), (230, 60), (300, 70), (600, 80)] {
            sink.write(at(millis), &grey((16, 8), luma)).unwrap();
        }
        sink.finish(at(1_000)).unwrap();
        assert_eq!(recorded(&path), ((16, 8), vec![16, 16, 60, 70, 70, 70, 80, 80, 80, 80]));
        assert_eq!(sink.stats().frames, 10);
    }

    #[test]
    fn later_sizes_are_fitted_into_the_first() {
        let path = path("sizes");
        let mut sink = Y4mSink::create(&path, Y4mSinkOptions { frame_rate: 10 }).unwrap();
        for (i, size) in [(33, 17), (640, 360), (50, 90), (1, 1)].into_iter().enumerate() {
            sink.write(at(i as u64 * 100), &grey(size, 100 + i as u8)).unwrap();
        }
        sink.finish(at(400)).unwrap();
        assert_eq!(recorded(&path), ((33, 17), vec![100, 101, 102, 103]));
    }

    #[test]
    fn a_recording_without_pictures_is_black_and_as_long() {
        let path = path("black");
        let mut sink = Y4mSink::create(&path, Y4mSinkOptions { frame_rate: 10 }).unwrap();
        sink.start(at(0));
        sink.finish(at(510)).unwrap();
        assert_eq!(recorded(&path), ((640, 360), vec![16; 5]));
    }

    #[test]
    fn a_recording_that_is_cut_off_plays_to_that_point() {
        let path = path("cut");
        let mut sink = Y4mSink::create(&path, Y4mSinkOptions { frame_rate: 10 }).unwrap();
        for i in 0..5 {
            sink.write(at(i * 100), &grey((16, 8), 100 + i as u8)).unwrap();
        }
        sink.join().unwrap();
        assert_eq!(recorded(&path), ((16, 8), vec![100, 101, 102, 103]));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let error = Y4mSink::create("/nonexistent/a.y4m", Y4mSinkOptions::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/a.y4m"));
    }
}
