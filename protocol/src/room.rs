//! Rooms: joining with one offer, who is there, what they publish, who shows what, moderation.
//!
//! A room's state comes as a snapshot with the reply to `join_room` and as deltas from then on. Media goes through a
//! forwarding unit: every participant has one connection to it, negotiated once.

use crate::{
    call::PeerReach,
    id::{DeviceId, ParticipantId, RoomId, UserId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Enters a room, which exists from the first who enters until the last has left. Replied to with `room_joined`.
///
/// Asked again by a device that is in the room already, it replaces that device's media: after `rejoin_room`, or a reload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinRoom {
    /// Which room.
    pub room: RoomId,
    /// What one starts with.
    pub media: RoomMedia,
    /// The SDP offer for the forwarding unit: what one sends, and the receive slots.
    #[schemars(length(max = 49152))]
    pub sdp: String,
    /// A token that grants this room, where the one of `hello` does not. Of the same user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub token: Option<String>,
}

impl std::fmt::Debug for JoinRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sdp, token) = (self.sdp.len(), if self.token.is_some() { ", token redacted" } else { "" });
        write!(f, "JoinRoom({}, {:?}, {sdp} bytes of SDP{token})", self.room, self.media)
    }
}

/// A source that a participant can publish.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Sound.
    Microphone,
    /// A picture of the participant.
    Camera,
    /// A shared screen or window.
    Screen,
}

/// Whether a source is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// Not published.
    #[default]
    Off,
    /// Published, and silent for now.
    Muted,
    /// Published.
    On,
}

/// What a participant publishes at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RoomMedia {
    /// The microphone.
    pub microphone: SourceState,
    /// The camera.
    pub camera: SourceState,
    /// The screen.
    pub screen: SourceState,
}

impl RoomMedia {
    /// The state of one source.
    pub fn get(&self, kind: SourceKind) -> SourceState {
        match kind {
            SourceKind::Microphone => self.microphone,
            SourceKind::Camera => self.camera,
            SourceKind::Screen => self.screen,
        }
    }

    /// The state of one source, to be changed.
    pub fn get_mut(&mut self, kind: SourceKind) -> &mut SourceState {
        match kind {
            SourceKind::Microphone => &mut self.microphone,
            SourceKind::Camera => &mut self.camera,
            SourceKind::Screen => &mut self.screen,
        }
    }
}

impl SourceKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Microphone, Self::Camera, Self::Screen];
}

/// Takes part, or also keeps order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes part.
    Participant,
    /// May mute, remove, lock, and give roles.
    Moderator,
}

/// What one may do in a room, as one's token or the server says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomGrants {
    /// The sources one may publish.
    pub publish: Vec<SourceKind>,
    /// Whether one may receive.
    pub subscribe: bool,
    /// Whether one may moderate.
    pub moderate: bool,
}

/// Somebody in a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// The participant's number in this room, new with every `join_room`.
    pub participant: ParticipantId,
    /// Who.
    pub user: UserId,
    /// With which device: one user may be in a room with several.
    pub device: DeviceId,
    /// What to show.
    pub display_name: String,
    /// What they may do to others.
    pub role: Role,
    /// What they publish.
    pub media: RoomMedia,
    /// Whether the server reaches their device at the moment. Media may go on without it.
    pub reach: PeerReach,
}

/// A source of a participant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SourceOf {
    /// Whose.
    pub participant: ParticipantId,
    /// Which.
    pub kind: SourceKind,
}

impl SourceOf {
    /// The CSRC (RFC 3550, section 5.1) of each packet that the forwarding unit sends of it: four times the participant's
    /// number, plus 0 for the microphone, 1 for the camera and 2 for the screen.
    pub fn csrc(&self) -> u32 {
        (self.participant.0 << 2) | self.kind as u32
    }

    /// The source with this CSRC; `None` where no source can have it.
    pub fn from_csrc(csrc: u32) -> Option<Self> {
        let kind = usize::try_from(csrc & 3).ok().and_then(|kind| SourceKind::ALL.get(kind).copied())?;
        Some(Self { participant: ParticipantId(csrc >> 2), kind })
    }
}

/// What holds for all in a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomState {
    /// Whether nobody new may enter.
    pub locked: bool,
    /// What everybody is held to.
    pub limits: RoomLimits,
}

