//! The dominant speaker: whoever is clearly more active than the one so far on all three time scales.
//!
//! A burst shorter than half a second never makes one dominant: it cannot fill enough of the last second. Whoever is dominant
//! stays so through pauses and short interjections of others.

use super::activity::{Activity, Role, Scores};
use halloo_transport::Timestamp;
use std::time::Duration;

/// Least time between decisions: less than packets of one person are apart, so that none waits for a timer.
const INTERVAL: Duration = Duration::from_millis(15);
/// By how much (natural logarithm of the ratio of scores) a challenger has to exceed on each scale, after the paper.
const IMMEDIATE: f64 = 3.0;
const MEDIUM: f64 = 2.0;
const LONG: f64 = 0.0;
/// Tenths of the last second in which a challenger has to have spoken: at least 520 ms of speech.
const LEAST_ACTIVE: u8 = 6;

/// Finds the dominant speaker of a room.
#[derive(Clone, Debug, Default)]
pub struct Dominant {
    speakers: Vec<Option<Activity>>,
    current: Option<usize>,
    next_decision: Timestamp,
    heard: bool,
}

impl Dominant {
    /// Nobody speaks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who is dominant.
    pub const fn current(&self) -> Option<usize> {
        self.current
    }

    /// Takes a level in -dBov (0 loudest, 127 silence) of the speaker at `index`, with its RTP time at 48 kHz.
    pub fn on_level(&mut self, now: Timestamp, index: usize, rtp: u32, level: u8) {
        if index >= self.speakers.len() {
            self.speakers.resize(index + 1, None);
        }
        if let Some(place) = self.speakers.get_mut(index) {
            place.get_or_insert_with(|| Activity::new(now, rtp.wrapping_sub(960))).on_level(now, rtp, level);
        }
        self.heard = true;
    }

    /// Takes out a speaker who left or was muted. Returns whether it was the dominant one.
    pub fn remove(&mut self, index: usize) -> bool {
        if let Some(place) = self.speakers.get_mut(index) {
            *place = None;
        }
        let was = self.current == Some(index);
        if was {
            self.current = None;
        }
        was
    }

    /// Decides, where it is time to; the new dominant speaker where it changed.
    pub fn poll(&mut self, now: Timestamp) -> Option<usize> {
        if now < self.next_decision || !self.heard {
            return None;
        }
        self.next_decision = now + INTERVAL;
        self.heard = false;
        let holder = self.current.and_then(|i| self.speakers.get(i)?.as_ref()).map(|a| a.scores(now, Role::Holder));
        let challenger = self
            .speakers
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != self.current)
            .filter_map(|(index, activity)| Some((index, activity.as_ref()?)))
            // Who is not heard right now does not exceed anybody.
            .filter(|(_, activity)| holder.is_none() || activity.is_heard(now))
            .map(|(index, activity)| (index, activity.scores(now, Role::Challenger)))
            .filter(|(_, scores)| scores.active >= LEAST_ACTIVE && exceeds(scores, holder.as_ref()))
            .max_by(|(_, a), (_, b)| a.medium.total_cmp(&b.medium).then(a.long.total_cmp(&b.long)))?;
        self.current = Some(challenger.0);
        self.current
    }

    /// When [`Dominant::poll`] is next worth calling; `None` while nobody is heard.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.heard.then_some(self.next_decision)
    }
}

