//! What a room is told about itself and about a participant: the outcome of negotiation and of the token's grants.

use crate::rtp::ExtensionIds;
use halloo_transport::{Bitrate, Mid, PayloadType, Rid, Ssrc};
use std::{fmt, time::Duration};

/// A participant of one room, given out by [`Room::join`](super::Room::join). Never given out twice by a room: one that left
/// and one that joined later differ even where they share a place in the room's tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(u32);

impl ParticipantId {
    const INDEX_BITS: u32 = 12;
    /// Most participants that a room can hold at a time.
    pub const MAX_PARTICIPANTS: usize = 1 << Self::INDEX_BITS;
    /// Generations of one place, the one with number 0 left out so that no id is zero.
    pub(super) const GENERATIONS: u32 = (1 << (30 - Self::INDEX_BITS)) - 1;

    /// The participant at `index` of the room's table, the `generation`th one there.
    pub(super) const fn new(index: usize, generation: u32) -> Self {
        let generation = 1 + generation % Self::GENERATIONS;
        Self((generation << Self::INDEX_BITS) | (index as u32 & ((1 << Self::INDEX_BITS) - 1)))
    }

    /// The place in the room's table.
    pub(super) const fn index(self) -> usize {
        (self.0 & ((1 << Self::INDEX_BITS) - 1)) as usize
    }

    /// As a number below 2^30, for logs and messages.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The id that [`ParticipantId::get`] gave; one that was never given out names nobody.
    pub const fn from_get(value: u32) -> Self {
        Self(value & 0x3fff_ffff)
    }
}

impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "participant:{:x}", self.0)
    }
}

/// What a participant publishes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SourceKind {
    /// Opus.
    Microphone,
    /// AV1.
    Camera,
    /// AV1.
    Screen,
}

impl SourceKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Microphone, Self::Camera, Self::Screen];

    /// The kind of slot that shows it.
    pub const fn slot_kind(self) -> SlotKind {
        match self {
            Self::Microphone => SlotKind::Audio,
            Self::Camera | Self::Screen => SlotKind::Video,
        }
    }
}

/// One source of one participant. Travels as CSRC on every packet forwarded from it, and is never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// The source of this kind of that participant.
    pub const fn new(participant: ParticipantId, kind: SourceKind) -> Self {
        Self((participant.0 << 2) | kind as u32)
    }

    /// Whose it is.
    pub const fn participant(self) -> ParticipantId {
        ParticipantId(self.0 >> 2)
    }

    /// Of which kind it is.
    pub const fn kind(self) -> SourceKind {
        match self.0 & 3 {
            0 => SourceKind::Microphone,
            1 => SourceKind::Camera,
            _ => SourceKind::Screen,
        }
    }

    /// The CSRC.
    pub const fn csrc(self) -> u32 {
        self.0
    }

    /// The source that a CSRC names; one that no source has names nothing in a room.
    pub const fn from_csrc(csrc: u32) -> Self {
        Self(csrc)
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.kind(), self.participant())
    }
}

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SlotKind {
    /// Opus, 48 kHz.
    Audio,
    /// AV1, 90 kHz.
    Video,
}

impl SlotKind {
    /// Ticks in a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Audio => 48_000,
            Self::Video => 90_000,
        }
    }
}

/// One encoding of a published source: the only one, or one of a simulcast.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encoding {
    /// Its restriction id, where the offer listed several. The order of encodings is from the smallest picture to the largest.
    pub rid: Option<Rid>,
    /// Its SSRC where the offer declared one; else learned from mid and rid, or from mid alone.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its retransmissions, likewise (repaired rid).
    pub rtx_ssrc: Option<Ssrc>,
}

/// A media section that the participant sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedSection {
    /// The section.
    pub mid: Mid,
    /// What it carries. One section per kind: a later one of the same kind is ignored.
    pub kind: SourceKind,
    /// Payload type of its media.
    pub payload_type: PayloadType,
    /// Payload type of its retransmissions, where negotiated.
    pub rtx_payload_type: Option<PayloadType>,
    /// Whether generic NACK was negotiated: then what is missing is asked for.
    pub nack: bool,
    /// From smallest to largest picture; one where there is no simulcast. At most four are used.
    pub encodings: Vec<Encoding>,
}

