//! Sums the remote tracks into what the speaker plays.
//!
//! Below the knee the sum passes untouched; above it a soft limiter bends it so that it never reaches full scale.

use crate::media::{AudioFrame, BLOCK_SAMPLES};

/// Where the limiter begins to bend.
const KNEE: f32 = 0.8;

/// A stereo sum of one block.
#[derive(Debug)]
pub(crate) struct Mixer {
    sum: Vec<f32>,
}

impl Mixer {
    pub(crate) fn new() -> Self {
        Self { sum: vec![0.0; BLOCK_SAMPLES * 2] }
    }

    /// Begins a block.
    pub(crate) fn clear(&mut self) {
        self.sum.fill(0.0);
    }

    /// Adds a track's block at `gain`.
    pub(crate) fn add(&mut self, block: &AudioFrame, gain: f32) {
        let samples = &block.samples;
        if block.channels == 2 {
            self.sum.iter_mut().zip(samples).for_each(|(sum, s)| *sum += s * gain);
        } else {
            self.sum.chunks_exact_mut(2).zip(samples).for_each(|(pair, s)| {
                pair[0] += s * gain;
                pair[1] += s * gain;
            });
        }
    }

    /// The block, limited: interleaved stereo.
    pub(crate) fn finish(&mut self) -> &[f32] {
        self.sum.iter_mut().for_each(|s| *s = limit(*s));
        &self.sum
    }
}

fn limit(sample: f32) -> f32 {
    let size = sample.abs();
    if size <= KNEE {
        return sample;
    }
    if !size.is_finite() {
        return 0.0;
    }
    let room = 1.0 - KNEE;
    (KNEE + room * ((size - KNEE) / room).tanh()).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_transport::Timestamp;

    fn block(channels: u8, value: f32) -> AudioFrame {
        AudioFrame { channels, samples: vec![value; BLOCK_SAMPLES * usize::from(channels)], at: Timestamp::ZERO }
    }

    #[test]
    fn quiet_tracks_add_up_exactly() {
        let mut mixer = Mixer::new();
        mixer.clear();
        mixer.add(&block(1, 0.25), 1.0);
        mixer.add(&block(2, 0.5), 0.5);
        assert!(mixer.finish().iter().all(|s| (*s - 0.5).abs() < 1e-6));
    }

    #[test]
    fn loud_tracks_never_reach_past_full_scale() {
        let mut mixer = Mixer::new();
        mixer.clear();
        for _ in 0..10 {
            mixer.add(&block(1, -0.9), 1.0);
        }
        assert!(mixer.finish().iter().all(|s| (-1.0..=-0.99).contains(s)));
        mixer.clear();
        mixer.add(&block(1, f32::INFINITY), 1.0);
        assert!(mixer.finish().iter().all(|s| s.is_finite()));
    }
}
