//! What one participant of a room received of another, in figures: a cell of the matrix of who received whom.

use super::{
    audio_log::AudioLog,
    delay::mouth_to_ear,
    freezes::freezes,
    glass::glass_to_glass,
    heard_correlation,
    signal::percentile,
    video_log::{self, Picture},
};
use anyhow::Result;
use halloo_engine::{Timestamp, media::BLOCK_SAMPLES};
use serde::Serialize;
use std::{collections::HashSet, path::Path, time::Duration};

/// Pictures do not count from the very moment that both are there: whoever comes is subscribed to, and begins with a key frame.
pub const SETTLING: Duration = Duration::from_secs(1);
/// Nor do the last, which are on their way when one of the two leaves.
pub const LEAVING: Duration = Duration::from_millis(300);
/// Around what was heard, so that nothing of it is cut off.
const AROUND: usize = 10 * BLOCK_SAMPLES;

/// Where the traces of one direction lie, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The media log of who spoke.
    pub speaker: &'a Path,
    /// The listener's media log of the speaker.
    pub listener: &'a Path,
    /// What was said, once.
    pub said: &'a [f32],
    /// What others said.
    pub not_said: &'a [&'a [f32]],
    /// From when both were there, until the first of them left.
    pub together: (Timestamp, Timestamp),
}

/// What came.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reception {
    /// Pictures shown a second: of those captured while both were there (see [`SETTLING`] and [`LEAVING`]).
    pub frames_per_second: f64,
    /// Pictures captured a second, likewise.
    pub captured_per_second: f64,
    /// Pictures shown that this speaker never sent.
    pub foreign_frames: usize,
    /// Freezes among the shown pictures, as the W3C counts them.
    pub video_freezes: u32,
    /// Median delay of pictures, in milliseconds.
    pub glass_to_glass_ms: Option<f64>,
    /// How much of what was heard is what was said, 0 to 1.
    pub heard_correlation: f64,
    /// The same for the most alike of what others said.
    pub wrong_clip_correlation: f64,
    /// Median delay of sound, in milliseconds.
    pub mouth_to_ear_ms: Option<f64>,
}

impl Reception {
    /// Measures one direction.
    ///
    /// # Errors
    /// Where a log is missing or unreadable.
    pub fn measure(ends: &Ends<'_>) -> Result<Self> {
        let captured = video_log::read(&ends.speaker.join("sent.jsonl"))?;
        let shown = video_log::read(&ends.listener.join("shown.jsonl"))?;
        let spoken = AudioLog::read(&ends.speaker.join("spoken.log"))?;
        let heard = AudioLog::read(&ends.listener.join("heard.log"))?;
        let sound = trimmed(&heard);
        let delays: Vec<f64> = mouth_to_ear(&spoken, &sound).iter().map(|d| d.milliseconds).collect();
        let wrong = ends.not_said.iter().map(|clip| heard_correlation(clip, &sound.samples)).fold(0.0, f64::max);
        Ok(Self {
            heard_correlation: heard_correlation(ends.said, &sound.samples),
            wrong_clip_correlation: wrong,
            mouth_to_ear_ms: percentile(&delays, 0.5),
            ..Self::of_pictures(&captured, &shown, ends.together)
        })
    }

    fn of_pictures(captured: &[Picture], shown: &[Picture], together: (Timestamp, Timestamp)) -> Self {
        let (from, to) = (together.0 + SETTLING, together.1 - LEAVING);
        let seconds = to.since(from).as_secs_f64();
        let counted: HashSet<usize> = captured
            .iter()
            .enumerate()
            .filter(|(_, picture)| {
                picture.captured_ns.is_some_and(|at| (from..to).contains(&Timestamp::from_nanos(at)))
            })
            .map(|(index, _)| index)
            .collect();
        let matched = glass_to_glass(captured, shown);
        let came = matched.iter().filter(|each| counted.contains(&each.captured)).count();
        let per_second = |count: usize| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let known: HashSet<u32> = captured.iter().filter_map(|picture| picture.number).collect();
        let delays: Vec<f64> = matched.iter().map(|each| each.milliseconds).collect();
        Self {
            frames_per_second: per_second(came),
            captured_per_second: per_second(counted.len()),
            foreign_frames: shown.iter().filter_map(|picture| picture.number).filter(|n| !known.contains(n)).count(),
            video_freezes: freezes(matched.iter().map(|each| each.shown_at)).count,
            glass_to_glass_ms: percentile(&delays, 0.5),
            ..Self::default()
        }
    }
}

