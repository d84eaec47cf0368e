//! Sound inside the engine: 48 kHz, `f32`, interleaved, in blocks of 10 ms.

use super::MediaError;
use halloo_transport::Timestamp;
use std::time::Duration;

/// Samples per second and channel, everywhere between a device or file and Opus.
pub const SAMPLE_RATE: u32 = 48_000;
/// Length of the blocks that the audio thread works in.
pub const BLOCK: Duration = Duration::from_millis(10);
/// Samples per channel in a block.
pub const BLOCK_SAMPLES: usize = 480;

/// A stretch of sound at [`SAMPLE_RATE`]: full scale is -1.0 to 1.0.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioFrame {
    /// 1 (mono) or 2 (left and right, interleaved).
    pub channels: u8,
    /// `channels` x frames samples.
    pub samples: Vec<f32>,
    /// Capture: when its last sample was captured. Playout: when its first sample is played.
    pub at: Timestamp,
}

impl AudioFrame {
    /// A block of silence with one channel.
    pub fn silence(at: Timestamp) -> Self {
        Self { channels: 1, samples: vec![0.0; BLOCK_SAMPLES], at }
    }

    /// Samples per channel.
    pub fn len_per_channel(&self) -> usize {
        self.samples.len() / usize::from(self.channels.max(1))
    }
}

/// What a source gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AudioRead {
    /// The block was filled.
    Filled,
    /// Nothing to give just now: the block is sent as silence, and the source is asked again in 10 ms.
    Silence,
    /// The source has ended: it is dropped, and the track stays published and silent.
    Ended,
}

/// Where sound comes from. Called by the audio thread every 10 ms, in real time.
pub trait AudioSource: Send {
    /// Fills `block` with the next 10 ms: sets `channels` and overwrites all of `samples` (`channels` x [`BLOCK_SAMPLES`]).
    /// Must not block. `now` is when the block is handed over.
    ///
    /// # Errors
    /// Where the source broke; the engine raises an event with the text and goes on with silence.
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError>;
}

/// Where sound goes. Called by the audio thread every 10 ms, in real time, from when it is attached until it is detached.
pub trait AudioSink: Send {
    /// Takes the next 10 ms. Must not block for long: a sink that writes to a file buffers.
    ///
    /// # Errors
    /// Where the sink broke; the engine raises an event with the text and detaches it.
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError>;

    /// Nothing more will come: flush. Called once, also when the call ends.
    ///
    /// # Errors
    /// Where what was written could not be completed.
    fn finish(&mut self) -> Result<(), MediaError> {
        Ok(())
    }
}
