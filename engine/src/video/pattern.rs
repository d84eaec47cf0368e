//! The test pattern: drifting gradients, three soft discs on their orbits, and the frame's number along the top.
//!
//! Frame `n` is a function of `n` and the size alone, so a test can draw what should have arrived. Each [`SERIES`] of numbers has
//! colours of its own, so that several patterns can be told apart, by people and by programs.

use super::{frame_number, i420::I420Buffer, pace::Pace};
use crate::{
    Timestamp,
    media::{MediaError, VideoFrame, VideoPoll, VideoSource},
};
use std::f64::consts::TAU;

/// Pictures of one series: nearly ten hours at 30 a second. There are [`SERIES_COUNT`] of them.
pub const SERIES: u32 = 1 << 20;
/// How many series there are before numbers wrap to zero.
pub const SERIES_COUNT: u32 = frame_number::MODULUS / SERIES;
/// How far the colours of a series are from those of the first, which are nearly grey, and the angle from one to the next.
const TINT: f64 = 36.0;
const TURN: f64 = 2.4;

/// A generated moving picture, paced by its own frame rate.
#[derive(Debug)]
pub struct PatternSource {
    width: u32,
    height: u32,
    pace: Pace,
    first: u64,
}

impl PatternSource {
    /// A pattern of this size and rate. Frame 0 is due at the first poll.
    ///
    /// # Errors
    /// Where a side is 0 or above 16,384, or the rate is not within 0.1 to 240 frames per second.
    pub fn new(width: u32, height: u32, frame_rate: f64) -> Result<Self, MediaError> {
        if !(1..=16_384).contains(&width) || !(1..=16_384).contains(&height) {
            return Err(MediaError::new(format!(
                "a test pattern of {width}x{height} is not possible: use 1 to 16384 a side"
            )));
        }
        Ok(Self { width, height, pace: Pace::new(frame_rate)?, first: 0 })
    }

    /// Numbers the pictures from the beginning of this series (modulo [`SERIES_COUNT`]), in its colours.
    #[must_use]
    pub fn in_series(mut self, series: u32) -> Self {
        self.first = u64::from(series % SERIES_COUNT) * u64::from(SERIES);
        self
    }
}

impl VideoSource for PatternSource {
    fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
        match self.pace.due(now) {
            Ok(number) => Ok(VideoPoll::Frame(draw(self.width, self.height, self.first + number, now)?)),
            Err(next) => Ok(VideoPoll::Wait(next)),
        }
    }

    fn frame_rate(&self) -> f64 {
        self.pace.frame_rate()
    }
}

/// Draws frame `number` of the pattern.
///
/// # Errors
/// Where the size is not possible.
pub fn draw(width: u32, height: u32, number: u64, at: Timestamp) -> Result<VideoFrame, MediaError> {
    let mut picture = I420Buffer::black(width, height);
    // 30 steps a second at the usual rate; all motion repeats within an hour, so precision never fades.
    let time = (number % 108_000) as f64 / 30.0;
    background(&mut picture, time, tint(number));
    for (index, disc) in Disc::ALL.iter().enumerate() {
        disc.draw(&mut picture, time, index as f64);
    }
    frame_number::stamp(&mut picture, (number % u64::from(frame_number::MODULUS)) as u32);
    picture.into_frame(at)
}

/// What the series of a number adds to both chroma planes.
fn tint(number: u64) -> (f64, f64) {
    match number / u64::from(SERIES) % u64::from(SERIES_COUNT) {
        0 => (0.0, 0.0),
        series => (TINT * (TURN * series as f64).cos(), TINT * (TURN * series as f64).sin()),
    }
}

/// Sums of a wave along x and one along y: two tables and an addition per sample.
fn background(picture: &mut I420Buffer, time: f64, tint: (f64, f64)) {
    let waves = [(112.0, 34.0, 1.0, 0.31), (126.0 + tint.0, 22.0, 0.6, -0.17), (130.0 + tint.1, 22.0, 0.8, 0.23)];
    for (index, (level, depth, cycles, speed)) in waves.into_iter().enumerate() {
        let (w, h) = picture.plane_size(index);
        let wave = |position: f64, phase: f64| depth * (TAU * (cycles * position + speed * time + phase)).sin();
        // A finer ripple gives luma some texture to code.
        let ripple = |position: f64| if index == 0 { 6.0 * (TAU * (9.0 * position - 0.4 * time)).sin() } else { 0.0 };
        let columns: Vec<i16> =
            (0..w).map(|x| x as f64 / w as f64).map(|x| (wave(x, 0.0) + ripple(x)) as i16).collect();
        let rows: Vec<i16> =
            (0..h).map(|y| y as f64 / h as f64).map(|y| (level + wave(y, 0.3) + ripple(y)) as i16).collect();
        for (row, &base) in picture.plane_mut(index).chunks_exact_mut(w).zip(&rows) {
            for (sample, &column) in row.iter_mut().zip(&columns) {
                *sample = (base + column).clamp(16, 235) as u8;
            }
        }
    }
}

