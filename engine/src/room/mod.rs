//! A room: many participants, one connection to a forwarding unit, tracks by participant.
//!
//! ```text
//!  application -- Room --commands--> actor: RoomMachine (pure) --> signaling, wire
//!                  |                    |
//!                  +--- RoomTracks <----+   who is there; packets by CSRC; what is published
//! ```

mod actor;
mod csrc_map;
mod events;
mod machine;
mod members;
mod stats;
mod tracks;
mod wishes;

pub(crate) use actor::{Command, Connect, Progress, RoomActor, RoomInput};
pub(crate) use machine::RoomMachine;
pub(crate) use tracks::RoomTracks;

pub use events::{RoomEnded, RoomEvent, RoomEvents, RoomParticipant};
pub use machine::EndedBy;
pub use stats::{ParticipantStats, RoomStats};

#[cfg(feature = "devices")]
use crate::audio::Playout;
use crate::{
    audio::AudioSettings,
    error::{CallError, JoinError},
    event_queue::EventQueue,
    media::AudioSource,
    tracks::{Changed, LocalAudioTrack, LocalMedia, RemoteAudioTrack, TrackKind},
};
#[cfg(feature = "video")]
use crate::{
    media::VideoSource,
    tracks::{LocalVideoTrack, RemoteVideoTrack},
    video::{Content, VideoSettings},
};
use halloo_protocol::{
    ErrorBody, Moderate, Moderation, Request, RoomId, RoomMedia, SourceKind, SourceOf, SourceState, TileSize,
};
use halloo_transport::{Bitrate, Timestamp};
use members::MemberKey;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// How a room is joined.
#[derive(Debug)]
pub struct JoinOptions {
    /// A token that grants this room, where the one that the engine signed in with does not. Default: none.
    pub token: Option<String>,
    /// Where everybody's sound goes, beside attached sinks. Default: nowhere.
    #[cfg(feature = "devices")]
    pub playout: Playout,
    /// The most that all published media together may use. Default: 4 Mbit/s.
    pub max_bitrate: Bitrate,
    /// How many are heard at once, 1 to 7. Default: 3.
    pub audio_slots: u8,
    /// How many pictures can be received at once, 0 to 25; with 0 none can be sent either. Default: 9.
    pub video_slots: u8,
    /// Pixels (width, height) at which pictures of whoever speaks are received beyond those that sinks take. Default: not at
    /// all.
    pub follow: Option<(u32, u32)>,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            token: None,
            #[cfg(feature = "devices")]
            playout: Playout::None,
            max_bitrate: Bitrate::from_kbps(4_000),
            audio_slots: 3,
            video_slots: 9,
            follow: None,
        }
    }
}

/// A stay in a room. Dropping it leaves; [`Room::leave`] also waits until that is done.
///
/// Sources published before media flows are read from the moment it does, so that a file starts at its beginning. Everybody's
/// sound is received; pictures are received from when a sink is attached to their track.
#[derive(Debug)]
pub struct Room {
    pub(crate) name: RoomId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) tracks: Arc<RoomTracks>,
    pub(crate) events: EventQueue<RoomEvent>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Keeps the engine's runtime and its connection while a room needs them.
    pub(crate) engine: Arc<crate::engine::Inner>,
    pub(crate) started_at: Timestamp,
}

impl Room {
    /// The room's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Sends sound from `source`, in place of what was sent before.
    pub fn publish_audio(&self, source: Box<dyn AudioSource>, settings: AudioSettings) -> LocalAudioTrack {
        self.tracks.local().publish_audio(source, settings);
        let changed = self.changed();
        changed.tell();
        LocalAudioTrack::new(Arc::clone(self.tracks.local()), changed)
    }

    /// Sends pictures from `source`: as the screen where its content is one, else as the camera, in place of what was sent as
    /// that before. Both may be sent at once. A large picture is sent in up to three sizes, of which everybody gets what they
    /// show and what their path carries; what nobody receives is not encoded.
    #[cfg(feature = "video")]
    pub fn publish_video(&self, source: Box<dyn VideoSource>, settings: VideoSettings) -> LocalVideoTrack {
        let kind = match settings.content {
            Content::Camera => SourceKind::Camera,
            Content::Screen => SourceKind::Screen,
        };
        self.tracks.local().publish_video(kind, source, settings);
        let changed = self.changed();
        changed.tell();
        LocalVideoTrack::new(Arc::clone(self.tracks.local()), kind, changed)
    }

    /// Everybody else who is there, in the order in which this side learned of them.
    pub fn participants(&self) -> Vec<RoomParticipant> {
        let all = self.tracks.all().into_iter();
        all.map(|(key, member)| RoomParticipant::new(key.0, &member.participant())).collect()
    }

    /// The sound of a participant ([`RoomParticipant::id`]); `None` where they are gone. It is there also while nothing is
    /// published, and silent then.
    pub fn audio_of(&self, participant: u32) -> Option<RemoteAudioTrack> {
        Some(self.tracks.member(MemberKey(participant))?.audio_track())
    }

    /// The pictures of a participant's camera or screen; `None` where they are gone, or for the microphone. It is there also
    /// while nothing is published, and dark then.
    #[cfg(feature = "video")]
    pub fn video_of(&self, participant: u32, kind: TrackKind) -> Option<RemoteVideoTrack> {
        self.tracks.member(MemberKey(participant))?.video_track(source_kind(kind))
    }

    /// Receives pictures of whoever speaks at this size (width, height), beyond those that sinks take; or does not.
    pub fn follow(&self, size: Option<(u32, u32)>) {
        let _ = self.commands.try_send(Command::Follow(size.map(tile_size)));
    }

