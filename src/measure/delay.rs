//! Mouth to ear: how long after it was spoken each stretch of speech was heard.
//!
//! A block of 10 ms is handed over at the moment its last sample is captured, and the first sample of a block is heard at the
//! moment the block is written: sample `j` of a source's block was spoken at `handed over - (10 ms - j)`, sample `j` of a
//! sink's block is heard at `written + j`. Both clocks are the machine's monotonic one, so the two ends must run on it.

use super::{
    alignment::{Match, Reference, align},
    audio_log::AudioLog,
    signal::{cosine, energy, high_pass, resample},
};
use halloo_engine::{
    Timestamp,
    media::{BLOCK, BLOCK_SAMPLES, SAMPLE_RATE},
};
use std::time::Duration;

const RATE: u32 = 8_000;
const STEP: usize = (SAMPLE_RATE / RATE) as usize;
const WINDOW: usize = RATE as usize / 5;
/// Longest delay that is looked for. A clip that repeats faster than this could match its previous turn.
const LONGEST: Duration = Duration::from_millis(2_000);
/// Windows that are less alike say nothing about delay.
const ALIKE: f64 = 0.6;
/// Windows quieter than this (mean square, about -50 dBFS) say nothing either.
const QUIET: f64 = 1e-5;

/// The delay of one window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Delay {
    /// When the middle of the window was heard.
    pub heard_at: Timestamp,
    /// How long before that it was spoken, in milliseconds; negative would mean that the clocks differ.
    pub milliseconds: f64,
}

/// The delay of each window of `heard` that could be found in `spoken`.
pub fn mouth_to_ear(spoken: &AudioLog, heard: &AudioLog) -> Vec<Delay> {
    let (Some(origin), false) = (origin(spoken, heard), heard.times.is_empty()) else { return Vec::new() };
    let prepare = |samples: &[f32]| {
        let mut out = resample(samples, SAMPLE_RATE, RATE);
        high_pass(&mut out, RATE);
        out
    };
    let (source, recording) = (prepare(&spoken.samples), prepare(&heard.samples));
    // Half a second of slack for clocks of blocks that were handed over late.
    let lags = ((LONGEST + Duration::from_millis(500)).as_secs_f64() * f64::from(RATE)) as usize;
    let reference = Reference { samples: &source, repeats: false, origin: origin / STEP as i64, lags };
    align(&recording, &reference, WINDOW)
        .into_iter()
        .filter(|m| m.likeness >= ALIKE && energy(&recording[m.start..m.start + WINDOW]) > QUIET * WINDOW as f64)
        .filter_map(|m| delay_of(spoken, heard, &m))
        .collect()
}

/// The source's sample that was spoken [`LONGEST`] before the first heard sample.
fn origin(spoken: &AudioLog, heard: &AudioLog) -> Option<i64> {
    let (first_spoken, first_heard) = (spoken_at(spoken, 0)?, heard_at(heard, 0)?);
    Some(((first_heard.seconds_from(first_spoken) - LONGEST.as_secs_f64()) * f64::from(SAMPLE_RATE)) as i64)
}

fn delay_of(spoken: &AudioLog, heard: &AudioLog, m: &Match) -> Option<Delay> {
    let window = WINDOW * STEP;
    let recorded = heard.samples.get(m.start * STEP..m.start * STEP + window)?;
    let coarse = usize::try_from(m.reference_start).ok()? * STEP;
    let candidates = coarse.saturating_sub(2 * STEP)..=coarse + 2 * STEP;
    let (exact, _) = candidates
        .filter_map(|at| Some((at, cosine(recorded, spoken.samples.get(at..at + window)?))))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    let heard_at = heard_at(heard, m.start * STEP + window / 2)?;
    let spoken_at = spoken_at(spoken, exact + window / 2)?;
    Some(Delay { heard_at, milliseconds: heard_at.seconds_from(spoken_at) * 1e3 })
}

fn spoken_at(log: &AudioLog, sample: usize) -> Option<Timestamp> {
    Some(heard_at(log, sample)? - BLOCK)
}

fn heard_at(log: &AudioLog, sample: usize) -> Option<Timestamp> {
    let offset = Duration::from_secs_f64((sample % BLOCK_SAMPLES) as f64 / f64::from(SAMPLE_RATE));
    Some(*log.times.get(sample / BLOCK_SAMPLES)? + offset)
}

#[cfg(test)]
mod tests {
    use super::{
        super::heard::tests::{SideLeft, SideRight, speech},
        *,
    };
    use crate::measure::signal::percentile;

    /// A log of blocks handed over every 10 ms from `start`, each up to 3 ms late.
    fn log(start: u64, samples: Vec<f32>) -> AudioLog {
        let blocks = samples.len() / BLOCK_SAMPLES;
        let times =
            (0..blocks as u64).map(|i| Timestamp::from_micros(start + i * 10_000 + i * 7 % 3 * 1_000)).collect();
        AudioLog { times, samples, dropped: 0 }
    }

    fn delays(by_samples: usize) -> Vec<f64> {
        let clip: Vec<f32> =
            [speech(SideLeft), speech(SideRight)].concat().iter().cycle().take(6 * 48_000).copied().collect();
        let mut late = vec![0.0; by_samples];
        late.extend_from_slice(&clip);
        let (spoken, heard) = (log(1_000_000, clip), log(1_000_000, late));
        mouth_to_ear(&spoken, &heard).iter().map(|d| d.milliseconds).collect()
    }

    #[test]
    fn a_known_delay_is_measured_to_the_millisecond() {
        for by in [480, 2_500, 48_000] {
            let delays = delays(by);
            assert!(delays.len() > 10, "{} windows", delays.len());
            // A sample spoken at the start of a block waits 10 ms for its hand-over, even where the network takes no time.
            let want = by as f64 / 48.0 + 10.0;
            let median = percentile(&delays, 0.5).unwrap();
            assert!((median - want).abs() < 1.5, "{median} rather than {want}");
        }
    }

    #[test]
    fn nothing_heard_gives_no_delay() {
        let clip = speech(SideLeft);
        let silence = vec![0.0; 48_000];
        assert!(mouth_to_ear(&log(0, clip), &log(0, silence)).is_empty());
        assert!(mouth_to_ear(&AudioLog::default(), &AudioLog::default()).is_empty());
    }
}