/// The log from the first sound to the last: the silence around it says nothing, and takes long to compare.
fn trimmed(log: &AudioLog) -> AudioLog {
    let loud = |sample: &f32| sample.abs() > 1e-3;
    let (Some(first), Some(last)) = (log.samples.iter().position(loud), log.samples.iter().rposition(loud)) else {
        return AudioLog::default();
    };
    let from = first.saturating_sub(AROUND) / BLOCK_SAMPLES;
    let to = (last + AROUND).div_ceil(BLOCK_SAMPLES).min(log.times.len());
    AudioLog {
        times: log.times[from..to].to_vec(),
        samples: log.samples[from * BLOCK_SAMPLES..(to * BLOCK_SAMPLES).min(log.samples.len())].to_vec(),
        dropped: log.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_NS: u64 = 66_666_667;

    fn captured(count: u32) -> Vec<Picture> {
        let at = |n: u32| u64::from(n) * FRAME_NS;
        (0..count).map(|n| Picture { number: Some(n), captured_ns: Some(at(n)), at_ns: at(n) }).collect()
    }

    fn shown(numbers: impl IntoIterator<Item = u32>) -> Vec<Picture> {
        let late = |n: u32| u64::from(n) * FRAME_NS + 40_000_000;
        numbers.into_iter().map(|n| Picture { number: Some(n), captured_ns: None, at_ns: late(n) }).collect()
    }

    const TOGETHER: (Timestamp, Timestamp) = (Timestamp::ZERO, Timestamp::from_millis(10_000));

    #[test]
    fn a_full_rate_is_full_whatever_happens_at_the_ends() {
        let all = Reception::of_pictures(&captured(150), &shown(12..147), TOGETHER);
        assert!((all.frames_per_second - 15.0).abs() < 0.1, "{all:?}");
        assert!((all.captured_per_second - 15.0).abs() < 0.1, "{all:?}");
        assert_eq!((all.foreign_frames, all.video_freezes), (0, 0));
        assert!((all.glass_to_glass_ms.unwrap() - 40.0).abs() < 0.01);
    }

    #[test]
    fn pictures_that_are_missing_lower_the_rate_by_as_much() {
        let half = Reception::of_pictures(&captured(150), &shown((0..150).filter(|n| n % 2 == 0)), TOGETHER);
        assert!((half.frames_per_second - 7.5).abs() < 0.1, "{half:?}");
        let gap = Reception::of_pictures(&captured(150), &shown((0..60).chain(90..150)), TOGETHER);
        assert!((gap.frames_per_second - 15.0 * (8.7 - 2.0) / 8.7).abs() < 0.1 && gap.video_freezes == 1, "{gap:?}");
    }

    #[test]
    fn a_source_that_falls_behind_shows_too() {
        let slow: Vec<Picture> = captured(150).into_iter().step_by(3).collect();
        let slow = Reception::of_pictures(&slow, &shown((0..150).step_by(3)), TOGETHER);
        assert!((slow.frames_per_second - 5.0).abs() < 0.2 && (slow.captured_per_second - 5.0).abs() < 0.2, "{slow:?}");
    }

    #[test]
    fn pictures_of_somebody_else_do_not_count() {
        let mixed = Reception::of_pictures(&captured(150), &shown((0..75).chain(1_000_000..1_000_075)), TOGETHER);
        assert_eq!(mixed.foreign_frames, 75);
        assert!(mixed.frames_per_second < 8.0, "{mixed:?}");
    }

    #[test]
    fn nothing_is_nothing() {
        let none = Reception::of_pictures(&captured(150), &[], TOGETHER);
        assert_eq!((none.frames_per_second, none.foreign_frames), (0.0, 0));
        assert!(
            Reception::of_pictures(&captured(10), &shown(0..10), (Timestamp::ZERO, Timestamp::ZERO)).frames_per_second
                == 0.0
        );
        assert!(trimmed(&AudioLog::default()).times.is_empty());
    }

    #[test]
    fn silence_around_what_was_heard_is_cut_off() {
        let mut samples = vec![0.0; 100 * BLOCK_SAMPLES];
        samples[50 * BLOCK_SAMPLES..52 * BLOCK_SAMPLES].fill(0.5);
        let log = AudioLog { times: (0..100).map(|i| Timestamp::from_millis(10 * i)).collect(), samples, dropped: 0 };
        let cut = trimmed(&log);
        assert_eq!((cut.times.len(), cut.samples.len()), (22, 22 * BLOCK_SAMPLES));
        assert_eq!(cut.times[0], Timestamp::from_millis(400));
    }
}
