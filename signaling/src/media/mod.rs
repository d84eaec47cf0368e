//! The media plane as signaling sees it: whoever forwards the media of rooms, in this process or elsewhere.
//!
//! Signaling knows who is in a room and what they may do; the media plane knows their connections. It is given orders in
//! the order in which things happened, one at a time, and tells what happens by [`MediaEvents`].

mod driver;

pub(crate) use driver::drive;
use halloo_protocol::{
    ParticipantId, RoomGrants, RoomId, RoomLimits, RoomMedia, Shown, SlotShows, SourceKind, SourceState, TileSize,
};
use std::{future::Future, pin::Pin, sync::Arc};

/// What an asynchronous order gives.
pub type MediaFuture<T> = Pin<Box<dyn Future<Output = Result<T, MediaError>> + Send>>;

/// Whoever forwards media. Every method returns at once; what takes time is in the future.
pub trait MediaPlane: Send + Sync + 'static {
    /// Where events go. Called once, before anything else.
    fn start(&self, events: MediaEvents);

    /// Takes a participant in and answers its offer. No event may name the participant before this is done. Where the
    /// future is done too late, or its result is dropped, the participant is taken out again by [`MediaCommand::Leave`].
    fn join(&self, join: MediaJoin) -> MediaFuture<MediaJoined>;

    /// Answers a further offer of a participant.
    fn offer(&self, room: RoomId, participant: ParticipantId, sdp: String) -> MediaFuture<String>;

    /// Does what needs no answer. Rooms and participants that are not known (any more) are ignored.
    fn command(&self, room: RoomId, command: MediaCommand);

    /// Figures of its own for `/metrics`, in Prometheus' text format (version 0.0.4), without identities.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// A participant to be taken in. A room that is not known comes into being.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaJoin {
    /// Which room.
    pub room: RoomId,
    /// What its token allows.
    pub grants: RoomGrants,
    /// What it is held to.
    pub limits: RoomLimits,
    /// What it publishes at first.
    pub media: RoomMedia,
    /// Its SDP offer.
    pub sdp: String,
}

/// A participant that was taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaJoined {
    /// Its number: not given before in this room, for as long as the room lives.
    pub participant: ParticipantId,
    /// The SDP answer.
    pub sdp: String,
}

/// Why an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MediaError {
    /// The offer cannot be answered: what is wrong with it, for people.
    #[error("{0}")]
    BadOffer(String),
    /// No room for more.
    #[error("no more participants can be taken here")]
    Full,
    /// The forwarding unit does not answer, or does not know the participant.
    #[error("the forwarding unit is not available: {0}")]
    Unavailable(String),
}

/// An order that needs no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaCommand {
    /// Take it out. The last one to leave ends the room.
    Leave {
        /// Whom.
        participant: ParticipantId,
    },
    /// A source of it is off, muted or on from now on.
    Source {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        kind: SourceKind,
        /// How it is now.
        state: SourceState,
    },
    /// What it shows; replaces what was said before.
    Show {
        /// Who shows.
        participant: ParticipantId,
        /// Which sources, the most important first.
        show: Vec<Shown>,
        /// The size of tiles that follow the dominant speaker; `None` where there are none.
        others: Option<TileSize>,
    },
}

/// What happens in a room's media.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaEvent {
    /// Slots of a participant show something else.
    Slots {
        /// Whose.
        participant: ParticipantId,
        /// Those that changed.
        slots: Vec<SlotShows>,
    },
    /// Somebody else speaks.
    DominantSpeaker(Option<ParticipantId>),
    /// What is received of a source changed.
    LayersWanted {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        kind: SourceKind,
        /// How many encodings.
        encodings: u8,
        /// How many spatial layers of the largest of them.
        spatial: u8,
    },
    /// It sends more than it may.
    Policed {
        /// Who.
        participant: ParticipantId,
        /// The largest of its sources.
        kind: SourceKind,
    },
    /// Its connection is gone for good: it is no longer in the room's media, and must join again.
    Lost {
        /// Whose.
        participant: ParticipantId,
    },
    /// The room is gone from the media plane: everybody must join again.
    RoomFailed,
}

/// Takes the media plane's events. Cheap to clone; may be called from any thread, and does not wait for the network.
#[derive(Clone)]
pub struct MediaEvents(Arc<dyn Fn(RoomId, MediaEvent) + Send + Sync>);

impl MediaEvents {
    /// Events that go to this function.
    pub fn new(sink: impl Fn(RoomId, MediaEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Tells of an event.
    pub fn send(&self, room: RoomId, event: MediaEvent) {
        (self.0)(room, event);
    }
}

impl std::fmt::Debug for MediaEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MediaEvents")
    }
}
