//! One call as a pure state machine: ringing on every device of the callee, answered by the first, ended once.
//!
//! Invariants: a call ends exactly once; after its end every device that heard of it has been told or has asked for it
//! itself; a callee's device gets nothing of its own through to the caller before it has answered; the same input twice
//! changes nothing the second time.

mod rebuild;
mod ringing;
#[cfg(test)]
mod table;

use halloo_protocol::{
    AnnouncedRole, Answer, CallId, CallSnapshot, Candidate, CandidateFrom, Description, DeviceId, EndReason, Ended,
    ErrorCode, Event, MediaState, PeerReach, SdpKind, SnapshotState, UserId,
};
pub(crate) use rebuild::Rebuilding;
pub(crate) use ringing::{Offer, Ringing};
use std::time::{Duration, Instant};

/// One device of one user: the address of everything that the server sends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
}

/// An event for one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Effect {
    pub(crate) to: Endpoint,
    pub(crate) event: Event,
}

/// Why a request changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::CallState, message: message.into() }
    }

    pub(crate) fn unknown(call: &CallId) -> Self {
        Self {
            code: ErrorCode::CallUnknown,
            message: format!("there is no call {call}, or this device is not part of it"),
        }
    }
}

/// What a device asks of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Ringing,
    Answer(Answer),
    Candidate(Candidate),
    Decline,
    Busy,
    Cancel,
    HangUp(EndReason),
    Description { kind: SdpKind, sdp: String },
    Media(MediaState),
}

/// Why a device will not come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Departure {
    /// It signed out.
    SignedOut,
    /// Its session ran out.
    Expired,
}

/// One side: the user, the device once it is known, what it sends, and whether the server reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) user: UserId,
    pub(crate) device: Option<DeviceId>,
    pub(crate) media: MediaState,
    pub(crate) lost: bool,
}

impl Side {
    pub(crate) fn new(user: UserId, device: Option<DeviceId>, media: MediaState) -> Self {
        Self { user, device, media, lost: false }
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let device = self.device.clone()?;
        Some(Endpoint { user: self.user.clone(), device })
    }

    pub(crate) fn is(&self, who: &Endpoint) -> bool {
        self.user == who.user && self.device.as_ref() == Some(&who.device)
    }
}

/// How far a call got.
#[derive(Debug)]
pub(crate) enum Phase {
    Ringing(Ringing),
    Active,
    Rebuilding(Rebuilding),
    Ended(EndReason),
}

/// Who asks, as seen by the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Caller,
    /// The answering device, or while ringing any device of the callee that was told.
    Callee,
    /// Another device of the callee.
    Sibling,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    id: CallId,
    pub(crate) caller: Side,
    pub(crate) callee: Side,
    phase: Phase,
}

impl Call {
    /// A call that starts to ring; tell it of the callee's devices by [`Call::ring`].
    pub(crate) fn invite(id: CallId, caller: &Endpoint, callee: UserId, offer: Offer, deadline: Instant) -> Self {
        let media = offer.media;
        Self {
            id,
            caller: Side::new(caller.user.clone(), Some(caller.device.clone()), media),
            callee: Side::new(callee, None, MediaState::default()),
            phase: Phase::Ringing(Ringing::new(offer, deadline)),
        }
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why it ended, if it did.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        match self.phase {
            Phase::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// When [`Call::handle_timeout`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ringing(ringing) => Some(ringing.deadline),
            Phase::Rebuilding(rebuilding) => Some(rebuilding.deadline),
            Phase::Active | Phase::Ended(_) => None,
        }
    }

    /// Whether this device is taken by the call: it called, or it answered.
    pub(crate) fn engages(&self, who: &Endpoint) -> bool {
        self.ended().is_none() && (self.caller.is(who) || self.callee.is(who))
    }

    /// Whether `who` calls `callee` at the moment, unanswered.
    pub(crate) fn is_ringing_between(&self, caller: &UserId, callee: &UserId) -> bool {
        matches!(self.phase, Phase::Ringing(_)) && self.caller.user == *caller && self.callee.user == *callee
    }

    /// Whether it rings this user.
    pub(crate) fn rings(&self, user: &UserId) -> bool {
        matches!(self.phase, Phase::Ringing(_)) && self.callee.user == *user
    }

    /// The call as a snapshot for this device.
    pub(crate) fn snapshot(&self, who: &Endpoint) -> Option<CallSnapshot> {
        let state = match &self.phase {
            Phase::Ringing(_) => SnapshotState::Ringing,
            Phase::Active | Phase::Rebuilding(_) => SnapshotState::Active,
            Phase::Ended(_) => return None,
        };
        let (role, peer) = match self.role(who).ok()? {
            Role::Caller => (AnnouncedRole::Caller, &self.callee),
            Role::Callee => (AnnouncedRole::Callee, &self.caller),
            Role::Sibling => return None,
        };
        Some(CallSnapshot { call: self.id.clone(), peer: peer.user.clone(), role, state, peer_media: peer.media })
    }