/// A shaded ball; lengths are fractions of the picture's height.
struct Disc {
    radius: f64,
    colour: [f64; 3],
    orbits_per_second: (f64, f64),
}

impl Disc {
    const ALL: [Self; 3] = [
        Self { radius: 0.16, colour: [200.0, 90.0, 150.0], orbits_per_second: (0.13, 0.21) },
        Self { radius: 0.11, colour: [150.0, 160.0, 95.0], orbits_per_second: (-0.23, 0.17) },
        Self { radius: 0.07, colour: [225.0, 110.0, 190.0], orbits_per_second: (0.37, -0.29) },
    ];

    fn draw(&self, picture: &mut I420Buffer, time: f64, phase: f64) {
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let centre = (
            width * (0.5 + 0.36 * (TAU * (self.orbits_per_second.0 * time + phase / 3.0)).cos()),
            height * (0.56 + 0.26 * (TAU * (self.orbits_per_second.1 * time + phase / 5.0)).sin()),
        );
        for (index, &level) in self.colour.iter().enumerate() {
            let shrink = if index == 0 { 1.0 } else { 2.0 };
            let (cx, cy, radius) = (centre.0 / shrink, centre.1 / shrink, self.radius * height / shrink);
            let (w, h) = picture.plane_size(index);
            let plane = picture.plane_mut(index);
            let clip = |v: f64, limit: usize| (v.max(0.0) as usize).min(limit);
            for y in clip(cy - radius, h)..clip(cy + radius + 2.0, h) {
                for x in clip(cx - radius, w)..clip(cx + radius + 2.0, w) {
                    let distance = (x as f64 - cx).hypot(y as f64 - cy);
                    // One sample of soft edge, and luma that falls off towards the rim.
                    let cover = (radius - distance + 0.5).clamp(0.0, 1.0);
                    if cover > 0.0 {
                        let shade = if index == 0 { 45.0 * (distance / radius).powi(2) } else { 0.0 };
                        let sample = &mut plane[y * w + x];
                        *sample = (f64::from(*sample) * (1.0 - cover) + (level - shade) * cover) as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_follow_the_clock_and_skip_when_polled_late() {
        let mut source = PatternSource::new(320, 180, 30.0).unwrap();
        let start = Timestamp::from_millis(5_000);
        let number = |poll| match poll {
            VideoPoll::Frame(frame) => frame_number::read(&frame),
            other => panic!("no frame but {other:?}"),
        };
        assert_eq!(number(source.poll(start).unwrap()), Some(0));
        let VideoPoll::Wait(next) = source.poll(start).unwrap() else { panic!("frame 1 is not due yet") };
        assert_eq!(next, start + Duration::from_nanos(33_333_334));
        assert_eq!(number(source.poll(next).unwrap()), Some(1));
        assert_eq!(number(source.poll(start + Duration::from_secs(1)).unwrap()), Some(30));
    }

    #[test]
    fn each_series_has_numbers_and_colours_of_its_own() {
        let mean = |frame: &VideoFrame, plane: usize| {
            let rows = (0..frame.plane_size(plane).1).flat_map(|y| frame.row(plane, y)).map(|&s| f64::from(s));
            rows.sum::<f64>() / (frame.plane_size(plane).0 * frame.plane_size(plane).1) as f64
        };
        let mut colours: Vec<(f64, f64)> = Vec::new();
        for series in 0..6 {
            let mut source = PatternSource::new(320, 180, 15.0).unwrap().in_series(series);
            let VideoPoll::Frame(frame) = source.poll(Timestamp::from_millis(77)).unwrap() else { panic!("no frame") };
            let number = frame_number::read(&frame).unwrap();
            assert_eq!((number / SERIES, number % SERIES), (series, 0));
            let colour = (mean(&frame, 1), mean(&frame, 2));
            let nearest = colours.iter().map(|c| (c.0 - colour.0).hypot(c.1 - colour.1)).fold(f64::MAX, f64::min);
            assert!(nearest > 15.0, "series {series} is {nearest} from another's colour");
            colours.push(colour);
        }
    }

    #[test]
    fn impossible_sizes_and_rates_are_refused() {
        assert!(PatternSource::new(0, 10, 30.0).is_err());
        assert!(PatternSource::new(10, 20_000, 30.0).is_err());
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(PatternSource::new(10, 10, rate).is_err(), "{rate}");
        }
    }

    #[test]
    fn every_size_can_be_drawn() {
        for (width, height) in [(1, 1), (1, 50), (17, 33), (641, 361)] {
            let frame = draw(width, height, 7, Timestamp::ZERO).unwrap();
            assert_eq!((frame.width(), frame.height()), (width, height));
        }
    }
}
