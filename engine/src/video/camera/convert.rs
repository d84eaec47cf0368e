//! What cameras give, to I420: YUYV, NV12, planar 4:2:0 and Motion JPEG.

use crate::{
    Timestamp,
    media::{MediaError, VideoFrame},
    video::{
        convert::{Packed, PixelOrder, from_packed},
        i420::I420Buffer,
    },
};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// How a camera lays out its pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from one row to the next; 0 where the driver does not say.
    pub(super) stride: usize,
    /// Four characters that name the format.
    pub(super) fourcc: [u8; 4],
}

/// The picture in `data`.
pub(super) fn to_frame(layout: &Layout, data: &[u8], at: Timestamp) -> Result<VideoFrame, MediaError> {
    if !(1..=16_384).contains(&layout.width) || !(1..=16_384).contains(&layout.height) {
        return Err(MediaError::new(format!(
            "the camera gives impossible pictures of {}x{}",
            layout.width, layout.height
        )));
    }
    match &layout.fourcc {
        b"YUYV" => yuyv(layout, data)?.into_frame(at),
        b"NV12" => nv12(layout, data)?.into_frame(at),
        b"YU12" => planar(layout, data)?.into_frame(at),
        b"MJPG" | b"JPEG" => jpeg(data, at),
        other => Err(MediaError::new(format!(
            "the camera gives pictures as {}; YUYV, NV12, YU12 and MJPG are supported",
            String::from_utf8_lossy(other)
        ))),
    }
}

/// `rows` rows of `width` bytes each; the last may lack its padding.
fn rows(data: &[u8], stride: usize, width: usize, rows: usize) -> Result<impl Iterator<Item = &[u8]>, MediaError> {
    let need = stride * (rows - 1) + width;
    if stride < width || data.len() < need {
        return Err(MediaError::new(format!("a camera's picture is incomplete: {} of {need} bytes", data.len())));
    }
    Ok(data.chunks(stride).take(rows).map(move |row| &row[..width]))
}

/// Y U Y V: chroma halved across, and here down by averaging two rows.
fn yuyv(layout: &Layout, data: &[u8]) -> Result<I420Buffer, MediaError> {
    let (w, h) = (layout.width as usize, layout.height as usize);
    let width = w.div_ceil(2) * 4;
    let lines: Vec<&[u8]> = rows(data, layout.stride.max(width), width, h)?.collect();
    let mut picture = I420Buffer::black(layout.width, layout.height);
    for (out, line) in picture.plane_mut(0).chunks_exact_mut(w).zip(&lines) {
        for (sample, pair) in out.iter_mut().zip(line.chunks_exact(2)) {
            *sample = pair[0];
        }
    }
    for (plane, offset) in [(1, 1), (2, 3)] {
        let cw = w.div_ceil(2);
        for (out, pair) in picture.plane_mut(plane).chunks_exact_mut(cw).zip(lines.chunks(2)) {
            let (upper, lower) = (pair[0], pair[pair.len() - 1]);
            for (x, sample) in out.iter_mut().enumerate() {
                let at = 4 * x + offset;
                *sample = u16::from(upper[at]).midpoint(u16::from(lower[at]) + 1).min(255) as u8;
            }
        }
    }
    Ok(picture)
}

/// Luma, then U and V in turns.
fn nv12(layout: &Layout, data: &[u8]) -> Result<I420Buffer, MediaError> {
    let (w, h) = (layout.width as usize, layout.height as usize);
    let chroma_width = w.div_ceil(2) * 2;
    let stride = layout.stride.max(chroma_width);
    let mut picture = I420Buffer::black(layout.width, layout.height);
    for (out, row) in picture.plane_mut(0).chunks_exact_mut(w).zip(rows(data, stride, w, h)?) {
        out.copy_from_slice(row);
    }
    let chroma = data.get(stride * h..).unwrap_or_default();
    for (plane, offset) in [(1, 0), (2, 1)] {
        let lines = rows(chroma, stride, chroma_width, h.div_ceil(2))?;
        for (out, row) in picture.plane_mut(plane).chunks_exact_mut(w.div_ceil(2)).zip(lines) {
            for (sample, pair) in out.iter_mut().zip(row.chunks_exact(2)) {
                *sample = pair[offset];
            }
        }
    }
    Ok(picture)
}

