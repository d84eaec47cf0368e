//! Timestamps of a slot: within a source they keep the source's distances, across a change they continue by the clock.

use halloo_transport::Timestamp;

/// Retimes the packets of one source after another.
#[derive(Clone, Debug)]
pub struct Timeline {
    clock_rate: u32,
    offset: u32,
    /// The newest timestamp given out, and when.
    newest: Option<(u32, Timestamp)>,
    first: u32,
}

impl Timeline {
    /// The first packet gets `first`; `clock_rate` is in ticks a second.
    pub const fn new(clock_rate: u32, first: u32) -> Self {
        Self { clock_rate, offset: 0, newest: None, first }
    }

    /// Goes on with another source, whose packet with `timestamp` comes now: later than all before by the time that passed,
    /// and by a millisecond at least.
    pub fn start(&mut self, now: Timestamp, timestamp: u32) {
        let out = match self.newest {
            None => self.first,
            Some((newest, at)) => {
                let ticks = now.since(at).as_nanos() * u128::from(self.clock_rate) / 1_000_000_000;
                newest.wrapping_add((ticks as u32).max(self.clock_rate / 1_000))
            }
        };
        self.offset = out.wrapping_sub(timestamp);
    }

    /// The timestamp of a packet that arrived now.
    pub fn rewrite(&mut self, now: Timestamp, timestamp: u32) -> u32 {
        let out = timestamp.wrapping_add(self.offset);
        if self.newest.is_none_or(|(newest, _)| (out.wrapping_sub(newest) as i32) > 0) {
            self.newest = Some((out, now));
        }
        out
    }

    /// The timestamp that stands for the source's `timestamp`, whether or not a packet has it: for sender reports.
    pub const fn at(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    #[test]
    fn a_switch_continues_by_the_clock() {
        let mut timeline = Timeline::new(90_000, 500);
        timeline.start(MS(0), 1_000_000);
        assert_eq!(timeline.rewrite(MS(0), 1_000_000), 500);
        assert_eq!(timeline.rewrite(MS(40), 1_003_000), 3_500);
        timeline.start(MS(140), 77);
        assert_eq!(timeline.rewrite(MS(140), 77), 3_500 + 9_000);
        timeline.start(MS(140), 9);
        assert_eq!(timeline.rewrite(MS(140), 9), 12_500 + 90, "never the same picture's time");
    }

    #[test]
    fn a_late_packet_does_not_turn_time_back() {
        let mut timeline = Timeline::new(48_000, u32::MAX - 100);
        timeline.start(MS(0), 0);
        timeline.rewrite(MS(20), 960);
        assert_eq!(timeline.rewrite(MS(30), 0), u32::MAX - 100);
        timeline.start(MS(40), 5);
        assert_eq!(timeline.rewrite(MS(40), 5), (u32::MAX - 100).wrapping_add(960 + 960));
    }

    proptest! {
        #[test]
        fn time_only_goes_forward_over_switches(steps in prop::collection::vec((any::<u32>(), 0u64..500, 1u32..20), 1..50), first: u32) {
            let mut timeline = Timeline::new(90_000, first);
            let (mut now, mut last) = (MS(0), None::<u32>);
            for (start, pause, packets) in steps {
                now += std::time::Duration::from_millis(pause);
                timeline.start(now, start);
                for i in 0..packets {
                    let out = timeline.rewrite(now, start.wrapping_add(i * 3_000));
                    prop_assert!(last.is_none_or(|last| (out.wrapping_sub(last) as i32) > 0));
                    last = Some(out);
                    now += std::time::Duration::from_millis(33);
                }
            }
        }
    }
}
