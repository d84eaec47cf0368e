//! Rooms: requests about them, what awaits the media plane's answer, and carrying out what a room decides.
//!
//! Invariants: a request that awaits the media plane gets its one reply when the answer comes, or when it did not come in
//! time; whoever the media plane took in, and is in no room for it, is taken out again.

use super::{ConnId, Hub, Identity, Timer};
use crate::{
    call::Endpoint,
    media::{MediaCommand, MediaError, MediaEvent, MediaJoin, MediaJoined},
    room::{Ask, Effect, Member, Room, may_publish, unknown},
};
use halloo_protocol::{
    ErrorBody, ErrorCode, Event, JoinRoom, LeaveReason, MAX_MESSAGE_BYTES, Participant, ParticipantId, PeerReach,
    ReplyBody, ReplyResult, Request, RoomGrants, RoomId, RoomJoined, RoomMedia, RoomSnapshot,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Instant,
};

/// An order that awaits the media plane's answer, numbered by the hub.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MediaTicket(u64);

/// What the shell carries to the media plane for the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MediaOrder {
    /// Take in; answer by [`Hub::handle_media_joined`].
    Join {
        /// Names it.
        ticket: MediaTicket,
        /// Whom.
        join: MediaJoin,
    },
    /// Answer an offer; by [`Hub::handle_media_answer`].
    Offer {
        /// Names it.
        ticket: MediaTicket,
        /// Which room.
        room: RoomId,
        /// Whose.
        participant: ParticipantId,
        /// The offer.
        sdp: String,
    },
    /// Needs no answer.
    Command {
        /// Which room.
        room: RoomId,
        /// What.
        command: MediaCommand,
    },
}

/// A request whose reply waits for the media plane.
#[derive(Debug)]
struct Awaiting {
    conn: ConnId,
    request: u64,
    who: Endpoint,
    room: RoomId,
    deadline: Instant,
    /// With a join: as whom.
    entering: Option<Entering>,
}

#[derive(Debug)]
struct Entering {
    grants: RoomGrants,
    media: RoomMedia,
}

/// The hub's rooms.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Whether there is a media plane.
    available: bool,
    pub(super) open: HashMap<RoomId, Room>,
    awaiting: BTreeMap<MediaTicket, Awaiting>,
    /// Joins that were not answered in time, and for which room they were: who is taken in yet is taken out again.
    late: BTreeMap<MediaTicket, RoomId>,
    orders: VecDeque<MediaOrder>,
    next_ticket: u64,
}

/// Orders waiting for the media plane; above it new requests for media are refused, while leaving always works.
const MAX_ORDERS: usize = 10_000;
/// Requests of one device that may await the media plane.
const MAX_AWAITING_PER_DEVICE: usize = 4;
/// Late joins remembered; above it the oldest is forgotten, and the media plane's own timeout has to end it.
const MAX_LATE: usize = 10_000;
/// Room for participants within a welcome; the rest follows as events.
const WELCOME_BYTES: usize = 24 * 1024;
/// What a reply has besides its SDP and its participants.
const REPLY_OVERHEAD: usize = 2 * 1024;

impl Rooms {
    /// Who is about to enter which room.
    pub(super) fn entering(&self) -> impl Iterator<Item = (&Endpoint, &RoomId)> {
        self.awaiting.values().filter(|a| a.entering.is_some()).map(|a| (&a.who, &a.room))
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.awaiting.is_empty() && self.orders.is_empty()
    }

    fn order(&mut self, room: &RoomId, command: MediaCommand) {
        self.orders.push_back(MediaOrder::Command { room: room.clone(), command });
    }
}

impl Hub {
    /// Says that there is a media plane: from now on rooms can be joined, and [`Hub::poll_media`] has orders for it.
    pub fn use_media_plane(&mut self) {
        self.rooms.available = true;
    }

    /// The next order for the media plane.
    pub fn poll_media(&mut self) -> Option<MediaOrder> {
        self.rooms.orders.pop_front()
    }

    /// Whether there are orders for the media plane.
    pub fn has_media_orders(&self) -> bool {
        !self.rooms.orders.is_empty()
    }

