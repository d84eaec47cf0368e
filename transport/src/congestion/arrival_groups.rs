//! Packets that left together, and how the time between two such groups changed on the way (draft-ietf-rmcat-gcc-02,
//! section 5.2).
//!
//! Packets that left within 5 ms are one group: their spacing is the pacer's, not the path's.

use crate::time::Timestamp;

/// Longest time between the first and the last packet of a group, in microseconds.
const BURST_MICROS: i64 = 5_000;
/// A group whose packets arrive together although they did not leave together was held up as one: it goes on.
const HELD_UP_MICROS: i64 = 5_000;
/// Longest such group.
const MAX_HELD_UP_MICROS: i64 = 100_000;

/// Two consecutive groups, compared.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GroupDelta {
    /// Milliseconds between their last departures.
    pub sent_ms: f64,
    /// Milliseconds between their last arrivals.
    pub arrived_ms: f64,
    /// When the later one was complete, in milliseconds of the peer's clock.
    pub at_ms: f64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrived: i64,
    last_arrived: i64,
}

/// Collects packets into groups.
#[derive(Clone, Debug, Default)]
pub struct ArrivalGroups {
    current: Option<Group>,
    previous: Option<Group>,
}

impl ArrivalGroups {
    /// No packets yet.
    pub const fn new() -> Self {
        Self { current: None, previous: None }
    }

    /// Takes a packet, in order of sending and of arrival; tells the change when it completes a group.
    pub fn on_packet(&mut self, sent_at: Timestamp, arrived_micros: i64) -> Option<GroupDelta> {
        let sent = sent_at.as_micros() as i64;
        let new =
            Group { first_sent: sent, last_sent: sent, first_arrived: arrived_micros, last_arrived: arrived_micros };
        let Some(current) = &mut self.current else {
            self.current = Some(new);
            return None;
        };
        if current.takes(sent, arrived_micros) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrived = current.last_arrived.max(arrived_micros);
            return None;
        }
        let complete = *current;
        self.current = Some(new);
        let previous = self.previous.replace(complete)?;
        Some(GroupDelta {
            sent_ms: (complete.last_sent - previous.last_sent) as f64 / 1e3,
            arrived_ms: (complete.last_arrived - previous.last_arrived) as f64 / 1e3,
            at_ms: complete.last_arrived as f64 / 1e3,
        })
    }
}

impl Group {
    fn takes(&self, sent: i64, arrived: i64) -> bool {
        if sent - self.first_sent <= BURST_MICROS {
            return true;
        }
        let closed_up = (arrived - self.last_arrived) < (sent - self.last_sent);
        closed_up && arrived - self.last_arrived <= HELD_UP_MICROS && arrived - self.first_arrived < MAX_HELD_UP_MICROS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_form_by_departure_and_compare_by_arrival() {
        let mut groups = ArrivalGroups::new();
        let packets = [(0, 50), (2, 52), (20, 80), (22, 82), (40, 110), (60, 140)];
        let deltas: Vec<_> =
            packets.iter().filter_map(|(s, a)| groups.on_packet(Timestamp::from_millis(*s), a * 1_000)).collect();
        assert_eq!(
            deltas,
            [
                GroupDelta { sent_ms: 20.0, arrived_ms: 30.0, at_ms: 82.0 },
                GroupDelta { sent_ms: 18.0, arrived_ms: 28.0, at_ms: 110.0 },
            ]
        );
    }

    #[test]
    fn packets_that_were_held_up_together_are_one_group() {
        let mut groups = ArrivalGroups::new();
        groups.on_packet(Timestamp::from_millis(0), 50_000);
        assert_eq!(groups.on_packet(Timestamp::from_millis(20), 120_000), None);
        for i in 2..5u64 {
            let held = groups.on_packet(Timestamp::from_millis(20 * i), 120_000 + i as i64 * 500);
            assert_eq!(held, None);
        }
        assert!(groups.on_packet(Timestamp::from_millis(100), 150_000).is_some());
    }
}
