//! Who of a room speaks when: publishers take turns, so that rooms have a dominant speaker who changes.

use halloo_sfu::rtp::AudioLevel;
use halloo_transport::Timestamp;
use std::time::Duration;

/// How long one speaks.
const TURN: Duration = Duration::from_secs(5);
/// Speech, in -dBov.
const SPEECH: AudioLevel = AudioLevel { level: 22, voice: true };
/// A room in which nobody speaks near the microphone.
const NOISE: AudioLevel = AudioLevel { level: 75, voice: false };

/// The turns of one publisher.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Publishers of the room.
    pub publishers: u32,
    /// Which of them this is.
    pub place: u32,
    /// Which room: rooms do not change speakers at the same moment.
    pub room: u32,
}

impl Turns {
    /// How loud the publisher is at `now`.
    pub fn level(&self, now: Timestamp) -> AudioLevel {
        let turns = (now.as_nanos() / 1_000_000 + u64::from(self.room) * 1_700) / TURN.as_millis() as u64;
        if turns % u64::from(self.publishers.max(1)) == u64::from(self.place) { SPEECH } else { NOISE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_room_speaks_at_a_time_and_everybody_gets_a_turn() {
        let mut spoke = [0; 3];
        for second in 0..60 {
            let now = Timestamp::from_millis(second * 1_000);
            let speaking: Vec<u32> =
                (0..3).filter(|place| Turns { publishers: 3, place: *place, room: 4 }.level(now).voice).collect();
            assert_eq!(speaking.len(), 1);
            spoke[speaking[0] as usize] += 1;
        }
        assert!(spoke.iter().all(|seconds| (15..=25).contains(seconds)), "{spoke:?}");
    }
}
