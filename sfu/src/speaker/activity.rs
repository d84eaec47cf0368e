//! One speaker's activity on three time scales (I. Volfovich, I. Cohen: "Dominant speaker identification for multipoint
//! videoconferencing", IEEEI 2012): the last 20 ms, the last 100 ms, the last second.
//!
//! Each scale counts active parts of the one below it, and scores the count by how much likelier it is under speech
//! (exponential) than under noise (binomial).

use halloo_transport::Timestamp;
use std::time::Duration;

/// Length of an immediate part.
const TICK: Duration = Duration::from_millis(20);
/// Ticks of an RTP clock of 48 kHz in it.
const TICK_RTP: u32 = 960;
/// Immediate parts in a medium one, and medium parts in the long one.
const MEDIUM: usize = 5;
const LONG: usize = 10;
const PARTS: usize = MEDIUM * LONG;
/// Steps of loudness in an immediate part, and decibels in a step.
const STEPS: u8 = 13;
const STEP: u8 = 4;
/// Steps above the noise floor that make an immediate part active, and active parts that make a medium part active.
const ACTIVE_STEPS: u8 = 3;
const ACTIVE_PARTS: u8 = 3;
/// Bounds of the noise floor, in dB above -127 dBov.
const LOWEST_FLOOR: u8 = 30;
const HIGHEST_FLOOR: u8 = 75;
/// Parts over which the floor rises by a decibel.
const FLOOR_RISE: u32 = 50;
/// Longest pause that a packet's own duration explains.
const LONGEST_PACKET: Duration = Duration::from_millis(60);

/// The scores on the three scales; never below a tiny positive number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Scores {
    pub(super) immediate: f64,
    pub(super) medium: f64,
    pub(super) long: f64,
    /// Active medium parts in the last second, 0 to 10.
    pub(super) active: u8,
}

/// Levels of the last second.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// Steps above the floor, by tick modulo length.
    parts: [u8; PARTS],
    newest: u64,
    last_rtp: u32,
    last_at: Timestamp,
    floor: u8,
    since_rise: u32,
}

impl Activity {
    pub(super) const fn new(now: Timestamp, rtp: u32) -> Self {
        Self { parts: [0; PARTS], newest: 0, last_rtp: rtp, last_at: now, floor: 60, since_rise: 0 }
    }

    /// Takes a level in -dBov with the RTP time it belongs to (48 kHz); an older one than the last is ignored.
    pub(super) fn on_level(&mut self, now: Timestamp, rtp: u32, level: u8) {
        let passed = rtp.wrapping_sub(self.last_rtp);
        let ticks = match passed {
            0..=480_000 => u64::from(passed.div_ceil(TICK_RTP)),
            // The clock jumped: another device, or a packet that comes late.
            _ if u32::MAX - passed < 48_000 => return,
            _ => (now.since(self.last_at).as_nanos() / TICK.as_nanos()).max(1) as u64,
        };
        (self.last_rtp, self.last_at) = (rtp, now);
        let loudness = 127 - level.min(127);
        self.follow_floor(loudness);
        let steps = (loudness.saturating_sub(self.floor) / STEP).min(STEPS);
        for skipped in (1..ticks.min(PARTS as u64)).rev() {
            // A part of a longer packet has its level; a pause is silence.
            let level = if ticks * TICK.as_millis() as u64 <= LONGEST_PACKET.as_millis() as u64 { steps } else { 0 };
            self.set(self.newest + ticks - skipped, level);
        }
        self.newest += ticks;
        self.set(self.newest, steps);
    }

