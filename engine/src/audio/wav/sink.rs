//! A recording: blocks go to a writer thread over a bounded queue, and the header on disk is never far behind.

use crate::media::{AudioFrame, AudioSink, MediaError, SAMPLE_RATE};
use std::{
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

/// Blocks that may wait for the disk: ten seconds. Beyond it the sink breaks rather than leave a hole.
const QUEUE: usize = 1_000;
/// The header is brought up to date after this many blocks: half a second.
const HEADER_EVERY: u32 = 50;

/// A WAV file as a sink: 48 kHz, 16 bit, mono.
#[derive(Debug)]
pub struct WavSink {
    path: PathBuf,
    queue: Option<SyncSender<Vec<i16>>>,
    writer: Option<JoinHandle<Result<(), hound::Error>>>,
}

impl WavSink {
    /// Creates the file at `path`, or empties it.
    ///
    /// # Errors
    /// Where the file cannot be created or no thread started.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, MediaError> {
        let path = path.as_ref().to_path_buf();
        let fail = |what: String| MediaError::new(format!("cannot record to {}: {what}", path.display()));
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = hound::WavWriter::create(&path, spec).map_err(|e| fail(e.to_string()))?;
        file.flush().map_err(|e| fail(e.to_string()))?;
        let (queue, blocks) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("halloo-wav".into())
            .spawn(move || write(file, &blocks))
            .map_err(|e| fail(e.to_string()))?;
        Ok(Self { path, queue: Some(queue), writer: Some(writer) })
    }

    fn close(&mut self) -> Result<(), MediaError> {
        self.queue = None;
        let Some(writer) = self.writer.take() else { return Ok(()) };
        match writer.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(self.error(&e.to_string())),
            Err(_) => Err(self.error("the writer thread panicked")),
        }
    }

    fn error(&self, what: &str) -> MediaError {
        MediaError::new(format!("recording to {} stopped: {what}", self.path.display()))
    }
}

impl AudioSink for WavSink {
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError> {
        let Some(queue) = &self.queue else { return Err(self.error("it is finished")) };
        let channels = usize::from(block.channels.max(1));
        let gain = f32::from(i16::MAX) / channels as f32;
        let samples =
            block.samples.chunks_exact(channels).map(|f| (f.iter().sum::<f32>() * gain).round() as i16).collect();
        match queue.try_send(samples) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(self.error("the disk is ten seconds behind")),
            Err(TrySendError::Disconnected(_)) => {
                Err(self.close().err().unwrap_or_else(|| self.error("the writer thread ended")))
            }
        }
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        self.close()
    }
}

impl Drop for WavSink {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            tracing::warn!(error = %e, "recording not completed");
        }
    }
}

fn write(mut file: hound::WavWriter<BufWriter<File>>, blocks: &Receiver<Vec<i16>>) -> Result<(), hound::Error> {
    let mut since_header = 0;
    while let Ok(block) = blocks.recv() {
        for sample in block {
            file.write_sample(sample)?;
        }
        since_header += 1;
        if since_header == HEADER_EVERY {
            file.flush()?;
            since_header = 0;
        }
    }
    file.finalize()
}
