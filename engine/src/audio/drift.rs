//! The door to rubato for streams whose clock runs slightly off ours: a few samples of delay, a ratio that can be moved while it
//! runs, and once built no allocation.

use super::resample::ResampleError;
use crate::media::{BLOCK_SAMPLES, SAMPLE_RATE};
use rubato::{
    Adjustable, Async, FixedAsync, PolynomialDegree, Resampler, SincInterpolationParameters, WindowFunction,
    audioadapter_buffers::direct::InterleavedSlice,
};

/// How far a stream's clock is followed: real sound cards stay within 500 ppm, and filling or draining a ring takes more.
pub(crate) const MAX_DRIFT_PPM: f64 = 5_000.0;

/// A stream of one or two channels from a clock of its own to blocks of ours.
pub(crate) struct DriftResampler {
    resampler: Async<f32>,
    channels: usize,
}

impl DriftResampler {
    /// Gives [`BLOCK_SAMPLES`] frames at 48 kHz a call from a stream at about `rate`.
    pub(crate) fn to_blocks(rate: u32, channels: usize) -> Result<Self, ResampleError> {
        Self::new(f64::from(SAMPLE_RATE) / f64::from(rate.max(1)), rate, channels, FixedAsync::Output)
    }

    /// Takes [`BLOCK_SAMPLES`] frames at 48 kHz a call and gives a stream at about `rate`.
    pub(crate) fn from_blocks(rate: u32, channels: usize) -> Result<Self, ResampleError> {
        Self::new(f64::from(rate.max(1)) / f64::from(SAMPLE_RATE), rate, channels, FixedAsync::Input)
    }

    fn new(ratio: f64, rate: u32, channels: usize, fixed: FixedAsync) -> Result<Self, ResampleError> {
        let error = |reason: String| ResampleError { from: rate, reason };
        let most = 1.0 + 2.0 * MAX_DRIFT_PPM / 1e6;
        // Between equal rates the signal needs no filter against aliases, only interpolation, which adds less delay.
        let resampler = if (ratio - 1.0).abs() < 1e-9 {
            Async::new_poly(ratio, most, PolynomialDegree::Septic, BLOCK_SAMPLES, channels, fixed)
        } else {
            let parameters = SincInterpolationParameters::new(64, WindowFunction::BlackmanHarris2);
            Async::new_sinc(ratio, most, &parameters, BLOCK_SAMPLES, channels, fixed)
        };
        Ok(Self { resampler: resampler.map_err(|e| error(e.to_string()))?, channels })
    }

    /// Frames the next call takes.
    pub(crate) fn input_frames(&self) -> usize {
        self.resampler.input_frames_next()
    }

    /// Frames a call may take or give at most.
    pub(crate) fn most_frames(&self) -> usize {
        self.resampler.input_frames_max().max(self.resampler.output_frames_max())
    }

    /// Makes the stream's clock count as `ppm` fast: it then yields more input per block. Limited to [`MAX_DRIFT_PPM`].
    pub(crate) fn follow(&mut self, ppm: f64) {
        let ppm = if ppm.is_finite() { ppm.clamp(-MAX_DRIFT_PPM, MAX_DRIFT_PPM) } else { 0.0 };
        // Within the limits given at construction this cannot be refused.
        let _ = self.resampler.set_resample_ratio_relative(1.0 / (1.0 + ppm / 1e6), true);
    }

    /// Resamples [`Self::input_frames`] interleaved frames; gives how many frames of `output` were written. Where `input` or
    /// `output` is too short nothing happens and the answer is 0.
    pub(crate) fn process(&mut self, input: &[f32], output: &mut [f32]) -> usize {
        let (in_frames, out_frames) = (input.len() / self.channels, output.len() / self.channels);
        let Ok(input) = InterleavedSlice::new(input, self.channels, in_frames) else { return 0 };
        let Ok(mut output) = InterleavedSlice::new_mut(output, self.channels, out_frames) else { return 0 };
        self.resampler.process_into_buffer(&input, &mut output, None).map_or(0, |(_, written)| written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn sine(hz: f64, rate: u32, frames: usize) -> Vec<f32> {
        (0..frames).map(|i| (TAU * hz * i as f64 / f64::from(rate)).sin() as f32 * 0.5).collect()
    }

    #[test]
    fn a_stream_gives_blocks_and_follows_drift() {
        for rate in [44_100, 48_000, 16_000] {
            let mut resampler = DriftResampler::to_blocks(rate, 1).unwrap();
            resampler.follow(500.0);
            let input = sine(440.0, rate, rate as usize * 12);
            let (mut at, mut block, mut blocks) = (0, vec![0.0; BLOCK_SAMPLES], 0);
            while at + resampler.input_frames() <= rate as usize * 10 {
                let take = resampler.input_frames();
                assert_eq!(resampler.process(&input[at..at + take], &mut block), BLOCK_SAMPLES);
                at += take;
                blocks += 1;
            }
            let seconds = f64::from(blocks) / 100.0;
            assert!((seconds - 10.0 / 1.000_5).abs() < 0.03, "{rate} Hz: {seconds} s");
        }
    }

    #[test]
    fn too_short_buffers_are_refused_quietly() {
        let mut resampler = DriftResampler::from_blocks(44_100, 2).unwrap();
        assert_eq!(resampler.process(&[0.0; 10], &mut [0.0; 2_000]), 0);
        assert_eq!(resampler.process(&[0.0; 960], &mut [0.0; 10]), 0);
        resampler.follow(f64::NAN);
        let mut out = vec![0.0; resampler.most_frames() * 2];
        assert!(resampler.process(&[0.0; 960], &mut out) > 400);
    }
}
