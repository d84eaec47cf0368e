//! When pictures come to a subscriber that has no bandwidth for all of them.
//!
//! Each start costs a key frame, which fills a narrow path for a moment and takes from the pictures that go out already. So
//! they start one after the other, and where one had to be given up soon after, the next try waits for twice as long. Where
//! there is bandwidth for all, or clearly more than there was, nobody waits.

use halloo_transport::{Bitrate, Timestamp};
use std::time::Duration;

/// From one start to the next.
const APART: Duration = Duration::from_millis(500);
/// The first pause after a picture was given up, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(2_000);
const LONGEST_PAUSE: Duration = Duration::from_millis(30_000);
/// Where this much more is there than when a picture was given up, it may come back.
const CLEARLY_MORE: f64 = 1.5;
/// Pictures that have stayed for so long show that there is bandwidth for them.
const PROVEN: Duration = Duration::from_millis(10_000);

/// The tries of one subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comebacks {
    pause: Duration,
    next: Timestamp,
    started: Option<Timestamp>,
    /// What there was for all when the last one was given up.
    given_up_at: Option<Bitrate>,
}

impl Default for Comebacks {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE, next: Timestamp::ZERO, started: None, given_up_at: None }
    }
}

impl Comebacks {
    /// Whether a picture may start now, where `budget` is there for all.
    pub(super) fn may_start(&self, now: Timestamp, budget: Bitrate) -> bool {
        let more = self.given_up_at.is_some_and(|least| budget >= least.scale(CLEARLY_MORE));
        let apart = self.started.is_none_or(|at| now.since(at) >= APART);
        apart && (more || self.next <= now)
    }

    /// One starts.
    pub(super) fn on_start(&mut self, now: Timestamp) {
        if self.started.is_some_and(|at| now.since(at) >= PROVEN) {
            self.pause = FIRST_PAUSE;
        }
        self.started = Some(now);
    }

    /// One is given up, since `budget` is not enough.
    pub(super) fn on_give_up(&mut self, now: Timestamp, budget: Bitrate) {
        self.given_up_at = Some(budget);
        self.next = self.next.max(now + self.pause);
        let failed = self.started.take().is_some_and(|at| now.since(at) < PROVEN);
        self.pause = if failed { (self.pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
    }

    /// There is bandwidth for all.
    pub(super) fn on_plenty(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    const BUDGET: Bitrate = Bitrate::from_kbps(300);

    /// Milliseconds until a picture may start.
    fn wait(comebacks: &Comebacks, from: u64) -> u64 {
        (0..).find(|ms| comebacks.may_start(MS(from + ms), BUDGET)).unwrap()
    }

    #[test]
    fn pictures_start_one_after_the_other_and_failed_tries_become_rare() {
        let mut comebacks = Comebacks::default();
        assert_eq!(wait(&comebacks, 0), 0);
        comebacks.on_start(MS(0));
        assert_eq!(wait(&comebacks, 0), 500);
        let (mut now, mut pauses) = (100, Vec::new());
        for _ in 0..6 {
            comebacks.on_give_up(MS(now), BUDGET);
            pauses.push(wait(&comebacks, now));
            now += pauses[pauses.len() - 1];
            comebacks.on_start(MS(now));
            now += 300;
        }
        assert_eq!(pauses, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        comebacks.on_give_up(MS(now), BUDGET);
        assert!(comebacks.may_start(MS(now + 500), BUDGET.scale(1.6)), "clearly more");
        assert!(!comebacks.may_start(MS(now + 500), BUDGET.scale(1.4)));
    }

    #[test]
    fn what_stayed_for_long_is_no_failed_try_and_plenty_ends_all_pauses() {
        let mut comebacks = Comebacks::default();
        for at in [0, 20_000, 40_000] {
            comebacks.on_start(MS(at));
            comebacks.on_give_up(MS(at + 15_000), BUDGET);
            assert_eq!(wait(&comebacks, at + 15_000), 2_000);
        }
        comebacks.on_plenty();
        assert_eq!(wait(&comebacks, 55_001), 0);
    }
}
