//! A shard without socket, clock and threads.
//!
//! Feed it with [`Core::handle_datagrams`], [`Core::handle_frame`], [`Core::handle_report`], [`Core::handle_timeout`] and the
//! control methods; call [`Core::end_batch`] after each batch of them, which sends what rooms want sent; then drain
//! [`Core::poll_event`].

mod media;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use halloo_transport::Timestamp;

use super::{
    command::{Admission, Event, JoinError, LeaveReason, RoomEntry},
    demux::{Demux, Kind},
    early::Early,
    egress::{self, RoomEgress},
    hosting::{Forwarding, Handshaking},
    rooms::{Hosted, RoomIndex, Rooms},
    session::{Session, SessionKey, Sessions, Srtp},
    stats::Stats,
    wire::{Path, Wire},
};
use crate::{
    dtls::{Outcome, Report},
    ice::{Agent, Check, Credentials, MAX_ANSWER, TransportAddress, local_ufrag},
    net::{Arenas, Lease},
    room::{Command, ParticipantId, ReceiveSlot, RoomConfig, RoomSnapshot},
};

/// A session without keys this long after joining ends.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Consent and half-open sessions are looked at this often.
const SWEEP: Duration = Duration::from_millis(500);

/// A shard's bounds.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Most participants, in all rooms together.
    pub max_sessions: usize,
    /// Most rooms.
    pub max_rooms: usize,
    /// Arenas of 64 kB: as many receivers get a batch's packets in one send each.
    pub arenas: usize,
    /// Events that wait to be taken before rooms have to keep theirs.
    pub max_events: usize,
    /// Wall-clock time at [`Timestamp::ZERO`], since 1900 (NTP era 0).
    pub ntp_at_zero: Duration,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self { max_sessions: 10_000, max_rooms: 5_000, arenas: 256, max_events: 8_192, ntp_at_zero: Duration::ZERO }
    }
}

/// A shard: rooms `R`, with handshakes run by `H`.
#[derive(Debug)]
pub struct Core<R, H: Handshaking> {
    config: ShardConfig,
    handshakes: H,
    demux: Demux,
    sessions: Sessions<H::Handshake>,
    early: Early,
    rooms: Rooms<R>,
    arenas: Arenas<Path>,
    events: VecDeque<Event>,
    next_sweep: Timestamp,
    /// When the first room that waits for more of a picture sends on what it has.
    lingers_until: Option<Timestamp>,
    stats: Stats,
}

/// What of a room's affairs panicked: the room is to be closed.
struct Panicked;

impl<R: Forwarding, H: Handshaking> Core<R, H> {
    /// A shard without rooms.
    pub fn new(now: Timestamp, config: ShardConfig, handshakes: H) -> Self {
        Self {
            config,
            handshakes,
            demux: Demux::default(),
            sessions: Sessions::new(config.max_sessions),
            early: Early::default(),
            rooms: Rooms::new(config.max_rooms),
            arenas: Arenas::new(config.arenas),
            events: VecDeque::new(),
            next_sweep: now + SWEEP,
            lingers_until: None,
            stats: Stats::default(),
        }
    }

    /// Lets a participant in, opening the room if need be. Media flows once its client is connected: [`Event::Connected`].
    ///
    /// # Errors
    /// [`JoinError`]; nothing changed then.
    pub fn join(&mut self, now: Timestamp, admission: Admission) -> Result<ParticipantId, JoinError> {
        if self.sessions.is_full() {
            return Err(JoinError::TooManySessions);
        }
        let agent = Agent::new(now, admission.local, &admission.remote_ufrag).map_err(|_| JoinError::Credentials)?;
        if agent.ufrags().any(|ufrag| self.demux.by_ufrag(ufrag.as_bytes()).is_some()) {
            return Err(JoinError::Credentials);
        }
        let index = self.find_or_open(&admission.room, admission.room_config)?;
        let hosted = self.rooms.get_mut(index).ok_or(JoinError::RoomFailed)?;
        let joined = catch_unwind(AssertUnwindSafe(|| hosted.room.join(now, admission.participant)));
        let Ok(joined) = joined else {
            self.fail_room(index);
            return Err(JoinError::RoomFailed);
        };
        let Ok(participant) = joined else {
            self.close_if_empty(index);
            return Err(JoinError::RoomFull);
        };
        for ufrag in agent.ufrags() {
            self.demux.add_ufrag(ufrag, self.sessions.next_key());
        }
        let session = self.sessions.insert(Session {
            room: index,
            participant,
            agent,
            local: None,
            fingerprints: admission.fingerprints,
            handshake: None,
            srtp: None,
            connect_by: now + CONNECT_WITHIN,
            lease: Lease::default(),
        });
        if let Some(hosted) = self.rooms.get_mut(index) {
            hosted.add(participant, session);
        }
        self.rooms.touch(index);
        Ok(participant)
    }

