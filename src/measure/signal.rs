//! The little signal processing that measuring needs: offline resampling and sliding normalised correlation.

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};
use std::{f64::consts::PI, sync::Arc};

/// Resamples without delay: output sample `i` is the input at `i * from / to`. Windowed sinc, band-limited to the lower of
/// the two Nyquist frequencies.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to || samples.is_empty() || from == 0 || to == 0 {
        return samples.to_vec();
    }
    const ZERO_CROSSINGS: f64 = 24.0;
    let shared = gcd(from, to);
    let (step, phases) = (u64::from(from / shared), u64::from(to / shared));
    let cutoff = (f64::from(to) / f64::from(from)).min(1.0) * 0.95;
    let reach = ZERO_CROSSINGS / cutoff;
    let half = reach.ceil() as i64;
    // Output `i` lies at `i * step / phases`: only so many different positions between two input samples exist.
    let kernels: Vec<Vec<f32>> = (0..phases)
        .map(|phase| {
            let fraction = phase as f64 / phases as f64;
            (-half..=half).map(|tap| kernel(fraction - tap as f64, cutoff, reach) as f32).collect()
        })
        .collect();
    let count = samples.len() as u64 * phases / step;
    (0..count)
        .map(|i| {
            let position = i * step;
            let first = (position / phases) as i64 - half;
            let kernel = &kernels[(position % phases) as usize];
            let skip = usize::try_from(-first).unwrap_or(0);
            let inputs = &samples[usize::try_from(first).unwrap_or(0).min(samples.len())..];
            kernel[skip..].iter().zip(inputs).map(|(&k, &s)| k * s).sum()
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A Hann-windowed sinc.
fn kernel(x: f64, cutoff: f64, reach: f64) -> f64 {
    if x.abs() >= reach {
        return 0.0;
    }
    let t = PI * x * cutoff;
    let sinc = if t.abs() < 1e-9 { 1.0 } else { t.sin() / t };
    cutoff * sinc * (0.5 + 0.5 * (PI * x / reach).cos())
}

/// Removes the mean and everything below about 150 Hz, where a speech codec's own high-pass filter turns phases.
pub fn high_pass(samples: &mut [f32], rate: u32) {
    for _ in 0..2 {
        let a = 1.0 / (1.0 + 2.0 * std::f32::consts::PI * 150.0 / rate as f32);
        let (mut x1, mut y1) = (samples.first().copied().unwrap_or(0.0), 0.0);
        for sample in &mut *samples {
            let x = *sample;
            y1 = a * (y1 + x - x1);
            x1 = x;
            *sample = y1;
        }
    }
}

/// Sum of squares.
pub fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum()
}

/// The cosine between two stretches of equal length; 0 where either is silent.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    let norm = (energy(a) * energy(b)).sqrt();
    if norm > 1e-12 { dot / norm } else { 0.0 }
}

/// Correlates windows of one length with longer stretches of another signal, by FFT.
pub struct Correlator {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: usize,
    lags: usize,
}

impl std::fmt::Debug for Correlator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Correlator").field("window", &self.window).field("lags", &self.lags).finish_non_exhaustive()
    }
}

impl Correlator {
    /// For windows of `window` samples, against stretches of `lags + window - 1` samples.
    pub fn new(window: usize, lags: usize) -> Self {
        let size = (window + lags).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        Self { forward: planner.plan_fft_forward(size), inverse: planner.plan_fft_inverse(size), window, lags }
    }

