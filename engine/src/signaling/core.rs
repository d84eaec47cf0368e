//! The client's side of signaling as a pure state machine: connect, sign in, request and reply, resume.
//!
//! It guarantees that each request gets exactly one outcome, that events are delivered once and in order across broken
//! connections, and that a gap in their numbers is never passed over: it forces a fresh connection instead.
//!
//! Requests that had no reply when a connection broke are sent again after a resume, in their order; the server takes
//! repetitions of what it has done already. After a restart of the server they fail, and the calls announce themselves.

use halloo_protocol::{
    ClientMessage, CloseCode, ErrorBody, ErrorCode, Event, Hello, NumberedEvent, Reply, ReplyBody, ReplyResult,
    Request, Resume, ServerMessage, Welcome,
};
use halloo_transport::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// How long the server may take for the WebSocket and the sign-in together.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause before connecting again; doubled up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// Longest pause before connecting again, for the first [`HASTY`] attempts: a server that restarts has its meetings back
/// within three seconds, even where the longest pause of all had just begun.
const HASTY_BACKOFF: Duration = Duration::from_millis(1_800);
/// About a minute. With a call or a room the pauses stay short after it, too: see [`ClientCore::hurry`].
const HASTY: u32 = 35;
/// Longest pause after that.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Requests that wait for a connection or a reply; beyond that new ones fail at once.
const MAX_OUTSTANDING: usize = 512;

/// Names a request to whoever made it.
pub(crate) type Ticket = u64;

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Open a connection; report it by `handle_open` or `handle_closed`.
    Connect,
    /// Send this text.
    Send(String),
    /// Close the connection; no report is wanted.
    Disconnect,
    /// Tell the engine.
    Notice(Notice),
    /// The outcome of a request.
    Outcome(Ticket, Result<ReplyResult, ErrorBody>),
}

/// What the engine learns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Signed in, for the first time or again.
    SignedIn(Welcome),
    /// The connection broke; it is being made again.
    Lost(String),
    /// The server sent this.
    Event(Event),
    /// The server refused this client for good: no further attempt is made.
    Refused(ErrorBody),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Timestamp },
    Connecting { deadline: Timestamp },
    SigningIn { deadline: Timestamp },
    Ready,
    Over,
}

#[derive(Debug)]
struct Outstanding {
    ticket: Ticket,
    request: Request,
    /// The id it was sent under on the present connection.
    sent_as: Option<u64>,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct ClientCore {
    hello: Hello,
    phase: Phase,
    last_seq: u64,
    next_id: u64,
    next_ticket: Ticket,
    hello_id: u64,
    failures: u32,
    jitter: u64,
    heard_at: Timestamp,
    silence_limit: Duration,
    outstanding: VecDeque<Outstanding>,
    outputs: VecDeque<Output>,
}

impl ClientCore {
    /// A client that will connect at once. `seed` spreads the reconnection of many clients.
    pub(crate) fn new(now: Timestamp, hello: Hello, seed: u64) -> Self {
        Self {
            hello,
            phase: Phase::Waiting { until: now },
            last_seq: 0,
            next_id: 1,
            next_ticket: 1,
            hello_id: 0,
            failures: 0,
            jitter: seed | 1,
            heard_at: now,
            silence_limit: Duration::from_secs(40),
            outstanding: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Makes a request; its outcome comes as [`Output::Outcome`] under the returned ticket.
    pub(crate) fn request(&mut self, request: Request) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if self.phase == Phase::Over || self.outstanding.len() >= MAX_OUTSTANDING {
            let error = ErrorBody::new(ErrorCode::NotSignedIn, "there is no connection to the signaling server");
            self.outputs.push_back(Output::Outcome(ticket, Err(error)));
            return ticket;
        }
        self.outstanding.push_back(Outstanding { ticket, request, sent_as: None });
        if self.phase == Phase::Ready {
            self.send_unsent();
        }
        ticket
    }

    /// The connection that [`Output::Connect`] asked for is open.
    pub(crate) fn handle_open(&mut self, now: Timestamp) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.heard_at = now;
        self.phase = Phase::SigningIn { deadline: now + SIGN_IN_TIMEOUT };
        self.hello_id = self.take_id();
        let mut hello = self.hello.clone();
        if let Some(resume) = &mut hello.resume {
            resume.last_seq = self.last_seq;
        }
        self.send(self.hello_id, Request::Hello(hello));
    }

