//! What a shard needs of the rooms and of the handshakes it hosts. The real ones are [`Room`] and [`Handshakes`]; tests bring
//! rooms that panic and handshakes without threads.

use halloo_transport::Timestamp;

use crate::{
    dtls::{Fingerprint, Handshake, Handshakes, Refused},
    room::{self, Command, Egress, ParticipantConfig, ParticipantId, ReceiveSlot, Room, RoomConfig, RoomSnapshot},
};

/// A room above SRTP: see [`Room`] for what each method does.
#[expect(missing_docs, reason = "documented at Room")]
pub trait Forwarding {
    fn open(config: RoomConfig) -> Self;
    fn join(&mut self, now: Timestamp, config: ParticipantConfig) -> Result<ParticipantId, room::JoinError>;
    fn leave(&mut self, now: Timestamp, id: ParticipantId, egress: &mut impl Egress);
    fn handle_rtp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress);
    fn forward(&mut self, now: Timestamp, egress: &mut impl Egress);
    fn lingers_until(&self) -> Option<Timestamp>;
    fn handle_rtcp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress);
    fn add_slots(&mut self, now: Timestamp, id: ParticipantId, slots: &[ReceiveSlot], egress: &mut impl Egress);
    fn command(&mut self, now: Timestamp, command: Command, egress: &mut impl Egress);
    fn handle_timeout(&mut self, now: Timestamp, egress: &mut impl Egress);
    fn timeouts(&mut self) -> Option<(Timestamp, Timestamp)>;
    fn poll_event(&mut self) -> Option<room::Event>;
    fn snapshot(&self, now: Timestamp) -> RoomSnapshot;
    fn constrained(&self) -> usize;
}

impl Forwarding for Room {
    fn open(config: RoomConfig) -> Self {
        Self::new(config)
    }

    fn join(&mut self, now: Timestamp, config: ParticipantConfig) -> Result<ParticipantId, room::JoinError> {
        Self::join(self, now, config)
    }

    fn leave(&mut self, now: Timestamp, id: ParticipantId, egress: &mut impl Egress) {
        Self::leave(self, now, id, egress);
    }

    fn handle_rtp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        Self::handle_rtp(self, now, from, packet, egress);
    }

    fn forward(&mut self, now: Timestamp, egress: &mut impl Egress) {
        Self::forward(self, now, egress);
    }

    fn lingers_until(&self) -> Option<Timestamp> {
        Self::lingers_until(self)
    }

    fn handle_rtcp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        Self::handle_rtcp(self, now, from, packet, egress);
    }

    fn add_slots(&mut self, now: Timestamp, id: ParticipantId, slots: &[ReceiveSlot], egress: &mut impl Egress) {
        Self::add_slots(self, now, id, slots, egress);
    }

    fn command(&mut self, now: Timestamp, command: Command, egress: &mut impl Egress) {
        Self::command(self, now, command, egress);
    }

    fn handle_timeout(&mut self, now: Timestamp, egress: &mut impl Egress) {
        Self::handle_timeout(self, now, egress);
    }

    fn timeouts(&mut self) -> Option<(Timestamp, Timestamp)> {
        Self::timeouts(self)
    }

    fn poll_event(&mut self) -> Option<room::Event> {
        Self::poll_event(self)
    }

    fn snapshot(&self, now: Timestamp) -> RoomSnapshot {
        Self::snapshot(self, now)
    }

    fn constrained(&self) -> usize {
        Self::constrained(self)
    }
}

/// Runs DTLS handshakes somewhere else. What becomes of them comes back to [`super::Core::handle_report`].
pub trait Handshaking {
    /// One connection; dropping it ends it.
    type Handshake;

    /// Begins a connection as server.
    ///
    /// # Errors
    /// [`Refused`]: try again at the peer's next datagram.
    fn start(&mut self, session: u64, expected: Vec<Fingerprint>) -> Result<Self::Handshake, Refused>;

    /// Passes a datagram from the peer on.
    ///
    /// # Errors
    /// [`Refused`]: the datagram is lost.
    fn datagram(&mut self, handshake: &Self::Handshake, bytes: &[u8]) -> Result<(), Refused>;
}

impl Handshaking for Handshakes {
    type Handshake = Handshake;

    fn start(&mut self, session: u64, expected: Vec<Fingerprint>) -> Result<Handshake, Refused> {
        Self::start(self, session, expected)
    }

    fn datagram(&mut self, handshake: &Handshake, bytes: &[u8]) -> Result<(), Refused> {
        handshake.datagram(bytes)
    }
}
