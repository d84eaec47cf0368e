//! A closure as a sink: how an embedding application takes pictures.

use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoSink},
};

/// Calls a closure with every picture. It runs on the decode thread: it must not block for long.
pub struct CallbackSink<F>(F);

impl<F: FnMut(Timestamp, &VideoFrame) + Send> CallbackSink<F> {
    /// A sink that calls `f` with the time of rendering and the picture.
    pub fn new(f: F) -> Self {
        Self(f)
    }
}

impl<F> std::fmt::Debug for CallbackSink<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackSink")
    }
}

impl<F: FnMut(Timestamp, &VideoFrame) + Send> VideoSink for CallbackSink<F> {
    fn write(&mut self, now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError> {
        (self.0)(now, frame);
        Ok(())
    }
}