    /// A `join_room`, with what its own token proved where it has one.
    pub fn handle_join_room(
        &mut self,
        now: Instant,
        conn: ConnId,
        id: u64,
        join: JoinRoom,
        proof: Option<Result<Identity, ErrorBody>>,
    ) {
        let Some(who) = self.signed_in(conn, id) else { return };
        if let Err(error) = self.start_join(now, conn, id, &who, join, proof) {
            self.refuse(conn, id, error);
        }
    }

    pub(super) fn handle_room_offer(&mut self, now: Instant, conn: ConnId, id: u64, room: &RoomId, sdp: String) {
        let Some(who) = self.signed_in(conn, id) else { return };
        if let Err(error) = self.start_offer(now, conn, id, &who, room, sdp) {
            self.refuse(conn, id, error);
        }
    }

    /// Does what a request about a room asks that needs no answer of the media plane.
    ///
    /// # Errors
    /// The request, where it is about something else.
    #[expect(clippy::result_large_err, reason = "the request goes on to be handled, it is no error that is kept")]
    pub(super) fn answer_room(
        &mut self,
        now: Instant,
        who: &Endpoint,
        request: Request,
    ) -> Result<Result<(), ErrorBody>, Request> {
        let (room, ask) = match request {
            Request::LeaveRoom { room } => (room, Ask::Leave),
            Request::RoomMedia { room, media } => (room, Ask::Media(media)),
            Request::Subscribe(ask) => (ask.room, Ask::Subscribe { show: ask.show, others: ask.others }),
            Request::Moderate(moderate) => (moderate.room, Ask::Moderate(moderate.action)),
            other => return Err(other),
        };
        let leaves = ask == Ask::Leave;
        if !leaves && let Err(error) = self.media_has_room() {
            return Ok(Err(error));
        }
        let outcome = self.with_room(now, &room, |room, out| room.handle(who, ask, out));
        let absent = if leaves { Ok(()) } else { Err(unknown(&room)) };
        Ok(outcome.unwrap_or(absent).map_err(ErrorBody::from))
    }

    fn start_join(
        &mut self,
        now: Instant,
        conn: ConnId,
        id: u64,
        who: &Endpoint,
        join: JoinRoom,
        proof: Option<Result<Identity, ErrorBody>>,
    ) -> Result<(), ErrorBody> {
        self.media_has_room()?;
        let JoinRoom { room, media, sdp, .. } = join;
        let grants = self.granted(now, who, &room, proof)?;
        may_publish(&grants, &media)?;
        self.may_enter(who, &room, &grants)?;
        let entering = Some(Entering { grants: grants.clone(), media });
        let ticket = self.await_media(now, (conn, id), who, &room, entering)?;
        let limits = self.config.rooms.limits.clone();
        let join = MediaJoin { room, grants, limits, media, sdp };
        self.rooms.orders.push_back(MediaOrder::Join { ticket, join });
        Ok(())
    }

    fn start_offer(
        &mut self,
        now: Instant,
        conn: ConnId,
        id: u64,
        who: &Endpoint,
        room: &RoomId,
        sdp: String,
    ) -> Result<(), ErrorBody> {
        self.media_has_room()?;
        let member = self.rooms.open.get(room).and_then(|room| room.member(who));
        let participant = member.map(|member| member.participant).ok_or_else(|| unknown(room))?;
        let ticket = self.await_media(now, (conn, id), who, room, None)?;
        self.rooms.orders.push_back(MediaOrder::Offer { ticket, room: room.clone(), participant, sdp });
        Ok(())
    }

    /// Whether more can be asked of the media plane.
    fn media_has_room(&self) -> Result<(), ErrorBody> {
        let unavailable = |message: &str| Err(ErrorBody::new(ErrorCode::MediaUnavailable, message));
        match (self.rooms.available, self.rooms.orders.len() < MAX_ORDERS) {
            (true, true) => Ok(()),
            (false, _) => unavailable("this server forwards no media: it takes calls between two, but no rooms"),
            (true, false) => unavailable("the forwarding unit is too busy: try again in a moment"),
        }
    }

