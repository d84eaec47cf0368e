//! A picture under construction: three owned planes without padding that become a [`VideoFrame`].
//!
//! Invariant: plane `i` holds exactly `width x height` bytes of its own size, so rows never overlap.

use crate::{
    Timestamp,
    media::{MediaError, Plane, VideoFrame},
};
use bytes::Bytes;

/// Luma of black in limited range.
pub const BLACK: u8 = 16;
/// Luma of white in limited range.
pub const WHITE: u8 = 235;
/// Chroma of grey.
pub const NEUTRAL: u8 = 128;

/// Writable I420 planes.
#[derive(Clone, Debug)]
pub struct I420Buffer {
    width: usize,
    height: usize,
    planes: [Vec<u8>; 3],
}

impl I420Buffer {
    /// A black picture of this size; sides of zero become one.
    pub fn black(width: u32, height: u32) -> Self {
        let (width, height) = (width.max(1) as usize, height.max(1) as usize);
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        Self { width, height, planes: [vec![BLACK; width * height], vec![NEUTRAL; chroma], vec![NEUTRAL; chroma]] }
    }

    /// A copy of a frame's samples.
    pub fn copy_of(frame: &VideoFrame) -> Self {
        let mut buffer = Self::black(frame.width(), frame.height());
        for (index, plane) in buffer.planes.iter_mut().enumerate() {
            let (w, h) = frame.plane_size(index);
            for (y, row) in plane.chunks_exact_mut(w).take(h).enumerate() {
                row.copy_from_slice(frame.row(index, y));
            }
        }
        buffer
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Samples in a row and rows of plane 0, 1 or 2.
    pub fn plane_size(&self, index: usize) -> (usize, usize) {
        match index {
            0 => (self.width, self.height),
            _ => (self.width.div_ceil(2), self.height.div_ceil(2)),
        }
    }

    /// The samples of plane 0, 1 or 2, row after row.
    ///
    /// # Panics
    /// Where `index` is above 2.
    pub fn plane_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.planes[index]
    }

    /// All three planes at once.
    pub fn planes_mut(&mut self) -> &mut [Vec<u8>; 3] {
        &mut self.planes
    }

    /// Fills the samples `x0..x1` by `y0..y1` of one plane, clipped to it.
    pub fn fill(&mut self, index: usize, (x0, x1): (usize, usize), (y0, y1): (usize, usize), value: u8) {
        let (w, h) = self.plane_size(index);
        let (x0, x1) = (x0.min(w), x1.min(w));
        for y in y0..y1.min(h) {
            if x0 < x1 {
                self.planes[index][y * w + x0..y * w + x1].fill(value);
            }
        }
    }

    /// The finished frame, without a copy.
    ///
    /// # Errors
    /// Where a side is above what a [`VideoFrame`] takes.
    pub fn into_frame(self, captured_at: Timestamp) -> Result<VideoFrame, MediaError> {
        let strides = [self.width, self.width.div_ceil(2), self.width.div_ceil(2)];
        let mut index = 0;
        let planes = self.planes.map(|data| {
            let plane = Plane { data: Bytes::from(data), stride: strides[index] };
            index += 1;
            plane
        });
        VideoFrame::new(self.width as u32, self.height as u32, planes, captured_at)
            .map_err(|e| MediaError::new(e.to_string()))
    }
}
