//! What arrives: the rate of delivered bytes by the peer's arrival times.

use crate::units::Bitrate;
use std::{collections::VecDeque, time::Duration};

/// Window of the steady estimate, and of the one that follows a sudden change.
const WINDOW_MICROS: i64 = 500_000;
const RECENT_MICROS: i64 = 150_000;
/// The least time that a rate can be told from.
const MIN_SPAN_MICROS: i64 = 40_000;
/// A bound on what is kept.
const MAX_ARRIVALS: usize = 8_192;

/// Sums arrivals over sliding windows.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    /// (arrival in microseconds, bytes).
    arrivals: VecDeque<(i64, usize)>,
    /// Of all that are kept.
    bytes: usize,
}

impl Throughput {
    /// Nothing arrived.
    pub const fn new() -> Self {
        Self { arrivals: VecDeque::new(), bytes: 0 }
    }

    /// Takes a delivered packet.
    pub fn on_arrival(&mut self, at_micros: i64, size: usize) {
        let newest = self.arrivals.back().map_or(at_micros, |(newest, _)| *newest);
        if at_micros + WINDOW_MICROS < newest {
            return;
        }
        // Nearly always at the end; a reordered packet goes to its place.
        let place = self.arrivals.iter().rposition(|(at, _)| *at <= at_micros).map_or(0, |i| i + 1);
        self.arrivals.insert(place, (at_micros, size));
        self.bytes += size;
        let newest = newest.max(at_micros);
        while self.arrivals.len() > MAX_ARRIVALS
            || self.arrivals.front().is_some_and(|(at, _)| at + WINDOW_MICROS < newest)
        {
            self.bytes -= self.arrivals.pop_front().map_or(0, |(_, size)| size);
        }
    }

    /// Over half a second.
    pub fn rate(&self) -> Option<Bitrate> {
        rate_of(self.arrivals.back()?.0, *self.arrivals.front()?, self.bytes)
    }

    /// Over the last moments.
    pub fn recent_rate(&self) -> Option<Bitrate> {
        let newest = self.arrivals.back()?.0;
        let inside = self.arrivals.iter().rev().take_while(|(at, _)| at + RECENT_MICROS >= newest);
        let (first, bytes) = inside.fold(((newest, 0), 0), |(_, bytes), entry| (*entry, bytes + entry.1));
        rate_of(newest, first, bytes).or_else(|| self.rate())
    }
}

/// The rate of `bytes` that arrived from the first packet to the newest, with both.
fn rate_of(newest: i64, first: (i64, usize), bytes: usize) -> Option<Bitrate> {
    let (at, size) = first;
    let span = newest - at;
    // The first packet's bytes came before the span that the others took.
    (span >= MIN_SPAN_MICROS)
        .then(|| Bitrate::from_bytes_over((bytes - size) as u64, Duration::from_micros(span as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_shows_in_the_recent_rate_first() {
        let mut throughput = Throughput::new();
        assert_eq!(throughput.rate(), None);
        let mut at = 0;
        for _ in 0..200 {
            at += 5_000;
            throughput.on_arrival(at, 1_250);
        }
        assert_eq!(throughput.rate(), Some(Bitrate::from_kbps(2_000)));
        for _ in 0..5 {
            at += 40_000;
            throughput.on_arrival(at, 1_250);
        }
        assert_eq!(throughput.recent_rate(), Some(Bitrate::from_kbps(250)));
        assert!(throughput.rate().unwrap() > Bitrate::from_kbps(1_000));
    }

    #[test]
    fn reordered_arrivals_count_where_they_belong() {
        let mut throughput = Throughput::new();
        for at in [10, 30, 20, 50, 40, 60, 0] {
            throughput.on_arrival(at * 1_000, 1_000);
        }
        assert_eq!(throughput.rate(), Some(Bitrate::from_kbps(800)));
    }
}
