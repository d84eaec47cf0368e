//! Any source with a frame number stamped on its pictures, to measure delay on natural content.

use super::{frame_number, i420::I420Buffer};
use crate::{
    Timestamp,
    media::{MediaError, SourceWaker, VideoPoll, VideoSource},
};

/// Stamps pictures 0, 1, 2 and so on, in the order in which they leave the source.
#[derive(Debug)]
pub struct NumberedSource<S> {
    inner: S,
    next: u32,
}

impl<S: VideoSource> NumberedSource<S> {
    /// Numbers the pictures of `inner` from 0.
    pub fn new(inner: S) -> Self {
        Self { inner, next: 0 }
    }
}

impl<S: VideoSource> VideoSource for NumberedSource<S> {
    fn start(&mut self, waker: SourceWaker) -> Result<(), MediaError> {
        self.inner.start(waker)
    }

    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
        let frame = match self.inner.poll(now)? {
            VideoPoll::Frame(frame) => frame,
            other => return Ok(other),
        };
        let mut picture = I420Buffer::copy_of(&frame);
        frame_number::stamp(&mut picture, self.next);
        self.next = (self.next + 1) % frame_number::MODULUS;
        Ok(VideoPoll::Frame(picture.into_frame(frame.captured_at)?))
    }

    fn frame_rate(&self) -> f64 {
        self.inner.frame_rate()
    }
}
