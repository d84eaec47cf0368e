//! Handles on tracks. They are cheap to clone and harmless once the call is over.

use super::{LocalMedia, RemoteAudio};
#[cfg(feature = "video")]
use super::{RemoteVideo, remote_video::Size};
use crate::media::{AudioSink, AudioSource, MediaError};
#[cfg(feature = "video")]
use crate::{
    media::{VideoSink, VideoSource},
    video::Content,
};
#[cfg(feature = "video")]
use halloo_protocol::SourceKind;
use serde::Serialize;
use std::{fmt, sync::Arc};

/// What a track carries. With the participant it names the track.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrackKind {
    /// Sound of a microphone or what stands for one.
    Microphone,
    /// Pictures of a camera or what stands for one.
    Camera,
    /// Pictures of a screen, in a room. In a call between two a screen takes the camera's place.
    Screen,
}

/// Called when something about a track changed that others are to hear of.
#[derive(Clone)]
pub(crate) struct Changed(Arc<dyn Fn() + Send + Sync>);

impl Changed {
    pub(crate) fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changed")
    }
}

/// The sound this side sends.
#[derive(Clone, Debug)]
pub struct LocalAudioTrack {
    media: Arc<LocalMedia>,
    changed: Changed,
}

impl LocalAudioTrack {
    pub(crate) fn new(media: Arc<LocalMedia>, changed: Changed) -> Self {
        Self { media, changed }
    }

    /// Sends silence, and tells the others; the source is still read, so that it does not fall behind.
    pub fn mute(&self) {
        self.set(true);
    }

    /// Sends sound again.
    pub fn unmute(&self) {
        self.set(false);
    }

    /// Whether it is muted.
    pub fn is_muted(&self) -> bool {
        self.media.is_muted()
    }

    /// Goes on with another source.
    pub fn replace(&self, source: Box<dyn AudioSource>) {
        self.media.replace_audio(source);
    }

    /// How loud the source is now, 0 to 1, also while muted.
    pub fn level(&self) -> f32 {
        self.media.level()
    }

    fn set(&self, muted: bool) {
        self.media.set_muted(muted);
        self.changed.tell();
    }
}

/// The pictures this side sends.
#[cfg(feature = "video")]
#[derive(Clone, Debug)]
pub struct LocalVideoTrack {
    media: Arc<LocalMedia>,
    source: SourceKind,
    changed: Changed,
}

#[cfg(feature = "video")]
impl LocalVideoTrack {
    pub(crate) fn new(media: Arc<LocalMedia>, source: SourceKind, changed: Changed) -> Self {
        Self { media, source, changed }
    }

    /// Stops sending pictures, and tells the others.
    pub fn disable(&self) {
        self.set(false);
    }

    /// Sends pictures again.
    pub fn enable(&self) {
        self.set(true);
    }

    /// Goes on with another source.
    pub fn replace(&mut self, source: Box<dyn VideoSource>, content: Content) {
        self.media.replace_video(self.source, source, content);
        self.changed.tell();
    }

    fn set(&self, enabled: bool) {
        self.media.set_video_enabled(self.source, enabled);
        self.changed.tell();
    }
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
    /// Whose it is: a user id.
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
            Self::Video(track) => track.kind(),
        }
    }
}

/// Another participant's sound.
#[derive(Clone, Debug)]
pub struct RemoteAudioTrack {
    track: Arc<RemoteAudio>,
    participant: Arc<str>,
}

impl RemoteAudioTrack {
    pub(crate) fn new(track: Arc<RemoteAudio>, participant: Arc<str>) -> Self {
        Self { track, participant }
    }

    /// Whose it is: a user id.
    pub fn participant(&self) -> &str {
        &self.participant
    }

    /// Hands the sound to `sink`, a block every 10 ms from now on, silence included.
    ///
    /// # Errors
    /// Where the call is over or the participant has left; the sink is finished then.
    pub fn attach(&self, sink: Box<dyn AudioSink>) -> Result<AttachedSink, MediaError> {
        let id = self.track.attach(sink).map_err(|e| MediaError::new(e.to_string()))?;
        Ok(AttachedSink(Attached::Audio(Arc::clone(&self.track), id)))
    }

    /// How loud it is now, 0 to 1.
    pub fn level(&self) -> f32 {
        self.track.level()
    }

    /// How loud it is in the mix for the speaker: 0 to 4, 1 is as it was sent. Sinks hear it unchanged.
    pub fn set_volume(&self, volume: f32) {
        // Over, or far behind: there is nothing to be heard.
        let _ = self.track.set_volume(volume);
    }
}

/// Another participant's pictures.
#[cfg(feature = "video")]
#[derive(Clone, Debug)]
pub struct RemoteVideoTrack {
    track: Arc<RemoteVideo>,
    participant: Arc<str>,
    kind: TrackKind,
}

#[cfg(feature = "video")]
impl RemoteVideoTrack {
    pub(crate) fn new(track: Arc<RemoteVideo>, participant: Arc<str>, kind: TrackKind) -> Self {
        Self { track, participant, kind }
    }

    /// Whose it is: a user id.
    pub fn participant(&self) -> &str {
        &self.participant
    }

    /// What it shows.
    pub fn kind(&self) -> TrackKind {
        self.kind
    }

    /// Hands each decoded picture to `sink` from now on. In a room, pictures that no sink takes are not received at all.
    ///
    /// # Errors
    /// Where the call is over or the participant has left; the sink is dropped then.
    pub fn attach(&self, sink: Box<dyn VideoSink>) -> Result<AttachedSink, MediaError> {
        self.attach_sized(sink, Size::FULL)
    }

    /// As [`RemoteVideoTrack::attach`], for a sink that shows no more than this many pixels: a room then sends no more.
    ///
    /// # Errors
    /// As [`RemoteVideoTrack::attach`].
    pub fn attach_at(&self, sink: Box<dyn VideoSink>, width: u32, height: u32) -> Result<AttachedSink, MediaError> {
        self.attach_sized(sink, Size::of(width, height))
    }

    fn attach_sized(&self, sink: Box<dyn VideoSink>, size: Size) -> Result<AttachedSink, MediaError> {
        let id = self.track.attach(sink, size)?;
        Ok(AttachedSink(Attached::Video(Arc::clone(&self.track), id)))
    }

    /// In a room: whether this goes before other pictures when bandwidth is short.
    pub fn set_pinned(&self, pinned: bool) {
        self.track.set_pinned(pinned);
    }
}

/// A sink on a track. Dropping this leaves it attached, until the track ends.
#[derive(Debug)]
pub struct AttachedSink(Attached);

#[derive(Debug)]
enum Attached {
    Audio(Arc<RemoteAudio>, crate::audio::SinkId),
    #[cfg(feature = "video")]
    Video(Arc<RemoteVideo>, crate::video::SinkId),
}

impl AttachedSink {
    /// Detaches and finishes the sink.
    pub fn detach(self) {
        match self.0 {
            Attached::Audio(track, id) => {
                // Where the track has ended its sinks are finished.
                let _ = track.detach(id);
            }
            #[cfg(feature = "video")]
            Attached::Video(track, id) => track.detach(id),
        }
    }

    /// The sink shows this many pixels from now on: a room then sends no more. Nothing where it takes sound.
    pub fn resize(&self, width: u32, height: u32) {
        #[cfg(feature = "video")]
        if let Attached::Video(track, id) = &self.0 {
            track.resize(*id, Size::of(width, height));
        }
        #[cfg(not(feature = "video"))]
        let _ = (width, height);
    }
}
