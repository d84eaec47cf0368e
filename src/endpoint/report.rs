//! The report of one call, as `--json` prints it. docs/report.md explains each field.

use crate::exit::Exit;
use halloo_engine::{CallStats, Direction, EndReason, ErrorCode, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything about one call.
#[derive(Debug, Serialize)]
pub struct CallReport {
    /// Version of this format: 1.
    pub version: u32,
    /// The call's id, the same on both sides.
    pub call: String,
    /// Who reports.
    pub user: String,
    /// The other side.
    pub peer: String,
    /// Who called whom.
    pub direction: Direction,
    /// Whether media ever flowed.
    pub connected: bool,
    /// From calling, or taking the call, until media flowed.
    pub connect_ms: Option<f64>,
    /// From when media flowed to the end.
    pub duration_s: f64,
    /// Why it ended.
    pub reason: EndReason,
    /// What went wrong, where something did.
    pub error: Option<String>,
    /// The server's code, where the server refused.
    pub code: Option<ErrorCode>,
    /// Moments on the monotonic clock, for measuring across processes.
    pub clock: Moments,
    /// What was written.
    pub recordings: Recordings,
    /// What there was to say, in order.
    pub notices: Vec<String>,
    /// Figures twice a second.
    pub samples: Vec<Sample>,
    /// Figures at the end, named after the W3C's WebRTC statistics.
    pub stats: CallStats,
    /// This process's CPU time during the call, in seconds.
    pub cpu_seconds: Option<f64>,
    /// How the program ends because of this call.
    #[serde(skip)]
    pub exit: Exit,
}

/// Moments in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Moments {
    /// The call was made, or taken.
    pub started_ns: u64,
    /// Media flowed.
    pub connected_ns: Option<u64>,
    /// Over.
    pub ended_ns: u64,
}

impl Moments {
    /// From start to media, in milliseconds.
    pub fn connect_ms(&self) -> Option<f64> {
        let connected = Timestamp::from_nanos(self.connected_ns?);
        Some(connected.seconds_from(Timestamp::from_nanos(self.started_ns)) * 1e3)
    }

    /// How long media flowed, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.connected_ns.map_or(0.0, |connected| self.ended_ns.saturating_sub(connected) as f64 / 1e9)
    }
}

/// Files of a call.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recordings {
    /// Received sound.
    pub audio: Option<PathBuf>,
    /// Received pictures.
    pub video: Option<PathBuf>,
}

/// Figures over the last half second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since media flowed.
    pub t: f64,
    /// Kilobits of payload per second.
    pub audio_in_kbps: f64,
    /// Kilobits of payload per second.
    pub audio_out_kbps: f64,
    /// Kilobits of payload per second.
    pub video_in_kbps: f64,
    /// Kilobits of payload per second.
    pub video_out_kbps: f64,
    /// Pictures decoded per second.
    pub fps_in: f64,
    /// Pictures encoded per second.
    pub fps_out: f64,
    /// Share of received packets that were lost, 0 to 1.
    pub loss: f64,
    /// Share of played samples that were made up, 0 to 1.
    pub concealed: f64,
    /// Round trip in milliseconds, once known.
    pub rtt_ms: Option<f64>,
    /// What the jitter buffer aims at, in milliseconds.
    pub jitter_buffer_ms: f64,
    /// Loudness received, 0 to 1.
    pub level_in: f64,
    /// Loudness sent, 0 to 1.
    pub level_out: f64,
}

impl Sample {
    /// What happened between two snapshots.
    pub fn between(before: &CallStats, now: &CallStats, t: f64) -> Self {
        let seconds = (now.age - before.age).max(1e-3);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let kbps = |now, before| rate(now, before) * 8.0 / 1e3;
        let packets = |s: &CallStats| s.inbound_audio.packets_received + s.inbound_video.packets_received;
        let lost = |s: &CallStats| s.inbound_audio.packets_lost + s.inbound_video.packets_lost;
        let lost_now = (lost(now) - lost(before)).max(0) as f64;
        let expected = packets(now).saturating_sub(packets(before)) as f64 + lost_now;
        let played =
            now.inbound_audio.total_samples_received.saturating_sub(before.inbound_audio.total_samples_received);
        let concealed = now.inbound_audio.concealed_samples.saturating_sub(before.inbound_audio.concealed_samples);
        Self {
            t,
            audio_in_kbps: kbps(now.inbound_audio.bytes_received, before.inbound_audio.bytes_received),
            audio_out_kbps: kbps(now.outbound_audio.bytes_sent, before.outbound_audio.bytes_sent),
            video_in_kbps: kbps(now.inbound_video.bytes_received, before.inbound_video.bytes_received),
            video_out_kbps: kbps(now.outbound_video.bytes_sent, before.outbound_video.bytes_sent),
            fps_in: rate(now.inbound_video.frames_decoded, before.inbound_video.frames_decoded),
            fps_out: rate(now.outbound_video.frames_encoded, before.outbound_video.frames_encoded),
            loss: share(lost_now, expected),
            concealed: share(concealed as f64, played as f64),
            rtt_ms: now.transport.current_round_trip_time.map(|s| s * 1e3),
            jitter_buffer_ms: now.inbound_audio.jitter_buffer_target_delay * 1e3,
            level_in: f64::from(now.inbound_audio.audio_level),
            level_out: f64::from(now.outbound_audio.audio_level),
        }
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
