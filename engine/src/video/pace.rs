//! Which frame of a constant-rate source is due: number `n` at `start + n / rate`.

use crate::{Timestamp, media::MediaError};
use std::time::Duration;

/// The schedule of a source with a constant frame rate.
#[derive(Clone, Debug)]
pub struct Pace {
    numerator: u64,
    denominator: u64,
    start: Option<Timestamp>,
    next: u64,
}

impl Pace {
    /// A schedule at this rate, which begins at the first call of [`Pace::due`].
    ///
    /// # Errors
    /// Where the rate is not within 0.1 to 240 frames per second.
    pub fn new(frame_rate: f64) -> Result<Self, MediaError> {
        if !(0.1..=240.0).contains(&frame_rate) {
            return Err(MediaError::new(format!("{frame_rate} frames per second are not possible: use 0.1 to 240")));
        }
        Self::from_ratio((frame_rate * 1_000.0).round() as u64, 1_000)
    }

    /// A schedule of exactly `numerator / denominator` frames per second.
    ///
    /// # Errors
    /// Where that is not within 0.1 to 240 frames per second.
    pub fn from_ratio(numerator: u64, denominator: u64) -> Result<Self, MediaError> {
        let rate = numerator as f64 / denominator as f64;
        if !(0.1..=240.0).contains(&rate) {
            return Err(MediaError::new(format!(
                "{numerator}:{denominator} frames per second are not possible: use 0.1 to 240"
            )));
        }
        Ok(Self { numerator, denominator, start: None, next: 0 })
    }

    /// Frames per second.
    pub fn frame_rate(&self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The newest frame that is due and was not given yet.
    ///
    /// # Errors
    /// None is; the error says when the next one will be.
    pub fn due(&mut self, now: Timestamp) -> Result<u64, Timestamp> {
        let start = *self.start.get_or_insert(now);
        let elapsed = u128::from(now.since(start).as_nanos() as u64);
        let period = u128::from(self.denominator) * 1_000_000_000;
        let newest = (elapsed * u128::from(self.numerator) / period) as u64;
        if newest < self.next {
            let nanos = (u128::from(self.next) * period).div_ceil(u128::from(self.numerator));
            return Err(start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        self.next = newest + 1;
        Ok(newest)
    }
}