    /// The normalised correlation of `window` with `stretch[lag..lag + window.len()]`, for each lag. Shorter inputs count as
    /// followed by silence.
    pub fn correlate(&self, window: &[f32], stretch: &[f32]) -> Vec<f32> {
        let mut w = self.forward.make_input_vec();
        let mut s = self.forward.make_input_vec();
        copy_into(&mut w, window, self.window);
        copy_into(&mut s, stretch, self.lags + self.window - 1);
        let window_energy = energy(&w);
        let running = running_energy(&s, self.window, self.lags);
        let mut spectrum = self.forward.make_output_vec();
        let mut stretch_spectrum = self.forward.make_output_vec();
        let mut product = self.inverse.make_output_vec();
        let transformed = self.forward.process(&mut w, &mut spectrum).is_ok()
            && self.forward.process(&mut s, &mut stretch_spectrum).is_ok();
        for (a, b) in spectrum.iter_mut().zip(&stretch_spectrum) {
            *a = a.conj() * b;
        }
        if let [first, .., last] = spectrum.as_mut_slice() {
            // Real signals have real values there; rounding must not upset the inverse transform.
            *first = Complex::new(first.re, 0.0);
            *last = Complex::new(last.re, 0.0);
        }
        if !transformed || self.inverse.process(&mut spectrum, &mut product).is_err() {
            return vec![0.0; self.lags];
        }
        let scale = 1.0 / product.len() as f64;
        let mut normalised: Vec<f32> = product[..self.lags]
            .iter()
            .zip(&running)
            .map(|(&dot, &e)| {
                let norm = (e * window_energy).sqrt();
                // Below this a window is silence, and any likeness rounding.
                if norm > 1e-7 * self.window as f64 { (f64::from(dot) * scale / norm) as f32 } else { 0.0 }
            })
            .collect();
        for value in &mut normalised {
            *value = value.clamp(-1.0, 1.0);
        }
        normalised
    }
}

fn copy_into(target: &mut [f32], source: &[f32], limit: usize) {
    let n = source.len().min(limit).min(target.len());
    target[..n].copy_from_slice(&source[..n]);
}

fn running_energy(samples: &[f32], window: usize, lags: usize) -> Vec<f64> {
    let square = |i: usize| samples.get(i).map_or(0.0, |&s| f64::from(s) * f64::from(s));
    let mut sum: f64 = (0..window).map(square).sum();
    (0..lags)
        .map(|lag| {
            let now = sum;
            sum = (sum + square(lag + window) - square(lag)).max(0.0);
            now
        })
        .collect()
}

/// The value below which `fraction` of `values` lie (nearest rank); `None` of nothing.
pub fn percentile(values: &[f64], fraction: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (fraction.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hertz: f64, seconds: f64) -> Vec<f32> {
        (0..(f64::from(rate) * seconds) as usize)
            .map(|i| (0.5 * (2.0 * PI * hertz * i as f64 / f64::from(rate)).sin()) as f32)
            .collect()
    }

    #[test]
    fn resampling_keeps_level_and_position() {
        for (from, to) in [(44_100, 48_000), (48_000, 8_000), (16_000, 48_000), (22_050, 48_000)] {
            let out = resample(&tone(from, 440.0, 0.5), from, to);
            let want = tone(to, 440.0, 0.5);
            let middle = out.len() / 4..out.len() * 3 / 4;
            let difference: Vec<f32> =
                out[middle.clone()].iter().zip(&want[middle.clone()]).map(|(a, b)| a - b).collect();
            assert!(energy(&difference) < 1e-4 * energy(&want[middle]), "{from} to {to}");
        }
    }

    #[test]
    fn resampling_down_removes_what_would_alias() {
        let out = resample(&tone(48_000, 7_000.0, 0.5), 48_000, 8_000);
        assert!(energy(&out[200..out.len() - 200]) / (out.len() as f64) < 1e-4);
    }

    #[test]
    fn the_correlator_agrees_with_the_definition() {
        let stretch: Vec<f32> = (0..500).map(|i| ((i * i * 7 % 101) as f32 - 50.0) / 50.0).collect();
        let window = &stretch[123..223];
        let fast = Correlator::new(100, 400).correlate(window, &stretch);
        for lag in [0, 57, 123, 399] {
            let slow = cosine(window, &stretch[lag..lag + 100]);
            assert!((f64::from(fast[lag]) - slow).abs() < 1e-4, "lag {lag}: {} and {slow}", fast[lag]);
        }
        assert!(fast[123] > 0.999);
    }

    #[test]
    fn silence_is_like_nothing() {
        let values = Correlator::new(100, 50).correlate(&[0.0; 100], &[0.5; 149]);
        assert!(values.iter().all(|&v| v == 0.0));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.95), Some(95.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
