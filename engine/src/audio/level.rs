//! How loud a block is: -dBov as RTP carries it (RFC 6464) and 0 to 1 for meters.

use halloo_transport::session::AudioLevel;

/// Lowest level that RFC 6464 can say: silence.
const SILENCE: u8 = 127;
/// A block counts as voice from this level on, as long as it stands this far above the noise floor.
const VOICE_LEVEL: u8 = 55;
const VOICE_ABOVE_FLOOR: f32 = 9.0;
/// A block this much into a pause still counts as voice: 200 ms, so that words are not cut.
const HANGOVER_BLOCKS: u8 = 20;

/// Level and voice activity of a stream of blocks. The noise floor falls at once and rises by 2 dB a second.
#[derive(Debug, Clone)]
pub(crate) struct LevelMeter {
    floor_dbov: f32,
    hangover: u8,
    rms: f32,
}

impl LevelMeter {
    pub(crate) fn new() -> Self {
        Self { floor_dbov: -60.0, hangover: 0, rms: 0.0 }
    }

    /// Measures one block of 10 ms.
    pub(crate) fn measure(&mut self, samples: &[f32]) -> AudioLevel {
        self.rms = rms(samples);
        let level = dbov(self.rms);
        let db = -f32::from(level);
        self.floor_dbov = if db < self.floor_dbov { db.max(-90.0) } else { (self.floor_dbov + 0.02).min(-30.0) };
        if level < VOICE_LEVEL && db > self.floor_dbov + VOICE_ABOVE_FLOOR {
            self.hangover = HANGOVER_BLOCKS;
        } else {
            self.hangover = self.hangover.saturating_sub(1);
        }
        AudioLevel { level, voice: self.hangover > 0 }
    }

    /// Root mean square of the last block, 0 to 1: what W3C statistics call `audioLevel`.
    pub(crate) fn linear(&self) -> f32 {
        self.rms.min(1.0)
    }
}

fn rms(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let rms = (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
    if rms.is_finite() { rms } else { 0.0 }
}

/// -dBov of a root mean square: 0 dBov is a full-scale square wave (RFC 6464, section 3).
fn dbov(rms: f32) -> u8 {
    if rms <= 0.0 {
        return SILENCE;
    }
    (-20.0 * rms.log10()).round().clamp(0.0, f32::from(SILENCE)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_square_is_zero_and_silence_is_127() {
        let mut meter = LevelMeter::new();
        assert_eq!(meter.measure(&[1.0; 480]).level, 0);
        assert_eq!(meter.measure(&[0.0; 480]).level, 127);
        assert_eq!(meter.measure(&[f32::NAN; 480]).level, 127);
    }

    #[test]
    fn a_tenth_of_full_scale_is_20_db_down() {
        let mut meter = LevelMeter::new();
        let level = meter.measure(&[0.1; 480]);
        assert_eq!(level.level, 20);
        assert!(level.voice);
        assert!((meter.linear() - 0.1).abs() < 1e-6);
    }

    #[test]
    fn steady_noise_is_no_voice() {
        let mut meter = LevelMeter::new();
        let last = (0..6_000).map(|_| meter.measure(&[0.003; 480])).last().unwrap();
        assert!(!last.voice);
    }
}
