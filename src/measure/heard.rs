//! Whether a recording holds what a clip says: `heard_correlation`.
//!
//! The recording is cut into windows, each is matched with the clip along one consistent path of lags (see
//! [`super::alignment`]), and the likeness of the windows is averaged, weighted by how loud clip or recording is there:
//! silence where the clip speaks counts against it, and so does noise where the clip is silent.

use super::{
    alignment::{Reference, align},
    signal::{cosine, energy, high_pass, resample},
};
use halloo_engine::media::SAMPLE_RATE;

/// Correlating at this rate keeps what carries speech and is robust to what a codec does above.
const RATE: u32 = 8_000;
/// A fifth of a second: longer than a pitch period by far, short enough to hold no more than one stretch of time.
const WINDOW: usize = RATE as usize / 5;
/// The clip is also looked at between samples, in this many steps.
const FINE: usize = 4;
const STEP: usize = (SAMPLE_RATE / RATE) as usize;
/// Longest clip that is looked at, in samples: a minute. A recording may be eight times as long.
const LONGEST: usize = 60 * SAMPLE_RATE as usize;

/// How much of what is heard in `recording` is `clip`, both mono at 48 kHz: about 1 for the same speech, however late, through a
/// good codec and with small stretches of time; near 0 for other speech, noise or silence. The clip may repeat.
pub fn heard_correlation(clip: &[f32], recording: &[f32]) -> f64 {
    let recording = prepare(recording);
    let recording = between_silences(&recording);
    if clip.is_empty() || recording.len() < WINDOW {
        return 0.0;
    }
    let clip = &clip[..clip.len().min(LONGEST)];
    let reference = prepare(&repeat(clip, recording.len() * STEP));
    let lags = clip.len().div_ceil(STEP);
    let matches = align(recording, &Reference { samples: &reference, repeats: true, origin: 0, lags }, WINDOW);
    let fine = resample(&reference, RATE, FINE as u32 * RATE);
    let windows: Vec<Window<'_>> = matches
        .iter()
        .map(|m| closest(&recording[m.start..m.start + WINDOW], &fine, m.reference_start * FINE as i64))
        .collect();
    weighted_likeness(&windows)
}

/// Repetitions of the clip whose length is a whole number of samples at [`RATE`], or that outlast the recording.
fn repeat(clip: &[f32], recorded: usize) -> Vec<f32> {
    let exact = (1..=STEP).find(|n| (clip.len() * n).is_multiple_of(STEP)).unwrap_or(STEP);
    clip.repeat(exact.min(recorded / clip.len() + 2))
}

fn prepare(samples: &[f32]) -> Vec<f32> {
    let mut out = resample(&samples[..samples.len().min(8 * LONGEST)], SAMPLE_RATE, RATE);
    high_pass(&mut out, RATE);
    out
}

/// Before the first sound arrives and after the last there is nothing to compare.
fn between_silences(samples: &[f32]) -> &[f32] {
    let loud = |s: &f32| s.abs() > 1e-3;
    let first = samples.iter().position(loud).unwrap_or(samples.len());
    let last = samples.iter().rposition(loud).map_or(first, |i| i + 1);
    &samples[first..last]
}

struct Window<'a> {
    heard: &'a [f32],
    spoken: Vec<f32>,
    likeness: f64,
}

/// The window beside the part of the finely sampled reference that it is most like, within a sample: true lags fall between
/// samples.
fn closest<'a>(heard: &'a [f32], fine: &[f32], start: i64) -> Window<'a> {
    let reach = FINE as i64;
    (start - reach..=start + reach)
        .map(|start| {
            let at = |i: i64| fine[i.rem_euclid(fine.len() as i64) as usize];
            let spoken: Vec<f32> = (0..WINDOW as i64).map(|i| at(start + i * FINE as i64)).collect();
            Window { heard, likeness: cosine(heard, &spoken), spoken }
        })
        .fold(Window { heard, spoken: Vec::new(), likeness: -1.0 }, |a, b| if b.likeness > a.likeness { b } else { a })
}

