//! Scaling of pictures, plane by plane, and fitting one into a fixed size with black bars.

use super::i420::I420Buffer;
use crate::media::{MediaError, VideoFrame};
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use std::cell::RefCell;

thread_local! {
    /// Keeps its coefficient tables and buffers from frame to frame.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// `frame` at this size, stretched; a cheap clone where it already has it.
///
/// # Errors
/// Where a side is 0 or above 16,384.
pub fn scale(frame: &VideoFrame, width: u32, height: u32) -> Result<VideoFrame, MediaError> {
    if (frame.width(), frame.height()) == (width, height) {
        return Ok(frame.clone());
    }
    if width == 0 || height == 0 {
        return Err(MediaError::new(format!("a picture cannot be scaled to {width}x{height}")));
    }
    let mut out = I420Buffer::black(width, height);
    for index in 0..3 {
        let (w, h) = out.plane_size(index);
        scale_plane(frame, index, (w, h), out.plane_mut(index))?;
    }
    out.into_frame(frame.captured_at)
}

/// The largest size of the frame's shape within `width` x `height`, centred on black, with even offsets so that chroma
/// stays aligned.
///
/// # Errors
/// Where a side is 0 or above 16,384.
pub fn letterbox(frame: &VideoFrame, width: u32, height: u32) -> Result<VideoFrame, MediaError> {
    let (inner_w, inner_h) = fit((frame.width(), frame.height()), (width, height));
    let inner = scale(frame, inner_w, inner_h)?;
    if (inner_w, inner_h) == (width, height) {
        return Ok(inner);
    }
    let mut out = I420Buffer::black(width, height);
    let left = ((width - inner_w) / 4 * 2) as usize;
    let top = ((height - inner_h) / 4 * 2) as usize;
    for index in 0..3 {
        let (left, top) = if index == 0 { (left, top) } else { (left / 2, top / 2) };
        let (w, h) = inner.plane_size(index);
        let (out_w, out_h) = out.plane_size(index);
        let (w, h) = (w.min(out_w - left), h.min(out_h - top));
        let plane = out.plane_mut(index);
        for y in 0..h {
            let at = (top + y) * out_w + left;
            plane[at..at + w].copy_from_slice(&inner.row(index, y)[..w]);
        }
    }
    out.into_frame(frame.captured_at)
}

/// The largest size of the shape of `inner` that fits within `outer`; never zero on a side.
pub fn fit(inner: (u32, u32), outer: (u32, u32)) -> (u32, u32) {
    let (iw, ih) = (u64::from(inner.0.max(1)), u64::from(inner.1.max(1)));
    let (ow, oh) = (u64::from(outer.0.max(1)), u64::from(outer.1.max(1)));
    let side = |length: u64, limit: u64| length.clamp(1, limit) as u32;
    if iw * oh >= ih * ow {
        (side(ow, ow), side((ih * ow + iw / 2) / iw, oh))
    } else {
        (side((iw * oh + ih / 2) / ih, ow), side(oh, oh))
    }
}

fn scale_plane(frame: &VideoFrame, index: usize, size: (usize, usize), out: &mut [u8]) -> Result<(), MediaError> {
    let broken =
        |e: &dyn std::fmt::Display| MediaError::new(format!("scaling a picture to {}x{} failed: {e}", size.0, size.1));
    let (w, h) = frame.plane_size(index);
    let plane = frame.plane(index);
    let packed: Vec<u8>;
    // The resizer wants rows without padding; decoded planes have some.
    let source: &[u8] = if plane.stride == w {
        &plane.data[..w * h]
    } else {
        packed = (0..h).flat_map(|y| frame.row(index, y)).copied().collect();
        &packed
    };
    let source = ImageRef::new(w as u32, h as u32, source, PixelType::U8).map_err(|e| broken(&e))?;
    let mut target = Image::from_slice_u8(size.0 as u32, size.1 as u32, out, PixelType::U8).map_err(|e| broken(&e))?;
    // A box suits reduction without ringing; bilinear convolution adapts its support to the ratio.
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options)).map_err(|e| broken(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, video::pattern};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fitting_stays_inside_and_touches_one_side(iw in 1_u32..2_000, ih in 1_u32..2_000, ow in 1_u32..2_000, oh in 1_u32..2_000) {
            let (w, h) = fit((iw, ih), (ow, oh));
            prop_assert!(w >= 1 && h >= 1 && w <= ow && h <= oh);
            prop_assert!(w == ow || h == oh);
        }

        #[test]
        fn every_size_can_be_letterboxed(iw in 1_u32..70, ih in 1_u32..70, ow in 1_u32..70, oh in 1_u32..70) {
            let frame = pattern::draw(iw, ih, 3, Timestamp::ZERO).unwrap();
            let boxed = letterbox(&frame, ow, oh).unwrap();
            prop_assert_eq!((boxed.width(), boxed.height()), (ow, oh));
        }
    }

    #[test]
    fn bars_are_black_and_the_picture_is_in_the_middle() {
        let mut white = I420Buffer::black(100, 100);
        white.plane_mut(0).fill(235);
        let frame = letterbox(&white.into_frame(Timestamp::ZERO).unwrap(), 200, 100).unwrap();
        assert_eq!((frame.row(0, 50)[20], frame.row(0, 50)[100], frame.row(0, 50)[180]), (16, 235, 16));
    }
}
