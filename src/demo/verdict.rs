//! Whether both sides really heard and saw each other.

use crate::report::Side;

const HEARD: f64 = 0.9;
const WRONG: f64 = 0.3;
const DISTINCT: f64 = 0.95;
const SIMILAR: f64 = 0.9;

/// What was not as it should be, in words; empty where all was well.
pub(super) fn failures(sides: &[(&str, &Side)]) -> Vec<String> {
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
        assert!(failures(&[("alice", &side(|_| {}))]).is_empty());
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
            assert_eq!(failures(&[("bob", &side(change))]).len(), 1);
        }
    }
}
