//! One call: invitation, ringing, answer, candidates, media state, end.
//!
//! The caller's offer travels with the invitation. A callee's device sends neither SDP nor candidates before its user
//! answers, so that ringing tells nobody its address.

use crate::id::{CallId, DeviceId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Calls somebody: all of their devices ring. Replied to with `ok` once at least one device was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Invite {
    /// Drawn by the caller.
    pub call: CallId,
    /// Whom to call.
    pub to: UserId,
    /// What the caller starts with.
    pub media: MediaState,
    /// The caller's SDP offer (RFC 9429), without candidates or with some.
    #[schemars(length(max = 49152))]
    pub sdp: String,
}

/// Takes a call. The first device to answer wins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// Which call.
    pub call: CallId,
    /// What the callee starts with.
    pub media: MediaState,
    /// The callee's SDP answer.
    #[schemars(length(max = 49152))]
    pub sdp: String,
}

/// A trickled ICE candidate (W3C `RTCIceCandidateInit`, RFC 8838).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The candidate line without `a=`; empty for the end of candidates.
    #[schemars(length(max = 1024))]
    pub candidate: String,
    /// The media section's mid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_mid: Option<String>,
    /// The media section's index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdp_m_line_index: Option<u16>,
    /// The ICE generation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// A candidate and its call, in either direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CandidateFrom {
    /// Which call.
    pub call: CallId,
    /// The candidate.
    pub candidate: Candidate,
}

/// A further offer or answer within an answered call: ICE restart, or a new route. Opaque to the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// Which call.
    pub call: CallId,
    /// Offer or answer.
    pub kind: SdpKind,
    /// The SDP.
    #[schemars(length(max = 49152))]
    pub sdp: String,
}

/// Offer or answer (RFC 3264).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SdpKind {
    /// Proposes.
    Offer,
    /// Accepts.
    Answer,
}

/// What a participant sends at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MediaState {
    /// Whether the microphone is muted.
    pub audio_muted: bool,
    /// The picture.
    pub video: VideoState,
}

impl Default for MediaState {
    fn default() -> Self {
        Self { audio_muted: false, video: VideoState::Off }
    }
}

/// What the picture shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoState {
    /// No picture.
    Off,
    /// A camera, a file or the like.
    Camera,
    /// A shared screen.
    Screen,
}

/// Tells a server that lost its memory of a call that goes on: both sides announce it, and it is whole again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Announce {
    /// Which call.
    pub call: CallId,
    /// The other side.
    pub peer: UserId,
    /// Which side this device is.
    pub role: AnnouncedRole,
    /// What this device sends.
    pub media: MediaState,
}

/// A side of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnnouncedRole {
    /// Invited.
    Caller,
    /// Was invited.
    Callee,
}

/// Event: somebody calls. The device shows it and sends `ringing`, then `answer`, `decline` or `busy`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IncomingCall {
    /// Which call.
    pub call: CallId,
    /// Who calls.
    pub from: UserId,
    /// What to show.
    pub from_name: String,
    /// What the caller starts with.
    pub media: MediaState,
    /// The caller's SDP offer.
    pub sdp: String,
    /// How long it will ring.
    pub ring_timeout_ms: u64,
}

/// Event, to the caller: the call was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// Which call.
    pub call: CallId,
    /// The device that took it.
    pub by_device: DeviceId,
    /// What the callee starts with.
    pub media: MediaState,
    /// The callee's SDP answer.
    pub sdp: String,
}

/// Event: the call is over for this device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// Which call.
    pub call: CallId,
    /// Why.
    pub reason: EndReason,
}

/// Why a call ended. Unknown reasons read as `failed`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// A side hung up after it was answered.
    HungUp,
    /// The callee declined.
    Declined,
    /// Every device of the callee was busy.
    Busy,
    /// The caller gave up before it was answered.
    Cancelled,
    /// Nobody answered in time.
    NoAnswer,
    /// Another device of this user answered.
    AnsweredElsewhere,
    /// Another device of this user declined.
    DeclinedElsewhere,
    /// The other side's devices all went away.
    PeerLost,
    /// A media connection could not be made or was refused; also a reason that this version does not know.
    #[serde(other)]
    Failed,
}

/// Whether the server can reach the other side's device at the moment. Media may go on without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerReach {
    /// Its signaling connection closed or went silent.
    Lost,
    /// It is connected (again).
    Back,
}
