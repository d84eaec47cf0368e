//! Freezes as the W3C counts them (`freezeCount`, `totalFreezesDuration` of "Identifiers for WebRTC's Statistics API").
//!
//! An interval between two shown pictures is a freeze where it exceeds the larger of three times the average interval and
//! the average plus 150 ms; the average is over the last 30 intervals.

use halloo_engine::Timestamp;
use std::{collections::VecDeque, time::Duration};

const HISTORY: usize = 30;
const ADDED: f64 = 0.150;

/// Freezes and how long they took together.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Freezes {
    /// How many.
    pub count: u32,
    /// Their duration together, in seconds.
    pub seconds: f64,
}

/// Counts freezes among the times at which pictures were shown, in order.
pub fn freezes(shown: impl IntoIterator<Item = Timestamp>) -> Freezes {
    let mut found = Freezes::default();
    let mut intervals = VecDeque::with_capacity(HISTORY);
    let mut last: Option<Timestamp> = None;
    for at in shown {
        let Some(before) = last.replace(at) else { continue };
        let interval = at.since(before).as_secs_f64();
        if !intervals.is_empty() {
            let average = intervals.iter().sum::<f64>() / intervals.len() as f64;
            if interval > (3.0 * average).max(average + ADDED) {
                found.count += 1;
                found.seconds += interval;
            }
        }
        if intervals.len() == HISTORY {
            intervals.pop_front();
        }
        intervals.push_back(interval);
    }
    found
}

/// The longest time without a new picture.
pub fn longest_interval(shown: &[Timestamp]) -> Duration {
    shown.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: &[u64]) -> Vec<Timestamp> {
        milliseconds.iter().map(|&ms| Timestamp::from_millis(ms)).collect()
    }

    #[test]
    fn an_even_rate_has_none() {
        let shown = at(&(0..100).map(|i| i * 33).collect::<Vec<_>>());
        assert_eq!(freezes(shown), Freezes::default());
    }

    #[test]
    fn a_gap_of_half_a_second_is_one() {
        let mut times: Vec<u64> = (0..50).map(|i| i * 33).collect();
        times.extend((0..50).map(|i| 49 * 33 + 500 + i * 33));
        let found = freezes(at(&times));
        assert_eq!(found.count, 1);
        assert!((found.seconds - 0.5).abs() < 1e-9);
        assert_eq!(longest_interval(&at(&times)), Duration::from_millis(500));
    }

    #[test]
    fn two_lost_pictures_at_thirty_a_second_are_none() {
        let mut times: Vec<u64> = (0..50).map(|i| i * 33).collect();
        times.extend((0..50).map(|i| 49 * 33 + 99 + i * 33));
        assert_eq!(freezes(at(&times)).count, 0);
    }

    #[test]
    fn nothing_shown_is_no_freeze() {
        assert_eq!(freezes([]), Freezes::default());
    }
}
