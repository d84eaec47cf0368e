//! One side of a call as a pure state machine: invitation, ringing, answer, candidates, recovery, end.
//!
//! Invariants: [`Output::Ended`] comes exactly once and nothing but [`Output::CloseMedia`] and requests that end the call at
//! the server come with it; a callee sends no SDP and no candidate before its user accepted; the caller's candidates follow
//! its invitation.

use halloo_protocol::{
    Announce, AnnouncedRole, Answer, CallId, Candidate, CandidateFrom, Description, EndReason, ErrorBody, ErrorCode,
    Event, Invite, MediaState, PeerReach, Request, SdpKind, UserId,
};
use halloo_transport::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// How long media may take to connect after the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long media may be gone, while the other side's signaling is gone, too.
const LOST_PEER_GRACE: Duration = Duration::from_secs(2);
/// How long media may be gone while the other side can still be reached.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long media is gone before the caller restarts ICE; repeated.
const RESTART_INTERVAL: Duration = Duration::from_secs(3);
/// Candidates held back before the invitation or the answer is out.
const MAX_HELD_CANDIDATES: usize = 64;

/// The media connection's condition, as ICE and DTLS show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MediaPath {
    /// Packets flow.
    Connected,
    /// Checks fail for the moment.
    Disconnected,
    /// It will not come back by itself.
    Failed,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Make the first offer; report by `handle_local_sdp`.
    CreateOffer,
    /// Take the caller's offer, silently.
    SetOffer(String),
    /// Answer the offer that was set; report by `handle_local_sdp`.
    CreateAnswer,
    /// Take the callee's answer.
    SetAnswer(String),
    /// Take a candidate of the other side.
    AddCandidate(Candidate),
    /// Make an offer with new ICE credentials; report by `handle_local_sdp`.
    RestartIce,
    /// Take an offer within the call and answer it; report by `handle_local_sdp`.
    AnswerAgain(String),
    /// Close the media connection.
    CloseMedia,
    /// Send this, in order.
    Request(Request),
    /// Send the invitation or the answer, and report its outcome by `handle_refused` if it fails.
    Critical(Request),
    /// Tell the application.
    Notice(Notice),
    /// It is over.
    Ended(CallEnd),
}

/// What the application learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A device of the callee shows the call.
    Ringing,
    /// It was answered.
    Answered,
    /// Media flows, for the first time.
    Connected,
    /// Media stopped flowing; it is being restored.
    Reconnecting,
    /// Media flows again.
    Reconnected,
    /// What the other side sends.
    PeerMedia(MediaState),
    /// Both called each other at once: answer this call instead.
    Glare(CallId),
}

/// Why a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallEnd {
    pub(crate) reason: EndReason,
    /// What went wrong, where something did.
    pub(crate) error: Option<String>,
    /// The server's code, where it refused.
    pub(crate) code: Option<ErrorCode>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Caller: the offer is being made.
    Offering,
    /// Caller: the invitation is out.
    Inviting,
    /// Callee: it rings here.
    Incoming,
    /// Callee: the user accepted, the answer is being made.
    Answering,
    /// Answered.
    Active,
    /// Over.
    Ended,
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct CallMachine {
    call: CallId,
    peer: UserId,
    role: AnnouncedRole,
    state: State,
    media: MediaState,
    offer: Option<String>,
    held: VecDeque<Candidate>,
    ever_connected: bool,
    path: Option<MediaPath>,
    path_lost_at: Option<Timestamp>,
    peer_lost_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    restart_at: Option<Timestamp>,
    ring_until: Option<Timestamp>,
    renegotiating: bool,
    outputs: VecDeque<Output>,
}

impl CallMachine {
    /// A call that this side makes.
    pub(crate) fn outgoing(call: CallId, peer: UserId, media: MediaState) -> Self {
        let mut machine = Self::new(call, peer, AnnouncedRole::Caller, State::Offering, media);
        machine.outputs.push_back(Output::CreateOffer);
        machine
    }