/// Limits in force in a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomLimits {
    /// Participants at a time.
    pub max_participants: u32,
    /// What one participant may publish, all sources together, in kbit/s.
    pub max_publish_kbps: u32,
    /// The tallest picture to send, in pixels.
    pub max_height: u32,
}

/// A room as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomSnapshot {
    /// Which room.
    pub room: RoomId,
    /// Which participant one is oneself.
    pub you: ParticipantId,
    /// What one may do.
    pub grants: RoomGrants,
    /// What holds for all.
    pub state: RoomState,
    /// Everybody who is there, oneself included, in the order in which they came.
    pub participants: Vec<Participant>,
    /// Who speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dominant_speaker: Option<ParticipantId>,
}

/// The reply to [`JoinRoom`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoomJoined {
    /// The forwarding unit's SDP answer.
    pub sdp: String,
    /// The room. Events about it follow, none of what is in here.
    pub snapshot: RoomSnapshot,
}

/// What one shows, so that the forwarding unit sends it; replaces what one said before. Replied to with `ok`.
///
/// Until it is asked for the first time, every video slot follows the dominant speaker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Subscribe {
    /// Which room.
    pub room: RoomId,
    /// The pictures shown, the most important first; at most 32.
    #[schemars(length(max = 32))]
    pub show: Vec<Shown>,
    /// The size of the tiles that follow the dominant speaker, for the slots that `show` leaves over; absent where there are
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<TileSize>,
}

/// A picture that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Which source.
    pub source: SourceOf,
    /// How large.
    pub size: TileSize,
    /// Whether it goes before others when bandwidth is short.
    #[serde(default)]
    pub pinned: bool,
}

/// Pixels on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TileSize {
    /// Across.
    pub width: u16,
    /// Down.
    pub height: u16,
}

/// What a moderator does. Replied to with `ok`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Moderate {
    /// Which room.
    pub room: RoomId,
    /// What.
    pub action: Moderation,
}

/// An act of moderation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Moderation {
    /// Mutes somebody's source. They may unmute it themselves.
    Mute {
        /// What.
        source: SourceOf,
    },
    /// Takes somebody out. They may come back unless the room is locked.
    Remove {
        /// Whom.
        participant: ParticipantId,
    },
    /// Lets nobody new in, or does again.
    Lock {
        /// Whether it is locked now.
        locked: bool,
    },
    /// Gives somebody a role, until they leave.
    SetRole {
        /// Whom.
        participant: ParticipantId,
        /// Which.
        role: Role,
    },
    /// Ends the room for all.
    Close,
}

/// What a slot shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotShows {
    /// The slot: the mid of its media section.
    pub mid: String,
    /// What it shows; absent where nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceOf>,
}

/// Event: some slots show something else now. For layout; what a packet belongs to is told by its CSRC.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SlotsChanged {
    /// Which room.
    pub room: RoomId,
    /// The slots that changed.
    pub slots: Vec<SlotShows>,
}

/// Event, to a publisher: which part of its source somebody receives. What lies above need not be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LayersWanted {
    /// Which room.
    pub room: RoomId,
    /// Which of one's own sources.
    pub kind: SourceKind,
    /// How many encodings, from the smallest; 0 where nobody receives it.
    pub encodings: u8,
    /// How many spatial layers of the largest of these.
    pub spatial: u8,
}

/// Why somebody is no longer in a room. Unknown reasons read as `left`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeaveReason {
    /// A moderator took them out.
    Removed,
    /// A moderator ended the room.
    Closed,
    /// Their device went away and did not come back.
    Lost,
    /// The same device joined anew, as another participant.
    Rejoined,
    /// They left; also a reason that this version does not know.
    #[serde(other)]
    Left,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csrc_names_participant_and_source() {
        for kind in SourceKind::ALL {
            let source = SourceOf { participant: ParticipantId((1 << 30) - 1), kind };
            assert_eq!(SourceOf::from_csrc(source.csrc()), Some(source));
        }
        assert_eq!(SourceOf { participant: ParticipantId(5), kind: SourceKind::Screen }.csrc(), 22);
        assert_eq!(SourceOf::from_csrc(23), None);
    }
}
