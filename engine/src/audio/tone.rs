//! Sources made of arithmetic: a sine, a sweep, silence.

use crate::media::{AudioFrame, AudioRead, AudioSource, BLOCK_SAMPLES, MediaError, SAMPLE_RATE};
use halloo_transport::Timestamp;
use std::f64::consts::TAU;

/// A sine that stays on one frequency or sweeps between two, for tests and sound checks.
#[derive(Debug, Clone)]
pub struct ToneSource {
    from_hz: f64,
    to_hz: f64,
    sweep_seconds: f64,
    amplitude: f64,
    phase: f64,
    position: u64,
}

impl ToneSource {
    /// A sine of `hz` at `amplitude` (0 to 1).
    pub fn sine(hz: f64, amplitude: f64) -> Self {
        Self::sweep(hz, hz, 1.0, amplitude)
    }

    /// A sine that goes from `from_hz` to `to_hz` in `seconds`, and again from the start, at `amplitude` (0 to 1).
    pub fn sweep(from_hz: f64, to_hz: f64, seconds: f64, amplitude: f64) -> Self {
        let limit = |hz: f64| hz.clamp(0.0, f64::from(SAMPLE_RATE) / 2.0);
        Self {
            from_hz: limit(from_hz),
            to_hz: limit(to_hz),
            sweep_seconds: seconds.max(0.01),
            amplitude: amplitude.clamp(0.0, 1.0),
            phase: 0.0,
            position: 0,
        }
    }
}

impl AudioSource for ToneSource {
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        block.channels = 1;
        block.at = now;
        block.samples.resize(BLOCK_SAMPLES, 0.0);
        for sample in &mut block.samples {
            let seconds = self.position as f64 / f64::from(SAMPLE_RATE);
            let share = (seconds % self.sweep_seconds) / self.sweep_seconds;
            let hz = self.from_hz + (self.to_hz - self.from_hz) * share;
            self.phase = (self.phase + TAU * hz / f64::from(SAMPLE_RATE)) % TAU;
            *sample = (self.amplitude * self.phase.sin()) as f32;
            self.position += 1;
        }
        Ok(AudioRead::Filled)
    }
}

/// Nothing to hear; the track stays published.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl AudioSource for Silence {
    fn read(&mut self, _now: Timestamp, _block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        Ok(AudioRead::Silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_has_its_frequency_across_blocks() {
        let mut tone = ToneSource::sine(1_000.0, 0.5);
        let mut block = AudioFrame::silence(Timestamp::ZERO);
        let mut all = Vec::new();
        for _ in 0..100 {
            assert_eq!(tone.read(Timestamp::ZERO, &mut block).unwrap(), AudioRead::Filled);
            all.extend_from_slice(&block.samples);
        }
        let crossings = all.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
        assert!((999..=1_001).contains(&crossings), "{crossings} periods in a second");
        let step = all.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!(step < 0.07, "largest step {step}");
    }
}
