//! The door to rubato for whole clips (for streams it is `drift`): resampled to 48 kHz with positions kept exactly.

use crate::media::SAMPLE_RATE;
use rubato::{Fft, FixedSync, Resampler, WindowFunction, audioadapter_buffers::direct::InterleavedSlice};

/// Frames that a whole clip is resampled in, at least.
const CLIP_CHUNK: usize = 2_048;

/// The rates or their ratio were refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot resample from {from} Hz to 48000 Hz: {reason}")]
pub struct ResampleError {
    pub(super) from: u32,
    pub(super) reason: String,
}

/// A whole clip of interleaved samples at 48 kHz: frame `i` of the answer is what sounded at `i / 48000` seconds.
pub(crate) fn clip_to_48k(pcm: Vec<f32>, channels: usize, rate: u32) -> Result<Vec<f32>, ResampleError> {
    if rate == SAMPLE_RATE || pcm.is_empty() {
        return Ok(pcm);
    }
    let error = |reason: String| ResampleError { from: rate, reason };
    let frames = pcm.len() / channels;
    // An even number of the smallest exact chunks: half a chunk is the delay, which then is a whole number of samples.
    let (rate_in, rate_out) = (rate as usize, SAMPLE_RATE as usize);
    let pair = 2 * rate_in / greatest_common_divisor(rate_in, rate_out);
    let chunk = CLIP_CHUNK.div_ceil(pair) * pair;
    let mut resampler = Fft::<f32>::new_custom(
        rate_in,
        rate_out,
        chunk,
        1,
        channels,
        WindowFunction::BlackmanHarris2,
        FixedSync::Input,
    )
    .map_err(|e| error(e.to_string()))?;
    let input = InterleavedSlice::new(&pcm, channels, frames).map_err(|e| error(e.to_string()))?;
    let output = resampler.process_all(&input, frames, None).map_err(|e| error(e.to_string()))?;
    let mut clip = output.take_data();
    clip.truncate((frames * rate_out + rate_in / 2) / rate_in * channels);
    Ok(clip)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn sine(hz: f64, rate: u32, frames: usize) -> Vec<f32> {
        (0..frames).map(|i| (TAU * hz * i as f64 / f64::from(rate)).sin() as f32 * 0.5).collect()
    }

    #[test]
    fn a_clip_keeps_its_positions() {
        for rate in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 88_200, 96_000, 12_345] {
            let out = clip_to_48k(sine(440.0, rate, rate as usize), 1, rate).unwrap();
            assert!(out.len().abs_diff(48_000) <= 1, "{rate} Hz: {} frames", out.len());
            let want = sine(440.0, 48_000, 48_000);
            let worst = out.iter().zip(&want).skip(2_000).take(44_000).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.01, "{rate} Hz: off by {worst}");
        }
    }
}