    /// Takes a participant out: it hears nothing more. Unknown ones are ignored, here and everywhere.
    pub fn leave(&mut self, now: Timestamp, room: &str, participant: ParticipantId, wire: &mut impl Wire) {
        if let Some(session) = self.session_of(room, participant) {
            self.end_session(now, session, None, wire);
        }
    }

    /// Passes on what control asks of a room.
    pub fn command(&mut self, now: Timestamp, room: &str, command: Command, wire: &mut impl Wire) {
        if let Some(index) = self.rooms.find(room) {
            self.in_room(index, wire, |room, egress| room.command(now, command, egress));
        }
    }

    /// Adds receive slots to a participant, as a later offer of it and its answer say.
    pub fn add_slots(
        &mut self,
        now: Timestamp,
        room: &str,
        participant: ParticipantId,
        slots: &[ReceiveSlot],
        wire: &mut impl Wire,
    ) {
        if let Some(index) = self.rooms.find(room) {
            self.in_room(index, wire, |room, egress| room.add_slots(now, participant, slots, egress));
        }
    }

    /// Begins an ICE restart: the client made a new offer with new ICE credentials, and `local` are those of our new answer.
    /// Media goes on where it went until the client nominates a path under the new ones.
    ///
    /// # Errors
    /// [`JoinError::Credentials`] where the user fragment is in use or the password unusable.
    pub fn restart_ice(
        &mut self,
        room: &str,
        participant: ParticipantId,
        local: Credentials,
        remote_ufrag: &str,
    ) -> Result<(), JoinError> {
        let Some(key) = self.session_of(room, participant) else { return Ok(()) };
        let ufrag = local.ufrag().to_owned();
        if self.demux.by_ufrag(ufrag.as_bytes()).is_some() {
            return Err(JoinError::Credentials);
        }
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let retired = session.agent.restart(local, remote_ufrag).map_err(|_| JoinError::Credentials)?;
        if let Some(retired) = retired {
            self.demux.remove_ufrag(&retired);
        }
        self.demux.add_ufrag(&ufrag, key);
        Ok(())
    }

    /// Takes all participants out of a room and closes it.
    pub fn close_room(&mut self, now: Timestamp, room: &str, wire: &mut impl Wire) {
        while let Some(index) = self.rooms.find(room) {
            let Some(member) = self.rooms.get_mut(index).and_then(|hosted| hosted.members().first().copied()) else {
                return;
            };
            self.end_session(now, member.session, None, wire);
        }
    }

    /// Takes datagrams from one sender, each `segment` bytes long but the last, which may be shorter. `to` is the address of
    /// ours that they came to. Their bytes are overwritten.
    pub fn handle_datagrams(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        to: Option<IpAddr>,
        datagrams: &mut [u8],
        segment: usize,
        wire: &mut impl Wire,
    ) {
        // Nothing can be sent there, and trying to would make the socket doubt itself.
        if from.port() == 0 || from.ip().is_unspecified() {
            self.stats.unknown += 1;
            return;
        }
        let from = Path { remote: TransportAddress::udp(from), local: to };
        for datagram in datagrams.chunks_mut(segment.max(1)) {
            self.handle_datagram(now, from, datagram, wire);
        }
    }

    /// Takes a datagram that came over a TCP connection from `peer`. Its bytes are overwritten.
    pub fn handle_frame(&mut self, now: Timestamp, peer: SocketAddr, datagram: &mut [u8], wire: &mut impl Wire) {
        // Answers leave by the connection, whichever of our addresses it ends at.
        let from = Path { remote: TransportAddress::tcp(peer), local: None };
        self.handle_datagram(now, from, datagram, wire);
    }

    /// Whether a session was proven to be at the other end of the TCP connection from `peer`.
    pub fn knows(&self, peer: SocketAddr) -> bool {
        self.demux.by_address(TransportAddress::tcp(peer)).is_some()
    }

