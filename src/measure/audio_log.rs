//! When each block of sound was spoken or heard: a source or sink that also logs every block with the monotonic clock.
//!
//! # File
//! The 8 bytes `HALLOOA1`, then one record a block of 10 ms: `CLOCK_MONOTONIC` in nanoseconds (u64), then 480 mono samples (i16), all
//! little-endian. Written by a thread of its own: the audio thread only hands blocks over, and never waits. Blocks that
//! do not fit the queue are dropped, and the log says how many in its last record: the time `u64::MAX`, then their number
//! as a u64 in the place of the first four samples.

use anyhow::{Context, Result, bail};
use halloo_engine::{
    Timestamp, clock,
    media::{AudioFrame, AudioRead, AudioSink, AudioSource, BLOCK_SAMPLES, MediaError, SAMPLE_RATE},
};
use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

const MAGIC: &[u8; 8] = b"HALLOOA1";
const RECORD: usize = 8 + 2 * BLOCK_SAMPLES;
/// Five seconds.
const QUEUE: usize = 500;
const END: u64 = u64::MAX;

/// What was spoken or heard, block by block.
#[derive(Clone, Debug, Default)]
pub struct AudioLog {
    /// When each block was handed over (source) or written (sink).
    pub times: Vec<Timestamp>,
    /// Their samples, one after the other: [`BLOCK_SAMPLES`] a block.
    pub samples: Vec<f32>,
    /// Blocks that are missing because the log's queue was full.
    pub dropped: u64,
}

impl AudioLog {
    /// Reads a log. A last record that was cut off, as by `kill -9`, is left out.
    ///
    /// # Errors
    /// Where the file cannot be read or is no such log.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|mut f| f.read_to_end(&mut bytes))
            .with_context(|| format!("could not read the audio log {}", path.display()))?;
        let Some(records) = bytes.strip_prefix(MAGIC) else {
            bail!("{} is not an audio log", path.display());
        };
        let mut log = Self::default();
        for record in records.chunks_exact(RECORD) {
            let (time, samples) = record.split_at(8);
            let time = u64::from_le_bytes(time.try_into().unwrap_or_default());
            if time == END {
                log.dropped = u64::from_le_bytes(samples[..8].try_into().unwrap_or_default());
                continue;
            }
            log.times.push(Timestamp::from_nanos(time));
            log.samples.extend(samples.chunks_exact(2).map(|s| f32::from(i16::from_le_bytes([s[0], s[1]])) / 32_768.0));
        }
        Ok(log)
    }
}

/// What was heard of several at once, each block where its time puts it.
pub fn mixed(logs: &[AudioLog]) -> Vec<f32> {
    let Some(start) = logs.iter().filter_map(|log| log.times.first()).min() else { return Vec::new() };
    let mut mix = Vec::new();
    for log in logs {
        let late = log.times.first().map_or(0.0, |first| first.seconds_from(*start));
        let from = (late * f64::from(SAMPLE_RATE)) as usize;
        mix.resize(mix.len().max(from + log.samples.len()), 0.0);
        mix[from..].iter_mut().zip(&log.samples).for_each(|(mixed, sample)| *mixed += sample);
    }
    mix.iter_mut().for_each(|sample: &mut f32| *sample = sample.clamp(-1.0, 1.0));
    mix
}

struct Block {
    time: u64,
    samples: [i16; BLOCK_SAMPLES],
}

/// The writing end of a log.
struct LogWriter {
    queue: Option<SyncSender<Block>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    dropped: u64,
}

impl LogWriter {
    fn create(path: &Path) -> Result<Self, MediaError> {
        let failed =
            |e: std::io::Error| MediaError::new(format!("could not write the audio log {}: {e}", path.display()));
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        file.write_all(MAGIC).map_err(failed)?;
        let (queue, blocks) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("audio-log".into())
            .spawn(move || write_blocks(file, &blocks))
            .map_err(failed)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), dropped: 0 })
    }

    fn log(&mut self, time: Timestamp, frame: Option<&AudioFrame>) {
        let mut block = Block { time: time.as_nanos(), samples: [0; BLOCK_SAMPLES] };
        if let Some(frame) = frame {
            let channels = usize::from(frame.channels.max(1));
            for (out, sample) in block.samples.iter_mut().zip(frame.samples.chunks_exact(channels)) {
                let mono = sample.iter().sum::<f32>() / channels as f32;
                *out = (mono.clamp(-1.0, 1.0) * 32_767.0).round() as i16;
            }
        }
        if let Some(queue) = &self.queue
            && queue.try_send(block).is_err()
        {
            self.dropped += 1;
        }
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        if self.dropped > 0 {
            let mut end = Block { time: END, samples: [0; BLOCK_SAMPLES] };
            for (sample, bytes) in end.samples.iter_mut().zip(self.dropped.to_le_bytes().chunks_exact(2)) {
                *sample = i16::from_le_bytes([bytes[0], bytes[1]]);
            }
            // The writer is gone only where it failed, and then says so below.
            let _ = queue.send(end);
        }
        drop(queue);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(e))) => Err(MediaError::new(format!("the audio log could not be completed: {e}"))),
            Some(Err(_)) => Err(MediaError::new("the audio log's thread failed; the log is incomplete")),
            _ => Ok(()),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "audio log");
        }
    }
}

