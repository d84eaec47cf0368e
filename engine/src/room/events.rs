//! What a room tells the application.

use super::machine::EndedBy;
use crate::{
    event_queue::{EventQueue, QueuedEvent, Weight},
    tracks::{MediaEvent, RemoteTrack, TrackKind},
};
use halloo_protocol::{ErrorCode, LeaveReason, Participant, PeerReach, Role, RoomMedia};
use serde::Serialize;

/// What happens in a room. Lifecycle events (marked) are never dropped; of the others the oldest are, when the application
/// does not read them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RoomEvent {
    /// Lifecycle: media flows.
    Connected,
    /// Lifecycle: media stopped flowing and is being restored.
    Reconnecting,
    /// Lifecycle: media flows again.
    Reconnected,
    /// Lifecycle: somebody is there: who was when this side came, and who comes later.
    ParticipantJoined(RoomParticipant),
    /// Somebody's media, role or reach changed.
    ParticipantChanged(RoomParticipant),
    /// Lifecycle: somebody is gone; their sinks get no more and are finished.
    ParticipantLeft {
        /// Who.
        participant: RoomParticipant,
        /// Why.
        reason: LeaveReason,
    },
    /// Lifecycle: somebody publishes this track now. Sound goes to the playout by itself; pictures are received from when a
    /// sink is attached.
    TrackStarted(RemoteTrack),
    /// Lifecycle: somebody does not publish this track any more. It may start again, and its sinks stay.
    TrackStopped(RemoteTrack),
    /// Somebody else speaks, or nobody.
    ActiveSpeaker(Option<RoomParticipant>),
    /// A moderator muted what this side publishes. [`crate::LocalAudioTrack::unmute`] takes it back.
    Muted(TrackKind),
    /// This side sends more than the room allows: packets of this track are dropped until it sends less.
    Policed(TrackKind),
    /// The room was locked (nobody new gets in) or opened.
    Locked(bool),
    /// The connection to the signaling server broke (false) or is back (true). Media is not affected.
    Signaling {
        /// Whether it is there.
        connected: bool,
    },
    /// A source, sink or device has a problem, or a file has ended. The room goes on.
    Media(MediaEvent),
    /// Lifecycle, the last one: over, and every sink is finished.
    Ended(RoomEnded),
}

impl QueuedEvent for RoomEvent {
    fn weight(&self) -> Weight {
        match self {
            Self::Ended(_) => Weight::Last,
            Self::Connected
            | Self::Reconnecting
            | Self::Reconnected
            | Self::ParticipantJoined(_)
            | Self::ParticipantLeft { .. }
            | Self::TrackStarted(_)
            | Self::TrackStopped(_) => Weight::Lifecycle,
            _ => Weight::Information,
        }
    }
}

/// Somebody else in the room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct RoomParticipant {
    /// This engine's name for them in this room: it stays while the same device is there, or comes back.
    pub id: u32,
    /// Their user id.
    pub user: String,
    /// Which of their devices.
    pub device: String,
    /// What to show.
    pub display_name: String,
    /// What they may do to others.
    pub role: Role,
    /// What they publish.
    pub media: RoomMedia,
    /// Whether the server reaches them. Their media may go on without it.
    pub reachable: bool,
}

impl RoomParticipant {
    pub(super) fn new(id: u32, participant: &Participant) -> Self {
        Self {
            id,
            user: participant.user.to_string(),
            device: participant.device.to_string(),
            display_name: participant.display_name.clone(),
            role: participant.role,
            media: participant.media,
            reachable: participant.reach == PeerReach::Back,
        }
    }
}

/// How a stay in a room ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RoomEnded {
    /// Who or what ended it.
    pub reason: EndedBy,
    /// What went wrong, for people, where something did.
    pub error: Option<String>,
    /// The server's code, where the server refused.
    pub code: Option<ErrorCode>,
}

/// A room's events, in order. Several readers share one queue: each event goes to one of them.
#[derive(Debug)]
pub struct RoomEvents(EventQueue<RoomEvent>);

impl RoomEvents {
    pub(super) fn new(queue: &EventQueue<RoomEvent>) -> Self {
        Self(queue.clone())
    }

    /// The next event; `None` after [`RoomEvent::Ended`].
    pub async fn next(&mut self) -> Option<RoomEvent> {
        self.0.next().await
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<RoomEvent> {
        self.0.try_next()
    }

    /// Informational events dropped so far because nobody read them.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
