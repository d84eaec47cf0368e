//! A room's figures as a typed snapshot, named after the W3C's WebRTC statistics.
//!
//! What the network counts is counted by slot, for the connection as a whole; what was received of a participant, and what
//! became of it, is counted by participant.

use super::{
    members::MemberKey,
    tracks::{MemberTracks, RoomTracks},
};
use crate::{
    call::{AudioReceiveStats, AudioSendStats, TransportStats, VideoReceiveStats, VideoSendStats},
    clock,
    wire::WireStats,
};
#[cfg(feature = "video")]
use halloo_protocol::SourceKind;
use halloo_transport::{Timestamp, session::MediaKind};
use serde::Serialize;

/// Everything about a stay in a room. Counters of the connection begin anew with each connection.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct RoomStats {
    /// Seconds since the room was joined.
    pub age: f64,
    /// The path to the forwarding unit.
    pub transport: TransportStats,
    /// The microphone.
    pub outbound_audio: AudioSendStats,
    /// The camera.
    pub outbound_camera: VideoSendStats,
    /// The screen.
    pub outbound_screen: VideoSendStats,
    /// All slots for sound together: packets, loss, jitter; the rest is by participant.
    pub inbound_audio: AudioReceiveStats,
    /// All slots for pictures together: packets, loss, repair; the rest is by participant.
    pub inbound_video: VideoReceiveStats,
    /// Packets of sources that nobody is known to have.
    pub packets_unassigned: u64,
    /// Everybody else who is there.
    pub participants: Vec<ParticipantStats>,
}

/// What was received of somebody. Losses are known by slot only: see [`RoomStats`].
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct ParticipantStats {
    /// [`crate::RoomParticipant::id`].
    pub id: u32,
    /// Their user id.
    pub user: String,
    /// Their microphone.
    pub audio: AudioReceiveStats,
    /// Their camera.
    pub camera: VideoReceiveStats,
    /// Their screen.
    pub screen: VideoReceiveStats,
}

impl RoomStats {
    pub(super) async fn collect(tracks: &RoomTracks, started_at: Timestamp) -> Self {
        let network = match tracks.wire() {
            Some(wire) => wire.stats().await,
            None => WireStats::default(),
        };
        let mut stats = Self {
            age: clock::now().since(started_at).as_secs_f64(),
            transport: TransportStats::read(&network),
            packets_unassigned: tracks.strays(),
            participants: tracks.all().iter().map(|(key, member)| ParticipantStats::of(*key, member)).collect(),
            ..Self::default()
        };
        // Of pictures the camera's stream comes first, as its section does.
        let mut cameras = 0;
        for (_, stream) in &network.session.send {
            match stream.kind {
                MediaKind::Audio => stats.outbound_audio.add(&stream.stats),
                MediaKind::Video if cameras == 0 => {
                    cameras += 1;
                    stats.outbound_camera.add(&stream.stats);
                }
                MediaKind::Video => stats.outbound_screen.add(&stream.stats),
            }
        }
        for (_, stream) in &network.session.recv {
            match stream.kind {
                MediaKind::Audio => stats.inbound_audio.add(&stream.stats),
                MediaKind::Video => stats.inbound_video.add(&stream.stats),
            }
        }
        if let Some((_, published)) = tracks.local().audio_stats().published.first() {
            stats.outbound_audio.audio_level = published.audio_level;
        }
        #[cfg(feature = "video")]
        {
            stats.outbound_camera.read(&tracks.local().video_stats(SourceKind::Camera));
            stats.outbound_screen.read(&tracks.local().video_stats(SourceKind::Screen));
        }
        stats
    }
}

impl ParticipantStats {
    fn of(key: MemberKey, member: &MemberTracks) -> Self {
        let mut stats = Self { id: key.0, user: member.participant().user.to_string(), ..Self::default() };
        let received = member.microphone().received();
        (stats.audio.packets_received, stats.audio.bytes_received) = (received.packets, received.bytes);
        if let Some(remote) = member.microphone().stats() {
            stats.audio.read(&remote);
        }
        #[cfg(feature = "video")]
        for (kind, video) in [(SourceKind::Camera, &mut stats.camera), (SourceKind::Screen, &mut stats.screen)] {
            let Some(track) = member.video(kind) else { continue };
            let received = track.received();
            (video.packets_received, video.bytes_received) = (received.packets, received.bytes);
            video.read(&track.stats());
        }
        stats
    }
}
