//! Handles on a call's tracks. They are cheap to clone and harmless once the call is over.

use super::{CallMedia, Command};
use crate::media::{AudioSink, AudioSource, MediaError};
use halloo_protocol::MediaState;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::mpsc;

#[cfg(feature = "video")]
use crate::{
    media::{VideoSink, VideoSource},
    video::{Content, VideoSettings},
};
#[cfg(feature = "video")]
use halloo_protocol::VideoState;

/// What a track carries. With the participant it names the track.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrackKind {
    /// Sound of a microphone or what stands for one.
    Microphone,
    /// Pictures of a camera or what stands for one.
    Camera,
}

/// The sound this side sends.
#[derive(Clone, Debug)]
pub struct LocalAudioTrack {
    media: Arc<CallMedia>,
    commands: mpsc::Sender<Command>,
}

impl LocalAudioTrack {
    pub(super) fn new(media: Arc<CallMedia>, commands: mpsc::Sender<Command>) -> Self {
        Self { media, commands }
    }

    /// Sends silence, and tells the other side; the source is still read, so that it does not fall behind.
    pub fn mute(&self) {
        self.set(true);
    }

    /// Sends sound again.
    pub fn unmute(&self) {
        self.set(false);
    }

    /// Whether it is muted.
    pub fn is_muted(&self) -> bool {
        self.media.local_state().audio_muted
    }

    /// Goes on with another source.
    pub fn replace(&self, source: Box<dyn AudioSource>) {
        self.media.replace_audio(source);
    }

    /// How loud the source is now, 0 to 1, also while muted.
    pub fn level(&self) -> f32 {
        self.media.local_level()
    }

    fn set(&self, muted: bool) {
        self.media.set_muted(muted);
        tell(&self.commands, self.media.local_state());
    }
}

/// The pictures this side sends.
#[cfg(feature = "video")]
#[derive(Clone, Debug)]
pub struct LocalVideoTrack {
    media: Arc<CallMedia>,
    commands: mpsc::Sender<Command>,
    shows: VideoState,
}

#[cfg(feature = "video")]
impl LocalVideoTrack {
    pub(super) fn new(media: Arc<CallMedia>, commands: mpsc::Sender<Command>, settings: &VideoSettings) -> Self {
        let shows = shows(settings.content);
        Self { media, commands, shows }
    }

    /// Stops sending pictures, and tells the other side.
    pub fn disable(&self) {
        self.set(VideoState::Off);
    }

    /// Sends pictures again.
    pub fn enable(&self) {
        self.set(self.shows);
    }

    /// Goes on with another source.
    pub fn replace(&mut self, source: Box<dyn VideoSource>, content: Content) {
        self.shows = shows(content);
        self.media.replace_video(source, content);
        tell(&self.commands, self.media.local_state());
    }

    fn set(&self, state: VideoState) {
        self.media.set_video_state(state);
        tell(&self.commands, self.media.local_state());
    }
}

#[cfg(feature = "video")]
pub(super) fn shows(content: Content) -> VideoState {
    match content {
        Content::Screen => VideoState::Screen,
        Content::Camera => VideoState::Camera,
    }
}

fn tell(commands: &mpsc::Sender<Command>, state: MediaState) {
    let _ = commands.try_send(Command::Media(state));
}

/// A track of another participant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RemoteTrack {
    /// Sound.
    Audio(RemoteAudioTrack),
    /// Pictures.
    #[cfg(feature = "video")]
    Video(RemoteVideoTrack),
}

impl RemoteTrack {
    /// Whose it is.
    pub fn participant(&self) -> &str {
        match self {
            Self::Audio(track) => track.participant(),
            #[cfg(feature = "video")]
            Self::Video(track) => track.participant(),
        }
    }

    /// What it carries.
    pub fn kind(&self) -> TrackKind {
        match self {
            Self::Audio(_) => TrackKind::Microphone,
            #[cfg(feature = "video")]
            Self::Video(_) => TrackKind::Camera,
        }
    }
}

/// Another participant's sound.
#[derive(Clone, Debug)]
pub struct RemoteAudioTrack {
    media: Arc<CallMedia>,
}

impl RemoteAudioTrack {
    pub(super) fn new(media: Arc<CallMedia>) -> Self {
        Self { media }
    }

    /// Whose it is.
    pub fn participant(&self) -> &str {
        self.media.peer()
    }

    /// Hands the sound to `sink`, a block every 10 ms from now on, silence included.
    ///
    /// # Errors
    /// Where the call is over; the sink is finished then.
    pub fn attach(&self, sink: Box<dyn AudioSink>) -> Result<AttachedSink, MediaError> {
        let id = self.media.attach_audio(sink)?;
        Ok(AttachedSink { media: self.media.clone(), id: AttachedId::Audio(id) })
    }

    /// How loud it is now, 0 to 1.
    pub fn level(&self) -> f32 {
        self.media.remote_level()
    }
}

/// Another participant's pictures.
#[cfg(feature = "video")]
#[derive(Clone, Debug)]
pub struct RemoteVideoTrack {
    media: Arc<CallMedia>,
}

#[cfg(feature = "video")]
impl RemoteVideoTrack {
    pub(super) fn new(media: Arc<CallMedia>) -> Self {
        Self { media }
    }

    /// Whose it is.
    pub fn participant(&self) -> &str {
        self.media.peer()
    }

    /// Hands each decoded picture to `sink` from now on.
    ///
    /// # Errors
    /// Where the call is over; the sink is finished then.
    pub fn attach(&self, sink: Box<dyn VideoSink>) -> Result<AttachedSink, MediaError> {
        let id = self.media.attach_video(sink)?;
        Ok(AttachedSink { media: self.media.clone(), id: AttachedId::Video(id) })
    }
}

/// A sink on a track. Dropping this leaves it attached, until the call ends.
#[derive(Debug)]
pub struct AttachedSink {
    media: Arc<CallMedia>,
    id: AttachedId,
}

#[derive(Debug)]
enum AttachedId {
    Audio(crate::audio::SinkId),
    #[cfg(feature = "video")]
    Video(crate::video::SinkId),
}

impl AttachedSink {
    /// Detaches and finishes the sink.
    pub fn detach(self) {
        match self.id {
            AttachedId::Audio(id) => self.media.detach_audio(id),
            #[cfg(feature = "video")]
            AttachedId::Video(id) => self.media.detach_video(id),
        }
    }
}
