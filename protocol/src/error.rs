//! Errors as a stable code for programs and a sentence for people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong. Codes are stable: a client may act on them. New ones may be added; treat an unknown one as `internal`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not JSON, or a field is missing or of the wrong form.
    BadMessage,
    /// The request's `type` is not known to this server.
    UnknownType,
    /// A message or one of its fields is too large.
    TooLarge,
    /// Too many messages in a short time; `retry_after_ms` says how long to wait.
    RateLimited,
    /// A request other than `hello` came first.
    NotSignedIn,
    /// A second `hello` on the same connection.
    AlreadySignedIn,
    /// The token's form, signature, algorithm or issuer is wrong.
    TokenInvalid,
    /// The token's `exp` has passed.
    TokenExpired,
    /// The token's `nbf` has not come yet.
    TokenNotYetValid,
    /// The token is meant for another audience.
    TokenAudience,
    /// This server takes no guests from there: a token is needed.
    GuestsNotAllowed,
    /// Somebody else is signed in under this name.
    NameTaken,
    /// No such user has been seen.
    CalleeUnknown,
    /// The user is known but has no device online.
    CalleeOffline,
    /// One cannot call oneself.
    CalleeSelf,
    /// Every device of the callee is in another call.
    CalleeBusy,
    /// No such call, or this session is not part of it.
    CallUnknown,
    /// The call exists, but its state does not allow this.
    CallState,
    /// The call id is in use.
    CallExists,
    /// The callee is calling you at this moment: answer that call, whose id is in `call`.
    Glare,
    /// This session has as many calls as one may have.
    TooManyCalls,
    /// No such room, or this device is not in it.
    RoomUnknown,
    /// The token grants other rooms, or none.
    RoomNotGranted,
    /// The token grants this room, but not this: publishing that source, subscribing or moderating.
    GrantMissing,
    /// The room holds as many participants as it may, or the server as many rooms.
    RoomFull,
    /// A moderator has locked the room.
    RoomLocked,
    /// No such participant in the room.
    ParticipantUnknown,
    /// The SDP offer cannot be answered; the message says why.
    OfferRefused,
    /// This server forwards no media, or cannot at the moment.
    MediaUnavailable,
    /// The server is draining: connect again, to another or later.
    ShuttingDown,
    /// The server failed; it is in its log.
    #[serde(other)]
    Internal,
}

/// An error as replies carry it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what was attempted, on what, and what to do. English; translate by `code`.
    pub message: String,
    /// With `rate_limited`: how long to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `glare`: the call to answer instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<crate::CallId>,
}

impl ErrorBody {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, call: None }
    }
}

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorBody {}

/// Why the server closed the WebSocket (RFC 6455, section 7.4.2: 4000 to 4999 are an application's own).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
#[non_exhaustive]
pub enum CloseCode {
    /// The server goes away; resume elsewhere or later (RFC 6455).
    GoingAway = 1001,
    /// A message above the limit (RFC 6455).
    TooBig = 1009,
    /// No `hello` within five seconds.
    SignInTimeout = 4001,
    /// The `hello` was refused; its error reply came before.
    SignInRefused = 4002,
    /// The client read too slowly, and its queue was full.
    SlowReader = 4003,
    /// The same device signed in again, or the session resumed on another connection.
    Replaced = 4004,
    /// Messages kept coming above the rate.
    RateLimited = 4005,
    /// Pings went unanswered.
    PingTimeout = 4006,
    /// The session was ended by its own `sign_out`.
    SignedOut = 4007,
}

impl CloseCode {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Whether a client should connect again by itself.
    pub const fn should_reconnect(code: u16) -> bool {
        !matches!(code, 4002 | 4004 | 4007)
    }
}
