//! Requests, replies and events, and reading a request that may be anything.

use crate::{
    MAX_MESSAGE_BYTES, MAX_SDP_BYTES,
    call::{
        Announce, Answer, Answered, CandidateFrom, Description, EndReason, Ended, IncomingCall, Invite, MediaState,
        PeerReach,
    },
    error::{ErrorBody, ErrorCode},
    id::{CallId, DeviceId, ParticipantId, RoomId},
    room::{
        JoinRoom, LayersWanted, LeaveReason, Moderate, Participant, RoomJoined, RoomMedia, RoomState, SlotsChanged,
        SourceKind, Subscribe,
    },
    session::{Hello, Presence, WatchPresence, Welcome},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client sends: `{"id": 7, "request": {"type": "invite", ...}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClientMessage {
    /// Chosen by the client, unique within its connection; the reply carries it back.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What can be asked. Every request but `hello` needs a signed-in connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Sign in or resume. Reply: `welcome`.
    Hello(Hello),
    /// End the session at once; calls of this device are hung up. Reply: `ok`, then the connection closes.
    SignOut,
    /// Who is there. Reply: `presence`.
    WatchPresence(WatchPresence),
    /// Call somebody. Reply: `ok`.
    Invite(Invite),
    /// This device shows the incoming call. Reply: `ok`.
    Ringing {
        /// Which call.
        call: CallId,
    },
    /// Take the call. Reply: `ok`, or `call_state` where another device was faster.
    Answer(Answer),
    /// A candidate of this side. From a callee only after its answer. Reply: `ok`.
    Candidate(CandidateFrom),
    /// Refuse the call for all of one's devices. Reply: `ok`.
    Decline {
        /// Which call.
        call: CallId,
    },
    /// This device is in another call; the others ring on. Reply: `ok`.
    Busy {
        /// Which call.
        call: CallId,
    },
    /// Give up one's own call before it was answered. Reply: `ok`.
    Cancel {
        /// Which call.
        call: CallId,
    },
    /// End an answered call. Reply: `ok`, also where it had ended already.
    HangUp {
        /// Which call.
        call: CallId,
        /// `hung_up`, `peer_lost` (media stopped) or `failed`; others read as `hung_up`.
        reason: EndReason,
    },
    /// A further offer or answer. Reply: `ok`.
    Description(Description),
    /// Muted, camera on or off. Reply: `ok`.
    MediaState {
        /// Which call.
        call: CallId,
        /// The state from now on.
        media: MediaState,
    },
    /// Restore a call that the server does not know. Reply: `ok`.
    Announce(Announce),
    /// Enter a room. Reply: `room_joined`.
    JoinRoom(JoinRoom),
    /// Leave it. Reply: `ok`, also where one was not in it.
    LeaveRoom {
        /// Which room.
        room: RoomId,
    },
    /// A further offer for the forwarding unit: an ICE restart, or more slots. Reply: `room_answer`.
    RoomOffer {
        /// Which room.
        room: RoomId,
        /// The SDP offer; sections may only be added.
        #[schemars(length(max = 49152))]
        sdp: String,
    },
    /// What one shows. Reply: `ok`.
    Subscribe(Subscribe),
    /// What one publishes from now on. Reply: `ok`.
    RoomMedia {
        /// Which room.
        room: RoomId,
        /// All of it.
        media: RoomMedia,
    },
    /// Keep order. Reply: `ok`.
    Moderate(Moderate),
}

impl Request {
    /// Every `type` of this version, in order.
    pub const TYPES: [&'static str; 20] = [
        "hello",
        "sign_out",
        "watch_presence",
        "invite",
        "ringing",
        "answer",
        "candidate",
        "decline",
        "busy",
        "cancel",
        "hang_up",
        "description",
        "media_state",
        "announce",
        "join_room",
        "leave_room",
        "room_offer",
        "subscribe",
        "room_media",
        "moderate",
    ];
}

/// What the server sends. The three forms differ by their keys: `reply_to`, or `seq`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServerMessage {
    /// `{"reply_to": 7, "result": {...}}` or `{"reply_to": 7, "error": {...}}`.
    Reply(Reply),
    /// `{"seq": 12, "event": {"type": "ringing", ...}}`.
    Event(NumberedEvent),
}

/// The one reply to a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// The request's id; 0 where the message was so malformed that it had none.
    pub reply_to: u64,
    /// How it went.
    #[serde(flatten)]
    pub body: ReplyBody,
}

/// How a request went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// It was done.
    Result(ReplyResult),
    /// It was not.
    Error(ErrorBody),
}

/// What a request gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplyResult {
    /// Done, nothing to add.
    Ok,
    /// To `hello`.
    Welcome(Welcome),
    /// To `watch_presence`: those who are online, and those asked for by name.
    Presence {
        /// One entry a user.
        users: Vec<Presence>,
    },
    /// To `join_room`.
    RoomJoined(RoomJoined),
    /// To `room_offer`.
    RoomAnswer {
        /// The SDP answer.
        sdp: String,
    },
}

/// An event and its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NumberedEvent {
    /// 1 for the session's first, then one more each.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

/// What happens without being asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A watched user came, went, or entered or left a call.
    Presence(Presence),
    /// Somebody calls.
    IncomingCall(IncomingCall),
    /// To the caller: a device shows the call.
    Ringing {
        /// Which call.
        call: CallId,
        /// Which device.
        device: DeviceId,
    },
    /// To the caller: taken.
    Answered(Answered),
    /// A candidate of the other side.
    Candidate(CandidateFrom),
    /// A further offer or answer of the other side.
    Description(Description),
    /// The other side muted, unmuted, turned its camera on or off.
    MediaState {
        /// Which call.
        call: CallId,
        /// Its state from now on.
        media: MediaState,
    },
    /// The server lost or found the other side's device.
    PeerReach {
        /// Which call.
        call: CallId,
        /// Which.
        reach: PeerReach,
    },
    /// The call is over for this device.
    Ended(Ended),
    /// The server will close connections soon; resume elsewhere or later. Calls go on.
    GoingAway {
        /// For people.
        message: String,
    },
    /// Somebody entered the room.
    ParticipantJoined {
        /// Which room.
        room: RoomId,
        /// Who.
        participant: Participant,
    },
    /// Somebody is no longer in the room.
    ParticipantLeft {
        /// Which room.
        room: RoomId,
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// Somebody's role, media or reach changed; oneself included where somebody else did it.
    ParticipantChanged {
        /// Which room.
        room: RoomId,
        /// How they are now.
        participant: Participant,
    },
    /// What holds for all in the room changed.
    RoomChanged {
        /// Which room.
        room: RoomId,
        /// How it is now.
        state: RoomState,
    },
    /// One is no longer in the room, not at one's own wish. Close its connection.
    RoomLeft {
        /// Which room.
        room: RoomId,
        /// Why.
        reason: LeaveReason,
    },
    /// The forwarding unit lost this device's media, or itself: close the connection and `join_room` again.
    RejoinRoom {
        /// Which room.
        room: RoomId,
    },
    /// Slots show something else.
    SlotsChanged(SlotsChanged),
    /// Somebody else speaks.
    DominantSpeaker {
        /// Which room.
        room: RoomId,
        /// Who; absent where nobody does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
    },
    /// To a publisher: which layers are received.
    LayersWanted(LayersWanted),
    /// To a publisher: it sends more than the room allows, and packets of it are dropped until it sends less.
    PublishingPoliced {
        /// Which room.
        room: RoomId,
        /// The largest of its sources.
        kind: SourceKind,
    },
    /// An event that this version does not know. Never sent; a client counts it as seen.
    #[serde(other)]
    Unknown,
}

/// A message that is not a request, and what to reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}")]
pub struct ParseError {
    /// The message's id where it could be read, else 0.
    pub id: u64,
    /// The error to reply with.
    pub error: ErrorBody,
}

/// Reads a client's message, or says what is wrong with it.
///
/// # Errors
/// `too_large`, `bad_message` or `unknown_type`, with the id to reply to.
pub fn parse_client_message(text: &str) -> Result<ClientMessage, ParseError> {
    let fail = |id, code, message: String| ParseError { id, error: ErrorBody::new(code, message) };
    if text.len() > MAX_MESSAGE_BYTES {
        let message = format!("the message has {} bytes, at most {MAX_MESSAGE_BYTES} are taken", text.len());
        return Err(fail(0, ErrorCode::TooLarge, message));
    }
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| fail(0, ErrorCode::BadMessage, format!("the message is not JSON: {e}")))?;
    let id = value.get("id").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let kind = value.get("request").and_then(|r| r.get("type")).and_then(serde_json::Value::as_str);
    let Some(kind) = kind else {
        let message = "a message needs the form {\"id\": 1, \"request\": {\"type\": \"...\"}}".to_owned();
        return Err(fail(id, ErrorCode::BadMessage, message));
    };
    if !Request::TYPES.contains(&kind) {
        let shown: String = kind.chars().take(40).collect();
        let message = format!("no request has the type {shown:?}; known are {}", Request::TYPES.join(", "));
        return Err(fail(id, ErrorCode::UnknownType, message));
    }
    let kind = kind.to_owned();
    let message: ClientMessage = serde_json::from_value(value)
        .map_err(|e| fail(id, ErrorCode::BadMessage, format!("the {kind} request cannot be read: {e}")))?;
    match message.request.oversized() {
        Some((what, len, max)) => Err(fail(
            id,
            ErrorCode::TooLarge,
            format!("{what} of the {kind} request has {len} bytes, at most {max} are taken"),
        )),
        None => Ok(message),
    }
}

impl Request {
    /// The first field above its limit: its name, its size, the limit.
    fn oversized(&self) -> Option<(&'static str, usize, usize)> {
        let over = |what, len: usize, max: usize| (len > max).then_some((what, len, max));
        match self {
            Self::Invite(Invite { sdp, .. })
            | Self::Answer(Answer { sdp, .. })
            | Self::Description(Description { sdp, .. })
            | Self::RoomOffer { sdp, .. } => over("the sdp", sdp.len(), MAX_SDP_BYTES),
            Self::JoinRoom(join) => over("the sdp", join.sdp.len(), MAX_SDP_BYTES)
                .or_else(|| over("the token", join.token.as_ref().map_or(0, String::len), 4_096)),
            Self::Subscribe(subscribe) => over("the list of what is shown", subscribe.show.len(), 32),
            Self::Candidate(c) => {
                let c = &c.candidate;
                let optional = |o: &Option<String>| o.as_ref().map_or(0, String::len);
                over("the candidate", c.candidate.len(), 1_024)
                    .or_else(|| over("the sdp_mid", optional(&c.sdp_mid), 64))
                    .or_else(|| over("the username_fragment", optional(&c.username_fragment), 256))
            }
            Self::Hello(h) => over("the client name", h.client.name.len().max(h.client.version.len()), 64),
            Self::WatchPresence(w) => over("the user list", w.users.as_ref().map_or(0, Vec::len), 1_000),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_unknown_type_is_named_in_the_error_and_keeps_its_id() {
        let error = parse_client_message(r#"{"id":4,"request":{"type":"teleport"}}"#).unwrap_err();
        assert_eq!((error.id, error.error.code), (4, ErrorCode::UnknownType));
        assert!(error.error.message.contains("teleport"));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let message =
            parse_client_message(r#"{"id":1,"x":2,"request":{"type":"decline","call":"c1","mood":"sad"}}"#).unwrap();
        assert_eq!(message.request, Request::Decline { call: CallId::new("c1").unwrap() });
    }

    #[test]
    fn an_oversized_sdp_is_refused_by_name() {
        let sdp = "v".repeat(MAX_SDP_BYTES + 1);
        let text = serde_json::json!({"id": 9, "request": {"type": "answer", "call": "c", "sdp": sdp,
            "media": {"audio_muted": false, "video": "off"}}});
        let error = parse_client_message(&text.to_string()).unwrap_err();
        assert_eq!((error.id, error.error.code), (9, ErrorCode::TooLarge));
    }

    #[test]
    fn a_request_to_join_shows_neither_token_nor_addresses_in_a_log() {
        let text = r#"{"id":1,"request":{"type":"join_room","room":"r","sdp":"a=candidate:1 192.0.2.7","token":"secret",
            "media":{"microphone":"on","camera":"off","screen":"muted"}}}"#;
        let shown = format!("{:?}", parse_client_message(text).unwrap());
        assert!(shown.contains("JoinRoom(r") && !shown.contains("secret") && !shown.contains("192.0.2.7"), "{shown}");
    }

    #[test]
    fn an_event_of_a_later_version_is_still_counted() {
        let message: ServerMessage = serde_json::from_str(r#"{"seq":3,"event":{"type":"confetti","n":1}}"#).unwrap();
        assert_eq!(message, ServerMessage::Event(NumberedEvent { seq: 3, event: Event::Unknown }));
    }

    #[test]
    fn every_request_type_is_listed() {
        let schema = crate::schema();
        let text = serde_json::to_string(&schema).unwrap();
        for kind in Request::TYPES {
            assert!(text.contains(&format!("\"const\":\"{kind}\"")), "{kind} is not in the schema");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = parse_client_message(&text);
        }
    }
}