fn exceeds(challenger: &Scores, holder: Option<&Scores>) -> bool {
    holder.is_none_or(|holder| {
        (challenger.immediate / holder.immediate).ln() > IMMEDIATE
            && (challenger.medium / holder.medium).ln() > MEDIUM
            && (challenger.long / holder.long).ln() > LONG
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_transport::random::Random;

    const SILENCE: u8 = 85;

    /// Levels of several people every 20 ms.
    struct Trace {
        dominant: Dominant,
        random: Random,
        tick: u64,
        changes: Vec<(u64, usize)>,
    }

    impl Trace {
        fn new(seed: u64) -> Self {
            Self { dominant: Dominant::new(), random: Random::new(seed), tick: 0, changes: Vec::new() }
        }

        /// `ms` of sound: those in `voices` are loud, by syllables of speech or steadily.
        fn run(&mut self, ms: u64, people: usize, voices: &[usize], steady: bool) {
            for _ in 0..ms / 20 {
                self.tick += 1;
                let now = Timestamp::from_millis(20 * self.tick);
                for person in 0..people {
                    let noise = (self.random.next_u64() % 8) as u8;
                    // About five syllables a second with gaps between them.
                    let syllable = (self.tick + 3 * person as u64) % 10 < 8 || self.random.next_f64() < 0.3;
                    let loud = voices.contains(&person) && (steady || syllable);
                    let level = if loud { 28 + noise } else { SILENCE + noise };
                    self.dominant.on_level(now, person, 960 * self.tick as u32, level);
                }
                if let Some(speaker) = self.dominant.poll(now) {
                    self.changes.push((20 * self.tick, speaker));
                }
            }
        }
    }

    #[test]
    fn a_switch_follows_speech_within_a_second() {
        let mut delays = Vec::new();
        for seed in 0..200 {
            let mut trace = Trace::new(seed);
            trace.run(4_000, 5, &[0], false);
            let mut speaker = 0;
            for _ in 0..6 {
                trace.run(trace.random.clone().next_u64() % 400, 5, &[], false);
                speaker = (speaker + 1 + (trace.random.next_u64() % 4) as usize) % 5;
                let start = 20 * trace.tick;
                trace.changes.clear();
                trace.run(3_000, 5, &[speaker], false);
                let (at, who) = trace.changes[0];
                assert_eq!((who, trace.changes.len()), (speaker, 1));
                delays.push(at - start);
            }
        }
        delays.sort_unstable();
        let p95 = delays[delays.len() * 95 / 100];
        assert!(p95 < 1_000, "p95 {p95} ms of {} switches, worst {}", delays.len(), delays[delays.len() - 1]);
    }

    #[test]
    fn a_burst_of_up_to_400_ms_never_switches() {
        for seed in 0..100 {
            for length in [20, 100, 200, 300, 400] {
                let mut trace = Trace::new(seed);
                trace.run(500, 3, &[], true);
                trace.run(length, 3, &[2], true);
                trace.run(1_500, 3, &[], true);
                assert_eq!(trace.changes, [], "in silence");
                trace.run(3_000, 3, &[0], false);
                trace.changes.clear();
                trace.run(length, 3, &[0, 1], true);
                trace.run(600, 3, &[0], false);
                trace.run(1_000, 3, &[], false);
                trace.run(length, 3, &[1], true);
                trace.run(2_000, 3, &[], false);
                assert_eq!(trace.changes, [], "seed {seed}, {length} ms");
            }
        }
    }

    #[test]
    fn an_interjection_over_the_speaker_and_the_speakers_pauses_change_nothing() {
        for seed in 0..50 {
            let mut trace = Trace::new(seed);
            trace.run(3_000, 4, &[0], false);
            trace.changes.clear();
            for _ in 0..5 {
                trace.run(2_000, 4, &[0], false);
                trace.run(700, 4, &[0, 1], false);
                trace.run(1_000, 4, &[0], false);
                trace.run(700, 4, &[], false);
            }
            assert_eq!(trace.changes, [], "seed {seed}");
        }
    }

    #[test]
    fn who_leaves_is_not_dominant_any_more_and_the_next_one_is() {
        let mut trace = Trace::new(1);
        trace.run(2_000, 2, &[0], false);
        assert_eq!(trace.dominant.current(), Some(0));
        assert!(trace.dominant.remove(0));
        assert!(!trace.dominant.remove(1_000));
        assert_eq!(trace.dominant.current(), None);
        trace.run(2_000, 2, &[1], false);
        assert_eq!(trace.dominant.current(), Some(1));
    }
}
