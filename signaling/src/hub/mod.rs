//! Everything the server knows, as one value without clock, socket or thread: sessions, calls, presence.
//!
//! Feed it with `handle_open`, `handle_hello`, `handle_request`, `handle_received`, `handle_closed` and, when
//! [`Hub::next_timeout`] has come, [`Hub::handle_timeout`]; after each, take what is to be sent with
//! [`Hub::poll_output`] until it is empty.
//!
//! Invariants: each request gets exactly one reply; a session's events are numbered without a gap; a call that is not
//! ended has a live session on each side that is known, or a timer that will end it.

mod calling;
mod history;
mod presence;
mod room_access;
mod rooms;
mod session;
mod sign_in;
#[cfg(test)]
mod simulation;

use crate::{
    call::{Call, Effect, Endpoint},
    redact::Redactor,
};
use halloo_protocol::{
    CallId, ClientMessage, CloseCode, Credential, EndReason, Epoch, ErrorBody, ErrorCode, Event, Limits,
    MAX_MESSAGE_BYTES, Reply, ReplyBody, ReplyResult, Request, ServerMessage, SessionId, UserId, parse_client_message,
};
use presence::Watches;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
pub use room_access::{RoomAccess, RoomRules};
use rooms::Rooms;
pub use rooms::{MediaOrder, MediaTicket};
pub use session::{Identity, IdentityKind, SignIn};
use session::{Session, User};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What the hub is told at its making.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How long a call rings.
    pub ring_timeout: Duration,
    /// How long a session survives without a connection.
    pub resume_window: Duration,
    /// How long after its connection broke a device still counts as there: shorter breaks show nowhere.
    pub linger: Duration,
    /// How long an ended call is remembered, so that late requests get a fitting reply.
    pub remember_ended: Duration,
    /// Calls that have not ended, per device.
    pub max_calls_per_device: usize,
    /// Sessions of one user.
    pub max_devices_per_user: usize,
    /// Shown to clients; the shell enforces it.
    pub messages_per_second: u32,
    /// Shown to clients; the shell does it.
    pub ping_interval: Duration,
    /// What rooms are held to.
    pub rooms: RoomRules,
    /// How identities appear in logs.
    pub redactor: Redactor,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(45),
            resume_window: Duration::from_secs(60),
            linger: Duration::from_secs(10),
            remember_ended: Duration::from_secs(120),
            max_calls_per_device: 8,
            max_devices_per_user: 32,
            messages_per_second: 50,
            ping_interval: Duration::from_secs(15),
            rooms: RoomRules::default(),
            redactor: Redactor::hiding([0; 16]),
        }
    }
}

/// One WebSocket connection, numbered by the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// What the shell does for the hub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this text message.
    Send {
        /// On which connection.
        conn: ConnId,
        /// JSON of a [`ServerMessage`].
        text: String,
    },
    /// Close, after what was sent before has gone out. The hub has forgotten the connection.
    Close {
        /// Which connection.
        conn: ConnId,
        /// The reason's number.
        code: CloseCode,
        /// The reason for people, at most 123 bytes.
        reason: &'static str,
    },
}

/// Counters and sizes, for `/metrics`.
#[derive(Clone, Default, Debug)]
pub struct HubStats {
    /// Signed-in sessions, connected or within their resume window.
    pub sessions: usize,
    /// Of these, without a connection at the moment.
    pub sessions_lost: usize,
    /// Calls that ring.
    pub calls_ringing: usize,
    /// Answered calls.
    pub calls_active: usize,
    /// Calls that one side has announced after a restart.
    pub calls_rebuilding: usize,
    /// Rooms that somebody is in.
    pub rooms: usize,
    /// Participants of all rooms.
    pub room_participants: usize,
    /// Ended calls by reason.
    pub ended: BTreeMap<&'static str, u64>,
    /// Error replies by code.
    pub errors: BTreeMap<String, u64>,
    /// Sessions that were resumed.
    pub resumes: u64,
    /// Sessions that asked to be resumed and got a snapshot.
    pub resumes_refused: u64,
    /// Sessions that ran out.
    pub sessions_expired: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Call(CallId),
    Session(Endpoint),
    Linger(UserId),
    Media(MediaTicket),
}

#[derive(Debug)]
struct EndedCall {
    forget_at: Instant,
    call: CallId,
}

