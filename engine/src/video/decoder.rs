//! AV1 decoding by dav1d: a temporal unit in, its picture out, at once and without copying the samples.
//!
//! All layers are decoded and the top one of a temporal unit is kept. Pictures that are not 8-bit 4:2:0 are refused with a text.

// Brings the library itself, built from source; `dav1d` only declares it.
use libdav1d_sys as _;

use crate::{
    Timestamp,
    media::{MediaError, Plane, VideoFrame},
};
use bytes::Bytes;
use dav1d::{PixelLayout, PlanarImageComponent, Settings};

/// Why a temporal unit gave no picture.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The bitstream is broken or misses its references: ask for a key frame.
    #[error("dav1d could not decode a picture: {0}")]
    Broken(String),
    /// The stream is sound, but of a kind that is not supported: a key frame will not help.
    #[error("{0}")]
    Unsupported(String),
}

/// An AV1 decoder.
pub struct Decoder {
    inner: dav1d::Decoder,
    threads: u32,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// The largest picture that is decoded, in pixels: 8K. A hostile header must not make dav1d allocate more.
const MAX_PIXELS: u32 = 7_680 * 4_320;
/// From 1920x1080 on, one thread may not keep up.
const TWO_THREADS_FROM: u64 = 1_920 * 1_080;

impl Decoder {
    /// A decoder that waits for a key frame.
    ///
    /// # Errors
    /// Where dav1d cannot start, as when memory is short.
    pub fn new() -> Result<Self, MediaError> {
        Self::with_threads(1)
    }

    fn with_threads(threads: u32) -> Result<Self, MediaError> {
        let mut settings = Settings::new();
        settings.set_n_threads(threads);
        settings.set_max_frame_delay(1);
        settings.set_all_layers(true);
        settings.set_frame_size_limit(MAX_PIXELS);
        let inner = dav1d::Decoder::with_settings(&settings)
            .map_err(|e| MediaError::new(format!("the AV1 decoder dav1d cannot start: {e}")))?;
        Ok(Self { inner, threads })
    }

    /// Decodes one temporal unit. `None` where it holds no picture to show.
    ///
    /// # Errors
    /// Where the unit is broken or of an unsupported kind; see [`DecodeError`].
    pub fn decode(&mut self, unit: Bytes, at: Timestamp) -> Result<Option<VideoFrame>, DecodeError> {
        if unit.is_empty() {
            return Ok(None);
        }
        let mut result = self.inner.send_data(unit, None, None, None);
        let mut top = None;
        // Each round takes out what is ready and puts in what did not fit; a unit is finite, and so are its pictures.
        for _ in 0..64 {
            match self.inner.get_picture() {
                Ok(picture) => top = Some(picture),
                Err(dav1d::Error::Again) if result.is_ok() => break,
                Err(dav1d::Error::Again) => {}
                Err(error) => return Err(self.broken(error)),
            }
            match result {
                Ok(()) => {}
                Err(dav1d::Error::Again) => result = self.inner.send_pending_data(),
                Err(error) => return Err(self.broken(error)),
            }
        }
        if result.is_err() {
            return Err(self.broken(dav1d::Error::Again));
        }
        top.map(|picture| into_frame(&picture, at)).transpose()
    }

    /// Uses as many threads as pictures of this size need. A new number starts the decoder afresh: call it at a key frame.
    ///
    /// # Errors
    /// Where dav1d cannot start.
    pub fn prepare_for(&mut self, width: u32, height: u32) -> Result<bool, MediaError> {
        let threads = if u64::from(width) * u64::from(height) >= TWO_THREADS_FROM { 2 } else { 1 };
        if threads == self.threads {
            return Ok(false);
        }
        *self = Self::with_threads(threads)?;
        Ok(true)
    }

    fn broken(&mut self, error: dav1d::Error) -> DecodeError {
        // Forget pending data and references: the next key frame starts clean.
        self.inner.flush();
        DecodeError::Broken(error.to_string())
    }
}

fn into_frame(picture: &dav1d::Picture, at: Timestamp) -> Result<VideoFrame, DecodeError> {
    let (width, height) = (picture.width(), picture.height());
    let (bits, layout) = (picture.bit_depth(), picture.pixel_layout());
    if bits != 8 || !matches!(layout, PixelLayout::I420 | PixelLayout::I400) {
        return Err(DecodeError::Unsupported(format!(
            "the peer sends {bits}-bit {layout:?} pictures of {width}x{height}; only 8-bit 4:2:0 is supported"
        )));
    }
    let luma = plane(picture, PlanarImageComponent::Y);
    let planes = if layout == PixelLayout::I400 {
        let stride = width.div_ceil(2) as usize;
        let grey = Plane { data: Bytes::from(vec![128; stride * height.div_ceil(2) as usize]), stride };
        [luma, grey.clone(), grey]
    } else {
        [luma, plane(picture, PlanarImageComponent::U), plane(picture, PlanarImageComponent::V)]
    };
    VideoFrame::new(width, height, planes, at).map_err(|e| DecodeError::Unsupported(e.to_string()))
}

/// The plane's samples where dav1d put them, kept alive by the reference.
fn plane(picture: &dav1d::Picture, component: PlanarImageComponent) -> Plane {
    let stride = picture.stride(component) as usize;
    Plane { data: Bytes::from_owner(picture.plane(component)), stride }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_an_error_or_nothing_and_never_a_picture() {
        let mut decoder = Decoder::new().unwrap();
        for unit in [&b"\x12\x00"[..], b"nonsense that is no AV1 at all", &[0xFF; 200], &[0x0A, 0x7F, 1, 2, 3], &[]] {
            let result = decoder.decode(Bytes::copy_from_slice(unit), Timestamp::ZERO);
            assert!(!matches!(result, Ok(Some(_))), "{unit:?}");
        }
    }
}