/// The retransmission stream of a receive slot (RFC 4588).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rtx {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Its payload type.
    pub payload_type: PayloadType,
}

/// A media section that the participant receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveSlot {
    /// The section.
    pub mid: Mid,
    /// Audio or video.
    pub kind: SlotKind,
    /// The SSRC that the answer gave it.
    pub ssrc: Ssrc,
    /// The payload type the participant expects.
    pub payload_type: PayloadType,
    /// Retransmissions, where negotiated; probes go there too.
    pub rtx: Option<Rtx>,
}

/// What a participant's token allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grants {
    /// May be heard.
    pub microphone: bool,
    /// May be seen.
    pub camera: bool,
    /// May show a screen.
    pub screen: bool,
    /// May receive.
    pub subscribe: bool,
}

impl Grants {
    /// Everything.
    pub const ALL: Self = Self { microphone: true, camera: true, screen: true, subscribe: true };

    /// Whether a source of this kind may be published.
    pub const fn publish(&self, kind: SourceKind) -> bool {
        match kind {
            SourceKind::Microphone => self.microphone,
            SourceKind::Camera => self.camera,
            SourceKind::Screen => self.screen,
        }
    }
}

/// Bounds for one participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most that it may publish, all sources together, before it is policed.
    pub publish: Bitrate,
    /// Lowest target towards it.
    pub min_receive: Bitrate,
    /// First target towards it.
    pub start_receive: Bitrate,
    /// Highest target towards it.
    pub max_receive: Bitrate,
    /// Tallest picture that is forwarded to it, in pixels.
    pub max_height: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            publish: Bitrate::from_kbps(12_000),
            min_receive: Bitrate::from_kbps(50),
            start_receive: Bitrate::from_kbps(500),
            max_receive: Bitrate::from_kbps(15_000),
            max_height: 2_160,
        }
    }
}

/// A participant: what negotiation and its token say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParticipantConfig {
    /// What it sends.
    pub published: Vec<PublishedSection>,
    /// What it receives, in the order in which slots are filled. At most 32 are used.
    pub slots: Vec<ReceiveSlot>,
    /// Extension ids of what it sends.
    pub incoming_extensions: ExtensionIds,
    /// Extension ids of what it receives.
    pub outgoing_extensions: ExtensionIds,
    /// What it may do.
    pub grants: Grants,
    /// Its bounds.
    pub limits: Limits,
    /// The SSRC of RTCP from us to it that belongs to no slot.
    pub feedback_ssrc: Ssrc,
    /// The canonical name of all our slots towards it (RFC 7022).
    pub cname: String,
    /// Seed of what is drawn for it: first sequence numbers and timestamps, report times.
    pub seed: u64,
}

/// A room.
#[derive(Clone, Copy, Debug)]
pub struct RoomConfig {
    /// Most participants, at most [`ParticipantId::MAX_PARTICIPANTS`].
    pub max_participants: usize,
    /// How many of the loudest are heard.
    pub loudest: usize,
    /// Wall-clock time at [`Timestamp::ZERO`](halloo_transport::Timestamp::ZERO), since 1900 (NTP era 0), for sender reports.
    pub ntp_at_zero: Duration,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self { max_participants: 200, loudest: 3, ntp_at_zero: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_its_participant_and_kind() {
        for generation in [0, 1, 5, ParticipantId::GENERATIONS - 1, ParticipantId::GENERATIONS + 3] {
            let participant = ParticipantId::new(4_095, generation);
            assert_eq!(participant.index(), 4_095);
            assert_eq!(ParticipantId::from_get(participant.get()), participant);
            for kind in SourceKind::ALL {
                let source = SourceId::from_csrc(SourceId::new(participant, kind).csrc());
                assert_eq!((source.participant(), source.kind()), (participant, kind));
                assert_ne!(source.csrc(), 0);
            }
        }
    }
}
