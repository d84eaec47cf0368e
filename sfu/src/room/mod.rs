//! A room above SRTP: participants, sources, and who gets what.

mod config;
mod interface;

pub use config::{
    Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot, RoomConfig, Rtx,
    SlotKind, SourceId, SourceKind,
};
pub use interface::{Command, Egress, Event, JoinError, RequestedLayers, SlotChange, SlotIndex, VideoWish};

use halloo_transport::Timestamp;

/// A room: a pure value. Call [`Room::handle_timeout`] when [`Room::next_timeout`] is reached, and drain
/// [`Room::poll_event`] after every call.
#[derive(Debug)]
pub struct Room {
    config: RoomConfig,
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig) -> Self {
        Self { config }
    }

    /// Lets a participant in. Nothing is sent to it before [`Command::Connected`].
    ///
    /// # Errors
    /// Where the room is full.
    pub fn join(&mut self, _now: Timestamp, _config: ParticipantConfig) -> Result<ParticipantId, JoinError> {
        if self.config.max_participants == 0 { Err(JoinError::Full) } else { Ok(ParticipantId::new(0, 0)) }
    }

    /// Takes a participant and its sources out; unknown ids are ignored, here and everywhere.
    pub fn leave(&mut self, _now: Timestamp, _id: ParticipantId, _egress: &mut impl Egress) {}

    /// Takes a decrypted RTP packet.
    pub fn handle_rtp(&mut self, _now: Timestamp, _from: ParticipantId, _packet: &[u8], _egress: &mut impl Egress) {}

    /// Takes a decrypted RTCP packet.
    pub fn handle_rtcp(&mut self, _now: Timestamp, _from: ParticipantId, _packet: &[u8], _egress: &mut impl Egress) {}

    /// Does what control asks.
    pub fn command(&mut self, _now: Timestamp, _command: Command, _egress: &mut impl Egress) {}

    /// Does what is due: paced packets, feedback, reports.
    pub fn handle_timeout(&mut self, _now: Timestamp, _egress: &mut impl Egress) {}

    /// When [`Room::handle_timeout`] is next wanted.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
}
