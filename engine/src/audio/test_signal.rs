//! Signals and measures for tests: something with speech's pitch, pauses and loudness, and how alike two signals are.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// Voiced syllables of changing pitch and formant with pauses between, at 48 kHz; never repeats itself exactly.
pub(crate) fn speech_like(samples: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut out = Vec::with_capacity(samples);
    let mut phase = 0.0_f32;
    while out.len() < samples {
        let length = rng.random_range(6_000..14_000);
        let pause = rng.random_range(1_000..6_000);
        let (from, to) = (rng.random_range(90.0..180.0), rng.random_range(90.0..180.0));
        let formant = rng.random_range(400.0..1_800.0_f32);
        for i in 0..length {
            let share = i as f32 / length as f32;
            phase = (phase + (from + (to - from) * share) / 48_000.0).fract();
            let envelope = (share * std::f32::consts::PI).sin();
            let voice: f32 = (1..24)
                .map(|h| {
                    let hz = h as f32 * (from + (to - from) * share);
                    (TAU * phase * h as f32).sin() / (1.0 + ((hz - formant) / 300.0).powi(2))
                })
                .sum();
            out.push(0.15 * envelope * voice + rng.random_range(-0.001..0.001));
        }
        out.extend((0..pause).map(|_| rng.random_range(-0.001..0.001_f32)));
    }
    out.truncate(samples);
    out
}

/// How alike `heard` and `said` are at their best common delay, and that delay: a normalised correlation of -1 to 1, and how
/// many samples `heard` is behind, up to `max_delay`.
pub(crate) fn correlate(said: &[f32], heard: &[f32], max_delay: usize) -> (f64, usize) {
    let at = |delay: usize, step: usize| {
        let (mut dot, mut a, mut b) = (0.0_f64, 1e-12_f64, 1e-12_f64);
        for (x, y) in said.iter().zip(&heard[delay.min(heard.len())..]).step_by(step) {
            dot += f64::from(x * y);
            a += f64::from(x * x);
            b += f64::from(y * y);
        }
        dot / (a * b).sqrt()
    };
    let best = |range: std::ops::Range<usize>, step: usize| {
        range.map(|d| (at(d, step), d)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    };
    let coarse = best(0..max_delay, 16).1;
    best(coarse.saturating_sub(12)..coarse + 12, 1)
}