    /// The connection could not be made or has ended.
    pub(crate) fn handle_closed(&mut self, now: Timestamp, code: Option<u16>, reason: &str) {
        if matches!(self.phase, Phase::Over | Phase::Waiting { .. }) {
            return;
        }
        if let Some(code) = code
            && !CloseCode::should_reconnect(code)
        {
            self.refuse(ErrorBody::new(ErrorCode::NotSignedIn, closed_text(code, reason)));
            return;
        }
        self.lose(now, reason.to_owned());
    }

    /// Anything at all came in (a ping, too).
    pub(crate) fn handle_traffic(&mut self, now: Timestamp) {
        self.heard_at = now;
    }

    /// A text message came in.
    pub(crate) fn handle_text(&mut self, now: Timestamp, text: &str) {
        self.heard_at = now;
        match serde_json::from_str::<ServerMessage>(text) {
            Ok(ServerMessage::Reply(reply)) => self.handle_reply(now, reply),
            Ok(ServerMessage::Event(event)) => self.handle_event(now, event),
            Err(error) => self.abandon(now, format!("the server sent what is not a message: {error}")),
        }
    }

    fn handle_reply(&mut self, now: Timestamp, reply: Reply) {
        if reply.reply_to == self.hello_id && matches!(self.phase, Phase::SigningIn { .. }) {
            return self.handle_hello_reply(now, reply.body);
        }
        let Some(at) = self.outstanding.iter().position(|o| o.sent_as == Some(reply.reply_to)) else {
            return;
        };
        let Some(outstanding) = self.outstanding.remove(at) else { return };
        let outcome = match reply.body {
            ReplyBody::Result(result) => Ok(result),
            ReplyBody::Error(error) => Err(error),
        };
        self.outputs.push_back(Output::Outcome(outstanding.ticket, outcome));
    }

    fn handle_hello_reply(&mut self, now: Timestamp, body: ReplyBody) {
        match body {
            ReplyBody::Result(ReplyResult::Welcome(welcome)) => {
                self.failures = 0;
                self.phase = Phase::Ready;
                self.silence_limit =
                    Duration::from_millis(welcome.limits.ping_interval_ms.clamp(1_000, 120_000) * 5 / 2);
                if !welcome.resumed {
                    self.last_seq = 0;
                    if self.hello.resume.is_some() {
                        self.fail_outstanding(
                            "the signaling server lost this session; the request may not have been done",
                        );
                    }
                }
                self.hello.resume = Some(Resume {
                    session: welcome.session.clone(),
                    epoch: welcome.epoch.clone(),
                    last_seq: self.last_seq,
                });
                self.outputs.push_back(Output::Notice(Notice::SignedIn(welcome)));
                self.send_unsent();
            }
            ReplyBody::Result(_) => self.abandon(now, "the server answered the sign-in with something else".to_owned()),
            ReplyBody::Error(error)
                if matches!(error.code, ErrorCode::ShuttingDown | ErrorCode::RateLimited | ErrorCode::Internal) =>
            {
                self.abandon(now, error.message);
            }
            ReplyBody::Error(error) => self.refuse(error),
        }
    }