    /// Rings one more device of the callee, or the same one again after it lost its memory.
    pub(crate) fn ring(&mut self, now: Instant, device: &DeviceId, out: &mut Vec<Effect>) {
        let to = Endpoint { user: self.callee.user.clone(), device: device.clone() };
        if let Phase::Ringing(ringing) = &mut self.phase {
            ringing.ring(now, &self.id, &self.caller.user, to, out);
        }
    }

    /// Does what a device asks.
    ///
    /// # Errors
    /// A [`Refusal`] where the device is no part of the call, or the state does not allow it; nothing has changed then.
    pub(crate) fn handle(&mut self, who: &Endpoint, ask: Ask, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        if let (Phase::Rebuilding(_), Ask::HangUp(reason)) = (&self.phase, &ask)
            && self.awaits(&who.user)
        {
            // It hangs up without announcing the call first: the side that did is told.
            self.end_but(heard(*reason), who, out);
            return Ok(());
        }
        let role = self.role(who)?;
        match &mut self.phase {
            Phase::Ringing(_) => self.handle_ringing(role, who, ask, out),
            Phase::Active => self.handle_active(role, who, ask, out),
            Phase::Rebuilding(_) => self.handle_rebuilding(role, ask),
            Phase::Ended(reason) => match ask {
                Ask::Decline | Ask::Busy | Ask::Cancel | Ask::HangUp(_) => Ok(()),
                _ => Err(Refusal::state(format!("the call has ended: {}", reason_in_words(*reason)))),
            },
        }
    }

    /// Whether a side of this user has not announced itself yet.
    fn awaits(&self, user: &UserId) -> bool {
        [&self.caller, &self.callee].into_iter().any(|side| side.device.is_none() && side.user == *user)
    }

    fn role(&self, who: &Endpoint) -> Result<Role, Refusal> {
        if self.caller.is(who) {
            return Ok(Role::Caller);
        }
        if self.callee.user != who.user {
            return Err(Refusal::unknown(&self.id));
        }
        match &self.phase {
            Phase::Ringing(ringing) if ringing.was_told(&who.device) => Ok(Role::Callee),
            Phase::Ringing(_) => Err(Refusal::unknown(&self.id)),
            _ if self.callee.is(who) => Ok(Role::Callee),
            _ => Ok(Role::Sibling),
        }
    }

    fn handle_active(&mut self, role: Role, who: &Endpoint, ask: Ask, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let call = self.id.clone();
        if role == Role::Sibling {
            return match ask {
                // For a sibling the call was over when another device took it.
                Ask::Decline | Ask::Busy | Ask::HangUp(_) => Ok(()),
                _ => Err(Refusal::state("another device of yours has answered this call")),
            };
        }
        let event = match (ask, role) {
            (Ask::Candidate(candidate), _) => Event::Candidate(CandidateFrom { call, candidate }),
            (Ask::Description { kind, sdp }, _) => Event::Description(Description { call, kind, sdp }),
            (Ask::Media(media), _) => {
                let side = if role == Role::Caller { &mut self.caller } else { &mut self.callee };
                if side.media == media {
                    return Ok(());
                }
                side.media = media;
                Event::MediaState { call, media }
            }
            (Ask::HangUp(reason), _) => {
                self.end_but(heard(reason), who, out);
                return Ok(());
            }
            // The caller gave up while the answer was on its way to it, or the callee declined after it had answered.
            (Ask::Cancel, Role::Caller) | (Ask::Decline, Role::Callee) => {
                self.end_but(EndReason::HungUp, who, out);
                return Ok(());
            }
            (Ask::Answer(_) | Ask::Ringing, Role::Callee) => return Ok(()),
            (Ask::Busy, Role::Callee) => {
                return Err(Refusal::state("this device has answered the call: hang up instead"));
            }
            (ask, role) => return Err(wrong_side(&ask, role)),
        };
        if let Some(to) = self.other(who) {
            out.push(Effect { to, event });
        }
        Ok(())
    }

    /// The device on the other side.
    fn other(&self, who: &Endpoint) -> Option<Endpoint> {
        if self.caller.is(who) { self.callee.endpoint() } else { self.caller.endpoint() }
    }

    /// Ends the call and tells every device that heard of it, except the one that asked for the end.
    fn end_but(&mut self, reason: EndReason, who: &Endpoint, out: &mut Vec<Effect>) {
        self.end(Some(who), reason, reason, out);
    }

