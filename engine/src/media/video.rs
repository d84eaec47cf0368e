//! Pictures inside the engine: I420, reference-counted, converted only where a sink wants it.

use super::MediaError;
use bytes::Bytes;
use halloo_transport::Timestamp;
use std::sync::Arc;

/// One plane of samples: rows of `stride` bytes, of which the first `width` count.
#[derive(Clone, Debug)]
pub struct Plane {
    /// At least `stride * (height - 1) + width` bytes.
    pub data: Bytes,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A picture in I420 (planar Y, U, V; chroma halved in both directions and rounded up), limited range, BT.601 below
/// 720 lines and BT.709 from there on. Cloning shares the samples.
#[derive(Clone, Debug)]
pub struct VideoFrame {
    width: u32,
    height: u32,
    planes: Arc<[Plane; 3]>,
    /// When it was captured, on the engine's monotonic clock; on a received frame, when it arrived complete.
    pub captured_at: Timestamp,
}

/// Why planes do not make a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VideoFrameError {
    /// A side is zero or above 16,384.
    #[error("a picture of {width}x{height} is not possible: each side must be 1 to 16384")]
    Size {
        /// Asked width in pixels.
        width: u32,
        /// Asked height in pixels.
        height: u32,
    },
    /// A plane holds too few bytes for the size.
    #[error("plane {plane} holds {have} bytes, but {need} are needed")]
    Plane {
        /// 0 for Y, 1 for U, 2 for V.
        plane: usize,
        /// Bytes present.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
}

impl VideoFrame {
    /// A frame of these planes.
    ///
    /// # Errors
    /// Where the size is impossible or a plane too short.
    pub fn new(width: u32, height: u32, planes: [Plane; 3], captured_at: Timestamp) -> Result<Self, VideoFrameError> {
        if width == 0 || height == 0 || width > 16_384 || height > 16_384 {
            return Err(VideoFrameError::Size { width, height });
        }
        for (plane, p) in planes.iter().enumerate() {
            let (w, h) = plane_size(width, height, plane);
            let need = p.stride.max(w) * (h - 1) + w;
            if p.stride < w || p.data.len() < need {
                return Err(VideoFrameError::Plane { plane, have: p.data.len(), need });
            }
        }
        Ok(Self { width, height, planes: Arc::new(planes), captured_at })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Plane 0 (Y), 1 (U) or 2 (V).
    ///
    /// # Panics
    /// Where `index` is above 2.
    pub fn plane(&self, index: usize) -> &Plane {
        &self.planes[index]
    }

    /// Samples in a row and rows of plane 0, 1 or 2.
    pub fn plane_size(&self, index: usize) -> (usize, usize) {
        plane_size(self.width, self.height, index)
    }

    /// Row `y` of plane `index`, without its stride's padding.
    ///
    /// # Panics
    /// Where the row does not exist.
    pub fn row(&self, index: usize, y: usize) -> &[u8] {
        let (w, _) = self.plane_size(index);
        let plane = &self.planes[index];
        &plane.data[y * plane.stride..y * plane.stride + w]
    }
}

fn plane_size(width: u32, height: u32, index: usize) -> (usize, usize) {
    match index {
        0 => (width as usize, height as usize),
        _ => (width.div_ceil(2) as usize, height.div_ceil(2) as usize),
    }
}

/// What a source answered.
#[derive(Debug)]
pub enum VideoPoll {
    /// A new frame.
    Frame(VideoFrame),
    /// None yet: ask again at this time, or when the [`SourceWaker`] is called.
    Wait(Timestamp),
    /// The source has ended; the track stays published and shows its last frame.
    Ended,
}

/// Wakes the video thread that polls a source, before the time its last [`VideoPoll::Wait`] named.
#[derive(Clone)]
pub struct SourceWaker(Arc<dyn Fn() + Send + Sync>);

impl SourceWaker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the video thread. Cheap; may be called from any thread, but not from an audio callback.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for SourceWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SourceWaker")
    }
}

/// Where pictures come from. Polled by a video thread of its own.
pub trait VideoSource: Send {
    /// Called once before the first poll. A source that is pushed to (a camera, an application) keeps the waker.
    ///
    /// # Errors
    /// Where the source cannot start.
    fn start(&mut self, waker: SourceWaker) -> Result<(), MediaError> {
        let _ = waker;
        Ok(())
    }

    /// The newest frame that is due at `now`. A source that fell behind skips to the newest.
    ///
    /// # Errors
    /// Where the source broke; the engine raises an event with the text, and the track shows its last frame.
    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError>;

    /// Frames per second that the source intends to give, for the encoder's rate control.
    fn frame_rate(&self) -> f64 {
        30.0
    }
}

/// Where pictures go. Called by the track's decode thread, from when it is attached until it is detached.
pub trait VideoSink: Send {
    /// Takes a decoded frame; `now` is the time of rendering. Sizes may change from frame to frame.
    ///
    /// # Errors
    /// Where the sink broke; the engine raises an event with the text and detaches it.
    fn write(&mut self, now: Timestamp, frame: &VideoFrame) -> Result<(), MediaError>;

    /// Nothing more will come: flush. Called once, also when the call ends.
    ///
    /// # Errors
    /// Where what was written could not be completed.
    fn finish(&mut self, now: Timestamp) -> Result<(), MediaError> {
        let _ = now;
        Ok(())
    }
}
