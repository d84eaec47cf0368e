//! Structural similarity of two pictures' luma (Wang et al. 2004), over 8x8 windows with a step of 4.
//!
//! Pictures of different sizes are compared at the first one's size.

use super::scale::scale;
use crate::media::VideoFrame;
use std::borrow::Cow;

const WINDOW: usize = 8;
const STEP: usize = 4;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Mean SSIM of luma: 1.0 for equal pictures, near 0 for unrelated ones; 0 where they cannot be compared.
pub fn ssim(a: &VideoFrame, b: &VideoFrame) -> f64 {
    let b = if (a.width(), a.height()) == (b.width(), b.height()) {
        Cow::Borrowed(b)
    } else {
        match scale(b, a.width(), a.height()) {
            Ok(scaled) => Cow::Owned(scaled),
            Err(_) => return 0.0,
        }
    };
    let (w, h) = a.plane_size(0);
    let (window_w, window_h) = (WINDOW.min(w), WINDOW.min(h));
    let (mut sum, mut count) = (0.0, 0_u32);
    for y in (0..=h - window_h).step_by(STEP) {
        for x in (0..=w - window_w).step_by(STEP) {
            sum += window(a, &b, (x, x + window_w), (y, y + window_h));
            count += 1;
        }
    }
    sum / f64::from(count)
}

fn window(a: &VideoFrame, b: &VideoFrame, (x0, x1): (usize, usize), (y0, y1): (usize, usize)) -> f64 {
    let (mut sum_a, mut sum_b, mut sum_aa, mut sum_bb, mut sum_ab) = (0_u32, 0_u32, 0_u32, 0_u32, 0_u32);
    for y in y0..y1 {
        for (&p, &q) in a.row(0, y)[x0..x1].iter().zip(&b.row(0, y)[x0..x1]) {
            let (p, q) = (u32::from(p), u32::from(q));
            sum_a += p;
            sum_b += q;
            sum_aa += p * p;
            sum_bb += q * q;
            sum_ab += p * q;
        }
    }
    let n = ((x1 - x0) * (y1 - y0)) as f64;
    let (mean_a, mean_b) = (f64::from(sum_a) / n, f64::from(sum_b) / n);
    let variance_a = f64::from(sum_aa) / n - mean_a * mean_a;
    let variance_b = f64::from(sum_bb) / n - mean_b * mean_b;
    let covariance = f64::from(sum_ab) / n - mean_a * mean_b;
    ((2.0 * mean_a * mean_b + C1) * (2.0 * covariance + C2))
        / ((mean_a * mean_a + mean_b * mean_b + C1) * (variance_a + variance_b + C2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, video::i420::I420Buffer};

    fn noise(seed: u32) -> VideoFrame {
        let mut picture = I420Buffer::black(64, 48);
        let mut state = seed;
        for sample in picture.plane_mut(0) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (state >> 24) as u8;
        }
        picture.into_frame(Timestamp::ZERO).unwrap()
    }

    #[test]
    fn a_picture_is_like_itself_and_unlike_another() {
        assert!((ssim(&noise(1), &noise(1)) - 1.0).abs() < 1e-9);
        assert!(ssim(&noise(1), &noise(2)).abs() < 0.1);
    }

    #[test]
    fn the_smallest_pictures_can_be_compared() {
        let one = I420Buffer::black(1, 1).into_frame(Timestamp::ZERO).unwrap();
        assert!((ssim(&one, &one) - 1.0).abs() < 1e-9);
    }
}