    fn handle_event(&mut self, now: Timestamp, numbered: NumberedEvent) {
        if self.phase != Phase::Ready || numbered.seq <= self.last_seq {
            return;
        }
        if numbered.seq != self.last_seq + 1 {
            let text = format!("event {} came after {}: events were lost", numbered.seq, self.last_seq);
            return self.abandon(now, text);
        }
        self.last_seq = numbered.seq;
        self.outputs.push_back(Output::Notice(Notice::Event(numbered.event)));
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Waiting { until } if until <= now => {
                self.phase = Phase::Connecting { deadline: now + SIGN_IN_TIMEOUT };
                self.outputs.push_back(Output::Connect);
            }
            Phase::Connecting { deadline } | Phase::SigningIn { deadline } if deadline <= now => {
                self.abandon(now, "the signaling server did not answer in time".to_owned());
            }
            Phase::Ready if self.heard_at + self.silence_limit <= now => {
                self.abandon(now, "the signaling server went silent".to_owned());
            }
            _ => {}
        }
    }

    /// When [`ClientCore::handle_timeout`] is next wanted.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Connecting { deadline } | Phase::SigningIn { deadline } => Some(deadline),
            Phase::Ready => Some(self.heard_at + self.silence_limit),
            Phase::Over => None,
        }
    }

    /// The network changed: what was a healthy connection may be dead, so try anew without waiting.
    pub(crate) fn handle_network_change(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Waiting { .. } => self.phase = Phase::Waiting { until: now },
            Phase::Ready => {
                self.abandon(now, "the network changed".to_owned());
                self.phase = Phase::Waiting { until: now };
            }
            _ => {}
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn send_unsent(&mut self) {
        for i in 0..self.outstanding.len() {
            if self.outstanding[i].sent_as.is_none() {
                let id = self.take_id();
                self.outstanding[i].sent_as = Some(id);
                let request = self.outstanding[i].request.clone();
                self.send(id, request);
            }
        }
    }

    fn send(&mut self, id: u64, request: Request) {
        match serde_json::to_string(&ClientMessage { id, request }) {
            Ok(text) => self.outputs.push_back(Output::Send(text)),
            Err(error) => tracing::error!(%error, "a request could not be written as JSON"),
        }
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn abandon(&mut self, now: Timestamp, reason: String) {
        self.outputs.push_back(Output::Disconnect);
        self.lose(now, reason);
    }

    fn lose(&mut self, now: Timestamp, reason: String) {
        for outstanding in &mut self.outstanding {
            outstanding.sent_as = None;
        }
        let longest = if self.failures < HASTY { HASTY_BACKOFF } else { MAX_BACKOFF };
        let doubled = MIN_BACKOFF.saturating_mul(1 << self.failures.min(8)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + self.spread(doubled) };
        self.outputs.push_back(Output::Notice(Notice::Lost(reason)));
    }

    /// Something runs that cannot wait: no pause is longer than those of the first attempts.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        if let Phase::Waiting { until } = self.phase {
            let soon = now + self.spread(HASTY_BACKOFF);
            self.phase = Phase::Waiting { until: until.min(soon) };
        }
    }

    /// A quarter more or less, so that many clients do not come at once.
    fn spread(&mut self, pause: Duration) -> Duration {
        // xorshift64: only spreads clients in time.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        pause.mul_f64(0.75 + 0.5 * (self.jitter % 1_000) as f64 / 1_000.0)
    }

    fn refuse(&mut self, error: ErrorBody) {
        self.phase = Phase::Over;
        self.outputs.push_back(Output::Disconnect);
        self.fail_outstanding(&error.message);
        self.outputs.push_back(Output::Notice(Notice::Refused(error)));
    }

    fn fail_outstanding(&mut self, why: &str) {
        for outstanding in self.outstanding.drain(..) {
            let error = ErrorBody::new(ErrorCode::NotSignedIn, why);
            self.outputs.push_back(Output::Outcome(outstanding.ticket, Err(error)));
        }
    }
}