/// Three planes; those of chroma have half the stride.
fn planar(layout: &Layout, data: &[u8]) -> Result<I420Buffer, MediaError> {
    let stride = layout.stride.max(layout.width as usize);
    let mut picture = I420Buffer::black(layout.width, layout.height);
    let mut rest = data;
    for plane in 0..3 {
        let (w, h) = picture.plane_size(plane);
        let stride = if plane == 0 { stride } else { stride.div_ceil(2) };
        for (out, row) in picture.plane_mut(plane).chunks_exact_mut(w).zip(rows(rest, stride, w, h)?) {
            out.copy_from_slice(row);
        }
        rest = rest.get(stride * h..).unwrap_or_default();
    }
    Ok(picture)
}

/// JPEG has full-range colours: through RGB they come to what the rest of the engine means by I420.
fn jpeg(data: &[u8], at: Timestamp) -> Result<VideoFrame, MediaError> {
    let damaged = |e: &dyn std::fmt::Debug| MediaError::new(format!("a camera's JPEG picture is damaged: {e:?}"));
    let options = DecoderOptions::default()
        .set_max_width(16_384)
        .set_max_height(16_384)
        .jpeg_set_out_colorspace(ColorSpace::RGBA);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
    let pixels = decoder.decode().map_err(|e| damaged(&e))?;
    let info = decoder.info().ok_or_else(|| damaged(&"no header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let packed = Packed { width, height, data: &pixels, stride: width as usize * 4, order: PixelOrder::Rgba };
    from_packed(packed, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(fourcc: &[u8; 4], width: u32, height: u32, stride: usize) -> Layout {
        Layout { width, height, stride, fourcc: *fourcc }
    }

    fn samples(frame: &VideoFrame, plane: usize) -> Vec<u8> {
        (0..frame.plane_size(plane).1).flat_map(|y| frame.row(plane, y).to_vec()).collect()
    }

    #[test]
    fn yuyv_is_taken_apart_and_chroma_averaged() {
        let data = [1, 10, 2, 20, 3, 30, 4, 40, 0, 0, 5, 20, 6, 40, 7, 50, 8, 60, 0, 0];
        let frame = to_frame(&layout(b"YUYV", 4, 2, 10), &data, Timestamp::ZERO).unwrap();
        assert_eq!(samples(&frame, 0), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((samples(&frame, 1), samples(&frame, 2)), (vec![15, 40], vec![30, 50]));
    }

    #[test]
    fn nv12_and_planar_pictures_are_taken_apart() {
        let nv12 = [1, 2, 3, 0, 4, 5, 6, 0, 10, 20, 11, 21];
        let frame = to_frame(&layout(b"NV12", 3, 2, 4), &nv12, Timestamp::ZERO).unwrap();
        assert_eq!(samples(&frame, 0), [1, 2, 3, 4, 5, 6]);
        assert_eq!((samples(&frame, 1), samples(&frame, 2)), (vec![10, 11], vec![20, 21]));
        let planar = [1, 2, 3, 0, 4, 5, 6, 0, 10, 11, 20, 21];
        let frame = to_frame(&layout(b"YU12", 3, 2, 4), &planar, Timestamp::ZERO).unwrap();
        assert_eq!(samples(&frame, 0), [1, 2, 3, 4, 5, 6]);
        assert_eq!((samples(&frame, 1), samples(&frame, 2)), (vec![10, 11], vec![20, 21]));
    }

    proptest! {
        #[test]
        fn whatever_a_driver_gives_nothing_panics(
            format in prop::sample::select(vec![*b"YUYV", *b"NV12", *b"YU12", *b"MJPG", *b"XXXX"]),
            width in 0_u32..40, height in 0_u32..40, stride in 0_usize..100,
            data in proptest::collection::vec(any::<u8>(), 0..3_000),
        ) {
            if let Ok(frame) = to_frame(&layout(&format, width, height, stride), &data, Timestamp::ZERO) {
                prop_assert!(frame.width() >= 1);
            }
        }
    }
}
