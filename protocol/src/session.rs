//! Signing in, resuming, and who is there.

use crate::{
    call::{AnnouncedRole, MediaState},
    id::{CallId, DeviceId, Epoch, SessionId, UserId},
    room::RoomSnapshot,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first request on every connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Who signs in.
    pub credential: Credential,
    /// This installation.
    pub device: DeviceId,
    /// Which client this is, for logs.
    pub client: ClientInfo,
    /// The session to go on with, after a broken connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// How a user proves who they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Credential {
    /// A JWT (HS256 or EdDSA) minted by the application's backend: `sub` is the user id, `name` what to show.
    Token {
        /// The token, in compact form.
        token: String,
    },
    /// A name of one's own choosing, where the server allows guests.
    Guest {
        /// The user id to be known by.
        name: UserId,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token { .. } => f.write_str("Token(redacted)"),
            Self::Guest { name } => write!(f, "Guest({name})"),
        }
    }
}

/// A client's name and version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClientInfo {
    /// Like `halloo-engine`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Like `0.1.0`.
    #[schemars(length(max = 64))]
    pub version: String,
}

/// Where to go on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Resume {
    /// From [`Welcome::session`].
    pub session: SessionId,
    /// From [`Welcome::epoch`].
    pub epoch: Epoch,
    /// The `seq` of the last event seen, 0 for none.
    pub last_seq: u64,
}

/// The reply to [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The session: keep it for [`Resume`].
    pub session: SessionId,
    /// The server's epoch: keep it for [`Resume`].
    pub epoch: Epoch,
    /// True: missed events follow, numbered on from `last_seq`. False: this is a new session, numbered from 1; `calls` is all
    /// the server knows, and a client in a call that is not among them announces it.
    pub resumed: bool,
    /// Who signed in.
    pub user: UserId,
    /// What others are shown.
    pub display_name: String,
    /// Servers for ICE, to be used until the session ends.
    pub ice_servers: Vec<IceServer>,
    /// What the server holds a client to.
    pub limits: Limits,
    /// Calls this device is part of or that ring it.
    pub calls: Vec<CallSnapshot>,
    /// Rooms this device is in, with `resumed` false; media may well have gone on. A room that a client does not want any
    /// more it leaves; one that is missing here it joins again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<RoomSnapshot>,
}

/// A STUN or TURN server (W3C `RTCIceServer`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Limits in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes in one message.
    pub max_message_bytes: u32,
    /// Sustained messages per second.
    pub messages_per_second: u32,
    /// How long a call rings.
    pub ring_timeout_ms: u64,
    /// How often the server pings.
    pub ping_interval_ms: u64,
    /// How long a session survives without a connection.
    pub resume_window_ms: u64,
}

/// A call as a snapshot shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CallSnapshot {
    /// The call.
    pub call: CallId,
    /// The other side.
    pub peer: UserId,
    /// Which side this device is.
    pub role: AnnouncedRole,
    /// How far it got.
    pub state: SnapshotState,
    /// The peer's media state.
    pub peer_media: MediaState,
}

/// How far a call got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It rings.
    Ringing,
    /// It was answered.
    Active,
}

/// Asks for presence now and for `presence` events from now on; replaces an earlier watch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WatchPresence {
    /// These users (at most 1,000), or, absent, everyone the server lets this user see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<UserId>>,
}

/// Whether a user can be called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// What to show.
    pub display_name: String,
    /// Whether a device of theirs is signed in.
    pub online: bool,
    /// Whether they are in a call.
    pub in_call: bool,
}
