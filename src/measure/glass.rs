//! Glass to glass: how long after it was captured each picture was shown, and how many of the pictures were shown at all.
//!
//! Pictures carry their number. A clip that repeats repeats its numbers too: a shown picture is the last captured one with
//! its number.

use super::video_log::Picture;
use halloo_engine::Timestamp;
use std::collections::{HashMap, HashSet};

/// A picture that was captured here and shown there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shown {
    /// Its place among the captured pictures.
    pub captured: usize,
    /// Its number.
    pub number: u32,
    /// When it was first shown.
    pub shown_at: Timestamp,
    /// From capture to then, in milliseconds.
    pub milliseconds: f64,
}

/// Matches shown pictures with captured ones; each counts once, when first shown.
pub fn glass_to_glass(captured: &[Picture], shown: &[Picture]) -> Vec<Shown> {
    let mut by_number: HashMap<u32, Vec<(u64, usize)>> = HashMap::new();
    for (index, picture) in captured.iter().enumerate() {
        if let (Some(number), Some(at)) = (picture.number, picture.captured_ns) {
            by_number.entry(number).or_default().push((at, index));
        }
    }
    let mut seen = HashSet::new();
    shown
        .iter()
        .filter_map(|picture| {
            let number = picture.number?;
            let &(captured_ns, index) = by_number.get(&number)?.iter().rev().find(|(at, _)| *at <= picture.at_ns)?;
            let shown_at = Timestamp::from_nanos(picture.at_ns);
            let milliseconds = shown_at.seconds_from(Timestamp::from_nanos(captured_ns)) * 1e3;
            seen.insert(index).then_some(Shown { captured: index, number, shown_at, milliseconds })
        })
        .collect()
}

/// Of the pictures captured from the first shown one to the last, the share that was shown; 0 where none was.
pub fn distinct_ratio(shown: &[Shown]) -> f64 {
    let first = shown.iter().map(|s| s.captured).min();
    let last = shown.iter().map(|s| s.captured).max();
    match first.zip(last) {
        Some((first, last)) => shown.len() as f64 / (last - first + 1) as f64,
        None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(number: u32, ms: u64) -> Picture {
        Picture { number: Some(number), captured_ns: Some(ms * 1_000_000), at_ns: ms * 1_000_000 + 1 }
    }

    fn shown(number: u32, ms: u64) -> Picture {
        Picture { number: Some(number), captured_ns: None, at_ns: ms * 1_000_000 }
    }

    #[test]
    fn delay_is_from_capture_to_first_showing() {
        let source: Vec<Picture> = (0..10).map(|i| captured(i, 1_000 + u64::from(i) * 33)).collect();
        let sink: Vec<Picture> = [2, 2, 3, 5].iter().map(|&i| shown(i, 1_050 + u64::from(i) * 33)).collect();
        let matched = glass_to_glass(&source, &sink);
        assert_eq!(matched.iter().map(|s| s.number).collect::<Vec<_>>(), [2, 3, 5]);
        assert!(matched.iter().all(|s| (s.milliseconds - 50.0).abs() < 1e-9));
        assert!((distinct_ratio(&matched) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn a_repeated_clip_is_matched_with_its_latest_turn() {
        let source: Vec<Picture> = (0..20).map(|i| captured(i % 10, u64::from(i) * 33)).collect();
        let sink: Vec<Picture> = (0..20).map(|i| shown(i % 10, 40 + u64::from(i) * 33)).collect();
        let matched = glass_to_glass(&source, &sink);
        assert_eq!(matched.len(), 20);
        assert!(matched.iter().all(|s| (s.milliseconds - 40.0).abs() < 1e-9));
        assert!((distinct_ratio(&matched) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn unreadable_and_unknown_pictures_do_not_count() {
        let unreadable = Picture { number: None, captured_ns: None, at_ns: 5 };
        assert!(glass_to_glass(&[captured(1, 0)], &[unreadable, shown(7, 10)]).is_empty());
        assert_eq!(distinct_ratio(&[]), 0.0);
    }
}
