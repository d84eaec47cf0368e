//! Media as it crosses module boundaries: frames, and the sources and sinks that hand them over.

mod audio;
#[cfg(feature = "video")]
mod video;

pub use audio::{AudioFrame, AudioRead, AudioSink, AudioSource, BLOCK, BLOCK_SAMPLES, SAMPLE_RATE};
#[cfg(feature = "video")]
pub use video::{Plane, SourceWaker, VideoFrame, VideoFrameError, VideoPoll, VideoSink, VideoSource};

/// Why a source or sink could not be opened or stopped working. The text says what was attempted, on what, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct MediaError(pub String);

impl MediaError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
