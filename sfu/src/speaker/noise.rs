//! What a person's background noise is like: how loud it is at its quietest and at its loudest.
//!
//! The floor is the minimum of the smoothed level over the last seconds (R. Martin: "Noise power spectral density estimation
//! based on optimal smoothing and minimum statistics", IEEE Trans. Speech and Audio Processing 9(5), 2001): speech has gaps
//! within such a time, and noise has none. The ceiling is for noise that swells, as a car that passes: the loudest of what came
//! without the ups and downs of syllables, within a time that a swell takes.

/// Share of a new level in the smoothed one: about 200 ms.
const SMOOTHING: f32 = 0.1;
/// Levels in a window, and windows of which the minimum is taken: two and a half seconds.
const WINDOW: u8 = 16;
const WINDOWS: usize = 8;
/// Bounds of the floor, in dB above -127 dBov.
const LOWEST: f32 = 30.0;
const HIGHEST: f32 = 75.0;
/// Before anything is known.
const TYPICAL: f32 = 60.0;
/// Calls of [`Noise::learn`] in a window of the ceiling, and windows of which the maximum is taken: ten seconds.
const LESSONS: u8 = 20;
const MAXIMA: usize = 5;

/// Levels are in dB above -127 dBov.
#[derive(Clone, Debug)]
pub(super) struct Noise {
    smoothed: f32,
    minima: [f32; WINDOWS],
    window: usize,
    in_window: u8,
    maxima: [f32; MAXIMA],
    lesson: u8,
}

impl Noise {
    pub(super) const fn new() -> Self {
        Self {
            smoothed: TYPICAL,
            minima: [f32::INFINITY; WINDOWS],
            window: 0,
            in_window: 0,
            maxima: [0.0; MAXIMA],
            lesson: 0,
        }
    }

    /// Takes the level of 20 ms.
    pub(super) fn follow(&mut self, loudness: u8) {
        self.smoothed += SMOOTHING * (f32::from(loudness) - self.smoothed);
        if self.in_window == WINDOW {
            self.in_window = 0;
            self.window = (self.window + 1) % WINDOWS;
            self.minima[self.window] = f32::INFINITY;
        }
        self.in_window += 1;
        let minimum = &mut self.minima[self.window];
        *minimum = minimum.min(self.smoothed);
    }

    /// Every 100 ms: the mean level of as much that turned out to be noise, where it did.
    pub(super) fn learn(&mut self, noise: Option<f32>) {
        if self.lesson == LESSONS {
            self.lesson = 0;
            self.maxima.rotate_right(1);
            self.maxima[0] = 0.0;
        }
        self.lesson += 1;
        self.maxima[0] = self.maxima[0].max(noise.unwrap_or_default());
    }

    /// At its quietest.
    pub(super) fn floor(&self) -> u8 {
        let minimum = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
        if minimum.is_finite() { minimum.clamp(LOWEST, HIGHEST) as u8 } else { TYPICAL as u8 }
    }

    /// At its loudest; zero where it does not swell.
    pub(super) fn ceiling(&self) -> u8 {
        self.maxima.iter().copied().fold(0.0, f32::max) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_follows_noise_and_passes_over_speech() {
        let mut noise = Noise::new();
        for i in 0..500u32 {
            noise.follow(55 + (i * 7 % 21) as u8);
        }
        // Half of 20 dB below its mean, at most.
        assert!((58..=65).contains(&noise.floor()), "{}", noise.floor());
        let before = noise.floor();
        for i in 0..500u32 {
            noise.follow(if i % 75 < 55 { 105 } else { 55 + (i * 7 % 21) as u8 });
        }
        assert!(noise.floor() <= before + 10, "{} after {before}", noise.floor());
    }

    #[test]
    fn the_ceiling_rises_at_once_and_is_forgotten_after_ten_seconds() {
        let mut noise = Noise::new();
        noise.learn(Some(80.0));
        assert_eq!(noise.ceiling(), 80);
        (0..80).for_each(|_| noise.learn(Some(70.0)));
        assert_eq!(noise.ceiling(), 80);
        (0..20).for_each(|_| noise.learn(None));
        assert_eq!(noise.ceiling(), 70);
        (0..100).for_each(|_| noise.learn(None));
        assert_eq!(noise.ceiling(), 0);
    }
}
