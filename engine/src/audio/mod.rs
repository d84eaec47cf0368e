//! Sound: sources and sinks, Opus, the jitter buffer, and the thread that drives them in blocks of 10 ms.
//!
//! ```text
//!  AudioSource -> mute -> level -> Opus (20 ms) -> MediaOutput         WavSource, ToneSource, devices, the application's own
//!  RemoteAudioInput -> jitter buffer -> AudioSinks, mixer -> playout          WavSink, devices, the application's own
//! ```

mod console;
mod delay;
#[cfg(feature = "devices")]
mod device;
#[cfg(feature = "devices")]
mod drift;
pub(crate) mod jitter_buffer;
mod level;
mod mixer;
mod opus;
mod pace;
mod priority;
mod publication;
mod remote;
mod resample;
#[cfg(all(test, feature = "devices"))]
mod test_alloc;
#[cfg(test)]
mod test_signal;
mod thread;
mod time_stretch;
mod tone;
mod wav;

#[cfg(feature = "devices")]
pub use device::{DeviceChoice, DeviceError, DeviceEvent, DeviceInfo, DeviceKind, DeviceSource, Playout, devices};
pub use jitter_buffer::JitterBufferStats;
pub(crate) use opus::OpusEncoder;
pub use opus::{Application, AudioSettings, Dtx, Fec, OpusError};
pub use pace::PacedBy;
pub use publication::PublishedStats;
pub use remote::{RemoteAudioInput, RemoteStats};
pub use resample::ResampleError;
pub use thread::{AudioConfig, AudioHandle, AudioStats, AudioThread, Levels, Priority};
pub use tone::{Silence, ToneSource};
pub use wav::{Repeat, WavSink, WavSource};

use crate::media::MediaError;

/// Samples per channel in a packet that this side sends: 20 ms.
pub(crate) const SAMPLES_PER_PACKET: usize = 960;

/// Whether a track is silenced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Muted {
    /// It is heard.
    #[default]
    No,
    /// It is silent.
    Yes,
}

/// An attached sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SinkId(u64);

/// Why the audio thread did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The system gave no thread.
    #[error("cannot start the audio thread: {0}")]
    Thread(String),
    /// The codec refused the settings.
    #[error(transparent)]
    Codec(OpusError),
    /// The call is over.
    #[error("the audio thread has stopped: the call is over")]
    Stopped,
    /// Hundreds of commands wait: the machine is overloaded, or they are sent in a loop.
    #[error("the audio thread is far behind with its commands; try again")]
    Behind,
}

/// What happened on the audio thread.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AudioEvent {
    /// A source gave all it had. The track stays published and silent.
    SourceEnded {
        /// The published track.
        track: u32,
    },
    /// A source broke. The track stays published and silent.
    SourceBroken {
        /// The published track.
        track: u32,
        /// What the source said.
        error: MediaError,
    },
    /// A sink broke and was detached.
    SinkBroken {
        /// The sink.
        sink: SinkId,
        /// What the sink said.
        error: MediaError,
    },
    /// libopus refused a block or a setting; the track goes on.
    EncoderFailed {
        /// The published track.
        track: u32,
        /// What libopus said.
        error: OpusError,
    },
    /// Something happened to the playout device.
    #[cfg(feature = "devices")]
    Device {
        /// Which kind of device.
        kind: DeviceKind,
        /// What happened.
        event: DeviceEvent,
    },
}
