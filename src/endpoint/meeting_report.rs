//! The report of one stay in a room, as `--json` prints it. docs/report.md explains each field.

use super::report::{Moments, Sample};
use crate::exit::Exit;
use halloo_engine::{CallStats, EndedBy, ErrorCode, ParticipantStats, RoomParticipant, RoomStats};
use serde::Serialize;
use std::path::PathBuf;

/// Everything about one stay.
#[derive(Debug, Serialize)]
pub struct MeetingReport {
    /// Version of this format: 1.
    pub version: u32,
    /// Which room.
    pub room: String,
    /// Who reports.
    pub user: String,
    /// Whether media ever flowed.
    pub connected: bool,
    /// From asking to join until media flowed.
    pub connect_ms: Option<f64>,
    /// From when media flowed to the end.
    pub duration_s: f64,
    /// Who or what ended it.
    pub reason: EndedBy,
    /// What went wrong, where something did.
    pub error: Option<String>,
    /// The server's code, where the server refused.
    pub code: Option<ErrorCode>,
    /// Moments on the monotonic clock, for measuring across processes.
    pub clock: Moments,
    /// Times that media stopped flowing.
    pub interruptions: u32,
    /// Everybody who was there.
    pub participants: Vec<ParticipantReport>,
    /// What there was to say, in order.
    pub notices: Vec<String>,
    /// Figures twice a second, all participants together.
    pub samples: Vec<Sample>,
    /// Figures at the end, named after the W3C's WebRTC statistics.
    pub stats: RoomStats,
    /// This process's CPU time in the room, in seconds.
    pub cpu_seconds: Option<f64>,
    /// How the program ends because of this stay.
    #[serde(skip)]
    pub exit: Exit,
}

/// Somebody who was there.
#[derive(Clone, Debug, Serialize)]
pub struct ParticipantReport {
    /// The engine's name for them.
    pub id: u32,
    /// Their user id.
    pub user: String,
    /// What to show.
    pub display_name: String,
    /// The folder that holds their recordings.
    pub folder: String,
    /// Seconds after media flowed at which they were there; 0 for who was there before.
    pub joined_s: f64,
    /// Seconds after media flowed at which they left; null for who stayed longer than this side.
    pub left_s: Option<f64>,
    /// How long they were there with this side: recordings are as long.
    pub there_s: f64,
    /// Times that they became the active speaker.
    pub spoke: u32,
    /// What was written.
    pub recordings: TrackRecordings,
    /// Their last figures.
    pub stats: ParticipantStats,
}

/// Files of a participant.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TrackRecordings {
    /// Their microphone.
    pub audio: Option<PathBuf>,
    /// Their camera.
    pub video: Option<PathBuf>,
    /// Their screen, from when they shared it first.
    pub screen: Option<PathBuf>,
}

impl ParticipantReport {
    /// Somebody who is there from now on.
    pub fn new(participant: &RoomParticipant, folder: String, joined_s: f64) -> Self {
        Self {
            id: participant.id,
            user: participant.user.clone(),
            display_name: participant.display_name.clone(),
            folder,
            joined_s,
            left_s: None,
            there_s: 0.0,
            spoke: 0,
            recordings: TrackRecordings::default(),
            stats: ParticipantStats::default(),
        }
    }
}

/// All participants together, as if they were one: for figures over time.
pub fn as_call(room: &RoomStats) -> CallStats {
    let mut stats = CallStats::default();
    stats.age = room.age;
    stats.transport = room.transport.clone();
    stats.outbound_audio = room.outbound_audio.clone();
    stats.outbound_video = room.outbound_camera.clone();
    stats.outbound_video.bytes_sent += room.outbound_screen.bytes_sent;
    stats.outbound_video.frames_encoded += room.outbound_screen.frames_encoded;
    stats.inbound_audio = room.inbound_audio.clone();
    stats.inbound_video = room.inbound_video.clone();
    for participant in &room.participants {
        let audio = &participant.audio;
        let sum = &mut stats.inbound_audio;
        sum.total_samples_received += audio.total_samples_received;
        sum.concealed_samples += audio.concealed_samples;
        sum.jitter_buffer_target_delay = sum.jitter_buffer_target_delay.max(audio.jitter_buffer_target_delay);
        sum.audio_level = sum.audio_level.max(audio.audio_level);
        for video in [&participant.camera, &participant.screen] {
            stats.inbound_video.frames_decoded += video.frames_decoded;
        }
    }
    stats
}