    /// Ends the call: the caller hears `to_caller`, the callee's devices `to_callee`, and `asker` nothing.
    fn end(&mut self, asker: Option<&Endpoint>, to_caller: EndReason, to_callee: EndReason, out: &mut Vec<Effect>) {
        let call = &self.id;
        let mut tell = |to: Endpoint, reason| {
            if asker != Some(&to) {
                out.push(Effect { to, event: Event::Ended(Ended { call: call.clone(), reason }) });
            }
        };
        if let Some(caller) = self.caller.endpoint() {
            tell(caller, to_caller);
        }
        match &self.phase {
            Phase::Ringing(ringing) => {
                for device in ringing.listening() {
                    tell(Endpoint { user: self.callee.user.clone(), device: device.clone() }, to_callee);
                }
            }
            _ => {
                if let Some(callee) = self.callee.endpoint() {
                    tell(callee, to_callee);
                }
            }
        }
        self.phase = Phase::Ended(to_caller);
    }

    /// The server lost this device's connection.
    pub(crate) fn handle_lost(&mut self, who: &Endpoint, out: &mut Vec<Effect>) {
        self.set_reach(who, PeerReach::Lost, out);
    }

    /// This device is connected again.
    pub(crate) fn handle_back(&mut self, who: &Endpoint, out: &mut Vec<Effect>) {
        self.set_reach(who, PeerReach::Back, out);
    }

    fn set_reach(&mut self, who: &Endpoint, reach: PeerReach, out: &mut Vec<Effect>) {
        let lost = reach == PeerReach::Lost;
        let side = match self.role(who) {
            Ok(Role::Caller) => &mut self.caller,
            Ok(Role::Callee) if self.callee.is(who) => &mut self.callee,
            _ => return,
        };
        if side.lost == lost {
            return;
        }
        side.lost = lost;
        if let (Phase::Active, Some(to)) = (&self.phase, self.other(who)) {
            out.push(Effect { to, event: Event::PeerReach { call: self.id.clone(), reach } });
        }
    }

    /// This device will not come back.
    pub(crate) fn handle_gone(&mut self, who: &Endpoint, why: Departure, out: &mut Vec<Effect>) {
        let signed_out = why == Departure::SignedOut;
        match (&mut self.phase, self.caller.is(who)) {
            (Phase::Ringing(_), true) => {
                let reason = if signed_out { EndReason::Cancelled } else { EndReason::PeerLost };
                self.end_but(reason, who, out);
            }
            (Phase::Ringing(ringing), false) if self.callee.user == who.user => {
                ringing.forget(&who.device);
                self.end_if_nobody_rings(EndReason::PeerLost, out);
            }
            (Phase::Active | Phase::Rebuilding(_), is_caller) if is_caller || self.callee.is(who) => {
                let reason = if signed_out { EndReason::HungUp } else { EndReason::PeerLost };
                self.end_but(reason, who, out);
            }
            _ => {}
        }
    }

    /// Ends what has waited too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let reason = if matches!(self.phase, Phase::Ringing(_)) { EndReason::NoAnswer } else { EndReason::PeerLost };
        self.end(None, reason, reason, out);
    }
}

/// What the other side is told when a device hangs up for this reason.
fn heard(reason: EndReason) -> EndReason {
    match reason {
        EndReason::PeerLost | EndReason::Failed => reason,
        _ => EndReason::HungUp,
    }
}

fn wrong_side(ask: &Ask, role: Role) -> Refusal {
    let what = match ask {
        Ask::Ringing => "ringing",
        Ask::Answer(_) => "answer",
        Ask::Candidate(_) => "candidate",
        Ask::Decline => "decline",
        Ask::Busy => "busy",
        Ask::Cancel => "cancel",
        Ask::HangUp(_) => "hang_up",
        Ask::Description { .. } => "description",
        Ask::Media(_) => "media_state",
    };
    let side = if role == Role::Caller { "caller" } else { "callee" };
    Refusal::state(format!("{what} is not for the {side} of a call in this state"))
}

/// The reason as a sentence's end.
pub(crate) fn reason_in_words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::HungUp => "a side hung up",
        EndReason::Declined => "it was declined",
        EndReason::Busy => "the callee was busy",
        EndReason::Cancelled => "the caller gave up",
        EndReason::NoAnswer => "nobody answered in time",
        EndReason::AnsweredElsewhere => "another device answered",
        EndReason::DeclinedElsewhere => "another device declined",
        EndReason::PeerLost => "the other side went away",
        _ => "the connection failed",
    }
}

/// Time left until `deadline`.
fn until(now: Instant, deadline: Instant) -> Duration {
    deadline.saturating_duration_since(now)
}
