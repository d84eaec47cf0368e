//! One device's stay in a room as a pure state machine: what the application, the server and the media connection say goes in;
//! what to do comes out.
//!
//! ```text
//!  Opening --offer--> Asking --answer--> Inside: Connecting -> Connected <-> Interrupted -> Restarting
//!     ^                  |                  |  (rejoin_room, no path, the server lost the room)
//!     +---- Waiting <----+------------------+
//! ```
//!
//! Invariants: one connection at a time, and each that is opened is closed; whoever is out has left on the server too;
//! after a failure the first try comes at once and the next ones after pauses (docs/protocol.md, "When connections break").

use super::members::{Change, Members};
use halloo_protocol::{
    ErrorBody, ErrorCode, Event, JoinRoom, LayersWanted, LeaveReason, Moderation, Participant, ParticipantId,
    ReplyResult, Request, RoomGrants, RoomId, RoomMedia, RoomSnapshot, RoomState, SourceKind, SourceState,
};
use halloo_transport::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// A connection that does not come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);
/// An interruption often heals by itself within this time.
const RESTART_AFTER: Duration = Duration::from_millis(1_000);
/// A search for a new path that finds none.
const RESTART_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections in a row that fail before it is given up.
const MAX_FAILURES: u32 = 15;
/// First pause before another try, doubled up to the longest.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_millis(1_800);

/// Nothing is published.
pub(crate) const NOTHING: RoomMedia =
    RoomMedia { microphone: SourceState::Off, camera: SourceState::Off, screen: SourceState::Off };

/// What the shell is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Open a connection in place of the one there is, and make its offer: `handle_offer` or `handle_media_error`.
    Open,
    /// Apply the forwarding unit's answer.
    SetAnswer(String),
    /// Make an offer that restarts ICE: `handle_restart_offer`.
    RestartIce,
    /// Close the connection.
    Close,
    /// Ask the server; its answer is `handle_joined`.
    Join(Request),
    /// Ask the server; its answer is `handle_answered`.
    Offer(Request),
    /// Tell the server.
    Request(Request),
    /// Say again what is shown: this is a new place in the room.
    Subscribe,
    /// Tell the application or the tracks.
    Notice(Notice),
    /// It is over.
    Ended(RoomEnd),
}

/// What is to be known outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// The room took this device in, for the first time or again.
    Inside {
        /// Its number.
        you: ParticipantId,
        /// What it may do.
        grants: RoomGrants,
    },
    /// Media flows, for the first time.
    Connected,
    /// Media stopped flowing; it is being restored.
    Reconnecting,
    /// Media flows again.
    Reconnected,
    /// Somebody came, changed, left or speaks.
    Member(Change),
    /// What holds for all changed.
    State(RoomState),
    /// Somebody else muted this side's source.
    Muted(SourceKind),
    /// Which part of this side's source is received.
    Layers(LayersWanted),
    /// This side sends more than the room allows.
    Policed(SourceKind),
}

/// Why a stay in a room ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RoomEnd {
    pub(crate) reason: EndedBy,
    /// What went wrong, where something did.
    pub(crate) error: Option<String>,
    /// The server's code, where it refused.
    pub(crate) code: Option<ErrorCode>,
}

/// Who or what ended a stay in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndedBy {
    /// This side left.
    Left,
    /// A moderator took this side out.
    Removed,
    /// A moderator ended the room.
    Closed,
    /// The server did not let this side in, or not again.
    Refused,
    /// The server or its forwarding unit could not be reached any more.
    Lost,
    /// This side's connection could not be set up.
    Failed,
}