    fn await_media(
        &mut self,
        now: Instant,
        (conn, request): (ConnId, u64),
        who: &Endpoint,
        room: &RoomId,
        entering: Option<Entering>,
    ) -> Result<MediaTicket, ErrorBody> {
        if self.rooms.awaiting.values().filter(|a| a.who == *who).count() >= MAX_AWAITING_PER_DEVICE {
            let message = "this device awaits too many answers of the forwarding unit: wait for them first";
            return Err(ErrorBody::new(ErrorCode::RateLimited, message));
        }
        self.rooms.next_ticket += 1;
        let ticket = MediaTicket(self.rooms.next_ticket);
        let deadline = now + self.config.rooms.media_timeout;
        let (who, room) = (who.clone(), room.clone());
        self.rooms.awaiting.insert(ticket, Awaiting { conn, request, who, room, deadline, entering });
        self.timers.insert((deadline, Timer::Media(ticket)));
        Ok(ticket)
    }

    fn answered(&mut self, ticket: MediaTicket) -> Option<Awaiting> {
        let awaiting = self.rooms.awaiting.remove(&ticket)?;
        self.timers.remove(&(awaiting.deadline, Timer::Media(ticket)));
        Some(awaiting)
    }

    /// The media plane has not answered in time.
    pub(super) fn media_timed_out(&mut self, ticket: MediaTicket) {
        let Some(awaiting) = self.answered(ticket) else { return };
        if awaiting.entering.is_some() {
            self.rooms.late.insert(ticket, awaiting.room.clone());
            if self.rooms.late.len() > MAX_LATE {
                self.rooms.late.pop_first();
            }
        }
        let message = "the forwarding unit did not answer in time: try again";
        self.refuse(awaiting.conn, awaiting.request, ErrorBody::new(ErrorCode::MediaUnavailable, message));
    }

    /// The media plane has answered a [`MediaOrder::Join`].
    pub fn handle_media_joined(&mut self, now: Instant, ticket: MediaTicket, joined: Result<MediaJoined, MediaError>) {
        let awaiting = self.answered(ticket);
        let room = awaiting.as_ref().map(|a| a.room.clone()).or_else(|| self.rooms.late.remove(&ticket));
        let Some(room) = room else { return };
        match (awaiting, joined) {
            (Some(awaiting), Ok(joined)) => self.enter(now, awaiting, joined),
            (Some(awaiting), Err(error)) => self.refuse(awaiting.conn, awaiting.request, error.into()),
            (None, Ok(joined)) => self.rooms.order(&room, MediaCommand::Leave { participant: joined.participant }),
            (None, Err(_)) => {}
        }
    }

    /// The media plane has answered a [`MediaOrder::Offer`].
    pub fn handle_media_answer(&mut self, ticket: MediaTicket, answer: Result<String, MediaError>) {
        let Some(awaiting) = self.answered(ticket) else { return };
        let (conn, request) = (awaiting.conn, awaiting.request);
        match answer {
            Ok(sdp) if self.connections.contains_key(&conn) => {
                let place = self.outputs.len();
                self.reply_at(place, conn, request, ReplyBody::Result(ReplyResult::RoomAnswer { sdp }));
            }
            Ok(_) => {}
            Err(error) => self.refuse(conn, request, error.into()),
        }
    }

    /// Somebody whom the media plane took in enters, unless that is no longer right: the connection that asked is gone (the
    /// client asks again on its next one), or the room was locked or filled meanwhile.
    fn enter(&mut self, now: Instant, awaiting: Awaiting, joined: MediaJoined) {
        let Awaiting { conn, request, who, room, entering, .. } = awaiting;
        let Some(Entering { grants, media }) = entering else { return };
        let participant = joined.participant;
        let asks = self.sessions.get(&who).is_some_and(|session| session.conn == Some(conn));
        let admitted = if asks { self.may_enter(&who, &room, &grants) } else { Err(unknown(&room).into()) };
        if let Err(error) = admitted {
            self.rooms.order(&room, MediaCommand::Leave { participant });
            return self.refuse(conn, request, error);
        }
        let display_name = self.users.get(&who.user).map_or_else(|| who.user.to_string(), |u| u.display_name.clone());
        let limits = self.config.rooms.limits.clone();
        self.rooms.open.entry(room.clone()).or_insert_with(|| Room::new(room.clone(), limits));
        if let Some(session) = self.sessions.get_mut(&who)
            && !session.rooms.contains(&room)
        {
            session.rooms.push(room.clone());
        }
        let place = self.outputs.len();
        let member = Member { who: who.clone(), participant, display_name, grants, media, lost: false };
        self.with_room(now, &room, |room, out| room.handle_joined(member, out));
        let Some(mut snapshot) = self.rooms.open.get(&room).and_then(|room| room.snapshot(&who)) else { return };
        let sdp_bytes = serde_json::to_string(&joined.sdp).map_or(0, |text| text.len());
        let rest = split(&mut snapshot, MAX_MESSAGE_BYTES.saturating_sub(sdp_bytes + REPLY_OVERHEAD));
        let result = ReplyResult::RoomJoined(RoomJoined { sdp: joined.sdp, snapshot });
        self.reply_at(place, conn, request, ReplyBody::Result(result));
        self.tell_rest(&who, &room, rest);
        self.refresh_presence(now, &who.user);
    }

