//! Key-frame requests, merged and rate-limited in both directions (RFC 4585, section 6.3.1; RFC 5104, section 4.3.1).
//!
//! Nothing is put off: a request that comes too soon after another is answered by what that one brings, and is asked for
//! again by whoever still misses a key frame.

use crate::time::Timestamp;
use std::time::Duration;

/// Shortest time between two requests.
const MIN_INTERVAL: Duration = Duration::from_millis(150);
/// Longest, however long the round trip.
const MAX_INTERVAL: Duration = Duration::from_millis(500);

/// Lets one request through per round trip.
#[derive(Clone, Debug, Default)]
pub struct KeyFrameLimiter {
    last: Option<Timestamp>,
}

impl KeyFrameLimiter {
    /// Nothing asked for yet.
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Whether a request made at `now` goes through.
    pub fn admit(&mut self, now: Timestamp, rtt: Option<Duration>) -> bool {
        let interval = rtt.unwrap_or_default().clamp(MIN_INTERVAL, MAX_INTERVAL);
        let admitted = self.last.is_none_or(|last| now.since(last) >= interval);
        if admitted {
            self.last = Some(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_passes_per_round_trip() {
        let mut limiter = KeyFrameLimiter::new();
        let rtt = Some(Duration::from_millis(200));
        let passed: Vec<u64> =
            (0..1_000).step_by(20).filter(|ms| limiter.admit(Timestamp::from_millis(*ms), rtt)).collect();
        assert_eq!(passed, [0, 200, 400, 600, 800]);
    }

    #[test]
    fn an_absurd_round_trip_does_not_silence_requests() {
        let mut limiter = KeyFrameLimiter::new();
        assert!(limiter.admit(Timestamp::ZERO, Some(Duration::from_secs(20))));
        assert!(limiter.admit(Timestamp::from_millis(500), Some(Duration::from_secs(20))));
    }
}