/// Ended calls and hang-ups of unknown calls kept at most; beyond it the oldest is forgotten early.
const MAX_ENDED: usize = 10_000;
/// Users without a session that are still known by name; beyond it the one gone longest is forgotten.
const MAX_KNOWN_OFFLINE: usize = 100_000;

/// The signaling server's memory and rules.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    epoch: Epoch,
    random: ChaCha20Rng,
    connections: HashMap<ConnId, Option<Endpoint>>,
    sessions: HashMap<Endpoint, Session>,
    users: HashMap<UserId, User>,
    offline: VecDeque<UserId>,
    calls: HashMap<CallId, Call>,
    ended: VecDeque<EndedCall>,
    /// Calls that were hung up while this server did not know them, and by whom: their peer may still announce them.
    hung_up_unknown: VecDeque<(CallId, UserId)>,
    rooms: Rooms,
    watches: Watches,
    timers: BTreeSet<(Instant, Timer)>,
    outputs: VecDeque<Output>,
    draining: bool,
    stats: HubStats,
}

impl Hub {
    /// An empty hub. `seed` must be unguessable: session ids, which are secrets, are drawn from it.
    pub fn new(config: HubConfig, seed: [u8; 32]) -> Self {
        let mut random = ChaCha20Rng::from_seed(seed);
        let epoch = Epoch::new(draw(&mut random)).unwrap_or_else(|_| unreachable_id());
        Self {
            config,
            epoch,
            random,
            connections: HashMap::new(),
            sessions: HashMap::new(),
            users: HashMap::new(),
            offline: VecDeque::new(),
            calls: HashMap::new(),
            ended: VecDeque::new(),
            hung_up_unknown: VecDeque::new(),
            rooms: Rooms::default(),
            watches: Watches::default(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            draining: false,
            stats: HubStats::default(),
        }
    }

    /// This run of the server.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// A connection was made.
    pub fn handle_open(&mut self, conn: ConnId) {
        self.connections.insert(conn, None);
    }

    /// A connection is gone, in whatever way. Its session waits to be resumed.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId) {
        if let Some(Some(who)) = self.connections.remove(&conn) {
            self.lose(now, conn, &who);
        }
    }

    /// Any request but `hello`, and but a `join_room` with a token of its own.
    pub fn handle_request(&mut self, now: Instant, conn: ConnId, id: u64, request: Request) {
        let request = match request {
            Request::JoinRoom(join) => return self.handle_join_room(now, conn, id, join, None),
            Request::RoomOffer { room, sdp } => return self.handle_room_offer(now, conn, id, &room, sdp),
            request => request,
        };
        let Some(who) = self.signed_in(conn, id) else { return };
        // The reply goes out before the events that the request causes.
        let place = self.outputs.len();
        let body = match self.answer(now, &who, request) {
            Ok(result) => ReplyBody::Result(result),
            Err(error) => self.error_body(error),
        };
        self.reply_at(place, conn, id, body);
    }

    /// Who is signed in on a connection; nobody gets an error reply.
    fn signed_in(&mut self, conn: ConnId, id: u64) -> Option<Endpoint> {
        let who = self.connections.get(&conn)?.clone();
        if who.is_none() {
            let message = "sign in first: the first request on a connection is hello";
            self.refuse(conn, id, ErrorBody::new(ErrorCode::NotSignedIn, message));
        }
        who
    }

    /// One text message of any content; `prove` says who a credential is. For tests and fuzzing: the server itself reads
    /// messages and proves credentials before it takes the hub's lock.
    pub fn handle_text(
        &mut self,
        now: Instant,
        conn: ConnId,
        text: &str,
        prove: impl FnOnce(&Credential) -> Result<SignIn, ErrorBody>,
    ) {
        match parse_client_message(text) {
            Ok(ClientMessage { id, request: Request::Hello(hello) }) => {
                let proof = prove(&hello.credential);
                self.handle_hello(now, conn, id, hello, proof);
            }
            Ok(ClientMessage { id, request: Request::JoinRoom(mut join) }) => {
                let token = join.token.take().map(|token| Credential::Token { token });
                let proof = token.map(|token| prove(&token).map(|sign_in| sign_in.identity));
                self.handle_join_room(now, conn, id, join, proof);
            }
            Ok(ClientMessage { id, request }) => self.handle_request(now, conn, id, request),
            Err(error) => self.handle_unreadable(conn, error.id, error.error),
        }
    }

