//! What one side heard and saw of the other, in figures: the row of the demo's report and of `--json`.

use super::{
    audio_log::AudioLog,
    delay::{Delay, mouth_to_ear},
    freezes::{Freezes, freezes},
    glass::{Shown, distinct_ratio, glass_to_glass},
    heard_correlation,
    signal::percentile,
    video_log, wav,
    y4m::Frames,
};
use anyhow::Result;
use halloo_engine::{
    Timestamp,
    video::{frame_number, pattern, ssim},
};
use serde::Serialize;
use std::path::Path;

/// Of so many decoded pictures, one is compared with what was drawn.
const COMPARE_EVERY: usize = 7;

/// Where the traces of a call lie.
#[derive(Clone, Copy, Debug)]
pub struct Traces<'a> {
    /// The media log of the side that spoke.
    pub speaker: &'a Path,
    /// The media log of the side that listened.
    pub listener: &'a Path,
    /// The listener's recordings.
    pub recordings: &'a Path,
    /// What was said; `None` for a microphone.
    pub clip: Option<&'a [f32]>,
    /// What was not said.
    pub wrong_clip: Option<&'a [f32]>,
}

/// What one side heard and saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// How much of what was heard is what was said, 0 to 1; absent with a microphone.
    pub heard_correlation: Option<f64>,
    /// The same for a clip that was not said.
    pub wrong_clip_correlation: Option<f64>,
    /// Median delay of sound, in milliseconds.
    pub mouth_to_ear_ms: Option<f64>,
    /// 95th percentile of it.
    pub mouth_to_ear_p95_ms: Option<f64>,
    /// Median delay of pictures, in milliseconds.
    pub glass_to_glass_ms: Option<f64>,
    /// 95th percentile of it.
    pub glass_to_glass_p95_ms: Option<f64>,
    /// Pictures shown.
    pub video_frames_shown: usize,
    /// Share of the sent pictures that were shown, by their numbers.
    pub distinct_frame_ratio: f64,
    /// Freezes among the shown pictures, as the W3C counts them.
    pub video_freezes: u32,
    /// How long they took together.
    pub video_freeze_seconds: f64,
    /// Mean structural similarity of shown pictures to what was drawn.
    pub ssim: Option<f64>,
    /// Seconds of recorded sound.
    pub recorded_audio_s: f64,
    /// Seconds of recorded pictures.
    pub recorded_video_s: f64,
    /// Delay of sound over time.
    #[serde(skip)]
    pub delays: Vec<Delay>,
    /// Delay of pictures over time.
    #[serde(skip)]
    pub shown: Vec<Shown>,
}

impl Summary {
    /// Measures one direction of a call.
    ///
    /// # Errors
    /// Where a log or recording is missing or unreadable.
    pub fn measure(traces: &Traces<'_>) -> Result<Self> {
        let spoken = AudioLog::read(&traces.speaker.join("spoken.log"))?;
        let heard = AudioLog::read(&traces.listener.join("heard.log"))?;
        let sent = video_log::read(&traces.speaker.join("sent.jsonl"))?;
        let seen = video_log::read(&traces.listener.join("shown.jsonl"))?;
        let recording = wav::read_mono(&traces.recordings.join("received.wav"))?;
        let delays = mouth_to_ear(&spoken, &heard);
        let shown = glass_to_glass(&sent, &seen);
        let by_sound: Vec<f64> = delays.iter().map(|d| d.milliseconds).collect();
        let by_picture: Vec<f64> = shown.iter().map(|s| s.milliseconds).collect();
        let Freezes { count, seconds } = freezes(shown.iter().map(|s| s.shown_at));
        let pictures = compare(&traces.recordings.join("received.y4m"))?;
        Ok(Self {
            heard_correlation: traces.clip.map(|clip| heard_correlation(clip, &recording)),
            wrong_clip_correlation: traces.wrong_clip.map(|clip| heard_correlation(clip, &recording)),
            mouth_to_ear_ms: percentile(&by_sound, 0.5),
            mouth_to_ear_p95_ms: percentile(&by_sound, 0.95),
            glass_to_glass_ms: percentile(&by_picture, 0.5),
            glass_to_glass_p95_ms: percentile(&by_picture, 0.95),
            video_frames_shown: shown.len(),
            distinct_frame_ratio: distinct_ratio(&shown),
            video_freezes: count,
            video_freeze_seconds: seconds,
            ssim: pictures.ssim,
            recorded_audio_s: recording.len() as f64 / 48_000.0,
            recorded_video_s: pictures.seconds,
            delays,
            shown,
        })
    }
}

struct Pictures {
    ssim: Option<f64>,
    seconds: f64,
}

/// Compares recorded pictures with the test pattern of the same number.
fn compare(path: &Path) -> Result<Pictures> {
    let frames = Frames::open(path)?;
    let (rate, (width, height)) = (frames.frame_rate, frames.size());
    let (mut count, mut last, mut distinct, mut similarity) = (0_u32, None, 0, Vec::new());
    for frame in frames {
        let frame = frame?;
        count += 1;
        let number = frame_number::read(&frame);
        // A repeated picture says nothing new.
        let (Some(number), true) = (number, number != last) else { continue };
        last = Some(number);
        distinct += 1;
        if distinct % COMPARE_EVERY == 0 {
            let drawn = pattern::draw(width, height, number.into(), Timestamp::ZERO)?;
            similarity.push(ssim(&drawn, &frame));
        }
    }
    let mean = similarity.iter().sum::<f64>() / similarity.len().max(1) as f64;
    Ok(Pictures { ssim: (!similarity.is_empty()).then_some(mean), seconds: f64::from(count) / rate })
}