    /// The scores at `now`: time without packets is silence.
    pub(super) fn scores(&self, now: Timestamp) -> Scores {
        let silent = now.since(self.last_at).saturating_sub(LONGEST_PACKET).as_nanos() / TICK.as_nanos();
        let end = self.newest + silent.min(PARTS as u128) as u64;
        let medium = |back: usize| {
            let parts = (0..MEDIUM).map(|i| self.get(end, (back * MEDIUM + i) as u64));
            parts.filter(|steps| *steps >= ACTIVE_STEPS).count() as u8
        };
        let active = (0..LONG).filter(|back| medium(*back) >= ACTIVE_PARTS).count() as u8;
        Scores {
            immediate: score(self.get(end, 0), STEPS, 0.78),
            medium: score(medium(0), MEDIUM as u8, 24.0),
            long: score(active, LONG as u8, 47.0),
            active,
        }
    }

    fn follow_floor(&mut self, loudness: u8) {
        self.since_rise += 1;
        if loudness < self.floor {
            self.floor = loudness.max(LOWEST_FLOOR);
        } else if self.since_rise >= FLOOR_RISE {
            self.floor = (self.floor + 1).min(HIGHEST_FLOOR).min(loudness.max(LOWEST_FLOOR));
            self.since_rise = 0;
        }
    }

    fn set(&mut self, tick: u64, steps: u8) {
        if let Some(part) = self.parts.get_mut(tick as usize % PARTS) {
            *part = steps;
        }
    }

    /// The part `back` ticks before `end`; what is after the newest or too old is silence.
    fn get(&self, end: u64, back: u64) -> u8 {
        let Some(tick) = end.checked_sub(back) else { return 0 };
        if tick > self.newest || tick + PARTS as u64 <= self.newest {
            return 0;
        }
        self.parts.get(tick as usize % PARTS).copied().unwrap_or_default()
    }
}

/// Log-likelihood ratio of `active` out of `all` under speech against noise, as the paper has it, with probability one half.
fn score(active: u8, all: u8, rate: f64) -> f64 {
    let (active, all) = (active.min(all), all);
    let choose: f64 = (0..active).map(|i| f64::from(all - i) / f64::from(i + 1)).product();
    let ratio = choose.ln() - f64::from(all) * std::f64::consts::LN_2 - rate.ln() + rate * f64::from(active);
    ratio.max(1e-10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(activity: &mut Activity, from: u64, packets: u64, level: u8) {
        for i in from..from + packets {
            activity.on_level(Timestamp::from_millis(20 * i), 960 * i as u32, level);
        }
    }

    #[test]
    fn scores_grow_with_speech_and_fall_in_silence() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 50, 90);
        let quiet = activity.scores(Timestamp::from_millis(1_000));
        assert_eq!(quiet.active, 0);
        talk(&mut activity, 51, 50, 25);
        let loud = activity.scores(Timestamp::from_millis(2_000));
        assert_eq!(loud.active, 10);
        assert!(loud.immediate > quiet.immediate && loud.medium > quiet.medium && loud.long > quiet.long);
        let gone = activity.scores(Timestamp::from_millis(2_560));
        assert!((4..=6).contains(&gone.active), "{gone:?}");
        assert_eq!(activity.scores(Timestamp::from_millis(60_000)).active, 0);
    }

    #[test]
    fn steady_noise_becomes_the_floor() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 20 * 50, 55);
        assert_eq!(activity.scores(Timestamp::from_millis(20_000)).active, 0);
    }

    #[test]
    fn packets_of_sixty_milliseconds_count_like_three_of_twenty() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        for i in 1..20u64 {
            activity.on_level(Timestamp::from_millis(60 * i), 2_880 * i as u32, 25);
        }
        assert_eq!(activity.scores(Timestamp::from_millis(1_140)).active, 10);
    }

    #[test]
    fn a_late_packet_and_a_jump_of_the_clock_change_little() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 50, 25);
        activity.on_level(Timestamp::from_millis(1_001), 960 * 40, 127);
        assert_eq!(activity.scores(Timestamp::from_millis(1_001)).active, 10);
        activity.on_level(Timestamp::from_millis(1_020), 2_000_000_000, 25);
        assert_eq!(activity.scores(Timestamp::from_millis(1_020)).active, 10);
    }
}