    /// Plays everybody's sound there from now on. A device that cannot be opened becomes an event.
    #[cfg(feature = "devices")]
    pub fn set_playout(&self, playout: Playout) {
        self.tracks.local().set_playout(playout);
    }

    /// What happens, in order, from the beginning.
    pub fn events(&self) -> RoomEvents {
        RoomEvents::new(&self.events)
    }

    /// Figures as of now.
    pub async fn stats(&self) -> RoomStats {
        RoomStats::collect(&self.tracks, self.started_at).await
    }

    /// Mutes what a participant publishes. They may unmute it. For moderators.
    ///
    /// # Errors
    /// Where the server refuses, or the participant is gone.
    pub async fn mute(&self, participant: u32, kind: TrackKind) -> Result<(), CallError> {
        let participant = self.number_of(participant)?;
        self.moderate(Moderation::Mute { source: SourceOf { participant, kind: source_kind(kind) } }).await
    }

    /// Takes a participant out. For moderators.
    ///
    /// # Errors
    /// Where the server refuses, or the participant is gone.
    pub async fn remove(&self, participant: u32) -> Result<(), CallError> {
        let participant = self.number_of(participant)?;
        self.moderate(Moderation::Remove { participant }).await
    }

    /// Lets nobody new in, or does again. For moderators.
    ///
    /// # Errors
    /// Where the server refuses.
    pub async fn lock(&self, locked: bool) -> Result<(), CallError> {
        self.moderate(Moderation::Lock { locked }).await
    }

    /// Ends the room for all. For moderators.
    ///
    /// # Errors
    /// Where the server refuses.
    pub async fn close(&self) -> Result<(), CallError> {
        self.moderate(Moderation::Close).await
    }

    /// Leaves, and waits until the server is told and every sink is finished.
    pub async fn leave(self) -> RoomEnded {
        let _ = self.commands.send(Command::Leave).await;
        self.ended().await
    }

    /// Waits until the stay is over and every sink is finished.
    pub async fn ended(&self) -> RoomEnded {
        let mut progress = self.progress.clone();
        match progress.wait_for(|p| matches!(p, Progress::Ended(_))).await.as_deref() {
            Ok(Progress::Ended(ended)) => ended.clone(),
            _ => vanished(),
        }
    }

    /// Tells the room that the network changed, so that it looks for a new path at once. The engine does not watch the network
    /// by itself yet.
    pub fn network_changed(&self) {
        self.engine.network_changed();
        let _ = self.commands.try_send(Command::NetworkChanged);
    }

    /// Waits until the server has let this side in.
    pub(crate) async fn entered(&self) -> Result<(), JoinError> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|p| *p != Progress::Entering).await;
        let ended = match reached.as_deref() {
            Ok(Progress::Ended(ended)) => ended.clone(),
            Ok(_) => return Ok(()),
            Err(_) => vanished(),
        };
        let text = ended.error.unwrap_or_else(|| format!("the room was left: {:?}", ended.reason));
        Err(match ended.code {
            Some(code) => JoinError::Refused(ErrorBody::new(code, text)),
            None => JoinError::Setup(text),
        })
    }

    async fn moderate(&self, action: Moderation) -> Result<(), CallError> {
        let moderate = Moderate { room: self.name.clone(), action: action.clone() };
        self.engine.request(Request::Moderate(moderate)).await.map_err(CallError::Refused)?;
        // What was done shows here by the time that this returns; in a room that is over nothing shows any more.
        let (done, shown) = oneshot::channel();
        if self.commands.send(Command::Moderated(action, done)).await.is_ok() {
            let _ = shown.await;
        }
        Ok(())
    }

    fn number_of(&self, participant: u32) -> Result<halloo_protocol::ParticipantId, CallError> {
        match self.tracks.member(MemberKey(participant)) {
            Some(member) => Ok(member.participant().participant),
            None => Err(CallError::Ended("this participant has left the room".to_owned())),
        }
    }

    /// Tells the others what is sent.
    fn changed(&self) -> Changed {
        let (commands, tracks) = (self.commands.clone(), Arc::clone(&self.tracks));
        Changed::new(move || {
            let _ = commands.try_send(Command::Media(published(tracks.local())));
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.commands.try_send(Command::Leave);
    }
}

/// The end a stay has when its task is gone without saying one.
fn vanished() -> RoomEnded {
    RoomEnded { reason: EndedBy::Failed, error: Some("the engine was shut down".to_owned()), code: None }
}

/// What this side publishes, as others are told.
fn published(local: &LocalMedia) -> RoomMedia {
    let microphone = match (local.has_audio(), local.is_muted()) {
        (false, _) => SourceState::Off,
        (true, true) => SourceState::Muted,
        (true, false) => SourceState::On,
    };
    #[cfg(feature = "video")]
    let video = |kind| match local.published_video(kind) {
        Some((_, true)) => SourceState::On,
        _ => SourceState::Off,
    };
    #[cfg(not(feature = "video"))]
    let video = |_| SourceState::Off;
    RoomMedia { microphone, camera: video(SourceKind::Camera), screen: video(SourceKind::Screen) }
}

fn source_kind(kind: TrackKind) -> SourceKind {
    match kind {
        TrackKind::Microphone => SourceKind::Microphone,
        TrackKind::Camera => SourceKind::Camera,
        TrackKind::Screen => SourceKind::Screen,
    }
}

pub(crate) fn tile_size((width, height): (u32, u32)) -> TileSize {
    let side = |side: u32| u16::try_from(side.max(1)).unwrap_or(u16::MAX);
    TileSize { width: side(width), height: side(height) }
}