    /// A message that is no request: it gets its error as the reply.
    pub fn handle_unreadable(&mut self, conn: ConnId, id: u64, error: ErrorBody) {
        if self.connections.contains_key(&conn) {
            self.refuse(conn, id, error);
        }
    }

    fn answer(&mut self, now: Instant, who: &Endpoint, request: Request) -> Result<ReplyResult, ErrorBody> {
        match request {
            Request::Hello(_) => Err(ErrorBody::new(
                ErrorCode::AlreadySignedIn,
                "this connection is signed in already: open another one",
            )),
            Request::SignOut => {
                self.sign_out(now, who);
                Ok(ReplyResult::Ok)
            }
            Request::WatchPresence(watch) => Ok(ReplyResult::Presence { users: self.watch(who, watch.users) }),
            request => match self.answer_room(now, who, request) {
                Ok(answered) => answered.map(|()| ReplyResult::Ok),
                Err(request) => self.answer_call(now, who, request).map(|()| ReplyResult::Ok),
            },
        }
    }

    /// The number of the last event sent to this connection's session; 0 before it signed in.
    pub fn last_seq(&self, conn: ConnId) -> u64 {
        self.session_of(conn).map_or(0, |session| session.history.last_seq())
    }

    /// The client has everything up to this event: it need not be kept for a resume any longer.
    pub fn handle_received(&mut self, conn: ConnId, seq: u64) {
        let Some(Some(who)) = self.connections.get(&conn) else { return };
        if let Some(session) = self.sessions.get_mut(who) {
            session.history.forget_through(seq);
        }
    }

