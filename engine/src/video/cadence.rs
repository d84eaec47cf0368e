//! How regularly pictures are shown: frame rate and freezes (W3C `RTCInboundRtpStreamStats`: `framesPerSecond`, `freezeCount`,
//! `totalFreezesDuration`, `totalInterFrameDelay`). Pure.

use crate::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// Frame durations that the average runs over, as the standard has it.
const WINDOW: usize = 30;
const FREEZE_MARGIN: Duration = Duration::from_millis(150);

/// What a row of shown pictures amounts to, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CadenceStats {
    pub(crate) freeze_count: u32,
    pub(crate) total_freezes_duration: Duration,
    pub(crate) total_inter_frame_delay: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Cadence {
    last: Option<Timestamp>,
    recent: VecDeque<Duration>,
    shown: VecDeque<Timestamp>,
    stats: CadenceStats,
}

impl Cadence {
    /// A picture is shown.
    pub(crate) fn handle_frame(&mut self, now: Timestamp) {
        self.shown.push_back(now);
        self.forget(now);
        let Some(last) = self.last.replace(now) else { return };
        let interval = now.since(last);
        self.stats.total_inter_frame_delay += interval;
        if self.recent.len() == WINDOW {
            let average = self.recent.iter().sum::<Duration>() / WINDOW as u32;
            if interval >= (3 * average).max(average + FREEZE_MARGIN) {
                self.stats.freeze_count += 1;
                self.stats.total_freezes_duration += interval;
            }
            self.recent.pop_front();
        }
        self.recent.push_back(interval);
    }

    /// The picture stands still on purpose (the sender switched its camera off): what passes now is no freeze.
    pub(crate) fn handle_pause(&mut self) {
        self.last = None;
    }

    /// Pictures in the second before `now`.
    pub(crate) fn frames_per_second(&self, now: Timestamp) -> f64 {
        self.shown.iter().filter(|&&at| now.since(at) < Duration::from_secs(1)).count() as f64
    }

    pub(crate) fn stats(&self) -> CadenceStats {
        self.stats
    }

    fn forget(&mut self, now: Timestamp) {
        while self.shown.front().is_some_and(|&at| now.since(at) >= Duration::from_secs(1)) {
            self.shown.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_of_more_than_150_ms_over_the_average_is_a_freeze() {
        let mut cadence = Cadence::default();
        let mut now = Timestamp::from_millis(100);
        let mut show = |after: u64, cadence: &mut Cadence| {
            now += Duration::from_millis(after);
            cadence.handle_frame(now);
            now
        };
        for _ in 0..31 {
            show(40, &mut cadence);
        }
        show(189, &mut cadence);
        assert_eq!(cadence.stats().freeze_count, 0);
        let now = show(300, &mut cadence);
        assert_eq!(cadence.stats().freeze_count, 1);
        assert_eq!(cadence.stats().total_freezes_duration, Duration::from_millis(300));
        assert!((cadence.frames_per_second(now) - 15.0).abs() < 1.5, "{}", cadence.frames_per_second(now));
        cadence.handle_pause();
        show(60_000, &mut cadence);
        assert_eq!(cadence.stats().freeze_count, 1);
    }
}