/// The mean likeness, each window weighted by the louder of what was said, at the level at which it is heard, and what was heard.
fn weighted_likeness(windows: &[Window<'_>]) -> f64 {
    let clear = windows.iter().filter(|w| w.likeness > 0.5);
    let (heard, spoken) = clear.fold((0.0, 0.0), |(h, s), w| (h + energy(w.heard), s + energy(&w.spoken)));
    if heard <= 0.0 || spoken <= 0.0 {
        return 0.0;
    }
    let gain = heard / spoken;
    let weight = |w: &Window<'_>| energy(w.heard).max(energy(&w.spoken) * gain);
    let all: f64 = windows.iter().map(weight).sum();
    (windows.iter().map(|w| w.likeness * weight(w)).sum::<f64>() / all).clamp(0.0, 1.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    /// Recorded speech by Debian's alsa-utils.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Speech {
        FrontCenter,
        RearRight,
        SideLeft,
        SideRight,
    }
    pub(crate) use Speech::{FrontCenter, RearRight, SideLeft, SideRight};

    pub(crate) fn speech(which: Speech) -> Vec<f32> {
        let name = match which {
            FrontCenter => "Front_Center",
            RearRight => "Rear_Right",
            SideLeft => "Side_Left",
            SideRight => "Side_Right",
        };
        let path = Path::new("/usr/share/sounds/alsa").join(format!("{name}.wav"));
        crate::measure::wav::read_mono(&path).expect("recorded speech: apt-get install alsa-utils")
    }

    fn both(a: Speech, b: Speech) -> Vec<f32> {
        [speech(a), speech(b)].concat()
    }

    fn coded(clip: &[f32], offset: usize, seconds: usize, bitrate: i32) -> Vec<f32> {
        coded_as(opus::Application::Audio, clip, offset, seconds, bitrate)
    }

    /// Through Opus at `bitrate`, `seconds` of the repeating clip from `offset` on.
    fn coded_as(application: opus::Application, clip: &[f32], offset: usize, seconds: usize, bitrate: i32) -> Vec<f32> {
        let input: Vec<f32> = clip.iter().cycle().skip(offset).take(seconds * 48_000).copied().collect();
        let mut encoder = opus::Encoder::new(48_000, opus::Channels::Mono, application).unwrap();
        encoder.set_bitrate(opus::Bitrate::Bits(bitrate)).unwrap();
        let mut decoder = opus::Decoder::new(48_000, opus::Channels::Mono).unwrap();
        let mut out = Vec::new();
        for frame in input.chunks_exact(960) {
            let packet = encoder.encode_vec_float(frame, 1_500).unwrap();
            let mut pcm = [0.0; 960];
            let n = decoder.decode_float(&packet, &mut pcm, false).unwrap();
            out.extend_from_slice(&pcm[..n]);
        }
        out
    }

    /// Leaves out or repeats 8 ms of sound about once a second, as a jitter buffer does when it changes its delay.
    fn stretched(samples: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for (i, second) in samples.chunks(47_000).enumerate() {
            if i % 2 == 0 {
                out.extend_from_slice(second);
                out.extend_from_slice(&second[second.len().saturating_sub(384)..]);
            } else {
                out.extend_from_slice(&second[384.min(second.len())..]);
            }
        }
        out
    }

    #[test]
    fn the_same_clip_over_opus_is_heard() {
        for (a, b) in [(FrontCenter, RearRight), (SideLeft, SideRight)] {
            let clip = both(a, b);
            for (offset, bitrate) in [(0, 32_000), (50_000, 24_000), (100_001, 48_000)] {
                let heard = heard_correlation(&clip, &coded(&clip, offset, 8, bitrate));
                assert!(heard >= 0.97, "{a:?} {b:?} at {bitrate}: {heard}");
            }
            // For speech the codec also filters what is below the voice, which turns phases a little.
            let heard = heard_correlation(&clip, &coded_as(opus::Application::Voip, &clip, 0, 8, 32_000));
            assert!(heard >= 0.94, "{a:?} {b:?} as speech: {heard}");
        }
    }

    #[test]
    fn other_speech_is_not_heard() {
        let (clip, other) = (both(FrontCenter, RearRight), both(SideLeft, SideRight));
        for (clip, other) in [(&clip, &other), (&other, &clip)] {
            let heard = heard_correlation(clip, &coded(other, 0, 10, 32_000));
            assert!(heard < 0.3, "{heard}");
        }
        // The same speaker saying one of the words again.
        let heard = heard_correlation(&speech(SideLeft), &coded(&speech(SideRight), 0, 10, 32_000));
        assert!(heard < 0.3, "{heard}");
    }

    #[test]
    fn small_stretches_of_time_are_forgiven() {
        let clip = both(FrontCenter, RearRight);
        let heard = heard_correlation(&clip, &stretched(&coded(&clip, 20_000, 10, 32_000)));
        assert!(heard >= 0.9, "{heard}");
    }

    #[test]
    fn leading_silence_and_level_do_not_matter() {
        let clip = both(SideLeft, SideRight);
        let mut late = vec![0.0; 30_000];
        late.extend(coded(&clip, 0, 8, 32_000).iter().map(|s| s * 0.4));
        late.extend(vec![0.0; 20_000]);
        let heard = heard_correlation(&clip, &late);
        assert!(heard >= 0.95, "{heard}");
    }

    #[test]
    fn missing_speech_counts_against_it() {
        let clip = both(SideLeft, SideRight);
        let mut half = coded(&clip, 0, 10, 32_000);
        for second in half.chunks_mut(96_000) {
            second[..48_000].fill(0.0);
        }
        let heard = heard_correlation(&clip, &half);
        assert!(heard < 0.75, "{heard}");
    }

    #[test]
    fn silence_and_noise_are_not_heard() {
        let clip = both(FrontCenter, RearRight);
        assert_eq!(heard_correlation(&clip, &vec![0.0; 480_000]), 0.0);
        assert_eq!(heard_correlation(&clip, &[]), 0.0);
        assert_eq!(heard_correlation(&[], &clip), 0.0);
        let noise: Vec<f32> = (0..480_000_u64).map(|i| ((i * 48_271 % 65_521) as f32 / 65_521.0 - 0.5) * 0.2).collect();
        assert!(heard_correlation(&clip, &noise) < 0.3);
    }
}