    /// A call that rings here.
    pub(crate) fn incoming(now: Timestamp, call: CallId, peer: UserId, offer: String, rings: Duration) -> Self {
        let mut machine = Self::new(call.clone(), peer, AnnouncedRole::Callee, State::Incoming, MediaState::default());
        // The server ends ringing; this only catches a server that went away meanwhile.
        machine.ring_until = Some(now + rings + Duration::from_secs(5));
        machine.outputs.push_back(Output::SetOffer(offer));
        machine.outputs.push_back(Output::Request(Request::Ringing { call }));
        machine
    }

    fn new(call: CallId, peer: UserId, role: AnnouncedRole, state: State, media: MediaState) -> Self {
        Self {
            call,
            peer,
            role,
            state,
            media,
            offer: None,
            held: VecDeque::new(),
            ever_connected: false,
            path: None,
            path_lost_at: None,
            peer_lost_at: None,
            answered_at: None,
            restart_at: None,
            ring_until: None,
            renegotiating: false,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether it is over.
    #[cfg(test)]
    pub(crate) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether it was answered and goes on.
    pub(crate) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// The user takes the call.
    pub(crate) fn accept(&mut self, media: MediaState) {
        if self.state == State::Incoming {
            self.media = media;
            self.state = State::Answering;
            self.ring_until = None;
            self.outputs.push_back(Output::CreateAnswer);
        }
    }

    /// The user ends it, whatever its state: cancel, decline or hang up.
    pub(crate) fn hang_up(&mut self) {
        let call = self.call.clone();
        let (request, reason) = match self.state {
            State::Offering | State::Ended => (None, EndReason::Cancelled),
            State::Inviting => (Some(Request::Cancel { call }), EndReason::Cancelled),
            State::Incoming => (Some(Request::Decline { call }), EndReason::Declined),
            State::Answering | State::Active => {
                (Some(Request::HangUp { call, reason: EndReason::HungUp }), EndReason::HungUp)
            }
        };
        self.finish(request, reason, None, None);
    }

    /// This device is in another call: the other devices ring on.
    pub(crate) fn busy(&mut self) {
        if self.state == State::Incoming {
            let request = Request::Busy { call: self.call.clone() };
            self.finish(Some(request), EndReason::Busy, None, None);
        }
    }

    /// Sets what this side sends.
    pub(crate) fn set_media(&mut self, media: MediaState) {
        if std::mem::replace(&mut self.media, media) != media && matches!(self.state, State::Inviting | State::Active) {
            self.outputs.push_back(Output::Request(Request::MediaState { call: self.call.clone(), media }));
        }
    }

    /// The SDP that was asked for is ready.
    pub(crate) fn handle_local_sdp(&mut self, now: Timestamp, kind: SdpKind, sdp: String) {
        let call = self.call.clone();
        match (self.state, kind) {
            (State::Offering, SdpKind::Offer) => {
                self.state = State::Inviting;
                self.offer = Some(sdp.clone());
                self.outputs.push_back(Output::Critical(Request::Invite(Invite {
                    call,
                    to: self.peer.clone(),
                    media: self.media,
                    sdp,
                })));
                self.release_candidates();
            }
            (State::Answering, SdpKind::Answer) => {
                self.state = State::Active;
                self.answered_at = Some(now);
                self.outputs.push_back(Output::Critical(Request::Answer(Answer { call, media: self.media, sdp })));
                self.release_candidates();
                self.outputs.push_back(Output::Notice(Notice::Answered));
            }
            (State::Active, kind) => {
                self.outputs.push_back(Output::Request(Request::Description(Description { call, kind, sdp })));
            }
            _ => {}
        }
    }

    /// The media connection could not do what was asked of it: an offer that cannot be taken, a wrong fingerprint.
    pub(crate) fn handle_media_error(&mut self, error: String) {
        let call = self.call.clone();
        let request = match self.state {
            State::Offering | State::Ended => None,
            State::Inviting => Some(Request::Cancel { call }),
            _ => Some(Request::HangUp { call, reason: EndReason::Failed }),
        };
        self.finish(request, EndReason::Failed, Some(error), None);
    }

    /// The invitation or the answer was refused.
    pub(crate) fn handle_refused(&mut self, error: &ErrorBody) {
        if self.state == State::Ended {
            return;
        }
        if error.code == ErrorCode::Glare
            && let Some(call) = error.call.clone()
        {
            self.outputs.push_back(Output::Notice(Notice::Glare(call)));
        }
        let reason = match (error.code, self.role) {
            (ErrorCode::CalleeBusy, _) => EndReason::Busy,
            (ErrorCode::CallState | ErrorCode::CallUnknown, AnnouncedRole::Callee) => EndReason::AnsweredElsewhere,
            _ => EndReason::Failed,
        };
        // A refusal for want of a connection is not the server's word: `handle_signed_in` invites or announces anew.
        if error.code == ErrorCode::NotSignedIn {
            return;
        }
        self.finish(None, reason, Some(error.message.clone()), Some(error.code));
    }

    /// A candidate of this side.
    pub(crate) fn handle_local_candidate(&mut self, candidate: Candidate) {
        match self.state {
            State::Inviting | State::Active => self.send_candidate(candidate),
            State::Offering | State::Incoming | State::Answering if self.held.len() < MAX_HELD_CANDIDATES => {
                self.held.push_back(candidate);
            }
            _ => {}
        }
    }

    /// The media connection's condition changed. `why` says what failed.
    pub(crate) fn handle_media_path(&mut self, now: Timestamp, path: MediaPath, why: Option<&str>) {
        if self.state != State::Active || self.path == Some(path) {
            return;
        }
        self.path = Some(path);
        match path {
            MediaPath::Connected => {
                let first = !std::mem::replace(&mut self.ever_connected, true);
                let was_lost = self.path_lost_at.take().is_some();
                self.restart_at = None;
                self.renegotiating = false;
                if first {
                    self.outputs.push_back(Output::Notice(Notice::Connected));
                } else if was_lost {
                    self.outputs.push_back(Output::Notice(Notice::Reconnected));
                }
            }
            MediaPath::Disconnected | MediaPath::Failed if self.ever_connected => {
                if self.path_lost_at.is_none() {
                    self.path_lost_at = Some(now);
                    self.restart_at =
                        Some(now + if path == MediaPath::Failed { Duration::ZERO } else { RESTART_INTERVAL });
                    self.outputs.push_back(Output::Notice(Notice::Reconnecting));
                }
            }
            MediaPath::Failed => {
                let why = why.unwrap_or("no path between the two sides was found; a TURN server may be needed");
                self.handle_media_error(format!("the media connection failed: {why}"));
            }
            MediaPath::Disconnected => {}
        }
    }

    /// Signed in again. `resumed` is false where the server had lost the session.
    pub(crate) fn handle_signed_in(&mut self, resumed: bool, known_to_server: bool) {
        if resumed || known_to_server {
            return;
        }
        let call = self.call.clone();
        match self.state {
            State::Active => {
                let announce = Announce { call, peer: self.peer.clone(), role: self.role, media: self.media };
                self.outputs.push_back(Output::Request(Request::Announce(announce)));
            }
            State::Inviting => {
                if let Some(sdp) = self.offer.clone() {
                    self.outputs.push_back(Output::Critical(Request::Invite(Invite {
                        call,
                        to: self.peer.clone(),
                        media: self.media,
                        sdp,
                    })));
                }
            }
            State::Incoming | State::Answering => {
                self.finish(
                    None,
                    EndReason::Failed,
                    Some("the signaling server restarted while it rang".to_owned()),
                    None,
                );
            }
            State::Offering | State::Ended => {}
        }
    }

    /// The server does not sign this device in again: it ends the call for the other side, and nothing more can be agreed with them.
    pub(crate) fn handle_sign_in_refused(&mut self, error: &ErrorBody) {
        let why = format!("the server does not let this device in again: {}", error.message);
        self.finish(None, EndReason::Failed, Some(why), Some(error.code));
    }

    /// An event of the server about this call.
    pub(crate) fn handle_event(&mut self, now: Timestamp, event: Event) {
        if self.state == State::Ended {
            return;
        }
        match event {
            Event::Ringing { .. } if self.state == State::Inviting => {
                self.outputs.push_back(Output::Notice(Notice::Ringing))
            }
            Event::Answered(answered) if self.state == State::Inviting => {
                self.state = State::Active;
                self.answered_at = Some(now);
                self.offer = None;
                self.outputs.push_back(Output::SetAnswer(answered.sdp));
                self.outputs.push_back(Output::Notice(Notice::Answered));
                self.outputs.push_back(Output::Notice(Notice::PeerMedia(answered.media)));
            }
            Event::Candidate(CandidateFrom { candidate, .. }) => {
                self.outputs.push_back(Output::AddCandidate(candidate))
            }
            Event::Description(description) if self.state == State::Active => match description.kind {
                SdpKind::Offer => self.handle_offer_again(description.sdp),
                SdpKind::Answer => self.outputs.push_back(Output::SetAnswer(description.sdp)),
            },
            Event::MediaState { media, .. } => {
                self.outputs.push_back(Output::Notice(Notice::PeerMedia(media)));
            }
            Event::PeerReach { reach: PeerReach::Lost, .. } => self.peer_lost_at = Some(now),
            Event::PeerReach { reach: PeerReach::Back, .. } => self.peer_lost_at = None,
            Event::Ended(ended) => self.finish(None, ended.reason, None, None),
            _ => {}
        }
    }

    /// Offers that cross: the callee's gives way (RFC 8829 leaves the choice to the application).
    fn handle_offer_again(&mut self, sdp: String) {
        if self.renegotiating && self.role == AnnouncedRole::Caller {
            return;
        }
        self.outputs.push_back(Output::AnswerAgain(sdp));
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        if self.ring_until.is_some_and(|at| at <= now) {
            return self.finish(None, EndReason::NoAnswer, None, None);
        }
        if self.state != State::Active {
            return;
        }
        if self.lost_peer_deadline().is_some_and(|at| at <= now) {
            return self.give_up(EndReason::PeerLost, "the other side went away");
        }
        if self.reconnect_deadline().is_some_and(|at| at <= now) {
            return self.give_up(EndReason::PeerLost, "the media connection did not come back");
        }
        if self.connect_deadline().is_some_and(|at| at <= now) {
            return self.give_up(EndReason::Failed, "no media connection came about; a TURN server may be needed");
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = Some(now + RESTART_INTERVAL * 2);
            // One side restarts, so that offers do not cross: the caller.
            if self.role == AnnouncedRole::Caller {
                self.renegotiating = true;
                self.outputs.push_back(Output::RestartIce);
            }
        }
    }

    /// When [`CallMachine::handle_timeout`] is next wanted.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let active = [self.lost_peer_deadline(), self.reconnect_deadline(), self.connect_deadline(), self.restart_at];
        let active = active.into_iter().flatten().filter(|_| self.state == State::Active);
        active.chain(self.ring_until.filter(|_| self.state == State::Incoming)).min()
    }

    /// The network changed under us: do not wait for ICE to notice.
    pub(crate) fn handle_network_change(&mut self, now: Timestamp) {
        if self.state == State::Active && self.ever_connected {
            self.restart_at = Some(now);
        }
    }

    fn lost_peer_deadline(&self) -> Option<Timestamp> {
        Some(self.path_lost_at?.max(self.peer_lost_at?) + LOST_PEER_GRACE)
    }

    fn reconnect_deadline(&self) -> Option<Timestamp> {
        Some(self.path_lost_at? + RECONNECT_TIMEOUT)
    }

    fn connect_deadline(&self) -> Option<Timestamp> {
        self.answered_at.filter(|_| !self.ever_connected).map(|at| at + CONNECT_TIMEOUT)
    }

    fn give_up(&mut self, reason: EndReason, why: &str) {
        let request = Request::HangUp { call: self.call.clone(), reason };
        self.finish(Some(request), reason, Some(why.to_owned()), None);
    }

    fn finish(&mut self, request: Option<Request>, reason: EndReason, error: Option<String>, code: Option<ErrorCode>) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        self.ring_until = None;
        self.outputs.extend(request.map(Output::Request));
        self.outputs.push_back(Output::CloseMedia);
        self.outputs.push_back(Output::Ended(CallEnd { reason, error, code }));
    }

    fn release_candidates(&mut self) {
        while let Some(candidate) = self.held.pop_front() {
            self.send_candidate(candidate);
        }
    }

    fn send_candidate(&mut self, candidate: Candidate) {
        let request = Request::Candidate(CandidateFrom { call: self.call.clone(), candidate });
        self.outputs.push_back(Output::Request(request));
    }
}

#[cfg(test)]
mod tests;