    /// When [`Hub::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let ended = self.ended.front().map(|e| e.forget_at);
        match (timer, ended) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Does what has come due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Call(call) => {
                    self.with_call(now, &call, |call, out| call.handle_timeout(now, out));
                }
                Timer::Session(who) => self.expire(now, &who),
                Timer::Linger(user) => self.refresh_presence(now, &user),
                Timer::Media(ticket) => self.media_timed_out(ticket),
            }
        }
        while self.ended.front().is_some_and(|e| e.forget_at <= now) {
            if let Some(ended) = self.ended.pop_front() {
                self.calls.remove(&ended.call);
            }
        }
    }

    /// The server will go away: everyone is told, and nobody new is taken.
    pub fn handle_drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let everyone: Vec<Endpoint> = self.sessions.keys().cloned().collect();
        for to in everyone {
            let message = "the server is restarting: your call goes on, the connection will be made again".to_owned();
            self.emit(&to, &Event::GoingAway { message });
        }
    }

    /// The next thing to send or close.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Sizes and counters.
    pub fn stats(&self) -> HubStats {
        use crate::call::Phase;
        let count = |f: fn(&Phase) -> bool| self.calls.values().filter(|call| f(call.phase())).count();
        HubStats {
            sessions: self.sessions.len(),
            sessions_lost: self.sessions.values().filter(|s| s.conn.is_none()).count(),
            calls_ringing: count(|p| matches!(p, Phase::Ringing(_))),
            calls_active: count(|p| matches!(p, Phase::Active)),
            calls_rebuilding: count(|p| matches!(p, Phase::Rebuilding(_))),
            rooms: self.rooms.open.len(),
            room_participants: self.rooms.open.values().map(crate::room::Room::len).sum(),
            ..self.stats.clone()
        }
    }

    fn session_of(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(self.connections.get(&conn)?.as_ref()?)
    }

    fn limits(&self) -> Limits {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Limits {
            max_message_bytes: u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX),
            messages_per_second: self.config.messages_per_second,
            ring_timeout_ms: millis(self.config.ring_timeout),
            ping_interval_ms: millis(self.config.ping_interval),
            resume_window_ms: millis(self.config.resume_window),
        }
    }

    fn draw_session_id(&mut self) -> SessionId {
        SessionId::new(draw(&mut self.random)).unwrap_or_else(|_| unreachable_id())
    }

    /// An error reply, where the connection is there.
    fn refuse(&mut self, conn: ConnId, id: u64, error: ErrorBody) {
        if !self.connections.contains_key(&conn) {
            return;
        }
        let place = self.outputs.len();
        let body = self.error_body(error);
        self.reply_at(place, conn, id, body);
    }

    fn error_body(&mut self, error: ErrorBody) -> ReplyBody {
        let code = serde_json::to_value(error.code).ok().and_then(|v| v.as_str().map(str::to_owned));
        *self.stats.errors.entry(code.unwrap_or_default()).or_default() += 1;
        ReplyBody::Error(error)
    }

    fn reply_at(&mut self, place: usize, conn: ConnId, id: u64, body: ReplyBody) {
        let message = ServerMessage::Reply(Reply { reply_to: id, body });
        if let Ok(text) = serde_json::to_string(&message) {
            self.outputs.insert(place, Output::Send { conn, text });
        }
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &'static str) {
        self.connections.remove(&conn);
        self.outputs.push_back(Output::Close { conn, code, reason });
    }

    /// Numbers an event, keeps it for a resume, and sends it where there is a connection.
    fn emit(&mut self, to: &Endpoint, event: &Event) {
        let Some(session) = self.sessions.get_mut(to) else { return };
        let Ok(body) = serde_json::to_string(event) else { return };
        let text = session.history.push(body.into());
        if let Some(conn) = session.conn {
            self.outputs.push_back(Output::Send { conn, text });
        }
    }

    /// Lets a call do something, then does what follows: timers, events, bookkeeping of its end, presence.
    fn with_call<R>(
        &mut self,
        now: Instant,
        id: &CallId,
        act: impl FnOnce(&mut Call, &mut Vec<Effect>) -> R,
    ) -> Option<R> {
        let call = self.calls.get_mut(id)?;
        let (had_ended, old_deadline) = (call.ended().is_some(), call.deadline());
        let mut effects = Vec::new();
        let result = act(call, &mut effects);
        let (ended, deadline) = (call.ended(), call.deadline());
        let users = [call.caller.user.clone(), call.callee.user.clone()];
        if old_deadline != deadline {
            if let Some(at) = old_deadline {
                self.timers.remove(&(at, Timer::Call(id.clone())));
            }
            if let Some(at) = deadline {
                self.timers.insert((at, Timer::Call(id.clone())));
            }
        }
        for effect in effects {
            if matches!(effect.event, Event::IncomingCall(_)) {
                self.remember_call(&effect.to, id);
            }
            self.emit(&effect.to, &effect.event);
        }
        if let (Some(reason), false) = (ended, had_ended) {
            self.bury(now, id, reason, &users);
        }
        for user in &users {
            self.refresh_presence(now, user);
        }
        Some(result)
    }

    /// Notes that a device is part of a call.
    fn remember_call(&mut self, who: &Endpoint, id: &CallId) {
        if let Some(session) = self.sessions.get_mut(who)
            && !session.calls.contains(id)
        {
            session.calls.push(id.clone());
        }
    }

    fn bury(&mut self, now: Instant, id: &CallId, reason: EndReason, users: &[UserId; 2]) {
        *self.stats.ended.entry(reason_name(reason)).or_default() += 1;
        tracing::info!(call = %self.config.redactor.show(id.as_str()), reason = reason_name(reason), "call ended");
        for user in users {
            let Some(devices) = self.users.get(user).map(|user| user.devices.clone()) else { continue };
            for device in devices {
                let endpoint = Endpoint { user: user.clone(), device };
                if let Some(session) = self.sessions.get_mut(&endpoint) {
                    session.calls.retain(|call| call != id);
                }
            }
        }
        self.ended.push_back(EndedCall { forget_at: now + self.config.remember_ended, call: id.clone() });
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.calls.remove(&oldest.call);
        }
    }
}

fn draw(random: &mut ChaCha20Rng) -> String {
    format!("{:016x}{:016x}", random.next_u64(), random.next_u64())
}

/// 32 hexadecimal digits are always an identifier.
fn unreachable_id<T>() -> T {
    unreachable!("32 hexadecimal digits are an identifier")
}

/// The reason as in the protocol.
pub(crate) fn reason_name(reason: EndReason) -> &'static str {
    match reason {
        EndReason::HungUp => "hung_up",
        EndReason::Declined => "declined",
        EndReason::Busy => "busy",
        EndReason::Cancelled => "cancelled",
        EndReason::NoAnswer => "no_answer",
        EndReason::AnsweredElsewhere => "answered_elsewhere",
        EndReason::DeclinedElsewhere => "declined_elsewhere",
        EndReason::PeerLost => "peer_lost",
        _ => "failed",
    }
}
