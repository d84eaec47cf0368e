//! What goes into a room from control and what comes out of it: packets, events.

use super::config::{ParticipantId, SourceId, SourceKind};
use crate::rtp::OutgoingHeader;
use thiserror::Error;

/// Where a room's packets go. A packet for a participant that cannot take it is the implementation's to drop and count.
pub trait Egress {
    /// The next packets but those under way go to this participant: what they need may be fetched.
    fn prepare(&mut self, _: ParticipantId) {}

    /// A participant got all that it gets of what came: it may leave.
    fn turn_ends(&mut self) {}

    /// Takes an RTP packet: [`OutgoingHeader::write_packet`] into the participant's arena, then seal.
    fn rtp(&mut self, to: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]);

    /// Takes a compound or reduced-size RTCP packet (RFC 5506), in the clear.
    fn rtcp(&mut self, to: ParticipantId, packet: &[u8]);
}

/// Why somebody cannot join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum JoinError {
    /// The room holds as many as it may.
    #[error("the room is full")]
    Full,
}

/// A place in [`ParticipantConfig::slots`](super::ParticipantConfig::slots).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotIndex(pub u8);

/// A picture that a participant shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VideoWish {
    /// Which source.
    pub source: SourceId,
    /// Width of its tile in pixels of the screen.
    pub width: u32,
    /// Height of its tile; 0 for one that is not to be shown, even where its owner speaks.
    pub height: u32,
    /// Whether it goes before others, whoever speaks.
    pub pinned: bool,
}

/// What control asks of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The participant's transport is up (or changed its path): packets may go to it from now on.
    Connected(ParticipantId),
    /// Its transport is down: nothing goes to it until it is up again.
    Disconnected(ParticipantId),
    /// What the participant shows; replaces what it said before. Where it never says anything, every video slot follows the
    /// dominant speaker. Slots that wishes leave over do so too. At most 32 wishes count.
    Show {
        /// Who shows.
        by: ParticipantId,
        /// What, pinned ones first.
        wishes: Vec<VideoWish>,
        /// Pixels of a tile that follows the dominant speaker: width and height; zero where such tiles are not shown.
        others: (u32, u32),
    },
    /// A source's owner or a moderator muted it, or took that back: what comes of it is dropped.
    Mute {
        /// The source.
        source: SourceId,
        /// Whether it is muted now.
        muted: bool,
    },
    /// The owner stopped a source (its slots are free for others) or started it.
    Publish {
        /// The source.
        source: SourceId,
        /// Whether it is published now. All sections are when somebody joins; a source counts as there from its first packet.
        published: bool,
    },
}

/// A slot shows another source, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotChange {
    /// The slot.
    pub slot: SlotIndex,
    /// What it shows.
    pub source: Option<SourceId>,
}

/// The layers of a source that somebody receives. A publisher may stop sending what lies above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestedLayers {
    /// How many encodings, from the smallest: 0 where nobody receives the source.
    pub encodings: u8,
    /// How many spatial layers of the largest of these encodings; 3 is all there may be.
    pub spatial: u8,
}

/// What a room tells control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Slots of a subscriber changed: only what changed since the last such event, each slot at most once.
    SlotsChanged {
        /// Whose slots.
        subscriber: ParticipantId,
        /// What changed.
        changes: Vec<SlotChange>,
    },
    /// The first packet of a source came, or it came back.
    SourceStarted(SourceId),
    /// A source was silent for so long that it counts as gone (video only), or was stopped.
    SourceStopped(SourceId),
    /// Somebody else speaks; `None` where the last one left.
    DominantSpeaker(Option<ParticipantId>),
    /// What is received of a video source changed.
    LayersRequested {
        /// The source.
        source: SourceId,
        /// The layers somebody receives.
        layers: RequestedLayers,
    },
    /// The participant sends more than it may: its packets are dropped until it is below its limit again.
    Policed {
        /// Who.
        publisher: ParticipantId,
        /// Which of its sources was the largest.
        largest: SourceKind,
    },
}
