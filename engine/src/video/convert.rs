//! I420 to and from packed RGB, with the colour matrix that a picture's height implies (BT.601 below 720 lines, BT.709 from there on).

use super::i420::I420Buffer;
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame},
};
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix, bgra_to_yuv420,
    rgba_to_yuv420, yuv420_to_bgra, yuv420_to_rgb, yuv420_to_rgba,
};

/// The order of a pixel's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PixelOrder {
    /// Blue first: what X11, Windows and `softbuffer` take as a little-endian 0xAARRGGBB.
    Bgra,
    /// Red first: what canvases and PNG take.
    Rgba,
}

/// Writes the picture as packed pixels of 4 bytes, opaque, without padding, into `out`, which is resized.
///
/// # Errors
/// Where the conversion refuses the picture.
pub fn to_packed(frame: &VideoFrame, order: PixelOrder, out: &mut Vec<u8>) -> Result<(), MediaError> {
    let stride = frame.width() * 4;
    out.resize(stride as usize * frame.height() as usize, 0);
    let convert = match order {
        PixelOrder::Bgra => yuv420_to_bgra,
        PixelOrder::Rgba => yuv420_to_rgba,
    };
    convert(&planar(frame), out, stride, YuvRange::Limited, matrix(frame.height())).map_err(|e| failed(&e))
}

/// The picture as packed pixels of 3 bytes, red first.
///
/// # Errors
/// Where the conversion refuses the picture.
pub fn to_rgb(frame: &VideoFrame) -> Result<Vec<u8>, MediaError> {
    let stride = frame.width() * 3;
    let mut out = vec![0; stride as usize * frame.height() as usize];
    yuv420_to_rgb(&planar(frame), &mut out, stride, YuvRange::Limited, matrix(frame.height()))
        .map_err(|e| failed(&e))?;
    Ok(out)
}

/// Packed pixels in memory.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Rows of `stride` bytes.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// The order of a pixel's bytes.
    pub order: PixelOrder,
}

/// A frame of packed pixels.
///
/// # Errors
/// Where the size is impossible or the data too short for it.
pub fn from_packed(packed: Packed<'_>, at: Timestamp) -> Result<VideoFrame, MediaError> {
    let Packed { width, height, data, stride, order } = packed;
    let row = width as usize * 4;
    let need = if height == 0 { 0 } else { stride * (height as usize - 1) + row };
    if !(1..=16_384).contains(&width) || !(1..=16_384).contains(&height) || stride < row || data.len() < need {
        return Err(MediaError::new(format!(
            "{} bytes in rows of {stride} do not make a picture of {width}x{height} with 4 bytes a pixel",
            data.len()
        )));
    }
    let tight: Vec<u8>;
    let data = if stride == row {
        &data[..need]
    } else {
        tight = data.chunks(stride).take(height as usize).flat_map(|line| &line[..row]).copied().collect();
        &tight
    };
    let mut picture = I420Buffer::black(width, height);
    let chroma = picture.plane_size(1).0 as u32;
    let [y, u, v] = picture.planes_mut();
    let mut image = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: chroma,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: chroma,
        width,
        height,
    };
    let convert = match order {
        PixelOrder::Bgra => bgra_to_yuv420,
        PixelOrder::Rgba => rgba_to_yuv420,
    };
    convert(&mut image, data, row as u32, YuvRange::Limited, matrix(height), YuvConversionMode::Balanced)
        .map_err(|e| failed(&e))?;
    picture.into_frame(at)
}

fn planar(frame: &VideoFrame) -> YuvPlanarImage<'_, u8> {
    YuvPlanarImage {
        y_plane: &frame.plane(0).data,
        y_stride: frame.plane(0).stride as u32,
        u_plane: &frame.plane(1).data,
        u_stride: frame.plane(1).stride as u32,
        v_plane: &frame.plane(2).data,
        v_stride: frame.plane(2).stride as u32,
        width: frame.width(),
        height: frame.height(),
    }
}

fn matrix(height: u32) -> YuvStandardMatrix {
    if height >= 720 { YuvStandardMatrix::Bt709 } else { YuvStandardMatrix::Bt601 }
}

fn failed(error: &yuv::YuvError) -> MediaError {
    MediaError::new(format!("a picture's colours could not be converted: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{frame_number, pattern, ssim};

    #[test]
    fn pictures_survive_the_way_through_rgb_at_any_size() {
        for (width, height) in [(1, 1), (2, 2), (17, 33), (64, 48), (641, 361), (1_280, 720)] {
            for order in [PixelOrder::Bgra, PixelOrder::Rgba] {
                let frame = pattern::draw(width, height, 42, Timestamp::ZERO).unwrap();
                let mut data = Vec::new();
                to_packed(&frame, order, &mut data).unwrap();
                let packed = Packed { width, height, data: &data, stride: width as usize * 4, order };
                let back = from_packed(packed, Timestamp::ZERO).unwrap();
                assert!(ssim(&frame, &back) > 0.97, "{width}x{height} {order:?}: {}", ssim(&frame, &back));
                assert!(width < 64 || frame_number::read(&back) == Some(42));
            }
        }
    }

    #[test]
    fn colours_keep_their_places() {
        let red = [255_u8, 0, 0, 255].repeat(16);
        let packed = Packed { width: 4, height: 4, data: &red, stride: 16, order: PixelOrder::Rgba };
        let frame = from_packed(packed, Timestamp::ZERO).unwrap();
        let (mut bgra, rgb) = (Vec::new(), to_rgb(&frame).unwrap());
        to_packed(&frame, PixelOrder::Bgra, &mut bgra).unwrap();
        assert!(bgra[2] > 240 && bgra[0] < 15 && bgra[3] == 255, "{:?}", &bgra[..4]);
        assert!(rgb[0] > 240 && rgb[2] < 15, "{:?}", &rgb[..3]);
    }

    #[test]
    fn rows_may_have_padding_and_must_not_be_short() {
        let data = vec![200; 20 * 2 + 16];
        let packed = |stride, data| Packed { width: 4, height: 3, data, stride, order: PixelOrder::Bgra };
        assert!(from_packed(packed(20, &data), Timestamp::ZERO).is_ok());
        assert!(from_packed(packed(20, &data[1..]), Timestamp::ZERO).is_err());
        assert!(from_packed(packed(12, &data), Timestamp::ZERO).is_err());
    }
}