fn write_blocks(mut file: BufWriter<File>, blocks: &Receiver<Block>) -> std::io::Result<()> {
    let mut since_flush = 0;
    while let Ok(block) = blocks.recv() {
        file.write_all(&block.time.to_le_bytes())?;
        for sample in block.samples {
            file.write_all(&sample.to_le_bytes())?;
        }
        since_flush += 1;
        if since_flush == 100 {
            file.flush()?;
            since_flush = 0;
        }
    }
    file.flush()
}

/// A source that logs what it hands over, and when.
pub struct LoggedAudioSource {
    inner: Box<dyn AudioSource>,
    log: LogWriter,
}

impl LoggedAudioSource {
    /// Logs `inner` to `path`.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn new(inner: Box<dyn AudioSource>, path: &Path) -> Result<Self, MediaError> {
        Ok(Self { inner, log: LogWriter::create(path)? })
    }
}

impl AudioSource for LoggedAudioSource {
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        let read = self.inner.read(now, block)?;
        self.log.log(clock::now(), (read == AudioRead::Filled).then_some(&*block));
        Ok(read)
    }
}

/// A sink that logs what it takes, and when.
pub struct LoggedAudioSink {
    inner: Box<dyn AudioSink>,
    log: LogWriter,
}

impl LoggedAudioSink {
    /// Logs `inner` to `path`.
    ///
    /// # Errors
    /// Where the file cannot be created.
    pub fn new(inner: Box<dyn AudioSink>, path: &Path) -> Result<Self, MediaError> {
        Ok(Self { inner, log: LogWriter::create(path)? })
    }
}

impl AudioSink for LoggedAudioSink {
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError> {
        self.log.log(clock::now(), Some(block));
        self.inner.write(block)
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let inner = self.inner.finish();
        self.log.finish().and(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ramp(f32);

    impl AudioSource for Ramp {
        fn read(&mut self, _: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
            self.0 += 0.25;
            block.channels = 2;
            block.samples = vec![self.0; 2 * BLOCK_SAMPLES];
            Ok(if self.0 < 1.0 { AudioRead::Filled } else { AudioRead::Silence })
        }
    }

    struct Nowhere;

    impl AudioSink for Nowhere {
        fn write(&mut self, _: &AudioFrame) -> Result<(), MediaError> {
            Ok(())
        }
    }

    #[test]
    fn blocks_and_their_times_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source.log");
        let before = clock::now();
        let mut source = LoggedAudioSource::new(Box::new(Ramp(0.0)), &path).unwrap();
        let mut block = AudioFrame::silence(Timestamp::ZERO);
        for _ in 0..4 {
            source.read(clock::now(), &mut block).unwrap();
        }
        drop(source);
        let log = AudioLog::read(&path).unwrap();
        assert_eq!((log.times.len(), log.samples.len(), log.dropped), (4, 4 * BLOCK_SAMPLES, 0));
        assert!(log.times[0] >= before && log.times[3] >= log.times[0] && log.times[3] <= clock::now());
        for (block, want) in [0.25, 0.5, 0.75, 0.0].into_iter().enumerate() {
            assert!((log.samples[block * BLOCK_SAMPLES] - want).abs() < 1e-3);
        }
    }

    #[test]
    fn a_log_cut_off_in_mid_record_reads_up_to_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sink.log");
        let mut sink = LoggedAudioSink::new(Box::new(Nowhere), &path).unwrap();
        for _ in 0..3 {
            sink.write(&AudioFrame::silence(Timestamp::ZERO)).unwrap();
        }
        sink.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
        assert_eq!(AudioLog::read(&path).unwrap().times.len(), 2);
    }

    #[test]
    fn something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"RIFF").unwrap();
        assert!(AudioLog::read(&path).unwrap_err().to_string().contains("not an audio log"));
    }
}