/// The media connection's condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MediaPath {
    Connected,
    Disconnected,
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Opening,
    Asking,
    Inside(Connection),
    Waiting { until: Timestamp },
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connection {
    Connecting { since: Timestamp },
    Connected,
    Interrupted { since: Timestamp },
    Restarting { since: Timestamp },
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct RoomMachine {
    room: RoomId,
    token: Option<String>,
    phase: Phase,
    /// What the application wants to publish.
    media: RoomMedia,
    /// What the server was told of it.
    told: RoomMedia,
    grants: Option<RoomGrants>,
    state: Option<RoomState>,
    members: Members,
    /// Whether media ever flowed, and whether the application believes that it flows.
    ever_connected: bool,
    flowing: bool,
    /// Connections that were tried in a row without one that worked.
    failures: u32,
    jitter: u64,
    outputs: VecDeque<Output>,
}

impl RoomMachine {
    /// Enters a room. `seed` spreads what many clients do at once.
    pub(crate) fn new(room: RoomId, token: Option<String>, seed: u64) -> Self {
        Self {
            room,
            token,
            phase: Phase::Opening,
            media: NOTHING,
            told: NOTHING,
            grants: None,
            state: None,
            members: Members::default(),
            ever_connected: false,
            flowing: false,
            failures: 0,
            jitter: seed | 1,
            outputs: [Output::Open].into(),
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Those who are in the room.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether the server takes requests about the room.
    pub(crate) fn is_inside(&self) -> bool {
        matches!(self.phase, Phase::Inside(_))
    }

    /// Whether this device may receive pictures.
    pub(crate) fn may_subscribe(&self) -> bool {
        self.grants.as_ref().is_some_and(|grants| grants.subscribe)
    }

    /// The application leaves.
    pub(crate) fn leave(&mut self) {
        self.end(EndedBy::Left, None);
    }

    /// Sets what this side publishes.
    pub(crate) fn set_media(&mut self, media: RoomMedia) {
        self.media = media;
        self.tell_media();
    }

    /// The connection is open and this is its offer.
    pub(crate) fn handle_offer(&mut self, sdp: String) {
        if self.phase != Phase::Opening {
            return;
        }
        self.phase = Phase::Asking;
        // What one may publish is known only inside: until then nothing is.
        self.told = self.publishable();
        let join = JoinRoom { room: self.room.clone(), media: self.told, sdp, token: self.token.clone() };
        self.outputs.push_back(Output::Join(Request::JoinRoom(join)));
    }

    /// The connection could not be opened, or cannot take the answer.
    pub(crate) fn handle_media_error(&mut self, error: String) {
        self.end(EndedBy::Failed, Some((error, None)));
    }

    /// The server's answer to the request to join.
    pub(crate) fn handle_joined(&mut self, now: Timestamp, outcome: Result<ReplyResult, ErrorBody>) {
        if self.phase != Phase::Asking {
            return;
        }
        match outcome {
            Ok(ReplyResult::RoomJoined(joined)) => {
                self.phase = Phase::Inside(Connection::Connecting { since: now });
                self.outputs.push_back(Output::SetAnswer(joined.sdp));
                self.take_snapshot(now, &joined.snapshot);
            }
            Ok(_) => self.try_later(now, "the server answered with something else", None),
            Err(error) if self.may_pass(error.code) => self.try_later(now, &error.message, Some(error.code)),
            Err(error) => self.end(EndedBy::Refused, Some((error.message, Some(error.code)))),
        }
    }

    /// What refused a first time stays refused, unless the connection to the server broke meanwhile.
    fn may_pass(&self, code: ErrorCode) -> bool {
        match code {
            ErrorCode::NotSignedIn | ErrorCode::ShuttingDown | ErrorCode::RateLimited => true,
            ErrorCode::MediaUnavailable | ErrorCode::Internal | ErrorCode::RoomUnknown => self.ever_connected,
            _ => false,
        }
    }

    fn take_snapshot(&mut self, now: Timestamp, snapshot: &RoomSnapshot) {
        self.grants = Some(snapshot.grants.clone());
        self.notice(Notice::Inside { you: snapshot.you, grants: snapshot.grants.clone() });
        self.set_state(snapshot.state.clone());
        let changes = self.members.apply_snapshot(now, snapshot);
        self.tell_members(changes);
        self.tell_media();
        self.outputs.push_back(Output::Subscribe);
    }

    /// The media connection's condition changed.
    pub(crate) fn handle_media_path(&mut self, now: Timestamp, path: MediaPath) {
        let Phase::Inside(connection) = self.phase else { return };
        match (path, connection) {
            (MediaPath::Connected, _) => {
                self.phase = Phase::Inside(Connection::Connected);
                self.failures = 0;
                if !std::mem::replace(&mut self.flowing, true) {
                    let first = !std::mem::replace(&mut self.ever_connected, true);
                    self.notice(if first { Notice::Connected } else { Notice::Reconnected });
                }
            }
            (MediaPath::Disconnected, Connection::Connected) => {
                self.phase = Phase::Inside(Connection::Interrupted { since: now });
                self.tell_interrupted();
            }
            (MediaPath::Failed, Connection::Connecting { .. }) => {
                self.retry(now, "no network path to the server's media port works, neither over UDP nor over TCP: a firewall may block both")
            }
            (MediaPath::Failed, Connection::Connected | Connection::Interrupted { .. }) => {
                self.tell_interrupted();
                self.restart(now);
            }
            (MediaPath::Disconnected | MediaPath::Failed, _) => {}
        }
    }

    /// The offer that [`Output::RestartIce`] asked for; `None` where it could not be made.
    pub(crate) fn handle_restart_offer(&mut self, now: Timestamp, sdp: Option<String>) {
        if !matches!(self.phase, Phase::Inside(Connection::Restarting { .. })) {
            return;
        }
        match sdp {
            Some(sdp) => {
                let request = Request::RoomOffer { room: self.room.clone(), sdp };
                self.outputs.push_back(Output::Offer(request));
            }
            None => self.retry(now, "ICE could not be restarted"),
        }
    }

    /// The server's answer to a further offer.
    pub(crate) fn handle_answered(&mut self, now: Timestamp, outcome: Result<ReplyResult, ErrorBody>) {
        if !matches!(self.phase, Phase::Inside(Connection::Restarting { .. })) {
            return;
        }
        match outcome {
            Ok(ReplyResult::RoomAnswer { sdp }) => self.outputs.push_back(Output::SetAnswer(sdp)),
            // While the server is away the time for the search runs on.
            Err(error) if error.code == ErrorCode::NotSignedIn => {}
            Ok(_) | Err(_) => self.retry(now, "the forwarding unit does not know this connection any more"),
        }
    }

    /// Signed in again. `snapshot` is what the server knows of this device in the room, where it lost the session.
    pub(crate) fn handle_signed_in(&mut self, now: Timestamp, resumed: bool, snapshot: Option<&RoomSnapshot>) {
        if resumed {
            return;
        }
        // What went wrong was the server's being away.
        if matches!(self.phase, Phase::Waiting { .. }) {
            return self.again();
        }
        if !self.is_inside() {
            return;
        }
        match snapshot {
            Some(snapshot) if Some(snapshot.you) == self.members.you() => self.take_snapshot(now, snapshot),
            _ => self.again(),
        }
    }

    /// The server does not sign this device in again: it is out of the room there.
    pub(crate) fn handle_sign_in_refused(&mut self, error: &ErrorBody) {
        let why = format!("the server does not let this device in again: {}", error.message);
        self.end_without_request(EndedBy::Refused, Some((why, Some(error.code))));
    }

    /// An event of the server about this room.
    pub(crate) fn handle_event(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::RoomLeft { reason, .. } => {
                let by = if reason == LeaveReason::Closed { EndedBy::Closed } else { EndedBy::Removed };
                self.end_without_request(by, None);
            }
            _ if !self.is_inside() => {}
            Event::RejoinRoom { .. } => self.retry(now, "the forwarding unit lost this connection"),
            Event::ParticipantJoined { participant, .. } => {
                let change = self.members.joined(participant);
                self.tell_members(change);
            }
            Event::ParticipantChanged { participant, .. } if Some(participant.participant) == self.members.you() => {
                self.take_own(participant.media);
            }
            Event::ParticipantChanged { participant, .. } => {
                let change = self.members.changed(participant);
                self.tell_members(change);
            }
            Event::ParticipantLeft { participant, reason, .. } => {
                let change = self.members.left(now, participant, reason);
                self.tell_members(change);
            }
            Event::DominantSpeaker { participant, .. } => {
                let change = self.members.speaks(participant);
                self.tell_members(change);
            }
            Event::RoomChanged { state, .. } => self.set_state(state),
            Event::LayersWanted(layers) => self.notice(Notice::Layers(layers)),
            Event::PublishingPoliced { kind, .. } => self.notice(Notice::Policed(kind)),
            _ => {}
        }
    }

    /// The server did what this side asked for as a moderator: it tells everybody but who asked.
    pub(crate) fn handle_moderated(&mut self, now: Timestamp, action: &Moderation) {
        if !self.is_inside() {
            return;
        }
        let change = match action {
            Moderation::Mute { source } => self.members.find(source.participant).and_then(|whom| {
                let mut media = whom.media;
                let was = std::mem::replace(media.get_mut(source.kind), SourceState::Muted);
                (was == SourceState::On).then(|| Participant { media, ..whom.clone() })
            }),
            Moderation::SetRole { participant, role } => {
                self.members.find(*participant).map(|whom| Participant { role: *role, ..whom.clone() })
            }
            Moderation::Remove { participant } => {
                let change = self.members.left(now, *participant, LeaveReason::Removed);
                return self.tell_members(change);
            }
            Moderation::Lock { locked } => {
                let state = self.state.clone().map(|state| RoomState { locked: *locked, ..state });
                return state.map_or((), |state| self.set_state(state));
            }
            // Who closes a room is told that they are out, as everybody is.
            Moderation::Close | _ => None,
        };
        let change = change.and_then(|whom| self.members.changed(whom));
        self.tell_members(change);
    }

    /// Somebody else changed what this side publishes: a moderator mutes.
    fn take_own(&mut self, media: RoomMedia) {
        for kind in SourceKind::ALL {
            if media.get(kind) == SourceState::Muted && self.told.get(kind) == SourceState::On {
                *self.media.get_mut(kind) = SourceState::Muted;
                self.notice(Notice::Muted(kind));
            }
        }
        self.told = media;
    }

    /// The network changed under us: do not wait for ICE to notice.
    pub(crate) fn handle_network_change(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Waiting { .. } => self.again(),
            Phase::Inside(Connection::Connected | Connection::Interrupted { .. }) => self.restart(now),
            _ => {}
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        let gone = self.members.handle_timeout(now);
        self.tell_members(gone);
        if self.deadline().is_none_or(|due| due > now) {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } | Phase::Inside(Connection::Restarting { .. }) => self.again(),
            Phase::Inside(Connection::Interrupted { .. }) => self.restart(now),
            _ => self.retry(now, "the forwarding unit cannot be reached"),
        }
    }

    /// When [`RoomMachine::handle_timeout`] is next wanted.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        [self.deadline(), self.members.next_timeout()].into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Inside(Connection::Connecting { since }) => Some(since + CONNECT_TIMEOUT),
            Phase::Inside(Connection::Interrupted { since }) => Some(since + RESTART_AFTER),
            Phase::Inside(Connection::Restarting { since }) => Some(since + RESTART_TIMEOUT),
            Phase::Inside(Connection::Connected) | Phase::Opening | Phase::Asking | Phase::Over => None,
        }
    }

    fn restart(&mut self, now: Timestamp) {
        self.phase = Phase::Inside(Connection::Restarting { since: now });
        self.outputs.push_back(Output::RestartIce);
    }

    /// A new connection: at once the first time, then after pauses.
    fn retry(&mut self, now: Timestamp, why: &str) {
        self.tell_interrupted();
        if self.failures == 0 {
            self.again();
        } else {
            self.try_later(now, why, None);
        }
    }

    fn again(&mut self) {
        self.tell_interrupted();
        self.failures += 1;
        self.phase = Phase::Opening;
        self.outputs.push_back(Output::Open);
    }

    fn try_later(&mut self, now: Timestamp, why: &str, code: Option<ErrorCode>) {
        if self.failures >= MAX_FAILURES {
            return self.end(EndedBy::Lost, Some((why.to_owned(), code)));
        }
        self.outputs.push_back(Output::Close);
        let doubled = MIN_BACKOFF.saturating_mul(1 << self.failures.min(8)).min(MAX_BACKOFF);
        // xorshift64: only spreads clients in time.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let pause = doubled.mul_f64(0.75 + 0.5 * (self.jitter % 1_000) as f64 / 1_000.0);
        self.phase = Phase::Waiting { until: now + pause };
    }

    fn end(&mut self, reason: EndedBy, error: Option<(String, Option<ErrorCode>)>) {
        if self.phase != Phase::Over {
            self.outputs.push_back(Output::Request(Request::LeaveRoom { room: self.room.clone() }));
        }
        self.end_without_request(reason, error);
    }

    fn end_without_request(&mut self, reason: EndedBy, error: Option<(String, Option<ErrorCode>)>) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        let (error, code) = error.map_or((None, None), |(text, code)| (Some(text), code));
        self.outputs.push_back(Output::Close);
        self.outputs.push_back(Output::Ended(RoomEnd { reason, error, code }));
    }

    /// Tells the server what is published, where that is news.
    fn tell_media(&mut self) {
        let media = self.publishable();
        if self.is_inside() && media != self.told {
            self.told = media;
            self.outputs.push_back(Output::Request(Request::RoomMedia { room: self.room.clone(), media }));
        }
    }

    /// The part of what the application publishes that it may.
    fn publishable(&self) -> RoomMedia {
        let mut media = NOTHING;
        let granted = self.grants.iter().flat_map(|grants| &grants.publish);
        granted.for_each(|kind| *media.get_mut(*kind) = self.media.get(*kind));
        media
    }

    fn set_state(&mut self, state: RoomState) {
        if self.state.replace(state.clone()).as_ref() != Some(&state) {
            self.notice(Notice::State(state));
        }
    }

    fn tell_members(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.notice(Notice::Member(change));
        }
    }

    fn tell_interrupted(&mut self) {
        if std::mem::take(&mut self.flowing) {
            self.notice(Notice::Reconnecting);
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }
}

#[cfg(test)]
mod tests;
