//! The messages between Halloo clients and the signaling server: version 1, WebSocket subprotocol [`SUBPROTOCOL`].
//!
//! A client sends [`Request`]s, each with an id of its own, and gets exactly one [`Reply`] to each. The server sends
//! [`Event`]s, numbered without a gap within a session, so that a client which lost its connection resumes from the last
//! one it saw. All of it is JSON text, one message per WebSocket text frame. Unknown fields are ignored; a request of
//! unknown type gets an error reply.
//!
//! The JSON Schema in `schema/` and the web client's TypeScript types are generated from these types; a test holds them
//! to it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod call;
mod envelope;
mod error;
mod id;
mod room;
mod schema;
mod session;

pub use call::{
    Announce, AnnouncedRole, Answer, Answered, Candidate, CandidateFrom, Description, EndReason, Ended, IncomingCall,
    Invite, MediaState, PeerReach, SdpKind, VideoState,
};
pub use envelope::{
    ClientMessage, Event, NumberedEvent, ParseError, Reply, ReplyBody, ReplyResult, Request, ServerMessage,
    parse_client_message,
};
pub use error::{CloseCode, ErrorBody, ErrorCode};
pub use id::{CallId, DeviceId, Epoch, IdError, ParticipantId, RoomId, SessionId, UserId};
pub use room::{
    JoinRoom, LayersWanted, LeaveReason, Moderate, Moderation, Participant, Role, RoomGrants, RoomJoined, RoomLimits,
    RoomMedia, RoomSnapshot, RoomState, Shown, SlotShows, SlotsChanged, SourceKind, SourceOf, SourceState, Subscribe,
    TileSize,
};
pub use schema::schema;
pub use session::{
    CallSnapshot, ClientInfo, Credential, Hello, IceServer, Limits, Presence, Resume, SnapshotState, WatchPresence,
    Welcome,
};

/// The WebSocket subprotocol that names this version. A server that offers no common one refuses the upgrade.
pub const SUBPROTOCOL: &str = "halloo.v1";

/// The largest message, in bytes of UTF-8, in either direction.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The largest SDP, in bytes: leaves room for JSON escapes within [`MAX_MESSAGE_BYTES`].
pub const MAX_SDP_BYTES: usize = 48 * 1024;
