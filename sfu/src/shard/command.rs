//! What control says to a shard and hears from it.

use std::sync::{
    Arc,
    mpsc::{SyncSender, TrySendError},
};

use crate::{
    dtls::{DtlsError, Fingerprint},
    ice::Credentials,
    room::{self, ParticipantConfig, ParticipantId, RoomConfig},
};

/// Somebody to let in: the outcome of an offer and its answer.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The room, which is opened if need be.
    pub room: Arc<str>,
    /// The room's bounds, where this opens it. The shard sets `ntp_at_zero`.
    pub room_config: RoomConfig,
    /// What was negotiated.
    pub participant: ParticipantConfig,
    /// The ICE credentials in the answer: fresh ones.
    pub local: Credentials,
    /// The ICE user fragment in the offer.
    pub remote_ufrag: String,
    /// The certificates that the offer announced: at least one, or no handshake succeeds.
    pub fingerprints: Vec<Fingerprint>,
}

/// Why somebody cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The room holds as many as it may.
    #[error("the room is full")]
    RoomFull,
    /// The shard holds as many participants as it may.
    #[error("this server has no room for another participant")]
    TooManySessions,
    /// The shard holds as many rooms as it may.
    #[error("this server has no room for another room")]
    TooManyRooms,
    /// The user fragment is in use, or the password unusable: make new credentials.
    #[error("the ICE credentials cannot be used")]
    Credentials,
    /// The room broke; the next to join opens a new one.
    #[error("the room failed")]
    RoomFailed,
}

/// Why somebody left without being told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// No connectivity check for 30 s (RFC 7675).
    ConsentExpired,
    /// Joined, but no handshake was complete in time.
    NeverConnected,
    /// The handshake failed.
    Dtls(DtlsError),
    /// The client closed its connection.
    Closed,
    /// The room broke.
    RoomFailed,
}

/// What a shard tells control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are done: media flows.
    Connected {
        /// The room.
        room: Arc<str>,
        /// Who.
        participant: ParticipantId,
    },
    /// Somebody is gone without being told to leave.
    Left {
        /// The room.
        room: Arc<str>,
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// A room says something.
    Room {
        /// The room.
        room: Arc<str>,
        /// What.
        event: room::Event,
    },
    /// The last one left, or the room broke: it is no longer there.
    RoomClosed {
        /// The room.
        room: Arc<str>,
    },
    /// A whole shard broke: all of its rooms and participants are gone, and no other event says so.
    ShardFailed {
        /// Which.
        shard: usize,
    },
}

/// A room of a shard, in a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEntry {
    /// Its name.
    pub room: Arc<str>,
    /// How many participants it has.
    pub participants: usize,
}

/// Takes events without waiting.
pub trait EventSink: Send + 'static {
    /// Takes an event.
    ///
    /// # Errors
    /// Gives it back where there is no room now: it is offered again, and later ones after it.
    fn offer(&mut self, event: Event) -> Result<(), Event>;
}

impl EventSink for SyncSender<Event> {
    fn offer(&mut self, event: Event) -> Result<(), Event> {
        match self.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => Err(event),
            // Nobody listens any more.
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}
