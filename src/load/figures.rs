//! What is counted while clients play: sums, and spreads of times.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::{
    ops::{AddAssign, Sub},
    time::Duration,
};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Sums over clients since they started.
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: i64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl Sub for Counts {
            type Output = Self;

            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }
        }
    };
}

counts! {
    /// Packets of media sent, retransmissions left out.
    packets_sent,
    /// Packets of media that came for the first time, as retransmissions or not.
    packets_received,
    /// Bytes of these, RTP headers included.
    bytes_received,
    /// Packets that are missing: numbers left out in what was received, less those that came later.
    lost,
    /// Packets that came as retransmissions.
    repaired,
    /// Packets that came twice.
    duplicates,
    /// Probes and padding.
    padding,
    /// Packets whose payload is not what their source sent.
    altered,
    /// Packets that the forwarding unit asked publishers for again.
    asked_again,
    /// Packets that receivers asked for again.
    nacked,
    /// Pictures sent.
    pictures_sent,
    /// Pictures received whole, and with all that they refer to.
    pictures_decodable,
    /// Times that a receiver could not go on decoding.
    breaks,
    /// Key frames that receivers asked for.
    key_frames_asked,
    /// Key frames that publishers were asked for.
    key_frames_wanted,
    /// Packets of sound received.
    sound_received,
    /// Times that a slot went on with another source.
    switches,
    /// Pictures and sounds that were not sent in time, and then not at all: the generator could not keep up.
    skipped,
    /// Sends that this machine's kernel refused.
    refused,
}

/// How times are spread, from a microsecond to a minute.
#[derive(Clone, Debug)]
pub struct Spread(Histogram<u64>);

const LONGEST_MICROS: u64 = 60_000_000;

impl Spread {
    /// Nothing recorded.
    pub fn new() -> Self {
        // These bounds are valid: two digits between 1 and a minute's microseconds.
        Self(Histogram::new_with_bounds(1, LONGEST_MICROS, 2).unwrap_or_else(|_| unreachable!()))
    }

    /// Takes a time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record((time.as_micros() as u64).clamp(1, LONGEST_MICROS));
    }

    /// Takes what another recorded.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many were recorded.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this share (0 to 1) of all stays within, in milliseconds; `None` where there are none.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        (!self.is_empty()).then(|| round(self.0.value_at_quantile(share) as f64 / 1e3))
    }

    /// As a report has it.
    pub fn summary(&self) -> Option<Summary> {
        Some(Summary {
            count: self.len(),
            p50: self.quantile_ms(0.5)?,
            p95: self.quantile_ms(0.95)?,
            p99: self.quantile_ms(0.99)?,
            max: self.quantile_ms(1.0)?,
        })
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self::new()
    }
}

/// A spread in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// What one thread counts.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    /// Sums since the start.
    pub counts: Counts,
    /// From a packet's departure at its source to its arrival, since they were last taken.
    pub delay: Spread,
    /// How late after their time pictures and sounds were sent, since they were last taken.
    pub late: Spread,
}

/// To three digits behind the point: more is noise.
pub fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_tell_what_came_since() {
        let mut all = Counts { packets_sent: 5, lost: -1, ..Counts::default() };
        let before = all;
        all += Counts { packets_sent: 2, lost: 1, ..Counts::default() };
        assert_eq!((all.packets_sent, all.lost), (7, 0));
        assert_eq!(all - before, Counts { packets_sent: 2, lost: 1, ..Counts::default() });
    }

    #[test]
    fn quantiles_are_right_within_a_hundredth() {
        let mut spread = Spread::new();
        assert_eq!(spread.summary(), None);
        (1..=1_000).for_each(|n| spread.record(Duration::from_micros(n * 10)));
        let mut all = Spread::new();
        all.merge(&spread);
        let summary = all.summary().unwrap();
        assert_eq!(summary.count, 1_000);
        for (found, expected) in [(summary.p50, 5.0), (summary.p95, 9.5), (summary.p99, 9.9), (summary.max, 10.0)] {
            assert!((found / expected - 1.0).abs() < 0.01, "{found} for {expected}");
        }
        all.clear();
        assert_eq!(all.summary(), None);
    }

    #[test]
    fn what_is_out_of_bounds_counts_as_the_bound() {
        let mut spread = Spread::new();
        spread.record(Duration::ZERO);
        spread.record(Duration::from_secs(600));
        assert_eq!(spread.len(), 2);
        assert!(spread.quantile_ms(1.0).unwrap() >= 60_000.0 * 0.99);
    }
}
