//! The seam between the `Instant`s that the connection's driver hands out and the engine's [`Timestamp`]s.
//!
//! The two clocks are read together once; from then on one maps onto the other by arithmetic alone.

use halloo_transport::Timestamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1900 (NTP era 0) to 1970.
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

/// One reading of both clocks at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    timestamp: Timestamp,
}

impl Clock {
    /// Reads both clocks.
    pub(super) fn start() -> Self {
        Self { timestamp: crate::clock::now(), instant: Instant::now() }
    }

    /// The engine's time at `instant`.
    pub(super) fn timestamp(self, instant: Instant) -> Timestamp {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.timestamp + after,
            None => self.timestamp - self.instant.saturating_duration_since(instant),
        }
    }

    /// The driver's time at `timestamp`; a time more than a year ahead is a year ahead.
    pub(super) fn instant(self, timestamp: Timestamp) -> Instant {
        if timestamp >= self.timestamp {
            let after = timestamp.since(self.timestamp).min(Duration::from_secs(365 * 86_400));
            self.instant + after
        } else {
            self.instant.checked_sub(self.timestamp.since(timestamp)).unwrap_or(self.instant)
        }
    }

    /// Wall-clock time at [`Timestamp::ZERO`], since 1900, for sender reports.
    pub(super) fn ntp_at_zero(self) -> Duration {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_zero = crate::clock::now().since(Timestamp::ZERO);
        (unix + NTP_TO_UNIX).saturating_sub(since_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_agree_before_and_after_the_start() {
        let clock = Clock::start();
        for millis in [0, 1, 17, 5_000] {
            let ahead = clock.instant + Duration::from_millis(millis);
            assert_eq!(clock.instant(clock.timestamp(ahead)), ahead);
        }
        let behind = clock.instant.checked_sub(Duration::from_millis(3)).unwrap();
        assert_eq!(clock.instant(clock.timestamp(behind)), behind);
    }

    #[test]
    fn the_latest_timestamp_is_a_time_ahead() {
        let clock = Clock::start();
        assert!(clock.instant(Timestamp::MAX) > clock.instant + Duration::from_secs(86_400));
    }
}
