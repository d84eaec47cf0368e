//! What sound takes of one subscriber's path: pictures get what it leaves, so it is measured, not assumed.

use halloo_transport::{Bitrate, Timestamp};
use std::time::Duration;

/// What sound takes of the path, headers and all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AudioRate {
    bytes: usize,
    since: Timestamp,
    rate: Bitrate,
}

impl AudioRate {
    /// Looked at this often: pauses between words are shorter.
    const WINDOW: Duration = Duration::from_millis(500);
    const FIRST: Duration = Duration::from_millis(100);
    /// Share of a smaller measurement: who paused goes on soon.
    const FALL: f64 = 0.1;

    /// Nothing sent yet.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Takes a packet that was sent.
    pub(super) const fn on_sent(&mut self, size: usize) {
        self.bytes += size;
    }

    /// The rate, as last measured.
    pub(super) const fn rate(&self) -> Bitrate {
        self.rate
    }

    /// The rate, brought up to date: what grows counts at once.
    pub(super) fn update(&mut self, now: Timestamp) -> Bitrate {
        let passed = now.since(self.since);
        let first = self.rate == Bitrate::ZERO && self.bytes > 0 && passed >= Self::FIRST;
        if first || passed >= Self::WINDOW {
            let measured = Bitrate::from_bytes_over(self.bytes as u64, passed);
            let fallen = self.rate.scale(1.0 - Self::FALL).as_bps() + measured.scale(Self::FALL).as_bps();
            self.rate = measured.max(Bitrate::from_bps(fallen));
            (self.bytes, self.since) = (0, now);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sound_counts_at_once_and_less_of_it_slowly() {
        let mut audio = AudioRate::new(Timestamp::ZERO);
        let mut run = |from: u64, until: u64, size: usize| {
            for ms in (from..until).step_by(20) {
                audio.on_sent(size);
                audio.update(Timestamp::from_millis(ms + 20));
            }
            audio.rate().as_kbps_f64()
        };
        assert_eq!(run(0, 100, 150), 60.0, "known after a tenth of a second");
        assert!((59.0..61.0).contains(&run(100, 2_000, 150)));
        assert!((175.0..185.0).contains(&run(2_000, 3_200, 450)), "two more speak");
        assert!((140.0..180.0).contains(&run(3_200, 4_200, 150)), "a pause");
        assert!(run(4_200, 20_000, 150) < 75.0);
    }
}
