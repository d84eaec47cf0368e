//! One speaker's activity on three time scales (I. Volfovich, I. Cohen: "Dominant speaker identification for multipoint
//! videoconferencing", IEEEI 2012): the last 20 ms, the last 100 ms, the last second.
//!
//! Each scale counts active parts of the one below it, and scores the count by how much likelier it is under speech
//! (exponential) than under noise (binomial). What counts as active follows the noise ([`Noise`]); a second whose level does not go
//! up and down about as syllables do (E. Scheirer, M. Slaney: "Construction and evaluation of a robust multifeature speech/music
//! discriminator", ICASSP 1997, take its modulation at 4 Hz) has no speech, unless it is far above the noise.

use super::noise::Noise;
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
/// Decibels above the noise at its quietest and at its loudest that make an immediate part active, and active parts that make a
/// medium part active.
const ABOVE_FLOOR: u8 = 12;
const ABOVE_CEILING: u8 = 2;
const ACTIVE_PARTS: u8 = 3;
/// Mean change, in dB from one medium part to the next, from which on there are syllables; from which on whoever spoke goes on
/// speaking; and below which it is surely noise.
const SYLLABLES: f32 = 5.0;
const STILL_SYLLABLES: f32 = 3.6;
const STEADY: f32 = 2.5;
/// Decibels above the noise from which on a sound needs no syllables.
const FAR: u8 = 28;
/// Below this loudness changes are none of speech.
const QUIET: u8 = 60;
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

/// Who is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Who may become the dominant speaker.
    Challenger,
    /// Who is.
    Holder,
}

/// Levels of the last second.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// Loudness in dB above -127 dBov, by tick modulo length.
    parts: [u8; PARTS],
    newest: u64,
    last_rtp: u32,
    last_at: Timestamp,
    noise: Noise,
    /// The tick after which the noise was last learned from.
    learned: u64,
}

impl Activity {
    pub(super) const fn new(now: Timestamp, rtp: u32) -> Self {
        Self { parts: [0; PARTS], newest: 0, last_rtp: rtp, last_at: now, noise: Noise::new(), learned: 0 }
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
        // A part of a longer packet has its level; a pause is silence.
        let is_packet = ticks * TICK.as_millis() as u64 <= LONGEST_PACKET.as_millis() as u64;
        for skipped in (1..ticks.min(PARTS as u64)).rev() {
            self.set(self.newest + ticks - skipped, if is_packet { loudness } else { 0 });
        }
        self.newest += ticks;
        self.set(self.newest, loudness);
        (0..if is_packet { ticks } else { 1 }).for_each(|_| self.noise.follow(loudness));
        if self.newest >= self.learned + MEDIUM as u64 {
            self.learned = self.newest;
            // What left the last second is looked at, so that the beginning of speech is not taken for noise.
            let oldest = self.means(self.newest, 0).last().copied();
            self.noise.learn(oldest.filter(|_| self.modulation(self.newest) < STEADY));
        }
    }

    /// The scores at `now` of somebody who was in this role: time without packets is silence, and what does not go up and down as
    /// syllables do is noise.
    pub(super) fn scores(&self, now: Timestamp, role: Role) -> Scores {
        let end = self.end(now);
        let syllables = match role {
            Role::Challenger => SYLLABLES,
            Role::Holder => STILL_SYLLABLES,
        };
        let newest_mean = self.means(end, 0).first().copied().unwrap_or_default();
        let is_far = newest_mean >= f32::from(self.noise.floor().max(self.noise.ceiling()) + FAR);
        let is_speech = is_far || self.modulation(end) >= syllables;
        let least = self.least_active();
        let medium = |back: usize| {
            let parts = (0..MEDIUM).map(|i| self.get(end, (back * MEDIUM + i) as u64));
            parts.filter(|loudness| is_speech && *loudness >= least).count() as u8
        };
        let newest = Some(self.get(end, 0)).filter(|loudness| is_speech && *loudness >= least);
        let steps = newest.map_or(0, |loudness| (loudness - self.noise.floor()) / STEP);
        let active = (0..LONG).filter(|back| medium(*back) >= ACTIVE_PARTS).count() as u8;
        Scores {
            immediate: score(steps, STEPS, 0.78),
            medium: score(medium(0), MEDIUM as u8, 24.0),
            long: score(active, LONG as u8, 47.0),
            active,
        }
    }

    /// Whether there is sound at `now` that may be speech: a cheap look, as most of the time there is none.
    pub(super) fn is_heard(&self, now: Timestamp) -> bool {
        self.get(self.end(now), 0) >= self.least_active()
    }

