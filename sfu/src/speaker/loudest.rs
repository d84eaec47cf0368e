//! The loudest few, who are heard: so that a room of hundreds costs a listener a handful of decoders.
//!
//! While there are places everybody who sends is in. After that a louder one takes the place of the quietest: at once where
//! that one has been quiet for a while, else only where it is louder by far. Nobody flickers in and out within a word.

use halloo_transport::Timestamp;
use std::time::Duration;

/// How long a place is kept after the last sound.
const HOLD: Duration = Duration::from_millis(800);
/// Decibels by which a challenger exceeds one who is quiet, and one who is not.
const MARGIN: f32 = 6.0;
const LARGE_MARGIN: f32 = 12.0;
/// Loudness above which somebody makes a sound, in dB above -127 dBov.
const SOUND: f32 = 67.0;
/// Share of a new level in the smoothed one, upwards and downwards.
const ATTACK: f32 = 0.5;
const RELEASE: f32 = 0.015;
/// Decibels a second that silence without packets takes off.
const DECAY: f32 = 40.0;

/// Who came in, and who went out for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The new one.
    pub entered: usize,
    /// The one who gave the place up.
    pub left: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Speaker {
    loudness: f32,
    at: Timestamp,
    sound_at: Option<Timestamp>,
    member: bool,
}

impl Speaker {
    fn loudness(&self, now: Timestamp) -> f32 {
        let silent = now.since(self.at).saturating_sub(Duration::from_millis(100));
        self.loudness - DECAY * silent.as_secs_f32()
    }

    fn is_quiet(&self, now: Timestamp) -> bool {
        self.sound_at.is_none_or(|at| now.since(at) >= HOLD)
    }
}

/// Chooses who is heard.
#[derive(Clone, Debug)]
pub struct Loudest {
    places: usize,
    speakers: Vec<Option<Speaker>>,
    members: Vec<usize>,
}

impl Loudest {
    /// For `places` speakers at a time.
    pub fn new(places: usize) -> Self {
        Self { places, speakers: Vec::new(), members: Vec::with_capacity(places) }
    }

    /// Who is heard, in no order.
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// Whether the speaker at `index` is heard.
    pub fn contains(&self, index: usize) -> bool {
        self.speakers.get(index).is_some_and(|s| s.is_some_and(|s| s.member))
    }

    /// Takes a level in -dBov of the speaker at `index`; tells who changes places for it.
    pub fn on_level(&mut self, now: Timestamp, index: usize, level: u8) -> Option<Change> {
        if index >= self.speakers.len() {
            self.speakers.resize(index + 1, None);
        }
        let loudness = f32::from(127 - level.min(127));
        let fresh = Speaker { loudness: 0.0, at: now, sound_at: None, member: false };
        let speaker = self.speakers.get_mut(index)?.get_or_insert(fresh);
        let smoothed = speaker.loudness(now).max(0.0);
        let share = if loudness > smoothed { ATTACK } else { RELEASE };
        speaker.loudness = smoothed + share * (loudness - smoothed);
        speaker.at = now;
        if loudness >= SOUND {
            speaker.sound_at = Some(now);
        }
        let challenger = *speaker;
        if challenger.member {
            return None;
        }
        let left = if self.members.len() < self.places { None } else { Some(self.beaten_by(now, &challenger)?) };
        if let Some(left) = left {
            self.leave(left);
        }
        self.members.push(index);
        if let Some(speaker) = self.speakers.get_mut(index)?.as_mut() {
            speaker.member = true;
        }
        Some(Change { entered: index, left })
    }

    /// Takes out a speaker who left or was muted. Returns whether it was heard.
    pub fn remove(&mut self, index: usize) -> bool {
        let was = self.contains(index);
        self.leave(index);
        if let Some(place) = self.speakers.get_mut(index) {
            *place = None;
        }
        was
    }

    fn leave(&mut self, index: usize) {
        self.members.retain(|member| *member != index);
        if let Some(Some(speaker)) = self.speakers.get_mut(index) {
            speaker.member = false;
        }
    }

    fn beaten_by(&self, now: Timestamp, challenger: &Speaker) -> Option<usize> {
        let member = |index: &usize| Some((*index, self.speakers.get(*index)?.as_ref()?));
        let (index, quietest) = self
            .members
            .iter()
            .filter_map(member)
            .min_by(|(_, a), (_, b)| a.loudness(now).total_cmp(&b.loudness(now)))?;
        let margin = if quietest.is_quiet(now) { MARGIN } else { LARGE_MARGIN };
        let makes_sound = challenger.sound_at == Some(now);
        (makes_sound && challenger.loudness > quietest.loudness(now) + margin).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    /// Everybody's level every 20 ms from `from` to `to` ms; the changes and when they came.
    fn run(loudest: &mut Loudest, from: u64, to: u64, levels: &[u8]) -> Vec<(u64, Change)> {
        let mut changes = Vec::new();
        for ms in (from..to).step_by(20) {
            for (index, level) in levels.iter().enumerate() {
                changes.extend(loudest.on_level(MS(ms), index, *level).map(|change| (ms, change)));
            }
        }
        changes
    }

    #[test]
    fn everybody_is_heard_while_there_are_places() {
        let mut loudest = Loudest::new(3);
        assert_eq!(run(&mut loudest, 0, 1_000, &[90, 20, 127]).len(), 3);
        assert_eq!(loudest.members().len(), 3);
    }

    #[test]
    fn who_starts_to_speak_is_heard_within_a_few_packets() {
        let mut loudest = Loudest::new(3);
        run(&mut loudest, 0, 2_000, &[90, 90, 90, 90]);
        let changes = run(&mut loudest, 2_000, 2_200, &[90, 90, 90, 30]);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].0 <= 2_060, "{changes:?}");
        assert_eq!(changes[0].1.entered, 3);
        assert!(loudest.contains(3));
    }

    #[test]
    fn equal_voices_do_not_take_turns_within_words() {
        let mut loudest = Loudest::new(2);
        run(&mut loudest, 0, 1_000, &[30, 30, 90, 90]);
        let mut changes = 0;
        for second in 1..20 {
            // All four talk at about the same level.
            changes += run(&mut loudest, 1_000 * second, 1_000 * (second + 1), &[30, 32, 29, 31]).len();
        }
        assert_eq!(changes, 0);
    }

    #[test]
    fn a_place_is_kept_through_a_short_pause() {
        let mut loudest = Loudest::new(1);
        run(&mut loudest, 0, 1_000, &[30, 90]);
        assert_eq!(run(&mut loudest, 1_000, 1_400, &[100, 40]), []);
        assert_eq!(run(&mut loudest, 1_400, 3_000, &[100, 40]).len(), 1);
        assert_eq!(loudest.members(), [1]);
    }

    #[test]
    fn who_leaves_frees_a_place_and_who_falls_silent_without_packets_loses_it() {
        let mut loudest = Loudest::new(1);
        run(&mut loudest, 0, 1_000, &[30]);
        assert_eq!(loudest.on_level(MS(1_000), 1, 30), None);
        // DTX: the first one sends nothing any more.
        let change = (1_020..4_000).step_by(20).find_map(|ms| loudest.on_level(MS(ms), 1, 30).map(|c| (ms, c)));
        assert!(change.is_some_and(|(ms, c)| ms < 2_500 && c.left == Some(0)), "{change:?}");
        assert!(loudest.remove(1));
        assert!(!loudest.remove(1));
        assert_eq!(loudest.on_level(MS(5_000), 2, 127).map(|c| c.entered), Some(2));
    }
}
