//! Whether all really heard and saw one another.

use super::group::{Member, PICTURE_RATE};
use crate::{measure::reception::Reception, report::Side};

const HEARD: f64 = 0.9;
const WRONG: f64 = 0.3;
const DISTINCT: f64 = 0.95;
const SIMILAR: f64 = 0.9;
/// A turn in a group is short: a single packet that comes too late weighs more, and by chance more of it is like another's words.
const HEARD_IN_TURN: f64 = 0.8;
const WRONG_IN_TURN: f64 = 0.5;
/// Pictures a second that each receives of each in a group, of [`PICTURE_RATE`].
pub const RATE: f64 = 14.0;

/// What was not as it should be, in words; empty where all was well.
pub(super) fn of_call(sides: &[(&str, &Side)]) -> Vec<String> {
    sides.iter().flat_map(|(name, side)| of_side(name, side)).collect()
}

fn of_side(name: &str, side: &Side) -> Vec<String> {
    let mut failures = Vec::new();
    let mut check = |holds: bool, text: String| {
        if !holds {
            failures.push(text);
        }
    };
    let seen = &side.measured;
    if let Some(heard) = seen.heard_correlation {
        check(heard >= HEARD, format!("{name} did not hear the other side well: correlation {heard:.2}, not {HEARD}"));
    }
    if let Some(wrong) = seen.wrong_clip_correlation.filter(|_| seen.heard_correlation.is_some()) {
        check(wrong < WRONG, format!("{name} heard words that the other side did not say: correlation {wrong:.2}"));
    }
    check(
        seen.distinct_frame_ratio >= DISTINCT,
        format!(
            "{name} saw only {:.0} % of the pictures, not {:.0} %",
            seen.distinct_frame_ratio * 100.0,
            DISTINCT * 100.0
        ),
    );
    match seen.ssim {
        Some(ssim) => {
            check(ssim >= SIMILAR, format!("{name}'s pictures are not like those sent: SSIM {ssim:.2}, not {SIMILAR}"))
        }
        None => check(false, format!("{name} has no picture that could be compared")),
    }
    failures
}

/// What one received of another in a group.
pub(super) fn of_pair(receiver: &str, sender: &str, received: &Reception) -> Vec<String> {
    let mut failures = Vec::new();
    let mut check = |holds: bool, text: String| {
        if !holds {
            failures.push(text);
        }
    };
    let Reception { frames_per_second: rate, heard_correlation: heard, .. } = *received;
    let sent = received.captured_per_second;
    check(
        rate >= RATE,
        format!(
            "{receiver} received {rate:.1} pictures a second of {sender}, not {RATE} of {PICTURE_RATE} ({sent:.1} were captured)"
        ),
    );
    let foreign = received.foreign_frames;
    check(foreign == 0, format!("{receiver} received {foreign} pictures as {sender}'s that {sender} did not send"));
    check(
        heard >= HEARD_IN_TURN,
        format!("{receiver} did not hear {sender} well: correlation {heard:.2}, not {HEARD_IN_TURN}"),
    );
    let wrong = received.wrong_clip_correlation;
    check(
        wrong < WRONG_IN_TURN,
        format!("{receiver} heard words as {sender}'s that others said: correlation {wrong:.2}"),
    );
    failures
}

/// Whether the others noticed somebody's turn to speak.
pub(super) fn of_member(member: &Member, count: usize) -> Option<String> {
    let others = count.saturating_sub(1);
    (member.noticed_by < others)
        .then(|| format!("only {} of {others} were told that {} was speaking", member.noticed_by, member.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Summary;

    fn side(change: impl FnOnce(&mut Summary)) -> Side {
        let mut measured = Summary {
            heard_correlation: Some(0.97),
            wrong_clip_correlation: Some(0.1),
            distinct_frame_ratio: 0.99,
            ssim: Some(0.96),
            ..Summary::default()
        };
        change(&mut measured);
        Side::new(serde_json::json!({}), measured)
    }

    #[test]
    fn a_good_call_passes() {
        assert!(of_call(&[("alice", &side(|_| {}))]).is_empty());
    }

    #[test]
    fn each_figure_can_fail_by_itself() {
        let bad: [fn(&mut Summary); 5] = [
            |s| s.heard_correlation = Some(0.89),
            |s| s.wrong_clip_correlation = Some(0.31),
            |s| s.distinct_frame_ratio = 0.9,
            |s| s.ssim = Some(0.8),
            |s| s.ssim = None,
        ];
        for change in bad {
            assert_eq!(of_call(&[("bob", &side(change))]).len(), 1);
        }
    }

    fn received(change: impl FnOnce(&mut Reception)) -> Reception {
        let mut received = Reception {
            frames_per_second: 14.8,
            captured_per_second: 15.0,
            heard_correlation: 0.97,
            wrong_clip_correlation: 0.1,
            ..Reception::default()
        };
        change(&mut received);
        received
    }

    #[test]
    fn a_good_meeting_passes_and_each_fault_names_the_pair() {
        assert!(of_pair("alice", "bob", &received(|_| {})).is_empty());
        let bad: [fn(&mut Reception); 4] = [
            |r| r.frames_per_second = 13.9,
            |r| r.foreign_frames = 1,
            |r| r.heard_correlation = 0.79,
            |r| r.wrong_clip_correlation = 0.51,
        ];
        for change in bad {
            let failures = of_pair("alice", "bob", &received(change));
            assert_eq!(failures.len(), 1);
            assert!(failures[0].contains("alice") && failures[0].contains("bob"), "{failures:?}");
        }
    }

    #[test]
    fn who_spoke_unnoticed_is_named() {
        let member = |noticed_by| Member {
            name: "erin".to_owned(),
            connect_ms: None,
            cpu_cores: None,
            noticed_by,
            there: (0, 0),
        };
        assert_eq!(of_member(&member(5), 6), None);
        assert!(of_member(&member(4), 6).is_some_and(|text| text.contains("erin")));
    }
}