    /// The tick at `now`.
    fn end(&self, now: Timestamp) -> u64 {
        let silent = now.since(self.last_at).saturating_sub(LONGEST_PACKET).as_nanos() / TICK.as_nanos();
        self.newest + silent.min(PARTS as u128) as u64
    }

    /// The loudness from which on a part is active.
    fn least_active(&self) -> u8 {
        (self.noise.floor() + ABOVE_FLOOR).max(self.noise.ceiling() + ABOVE_CEILING)
    }

    /// Mean change in dB from one medium part to the next, wherever a gap between syllables may lie in them.
    fn modulation(&self, end: u64) -> f32 {
        let change = |shift: usize| {
            let means = self.means(end, shift);
            let changes = means.iter().zip(means.iter().skip(1)).map(|(newer, older)| (newer - older).abs());
            changes.sum::<f32>() / (LONG - 1) as f32
        };
        change(0).max(change(MEDIUM / 2))
    }

    /// Mean loudness of each medium part, the newest first, which is `shift` immediate parts old. What is below the noise floor
    /// counts as the
    /// floor, so that silence and near silence are the same.
    fn means(&self, end: u64, shift: usize) -> [f32; LONG] {
        let floor = self.noise.floor().min(QUIET);
        std::array::from_fn(|back| {
            let parts = (0..MEDIUM).map(|i| self.get(end, (back * MEDIUM + i + shift) as u64).max(floor));
            parts.map(f32::from).sum::<f32>() / MEDIUM as f32
        })
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

    /// Sound at this level, with five gaps a second where it is loud.
    fn talk(activity: &mut Activity, from: u64, packets: u64, level: u8) {
        for i in from..from + packets {
            let level = if level < 40 && i % 10 >= 8 { 90 } else { level };
            activity.on_level(Timestamp::from_millis(20 * i), 960 * i as u32, level);
        }
    }

    #[test]
    fn scores_grow_with_speech_and_fall_in_silence() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 50, 90);
        let quiet = activity.scores(Timestamp::from_millis(1_000), Role::Challenger);
        assert_eq!(quiet.active, 0);
        talk(&mut activity, 51, 50, 25);
        let loud = activity.scores(Timestamp::from_millis(2_000), Role::Challenger);
        assert_eq!(loud.active, 10);
        assert!(loud.immediate > quiet.immediate && loud.medium > quiet.medium && loud.long > quiet.long);
        let gone = activity.scores(Timestamp::from_millis(2_560), Role::Challenger);
        assert!((4..=6).contains(&gone.active), "{gone:?}");
        assert_eq!(activity.scores(Timestamp::from_millis(60_000), Role::Challenger).active, 0);
    }

    #[test]
    fn steady_noise_becomes_the_floor() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 20 * 50, 55);
        assert_eq!(activity.scores(Timestamp::from_millis(20_000), Role::Challenger).active, 0);
    }

    #[test]
    fn noise_that_swells_by_twenty_decibels_is_not_speech() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        for i in 1..3_000u64 {
            let swell = 10.0 + 10.0 * (i as f32 * 0.02).sin();
            activity.on_level(Timestamp::from_millis(20 * i), 960 * i as u32, 45 + swell as u8);
            assert_eq!(activity.scores(Timestamp::from_millis(20 * i), Role::Challenger).active, 0, "tick {i}");
        }
    }

    #[test]
    fn packets_of_sixty_milliseconds_count_like_three_of_twenty() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        for i in 1..20u64 {
            let level = if i % 5 == 4 { 90 } else { 25 };
            activity.on_level(Timestamp::from_millis(60 * i), 2_880 * i as u32, level);
        }
        let by_sixty = activity.scores(Timestamp::from_millis(1_140), Role::Challenger);
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        for i in 1..58u64 {
            let level = if (i.div_ceil(3)) % 5 == 4 { 90 } else { 25 };
            activity.on_level(Timestamp::from_millis(20 * i), 960 * i as u32, level);
        }
        assert_eq!(activity.scores(Timestamp::from_millis(1_140), Role::Challenger), by_sixty);
        assert!(by_sixty.active >= 6, "{by_sixty:?}");
    }

    #[test]
    fn a_late_packet_and_a_jump_of_the_clock_change_little() {
        let mut activity = Activity::new(Timestamp::ZERO, 0);
        talk(&mut activity, 1, 50, 25);
        activity.on_level(Timestamp::from_millis(1_001), 960 * 40, 127);
        assert_eq!(activity.scores(Timestamp::from_millis(1_001), Role::Challenger).active, 10);
        activity.on_level(Timestamp::from_millis(1_020), 2_000_000_000, 25);
        assert_eq!(activity.scores(Timestamp::from_millis(1_020), Role::Challenger).active, 10);
    }
}