    /// Something happened in a room's media.
    pub fn handle_media_event(&mut self, now: Instant, room: &RoomId, event: MediaEvent) {
        self.with_room(now, room, |room, out| room.handle_media(event, out));
    }

    /// The rooms that a device is in, for its welcome, and who did not fit in.
    pub(super) fn room_snapshots(&self, who: &Endpoint) -> (Vec<RoomSnapshot>, Vec<(RoomId, Vec<Participant>)>) {
        let own = self.sessions.get(who).map(|session| session.rooms.as_slice()).unwrap_or_default();
        let budget = WELCOME_BYTES / own.len().max(1);
        let (mut snapshots, mut rests) = (Vec::new(), Vec::new());
        for room in own {
            let Some(mut snapshot) = self.rooms.open.get(room).and_then(|room| room.snapshot(who)) else { continue };
            rests.push((room.clone(), split(&mut snapshot, budget)));
            snapshots.push(snapshot);
        }
        (snapshots, rests)
    }

    pub(super) fn tell_rest(&mut self, who: &Endpoint, room: &RoomId, rest: Vec<Participant>) {
        for participant in rest {
            self.emit(who, &Event::ParticipantJoined { room: room.clone(), participant });
        }
    }

    /// The device's connection broke, or is there again.
    pub(super) fn rooms_reach(&mut self, now: Instant, who: &Endpoint, reach: PeerReach) {
        for room in self.rooms_of(who) {
            self.with_room(now, &room, |room, out| room.handle_reach(who, reach, out));
        }
    }

    /// The device's session ends.
    pub(super) fn leave_rooms(&mut self, now: Instant, who: &Endpoint, reason: LeaveReason) {
        for room in self.rooms_of(who) {
            self.with_room(now, &room, |room, out| room.handle_gone(who, reason, out));
        }
    }

    fn rooms_of(&self, who: &Endpoint) -> Vec<RoomId> {
        self.sessions.get(who).map(|session| session.rooms.clone()).unwrap_or_default()
    }

    /// Lets a room do something, then does what follows; an empty room ends.
    fn with_room<R>(
        &mut self,
        now: Instant,
        id: &RoomId,
        act: impl FnOnce(&mut Room, &mut Vec<Effect>) -> R,
    ) -> Option<R> {
        let room = self.rooms.open.get_mut(id)?;
        let mut effects = Vec::new();
        let result = act(room, &mut effects);
        if room.is_empty() {
            self.rooms.open.remove(id);
        }
        for effect in effects {
            match effect {
                Effect::Event { to, event } => self.emit(&to, &event),
                Effect::Media(command) => self.rooms.order(id, command),
                Effect::Gone(who) => {
                    if let Some(session) = self.sessions.get_mut(&who) {
                        session.rooms.retain(|room| room != id);
                    }
                    self.refresh_presence(now, &who.user);
                }
            }
        }
        Some(result)
    }
}

impl From<MediaError> for ErrorBody {
    fn from(error: MediaError) -> Self {
        let code = match error {
            MediaError::BadOffer(_) => ErrorCode::OfferRefused,
            MediaError::Full => ErrorCode::RoomFull,
            MediaError::Unavailable(_) => ErrorCode::MediaUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// Leaves as many participants in the snapshot as fit, and gives the others.
fn split(snapshot: &mut RoomSnapshot, budget: usize) -> Vec<Participant> {
    let mut bytes = 0;
    let fits = snapshot.participants.iter().take_while(|participant| {
        bytes += serde_json::to_string(participant).map_or(0, |text| text.len() + 1);
        bytes <= budget
    });
    let fits = fits.count();
    snapshot.participants.split_off(fits)
}