fn closed_text(code: u16, reason: &str) -> String {
    match code {
        4004 => "this device signed in elsewhere, which ended this session".to_owned(),
        4007 => "the session was signed out".to_owned(),
        _ if reason.is_empty() => format!("the signaling server closed the connection (code {code})"),
        _ => format!("the signaling server closed the connection: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_protocol::{CallId, ClientInfo, Credential, DeviceId, Epoch, Limits, SessionId, UserId};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn core() -> ClientCore {
        let hello = Hello {
            credential: Credential::Guest { name: UserId::new("alice").unwrap() },
            device: DeviceId::new("d").unwrap(),
            client: ClientInfo { name: "test".into(), version: "0".into() },
            resume: None,
        };
        ClientCore::new(at(0), hello, 7)
    }

    fn drain(core: &mut ClientCore) -> Vec<Output> {
        std::iter::from_fn(|| core.poll_output()).collect()
    }

    fn reply(id: u64, body: ReplyBody) -> String {
        serde_json::to_string(&ServerMessage::Reply(Reply { reply_to: id, body })).unwrap()
    }

    fn welcome(resumed: bool) -> ReplyBody {
        ReplyBody::Result(ReplyResult::Welcome(Welcome {
            session: SessionId::new("s").unwrap(),
            epoch: Epoch::new(if resumed { "e1" } else { "e2" }).unwrap(),
            resumed,
            user: UserId::new("alice").unwrap(),
            display_name: "Alice".into(),
            ice_servers: vec![],
            limits: Limits {
                max_message_bytes: 65_536,
                messages_per_second: 50,
                ring_timeout_ms: 30_000,
                ping_interval_ms: 15_000,
                resume_window_ms: 60_000,
            },
            calls: vec![],
            rooms: vec![],
        }))
    }

    fn event(seq: u64) -> String {
        let call = CallId::new(format!("c{seq}")).unwrap();
        let event = Event::Ringing { call, device: DeviceId::new("x").unwrap() };
        serde_json::to_string(&ServerMessage::Event(NumberedEvent { seq, event })).unwrap()
    }

    fn sent(outputs: &[Output]) -> Vec<ClientMessage> {
        let text = |o: &Output| match o {
            Output::Send(text) => Some(serde_json::from_str(text).unwrap()),
            _ => None,
        };
        outputs.iter().filter_map(text).collect()
    }

    /// Signs in and returns the id of the hello that was sent.
    fn sign_in(core: &mut ClientCore, now: u64, resumed: bool) -> ClientMessage {
        core.handle_timeout(at(now));
        assert!(drain(core).contains(&Output::Connect));
        core.handle_open(at(now));
        let hello = sent(&drain(core)).remove(0);
        core.handle_text(at(now), &reply(hello.id, welcome(resumed)));
        hello
    }

    #[test]
    fn a_request_without_reply_is_sent_again_after_a_resume() {
        let mut core = core();
        sign_in(&mut core, 0, false);
        drain(&mut core);
        let ticket = core.request(Request::Decline { call: CallId::new("c").unwrap() });
        assert_eq!(sent(&drain(&mut core)).len(), 1);
        core.handle_closed(at(10), None, "reset");
        drain(&mut core);
        sign_in(&mut core, 2_000, true);
        let again = sent(&drain(&mut core)).remove(0);
        core.handle_text(at(2_001), &reply(again.id, ReplyBody::Result(ReplyResult::Ok)));
        assert_eq!(drain(&mut core), vec![Output::Outcome(ticket, Ok(ReplyResult::Ok))]);
    }

    #[test]
    fn resume_names_the_last_event_seen_and_repeats_are_dropped() {
        let mut core = core();
        sign_in(&mut core, 0, false);
        core.handle_text(at(1), &event(1));
        core.handle_text(at(1), &event(2));
        core.handle_closed(at(10), None, "reset");
        drain(&mut core);
        let hello = sign_in(&mut core, 2_000, true);
        let Request::Hello(hello) = hello.request else { panic!("not a hello") };
        assert_eq!(hello.resume.unwrap().last_seq, 2);
        drain(&mut core);
        core.handle_text(at(2_001), &event(2));
        assert_eq!(drain(&mut core), vec![]);
        core.handle_text(at(2_001), &event(3));
        assert_eq!(drain(&mut core).len(), 1);
    }

    #[test]
    fn a_gap_in_the_events_forces_a_new_connection() {
        let mut core = core();
        sign_in(&mut core, 0, false);
        drain(&mut core);
        core.handle_text(at(1), &event(2));
        let outputs = drain(&mut core);
        assert_eq!(outputs[0], Output::Disconnect);
        assert!(matches!(&outputs[1], Output::Notice(Notice::Lost(why)) if why.contains("lost")));
    }

    #[test]
    fn a_restarted_server_fails_what_was_outstanding_and_numbers_anew() {
        let mut core = core();
        sign_in(&mut core, 0, false);
        core.handle_text(at(1), &event(1));
        let ticket = core.request(Request::SignOut);
        core.handle_closed(at(10), Some(1006), "");
        drain(&mut core);
        sign_in(&mut core, 2_000, false);
        let outputs = drain(&mut core);
        assert!(matches!(&outputs[0], Output::Outcome(t, Err(_)) if *t == ticket), "{outputs:?}");
        core.handle_text(at(2_001), &event(1));
        assert_eq!(drain(&mut core).len(), 1);
    }

    #[test]
    fn a_refused_token_ends_it_and_a_draining_server_does_not() {
        for (code, over) in [(ErrorCode::TokenExpired, true), (ErrorCode::ShuttingDown, false)] {
            let mut core = core();
            core.handle_timeout(at(0));
            core.handle_open(at(0));
            let hello = sent(&drain(&mut core)).remove(0);
            core.handle_text(at(1), &reply(hello.id, ReplyBody::Error(ErrorBody::new(code, "no"))));
            let refused = drain(&mut core).iter().any(|o| matches!(o, Output::Notice(Notice::Refused(_))));
            assert_eq!((refused, core.next_timeout().is_none()), (over, over));
        }
    }

    #[test]
    fn a_silent_server_is_given_up_after_two_and_a_half_pings() {
        let mut core = core();
        sign_in(&mut core, 0, false);
        drain(&mut core);
        core.handle_timeout(at(37_000));
        assert_eq!(drain(&mut core), vec![]);
        core.handle_timeout(at(37_500));
        assert_eq!(drain(&mut core)[0], Output::Disconnect);
    }

    #[test]
    fn with_a_meeting_pauses_stay_short_for_as_long_as_it_takes() {
        let mut core = core();
        for _ in 0..60 {
            let now = core.next_timeout().unwrap();
            core.handle_timeout(now);
            core.handle_closed(now, None, "refused");
            core.hurry(now);
            let pause = core.next_timeout().unwrap().since(now);
            assert!(pause < Duration::from_millis(2_300), "{pause:?}");
        }
    }

    #[test]
    fn pauses_grow_and_stay_short_for_the_first_minute() {
        let mut core = core();
        let mut pauses = Vec::new();
        for _ in 0..60 {
            let now = core.next_timeout().unwrap();
            core.handle_timeout(now);
            core.handle_closed(now, None, "refused");
            pauses.push(core.next_timeout().unwrap().since(now));
        }
        drain(&mut core);
        let in_first_minute: Vec<Duration> = pauses
            .iter()
            .scan(Duration::ZERO, |since, pause| {
                *since += *pause;
                Some((*since, *pause))
            })
            .take_while(|(since, _)| *since < Duration::from_secs(50))
            .map(|(_, pause)| pause)
            .collect();
        assert!(pauses[0] < Duration::from_millis(260), "{pauses:?}");
        assert!(in_first_minute.iter().all(|pause| *pause < Duration::from_millis(2_300)), "{pauses:?}");
        assert!(pauses[40..].iter().all(|pause| *pause > Duration::from_millis(3_700)), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause < Duration::from_millis(6_300)), "{pauses:?}");
    }
}
