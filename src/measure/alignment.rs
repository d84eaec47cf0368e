//! Which part of a reference each window of a recording is: dynamic programming over lags.
//!
//! A window of voiced speech resembles other speech at some lag or other, so the best lag of each window by itself proves
//! nothing. Over a call the lag is constant but for the few moments at which a jitter buffer stretches or shrinks time.
//! So the path through all windows is chosen that maximises likeness, and each change of lag costs [`CHANGE_COST`].

use super::signal::{Correlator, cosine};

/// What a change of lag costs, in units of one window's full likeness (1.0): a true stretch of time repays it within two
/// windows, a chance resemblance never does.
pub const CHANGE_COST: f32 = 1.0;

/// The reference, placed against the recording.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Its samples, at the recording's rate.
    pub samples: &'a [f32],
    /// Whether it repeats from its start.
    pub repeats: bool,
    /// The position in the reference that lag 0 puts beside the recording's first sample.
    pub origin: i64,
    /// How many lags are tried. For a repeating reference, its length tries all.
    pub lags: usize,
}

impl Reference<'_> {
    /// The samples from `start` on; silence outside of a reference that does not repeat.
    pub fn stretch(&self, start: i64, length: usize) -> Vec<f32> {
        let n = self.samples.len() as i64;
        (start..start + length as i64)
            .map(|i| {
                let at = if self.repeats && n > 0 { i.rem_euclid(n) } else { i };
                usize::try_from(at).ok().and_then(|at| self.samples.get(at)).copied().unwrap_or(0.0)
            })
            .collect()
    }
}

/// A window of the recording and where it belongs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Match {
    /// First sample of the window in the recording.
    pub start: usize,
    /// Position in the reference that it corresponds to; for a repeating one, not reduced to its length.
    pub reference_start: i64,
    /// Normalised correlation there, -1 to 1.
    pub likeness: f64,
}

/// Aligns `recording`, in windows of `window` samples, with the reference.
pub fn align(recording: &[f32], reference: &Reference<'_>, window: usize) -> Vec<Match> {
    let windows = recording.len() / window.max(1);
    if windows == 0 || reference.lags == 0 || reference.samples.is_empty() {
        return Vec::new();
    }
    let correlator = Correlator::new(window, reference.lags);
    let mut score = vec![0.0_f32; reference.lags];
    let mut steps = Vec::with_capacity(windows);
    for index in 0..windows {
        let start = index * window;
        let stretch = reference.stretch(reference.origin + start as i64, reference.lags + window - 1);
        let likeness = correlator.correlate(&recording[start..start + window], &stretch);
        let (best, best_score) = best(&score);
        let mut jumped = vec![0_u64; reference.lags.div_ceil(64)];
        for (lag, (score, likeness)) in score.iter_mut().zip(&likeness).enumerate() {
            if index > 0 && best_score - CHANGE_COST > *score {
                *score = best_score - CHANGE_COST;
                jumped[lag / 64] |= 1 << (lag % 64);
            }
            *score += likeness;
        }
        steps.push(Step { jumped, from: best });
    }
    trace_back(&steps, best(&score).0)
        .into_iter()
        .enumerate()
        .map(|(index, lag)| {
            let start = index * window;
            let reference_start = reference.origin + (start + lag) as i64;
            let likeness = cosine(&recording[start..start + window], &reference.stretch(reference_start, window));
            Match { start, reference_start, likeness }
        })
        .collect()
}

struct Step {
    /// One bit a lag: whether its path came from `from` rather than from the same lag.
    jumped: Vec<u64>,
    from: usize,
}

fn trace_back(steps: &[Step], last: usize) -> Vec<usize> {
    let mut lag = last;
    let mut path: Vec<usize> = steps
        .iter()
        .rev()
        .map(|step| {
            let here = lag;
            if step.jumped[here / 64] >> (here % 64) & 1 == 1 {
                lag = step.from;
            }
            here
        })
        .collect();
    path.reverse();
    path
}

fn best(score: &[f32]) -> (usize, f32) {
    score.iter().copied().enumerate().fold((0, f32::MIN), |best, (lag, s)| if s > best.1 { (lag, s) } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(seed: u64, length: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..length).map(|_| rng.random_range(-0.5..0.5)).collect()
    }

    #[test]
    fn a_repeating_clip_is_followed_through_its_repetitions() {
        let clip = noise(1, 3_000);
        let recording: Vec<f32> = clip.iter().cycle().skip(1_234).take(8_000).copied().collect();
        let reference = Reference { samples: &clip, repeats: true, origin: 0, lags: clip.len() };
        let matches = align(&recording, &reference, 500);
        assert_eq!(matches.len(), 16);
        for m in matches {
            assert_eq!((m.reference_start - m.start as i64).rem_euclid(3_000), 1_234);
            assert!(m.likeness > 0.999);
        }
    }

    #[test]
    fn a_change_of_delay_is_followed_and_costs_one_window() {
        let clip = noise(2, 20_000);
        let mut recording = vec![0.0; 700];
        recording.extend_from_slice(&clip[..6_250]);
        // 80 samples are left out, as when a jitter buffer speeds up.
        recording.extend_from_slice(&clip[6_330..12_000]);
        let reference = Reference { samples: &clip, repeats: false, origin: -1_000, lags: 2_000 };
        let matches = align(&recording, &reference, 500);
        let delay = |m: &Match| m.start as i64 - m.reference_start;
        assert_eq!(delay(&matches[5]), 700);
        assert_eq!(delay(&matches[20]), 620);
        assert!(matches.iter().filter(|m| m.likeness < 0.9).count() <= 3);
    }

    #[test]
    fn another_noise_is_not_found() {
        let (clip, other) = (noise(3, 20_000), noise(4, 20_000));
        let reference = Reference { samples: &clip, repeats: true, origin: 0, lags: clip.len() };
        let matches = align(&other, &reference, 500);
        let mean = matches.iter().map(|m| m.likeness).sum::<f64>() / matches.len() as f64;
        assert!(mean < 0.2, "{mean}");
    }
}
