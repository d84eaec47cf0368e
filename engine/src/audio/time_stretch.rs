//! Makes sound shorter or longer by whole pitch periods, so that the jitter buffer can change its delay without a click.
//!
//! Waveform-similarity overlap-add: the lag at which the signal is most like itself is found by normalised correlation
//! (coarse at a quarter of the rate, then exact), and the signal is cross-faded with itself at that lag. Pure arithmetic,
//! in place; works on interleaved samples and decides on the mean of the channels.

use std::f32::consts::PI;

/// Shortest and longest step, in frames at 48 kHz: 2.5 ms (400 Hz) to 12.5 ms (80 Hz).
pub(crate) const MIN_LAG: usize = 120;
pub(crate) const MAX_LAG: usize = 600;
/// Frames that are compared, and that the longest cross-fade takes.
const TEMPLATE: usize = 480;
const OVERLAP: usize = 240;
/// How many frames either direction needs beyond (and, to lengthen, before) the splice.
pub(crate) const LOOK_AHEAD: usize = MAX_LAG + TEMPLATE;
pub(crate) const LOOK_BACK: usize = MAX_LAG;
/// Below this root mean square nobody hears a splice.
const INAUDIBLE: f32 = 0.000_8;
/// Decimation of the coarse search.
const COARSE: usize = 4;

/// How sure the splice must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// Wait for a passage in which it is inaudible.
    Relaxed,
    /// The delay is far off: take what is there.
    Pressing,
}

impl Urgency {
    fn least_similarity(self) -> f32 {
        match self {
            Self::Relaxed => 0.85,
            Self::Pressing => 0.4,
        }
    }
}

/// Finds lags and splices; holds scratch space so that it does not allocate once warm.
#[derive(Debug, Default)]
pub(crate) struct TimeStretch {
    mono: Vec<f32>,
    coarse: Vec<f32>,
    frames: Vec<f32>,
}

impl TimeStretch {
    /// Takes one pitch period out of the beginning of `pcm`; gives the frames removed, 0 where no good place was found or
    /// there are fewer than [`LOOK_AHEAD`] frames.
    pub(crate) fn shorten(&mut self, pcm: &mut Vec<f32>, channels: usize, urgency: Urgency) -> usize {
        if pcm.len() < LOOK_AHEAD * channels {
            return 0;
        }
        mix_down(&pcm[..LOOK_AHEAD * channels], channels, &mut self.mono);
        let Some(lag) = self.best_lag(0, Direction::Ahead, urgency) else { return 0 };
        let overlap = lag.min(OVERLAP);
        for i in 0..overlap {
            let fade = fade_in(i, overlap);
            for c in 0..channels {
                let (from, to) = (pcm[i * channels + c], pcm[(i + lag) * channels + c]);
                pcm[i * channels + c] = from * (1.0 - fade) + to * fade;
            }
        }
        pcm.drain(overlap * channels..(overlap + lag) * channels);
        lag
    }

    /// Puts one pitch period in before `pcm`, made from `played`, which is what came right before it; gives the frames
    /// added, 0 where no good place was found, there are fewer than [`LOOK_BACK`] frames behind or too few ahead.
    pub(crate) fn lengthen(&mut self, played: &[f32], pcm: &mut Vec<f32>, channels: usize, urgency: Urgency) -> usize {
        if played.len() < LOOK_BACK * channels || pcm.len() < TEMPLATE * channels {
            return 0;
        }
        let behind = &played[played.len() - LOOK_BACK * channels..];
        self.frames.clear();
        self.frames.extend_from_slice(behind);
        self.frames.extend_from_slice(&pcm[..TEMPLATE * channels]);
        mix_down(&self.frames, channels, &mut self.mono);
        let Some(lag) = self.best_lag(LOOK_BACK, Direction::Back, urgency) else { return 0 };
        let overlap = lag.min(OVERLAP);
        let back = (LOOK_BACK - lag) * channels;
        self.frames.copy_within(back..LOOK_BACK * channels, 0);
        self.frames.truncate(lag * channels);
        for i in 0..overlap {
            let fade = fade_in(i, overlap);
            for c in 0..channels {
                let k = i * channels + c;
                self.frames[k] = pcm[k] * (1.0 - fade) + self.frames[k] * fade;
            }
        }
        pcm.splice(0..0, self.frames.iter().copied());
        lag
    }