    /// Takes note that the TCP connection from `peer` ended. Its session goes on where else it was checked, or once it is
    /// checked again from anywhere, until consent runs out.
    pub fn handle_disconnected(&mut self, now: Timestamp, peer: SocketAddr, wire: &mut impl Wire) {
        let address = TransportAddress::tcp(peer);
        let Some(key) = self.demux.by_address(address) else { return };
        self.demux.release(address, key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.agent.remove(address) || session.srtp.is_none() {
            return;
        }
        session.local = None;
        let (index, participant) = (session.room, session.participant);
        let command = match session.agent.selected() {
            Some(_) => Command::Connected(participant),
            None => Command::Disconnected(participant),
        };
        self.in_room(index, wire, |room, egress| room.command(now, command, egress));
    }

    /// Takes what became of a handshake.
    pub fn handle_report(&mut self, now: Timestamp, report: Report, wire: &mut impl Wire) {
        let key = SessionKey::from_u64(report.session);
        let Some(session) = self.sessions.get_mut(key) else { return };
        match report.outcome {
            Outcome::Datagram(bytes) => {
                if let Some(path) = session.path() {
                    wire.send(path, &bytes, bytes.len());
                }
            }
            Outcome::Connected(keys) => {
                // Derivation fails for keys of wrong length only, which SessionKeys has none of.
                let Ok(srtp) = Srtp::new(&keys) else { return };
                session.srtp = Some(Box::new(srtp));
                let (index, participant) = (session.room, session.participant);
                self.push_event(index, |room| Event::Connected { room, participant });
                let command = Command::Connected(participant);
                self.in_room(index, wire, |room, egress| room.command(now, command, egress));
                self.take_early(now, key, wire);
            }
            Outcome::Closed => self.end_session(now, key, Some(LeaveReason::Closed), wire),
            Outcome::Failed(error) => self.end_session(now, key, Some(LeaveReason::Dtls(error)), wire),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp, wire: &mut impl Wire) {
        while let Some(index) = self.rooms.pop_due(now) {
            self.in_room(index, wire, |room, egress| room.handle_timeout(now, egress));
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.sweep(now, wire);
        }
    }

    /// When [`Core::handle_timeout`] is next wanted.
    pub fn next_timeout(&mut self) -> Timestamp {
        [self.rooms.next_timeout(), self.lingers_until].into_iter().flatten().fold(self.next_sweep, Timestamp::min)
    }

    /// Whether a room waits for more of a picture: it is sent on by the [`Core::end_batch`] after it came, or after a moment.
    pub const fn lingers(&self) -> bool {
        self.lingers_until.is_some()
    }

    /// Sends what is waiting in arenas, and sees to the rooms that something happened in.
    pub fn end_batch(&mut self, now: Timestamp, wire: &mut impl Wire) {
        self.lingers_until = None;
        for _ in 0..self.rooms.touched() {
            // Touched again by this.
            let Some(index) = self.rooms.pop_touched() else { break };
            match self.lingers_in(index).filter(|until| *until > now) {
                Some(until) => {
                    self.lingers_until = Some(self.lingers_until.map_or(until, |first| first.min(until)));
                    self.rooms.touch(index);
                }
                None => self.in_room(index, wire, |room, egress| room.forward(now, egress)),
            }
        }
        let stats = &mut self.stats;
        egress::send_all(wire, stats, &self.arenas);
        self.arenas.take_all();
        // Rooms that could not give all their events away are touched again, for the next batch.
        for _ in 0..self.rooms.touched() {
            if let Some(index) = self.rooms.pop_touched() {
                self.see_to(now, index);
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Puts an event back that could not be passed on: it comes first again.
    pub fn unpoll_event(&mut self, event: Event) {
        self.events.push_front(event);
    }

    /// Counters since the start, and how many sessions and rooms there are.
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.sessions.len() as u64,
            rooms: self.rooms.len() as u64,
            constrained: self.rooms.iter().map(|hosted| hosted.room.constrained() as u64).sum(),
            ..self.stats
        }
    }

    /// The rooms there are, in no order.
    pub fn rooms(&self) -> Vec<RoomEntry> {
        let entry =
            |hosted: &Hosted<R>| RoomEntry { room: Arc::clone(&hosted.name), participants: hosted.members().len() };
        self.rooms.iter().map(entry).collect()
    }

    /// A room as it is now; `None` where there is none of this name.
    pub fn snapshot(&mut self, now: Timestamp, room: &str) -> Option<RoomSnapshot> {
        let index = self.rooms.find(room)?;
        let hosted = self.rooms.get_mut(index)?;
        let Ok(snapshot) = catch_unwind(AssertUnwindSafe(|| hosted.room.snapshot(now))) else {
            self.fail_room(index);
            return None;
        };
        Some(snapshot)
    }

    fn handle_datagram(&mut self, now: Timestamp, from: Path, datagram: &mut [u8], wire: &mut impl Wire) {
        self.stats.received += 1;
        let kind = Kind::of(datagram);
        if kind == Some(Kind::Stun) {
            return self.handle_stun(now, from, datagram, wire);
        }
        let key = self.demux.by_address(from.remote);
        match (kind, key) {
            (Some(Kind::Dtls), Some(key)) => self.handle_dtls(key, datagram),
            (Some(Kind::Srtp(kind)), Some(key)) => self.handle_srtp(now, key, kind, datagram, wire),
            _ => self.stats.unknown += 1,
        }
    }

    fn handle_stun(&mut self, now: Timestamp, from: Path, datagram: &[u8], wire: &mut impl Wire) {
        let key = local_ufrag(datagram).and_then(|ufrag| self.demux.by_ufrag(ufrag));
        let Some((key, session)) = key.and_then(|key| Some((key, self.sessions.get_mut(key)?))) else {
            self.stats.checks_dropped += 1;
            return;
        };
        let mut answer = [0; MAX_ANSWER];
        let Check::Answered { len, change } = session.agent.handle_check(now, from.remote, datagram, &mut answer)
        else {
            self.stats.checks_dropped += 1;
            return;
        };
        self.stats.checks_answered += 1;
        wire.send(from, &answer[..len], len);
        if let Some(removed) = change.removed {
            self.demux.release(removed, key);
        }
        if let Some(ufrag) = change.retired_ufrag {
            self.demux.remove_ufrag(&ufrag);
        }
        if session.agent.is_valid(from.remote) {
            self.demux.claim(from.remote, key);
        }
        if session.agent.selected() == Some(from.remote) {
            session.local = from.local;
        }
        if change.selected.is_some() && session.srtp.is_some() {
            let (index, participant) = (session.room, session.participant);
            let command = Command::Connected(participant);
            self.in_room(index, wire, |room, egress| room.command(now, command, egress));
        }
    }

    fn handle_dtls(&mut self, key: SessionKey, datagram: &[u8]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.handshake.is_none() {
            session.handshake = self.handshakes.start(key.as_u64(), session.fingerprints.clone()).ok();
        }
        let passed = session.handshake.as_ref().map(|handshake| self.handshakes.datagram(handshake, datagram));
        match passed {
            Some(Ok(())) => self.stats.dtls_received += 1,
            _ => self.stats.dtls_dropped += 1,
        }
    }

    fn find_or_open(&mut self, name: &Arc<str>, config: RoomConfig) -> Result<RoomIndex, JoinError> {
        if let Some(index) = self.rooms.find(name) {
            return Ok(index);
        }
        let config = RoomConfig { ntp_at_zero: self.config.ntp_at_zero, ..config };
        self.rooms.open(Arc::clone(name), R::open(config)).ok_or(JoinError::TooManyRooms)
    }

    fn session_of(&mut self, room: &str, participant: ParticipantId) -> Option<SessionKey> {
        let index = self.rooms.find(room)?;
        self.rooms.get_mut(index)?.split().1.session(participant)
    }

    /// Lets a room do something. One that panics is closed.
    fn in_room<W: Wire>(
        &mut self,
        index: RoomIndex,
        wire: &mut W,
        act: impl FnOnce(&mut R, &mut RoomEgress<'_, H::Handshake, W>),
    ) {
        let result = {
            let Some(hosted) = self.rooms.get_mut(index) else { return };
            let (room, members) = hosted.split();
            let (sessions, arenas, stats) = (&mut self.sessions, &mut self.arenas, &mut self.stats);
            let mut egress = RoomEgress { members, sessions, arenas, wire, stats };
            catch_unwind(AssertUnwindSafe(|| act(room, &mut egress))).map_err(|_| Panicked)
        };
        match result {
            Ok(()) => self.rooms.touch(index),
            Err(Panicked) => self.fail_room(index),
        }
    }

    /// Takes a room's events and arms its timer.
    fn see_to(&mut self, now: Timestamp, index: RoomIndex) {
        while self.events.len() < self.config.max_events {
            let Some(hosted) = self.rooms.get_mut(index) else { return };
            match catch_unwind(AssertUnwindSafe(|| hosted.room.poll_event())) {
                Ok(Some(event)) => self.push_event(index, |room| Event::Room { room, event }),
                Ok(None) => break,
                Err(_) => return self.fail_room(index),
            }
        }
        if self.events.len() >= self.config.max_events || self.lingers_in(index).is_some() {
            self.rooms.touch(index);
        }
        let Some(hosted) = self.rooms.get_mut(index) else { return };
        let served = std::mem::take(&mut hosted.served);
        match catch_unwind(AssertUnwindSafe(|| hosted.room.timeouts())) {
            // What can wait is done now that the room is looked at, rather than by a wake of its own.
            Ok(Some((at, _))) if at <= now && !served => self.rooms.arm(index, Some(at)),
            // Never at once again, whatever the room says: others want to be served too.
            Ok(times) => {
                let at = times.map(|(_, latest)| latest.max(now + Duration::from_micros(100)));
                self.rooms.arm(index, at);
            }
            Err(_) => self.fail_room(index),
        }
    }

    fn lingers_in(&mut self, index: RoomIndex) -> Option<Timestamp> {
        self.rooms.get_mut(index)?.room.lingers_until()
    }

    fn push_event(&mut self, index: RoomIndex, event: impl FnOnce(Arc<str>) -> Event) {
        if let Some(hosted) = self.rooms.get_mut(index) {
            self.events.push_back(event(Arc::clone(&hosted.name)));
        }
    }

    fn sweep(&mut self, now: Timestamp, wire: &mut impl Wire) {
        let expired: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(key, session)| {
                if session.srtp.is_none() && session.connect_by <= now {
                    Some((key, LeaveReason::NeverConnected))
                } else if session.agent.consent_until() <= now {
                    Some((key, LeaveReason::ConsentExpired))
                } else {
                    None
                }
            })
            .collect();
        for (key, reason) in expired {
            self.end_session(now, key, Some(reason), wire);
        }
    }

    /// Ends a session and takes its participant out of the room; with a reason, control is told.
    fn end_session(&mut self, now: Timestamp, key: SessionKey, reason: Option<LeaveReason>, wire: &mut impl Wire) {
        let Some(session) = self.forget(key) else { return };
        let (index, participant) = (session.room, session.participant);
        if let Some(hosted) = self.rooms.get_mut(index) {
            hosted.remove(participant);
        }
        if let Some(reason) = reason {
            self.push_event(index, |room| Event::Left { room, participant, reason });
        }
        self.in_room(index, wire, |room, egress| room.leave(now, participant, egress));
        self.close_if_empty(index);
    }

    /// Removes a session and all that leads to it.
    fn forget(&mut self, key: SessionKey) -> Option<Session<H::Handshake>> {
        let session = self.sessions.remove(key)?;
        self.early.take(key);
        session.agent.addresses().for_each(|address| self.demux.release(address, key));
        session.agent.ufrags().for_each(|ufrag| self.demux.remove_ufrag(ufrag));
        Some(session)
    }

    fn close_if_empty(&mut self, index: RoomIndex) {
        if self.rooms.get_mut(index).is_some_and(|hosted| hosted.members().is_empty()) {
            self.close(index);
        }
    }

    fn close(&mut self, index: RoomIndex) {
        self.push_event(index, |room| Event::RoomClosed { room });
        if let Some(hosted) = self.rooms.close(index) {
            // A broken room may panic once more on its way out.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(hosted)));
        }
    }

    fn fail_room(&mut self, index: RoomIndex) {
        let Some(hosted) = self.rooms.get_mut(index) else { return };
        self.stats.rooms_failed += 1;
        let members = hosted.members().to_vec();
        for member in members {
            self.forget(member.session);
            let (participant, reason) = (member.participant, LeaveReason::RoomFailed);
            self.push_event(index, |room| Event::Left { room, participant, reason });
        }
        self.close(index);
    }

    /// Addresses, user fragments, sessions and rooms in the tables.
    #[cfg(test)]
    pub(super) fn table_sizes(&self) -> (usize, usize, usize, usize) {
        let (addresses, ufrags) = self.demux.sizes();
        (addresses, ufrags, self.sessions.len(), self.rooms.len())
    }
}
