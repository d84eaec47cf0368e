//! A frame number that survives AV1 at low bitrates and scaling: large black and white cells along the top edge.
//!
//! # Geometry
//! All positions are fractions of the picture's width `W` and height `H`, so that any reader (a canvas, a screenshot's
//! picture area) finds them at any size. The strip covers the full width and the top eighth: 2 rows of 16 cells, each
//! `W/16` wide and `H/16` high. Cell `(row, column)` spans `x` from `column*W/16` to `(column+1)*W/16` and `y` from `row*H/16` to
//! `(row+1)*H/16`. A reader takes the mean luma of the middle half of a cell in both directions (from 1/4 to 3/4).
//! White (Y = 235) is 1, black (Y = 16) is 0; chroma is neutral. A mean within 30 of the middle (125.5) is unreadable,
//! and with it the strip.
//!
//! # Code
//! 32 bits, most significant first: row 0 from left to right, then row 1. `word = (number << 8) | crc`, where `number`
//! has 24 bits and `crc` is the CRC-8 of its three bytes, most significant first: polynomial 0x07, start value 0xFF,
//! no reflection, no final inversion. So neither an all-black nor an all-white picture reads as a number.
//!
//! Readable down to 64x36 (cells of 4x2 pixels) where the picture has not been compressed, in practice to 160x90.

use super::i420::{BLACK, I420Buffer, NEUTRAL, WHITE};
use crate::media::VideoFrame;

/// Cells in a row.
pub const COLUMNS: usize = 16;
/// Rows of cells.
pub const ROWS: usize = 2;
/// One cell's height is the picture's divided by this.
pub const ROW_FRACTION: usize = 16;
/// Numbers wrap to zero here.
pub const MODULUS: u32 = 1 << 24;

const MIDDLE: f64 = (BLACK as f64 + WHITE as f64) / 2.0;
const UNREADABLE_WITHIN: f64 = 30.0;

/// Writes `number` (modulo 2^24) into the picture.
pub fn stamp(picture: &mut I420Buffer, number: u32) {
    let word = encode(number);
    let (w, h) = (picture.width(), picture.height());
    for cell in 0..COLUMNS * ROWS {
        let (row, column) = (cell / COLUMNS, cell % COLUMNS);
        let luma = if word >> (31 - cell) & 1 == 1 { WHITE } else { BLACK };
        picture.fill(0, span(w, column, COLUMNS), span(h, row, ROW_FRACTION), luma);
    }
    let strip_bottom = (ROWS * h / ROW_FRACTION).div_ceil(2);
    for plane in 1..3 {
        let (w, _) = picture.plane_size(plane);
        picture.fill(plane, (0, w), (0, strip_bottom), NEUTRAL);
    }
}

/// Reads the number back; `None` where the strip is missing, too blurred, or its checksum is wrong.
pub fn read(frame: &VideoFrame) -> Option<u32> {
    let (w, h) = frame.plane_size(0);
    let mut word = 0;
    for cell in 0..COLUMNS * ROWS {
        let (row, column) = (cell / COLUMNS, cell % COLUMNS);
        let mean = mean(frame, middle(w, column, COLUMNS)?, middle(h, row, ROW_FRACTION)?);
        if (mean - MIDDLE).abs() < UNREADABLE_WITHIN {
            return None;
        }
        word = word << 1 | u32::from(mean > MIDDLE);
    }
    let number = word >> 8;
    (encode(number) == word).then_some(number)
}

fn encode(number: u32) -> u32 {
    let number = number % MODULUS;
    let [_, bytes @ ..] = number.to_be_bytes();
    let crc = bytes.iter().fold(0xFF_u8, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    });
    number << 8 | u32::from(crc)
}

/// Where cell `index` of `count` begins and ends on a side of `length` samples.
fn span(length: usize, index: usize, count: usize) -> (usize, usize) {
    (index * length / count, (index + 1) * length / count)
}

/// The middle half of a cell, at least one sample; `None` where the side is too short to have such a sample.
fn middle(length: usize, index: usize, count: usize) -> Option<(usize, usize)> {
    let from = (4 * index + 1) * length / (4 * count);
    let to = ((4 * index + 3) * length / (4 * count)).max(from + 1);
    (to <= length && length >= 2 * count).then_some((from, to))
}

fn mean(frame: &VideoFrame, (x0, x1): (usize, usize), (y0, y1): (usize, usize)) -> f64 {
    let sum: u64 = (y0..y1).map(|y| frame.row(0, y)[x0..x1].iter().map(|&s| u64::from(s)).sum::<u64>()).sum();
    sum as f64 / ((x1 - x0) * (y1 - y0)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, video::scale::scale};
    use proptest::prelude::*;

    fn stamped(width: u32, height: u32, number: u32) -> VideoFrame {
        let mut picture = I420Buffer::black(width, height);
        stamp(&mut picture, number);
        picture.into_frame(Timestamp::ZERO).unwrap()
    }

    proptest! {
        #[test]
        fn any_number_reads_back_at_any_size(number in 0..MODULUS, width in 64_u32..700, height in 36_u32..500) {
            prop_assert_eq!(read(&stamped(width, height, number)), Some(number));
        }

        #[test]
        fn any_number_survives_scaling(number in 0..MODULUS, width in 160_u32..700, height in 90_u32..500) {
            let scaled = scale(&stamped(640, 360, number), width, height).unwrap();
            prop_assert_eq!(read(&scaled), Some(number));
        }

        #[test]
        fn no_size_panics(width in 1_u32..40, height in 1_u32..40) {
            let read = read(&stamped(width, height, 77));
            prop_assert!(read.is_none() || read == Some(77));
        }
    }

    #[test]
    fn plain_pictures_hold_no_number() {
        for luma in [BLACK, 0, 125, WHITE, 255] {
            let mut picture = I420Buffer::black(320, 180);
            picture.plane_mut(0).fill(luma);
            assert_eq!(read(&picture.into_frame(Timestamp::ZERO).unwrap()), None, "luma {luma}");
        }
    }

    #[test]
    fn one_wrong_cell_is_noticed() {
        for cell in 0..32 {
            let mut picture = I420Buffer::copy_of(&stamped(320, 180, 123_456));
            let (x, y) = (cell % 16 * 20 + 10, cell / 16 * 11 + 5);
            let was = picture.plane_mut(0)[y * 320 + x];
            let flipped = if was == WHITE { BLACK } else { WHITE };
            picture.fill(0, span(320, cell % 16, 16), span(180, cell / 16, 16), flipped);
            assert_eq!(read(&picture.into_frame(Timestamp::ZERO).unwrap()), None, "cell {cell}");
        }
    }

    #[test]
    fn the_code_is_what_the_documentation_says() {
        // Fixed vectors, for readers in other languages.
        assert_eq!(encode(0), 0x0000_002B);
        assert_eq!(encode(1), 0x0000_012C);
        assert_eq!(encode(0x12_3456), 0x1234_5657);
        assert_eq!(encode(0xFF_FFFF), 0xFFFF_FF24);
        assert_eq!(encode(MODULUS), encode(0));
    }
}