    /// The lag at which `TEMPLATE` frames from `at` in `self.mono` are most like those `lag` away.
    fn best_lag(&mut self, at: usize, direction: Direction, urgency: Urgency) -> Option<usize> {
        let template = &self.mono[at..at + TEMPLATE];
        if rms(template) < INAUDIBLE {
            return Some((MIN_LAG + MAX_LAG) / 2);
        }
        self.coarse.clear();
        self.coarse.extend(self.mono.chunks_exact(COARSE).map(|c| c.iter().sum::<f32>()));
        let coarse = (MIN_LAG / COARSE..=MAX_LAG / COARSE)
            .map(|lag| {
                (similarity(&self.coarse, at / COARSE, TEMPLATE / COARSE, direction.shift(at / COARSE, lag)), lag)
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        let middle = coarse.1 * COARSE;
        let (likeness, lag) = (middle.saturating_sub(COARSE).max(MIN_LAG)..=(middle + COARSE).min(MAX_LAG))
            .map(|lag| (similarity(&self.mono, at, TEMPLATE, direction.shift(at, lag)), lag))
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        (likeness >= urgency.least_similarity()).then_some(lag)
    }
}

/// Cross-fades the beginning of `pcm` from a continuation of `played`, so that a jump in the signal does not click.
pub(crate) fn smooth_joint(played: &[f32], pcm: &mut [f32], channels: usize) {
    const PERIOD: usize = 240;
    let overlap = 120.min(pcm.len() / channels.max(1));
    if played.len() < PERIOD * 2 * channels {
        return;
    }
    // The last samples mirrored in time continue the waveform without a step, whatever its pitch.
    let frames = played.len() / channels;
    for i in 0..overlap {
        let fade = fade_in(i, overlap);
        for c in 0..channels {
            let mirrored = played[(frames - 1 - i) * channels + c];
            let sample = &mut pcm[i * channels + c];
            *sample = mirrored * (1.0 - fade) + *sample * fade;
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Ahead,
    Back,
}

impl Direction {
    fn shift(self, at: usize, lag: usize) -> usize {
        match self {
            Self::Ahead => at + lag,
            Self::Back => at - lag,
        }
    }
}

fn similarity(signal: &[f32], at: usize, len: usize, other: usize) -> f32 {
    let (Some(a), Some(b)) = (signal.get(at..at + len), signal.get(other..other + len)) else { return -1.0 };
    let (mut dot, mut aa, mut bb) = (0.0_f32, 1e-9_f32, 1e-9_f32);
    for (x, y) in a.iter().zip(b) {
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    let likeness = dot / (aa * bb).sqrt();
    if likeness.is_finite() { likeness } else { -1.0 }
}

fn mix_down(pcm: &[f32], channels: usize, mono: &mut Vec<f32>) {
    mono.clear();
    let gain = 1.0 / channels.max(1) as f32;
    mono.extend(pcm.chunks_exact(channels.max(1)).map(|frame| frame.iter().sum::<f32>() * gain));
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// A raised cosine from 0 to 1.
fn fade_in(i: usize, len: usize) -> f32 {
    0.5 - 0.5 * (PI * (i as f32 + 0.5) / len as f32).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    fn sine(hz: f32, frames: usize) -> Vec<f32> {
        (0..frames).map(|i| 0.5 * (TAU * hz * i as f32 / 48_000.0).sin()).collect()
    }

    fn largest_step(pcm: &[f32]) -> f32 {
        pcm.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn shortening_takes_whole_periods_and_does_not_click() {
        let mut pcm = sine(200.0, 2_000);
        let clean = largest_step(&pcm);
        let removed = TimeStretch::default().shorten(&mut pcm, 1, Urgency::Relaxed);
        assert_eq!(removed % 240, 0, "{removed} frames");
        assert!(removed > 0);
        assert_eq!(pcm.len(), 2_000 - removed);
        assert!(largest_step(&pcm) < clean * 1.1);
    }

    #[test]
    fn lengthening_adds_whole_periods_and_does_not_click() {
        let all = sine(200.0, 3_000);
        let (played, rest) = all.split_at(1_500);
        let mut pcm = rest.to_vec();
        let added = TimeStretch::default().lengthen(played, &mut pcm, 1, Urgency::Relaxed);
        assert_eq!(added % 240, 0, "{added} frames");
        assert!(added > 0);
        assert_eq!(pcm.len(), 1_500 + added);
        let joined: Vec<f32> = played.iter().chain(&pcm).copied().collect();
        assert!(largest_step(&joined) < largest_step(&all) * 1.1);
    }

    #[test]
    fn stereo_keeps_its_channels_apart() {
        let mono = sine(200.0, 2_000);
        let mut pcm: Vec<f32> = mono.iter().flat_map(|s| [*s, -0.5 * *s]).collect();
        let removed = TimeStretch::default().shorten(&mut pcm, 2, Urgency::Relaxed);
        assert!(removed > 0);
        assert!(pcm.chunks_exact(2).all(|f| (f[1] + 0.5 * f[0]).abs() < 1e-4));
    }

    #[test]
    fn noise_is_left_alone_unless_pressing() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut pcm: Vec<f32> = (0..2_000).map(|_| rng.random_range(-0.5..0.5)).collect();
        assert_eq!(TimeStretch::default().shorten(&mut pcm, 1, Urgency::Relaxed), 0);
        assert_eq!(pcm.len(), 2_000);
    }

    #[test]
    fn silence_can_always_be_stretched() {
        let mut pcm = vec![0.0; 2_000];
        assert!(TimeStretch::default().shorten(&mut pcm, 1, Urgency::Relaxed) > 0);
        assert!(TimeStretch::default().lengthen(&vec![0.0; 1_000], &mut pcm, 1, Urgency::Relaxed) > 0);
    }

    #[test]
    fn too_little_signal_changes_nothing() {
        let mut pcm = sine(200.0, LOOK_AHEAD - 1);
        assert_eq!(TimeStretch::default().shorten(&mut pcm, 1, Urgency::Pressing), 0);
        assert_eq!(TimeStretch::default().lengthen(&[0.0; 10], &mut pcm, 1, Urgency::Pressing), 0);
        assert_eq!(pcm.len(), LOOK_AHEAD - 1);
    }
}
