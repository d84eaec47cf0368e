//! Halloo's embeddable client engine: voice and video calls for an application of one's own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use halloo_engine::{CallOptions, Engine, audio::{AudioSettings, Repeat, WavSink, WavSource}};
//!
//! let engine = Engine::builder().server("ws://127.0.0.1:8080").guest("alice").build().await?;
//! let call = engine.call("bob", CallOptions::default()).await?;
//! call.publish_audio(Box::new(WavSource::open("hello.wav", Repeat::Once)?), AudioSettings::default());
//! call.remote_audio().attach(Box::new(WavSink::create("received.wav")?))?;
//! println!("{:?}", call.ended().await.reason);
//! # Ok(()) }
//! ```
//!
//! An [`Engine`] is one signed-in user on one device. It makes ([`Engine::call`]) and takes ([`Engine::incoming`]) calls, and
//! joins rooms ([`Engine::join`]); a [`Call`] or a [`Room`] publishes sources, has remote tracks to attach sinks to, events and statistics. Sources and sinks are traits
//! ([`media`]): devices, files, test pattern and screen are implementations, and so is what an application brings.
//!
//! Features: `video` and `devices` (on by default), `window`, `screen`, `camera`. Without any, this is an audio-only engine
//! that needs cmake and a C compiler to build, and nothing else.

#![warn(missing_docs)]

pub mod audio;
#[cfg(any(feature = "video", fuzzing))]
mod av1;
mod call;
pub mod clock;
mod engine;
mod error;
mod event_queue;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod load;
pub mod media;
mod room;
mod route;
mod signaling;
mod tracks;
#[cfg(feature = "video")]
pub mod video;
mod wire;

pub use call::{
    AudioReceiveStats, AudioSendStats, Call, CallEnded, CallEvent, CallEvents, CallOptions, CallStats, CandidateInfo,
    Direction, IncomingCall, TransportStats, VideoReceiveStats, VideoSendStats,
};
pub use engine::{Engine, EngineBuilder, IncomingCalls};
pub use error::{BuildError, CallError, JoinError};
pub use halloo_protocol::{
    EndReason, ErrorCode, LeaveReason, MediaState, Presence, Role, RoomMedia, SourceState, VideoState,
};
pub use halloo_transport::{Bitrate, Timestamp};
pub use room::{
    EndedBy, JoinOptions, ParticipantStats, Room, RoomEnded, RoomEvent, RoomEvents, RoomParticipant, RoomStats,
};
pub use signaling::Fingerprint;
pub use tracks::{AttachedSink, LocalAudioTrack, MediaEvent, RemoteAudioTrack, RemoteTrack, TrackKind};
#[cfg(feature = "video")]
pub use tracks::{LocalVideoTrack, RemoteVideoTrack};
