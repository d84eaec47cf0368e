//! Tracks: what this side publishes and what it receives of each participant. They belong to participants and outlive routes.
//!
//! [`LocalMedia`] feeds whatever routes are attached; [`RemoteAudio`] and [`RemoteVideo`] take packets from whatever route
//! they came by. Calls and rooms are made of these; the handles that an application holds are in [`handles`].

mod handles;
mod local;
#[cfg(feature = "video")]
mod local_video;
mod remote_audio;
#[cfg(feature = "video")]
mod remote_video;
mod report;
mod slot_follower;

pub(crate) use handles::Changed;
pub(crate) use local::{ALL_LAYERS, LocalMedia};
pub(crate) use remote_audio::RemoteAudio;
#[cfg(all(test, feature = "video"))]
pub(crate) use remote_video::Size;
#[cfg(feature = "video")]
pub(crate) use remote_video::{KeyFrameRequest, RemoteVideo, Wish};
pub(crate) use report::{Reporter, forward_audio_events};

pub use handles::{AttachedSink, LocalAudioTrack, RemoteAudioTrack, RemoteTrack, TrackKind};
#[cfg(feature = "video")]
pub use handles::{LocalVideoTrack, RemoteVideoTrack};
pub use report::MediaEvent;

/// Whether a packet was the first of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum First {
    Yes,
    No,
}
