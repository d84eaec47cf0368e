//! A call that rings: which devices of the callee know of it, and what a late one has to be told.
//!
//! Invariant: nothing of a callee's device reaches the caller but that it rings, until it answers.

use super::{Ask, Call, Effect, Endpoint, Phase, Refusal, Role, heard, until, wrong_side};
use halloo_protocol::{
    Answered, CallId, Candidate, CandidateFrom, DeviceId, EndReason, Ended, Event, IncomingCall, MediaState, PeerReach,
    UserId,
};
use std::time::Instant;

/// Candidates kept for devices that start to ring late; later ones reach only those that ring already.
pub(crate) const MAX_STORED_CANDIDATES: usize = 64;

/// What an invitation brings.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) from_name: String,
    pub(crate) media: MediaState,
    pub(crate) sdp: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    /// It was sent the call.
    Sent,
    /// It shows the call.
    Shown,
    /// It is in another call.
    Busy,
}

/// The ringing part of a call.
#[derive(Debug)]
pub(crate) struct Ringing {
    offer: Offer,
    candidates: Vec<Candidate>,
    devices: Vec<(DeviceId, Told)>,
    pub(crate) deadline: Instant,
}

impl Ringing {
    pub(crate) fn new(offer: Offer, deadline: Instant) -> Self {
        Self { offer, candidates: Vec::new(), devices: Vec::new(), deadline }
    }

    pub(crate) fn was_told(&self, device: &DeviceId) -> bool {
        self.devices.iter().any(|(d, _)| d == device)
    }

    /// Devices that were told and are not busy.
    pub(crate) fn listening(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.iter().filter(|(_, told)| *told != Told::Busy).map(|(device, _)| device)
    }

    pub(crate) fn forget(&mut self, device: &DeviceId) {
        self.devices.retain(|(d, _)| d != device);
    }

    pub(crate) fn ring(&mut self, now: Instant, call: &CallId, from: &UserId, to: Endpoint, out: &mut Vec<Effect>) {
        self.forget(&to.device);
        self.devices.push((to.device.clone(), Told::Sent));
        let incoming = IncomingCall {
            call: call.clone(),
            from: from.clone(),
            from_name: self.offer.from_name.clone(),
            media: self.offer.media,
            sdp: self.offer.sdp.clone(),
            ring_timeout_ms: u64::try_from(until(now, self.deadline).as_millis()).unwrap_or(u64::MAX),
        };
        out.push(Effect { to: to.clone(), event: Event::IncomingCall(incoming) });
        for candidate in &self.candidates {
            let event = Event::Candidate(CandidateFrom { call: call.clone(), candidate: candidate.clone() });
            out.push(Effect { to: to.clone(), event });
        }
    }

    fn told_mut(&mut self, device: &DeviceId) -> Option<&mut Told> {
        self.devices.iter_mut().find(|(d, _)| d == device).map(|(_, told)| told)
    }
}

impl Call {
    pub(super) fn handle_ringing(
        &mut self,
        role: Role,
        who: &Endpoint,
        ask: Ask,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        match role {
            Role::Caller => self.caller_while_ringing(who, ask, out),
            Role::Callee | Role::Sibling => self.callee_while_ringing(who, ask, out),
        }
    }

    fn caller_while_ringing(&mut self, who: &Endpoint, ask: Ask, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let Phase::Ringing(ringing) = &mut self.phase else { return Ok(()) };
        match ask {
            Ask::Candidate(candidate) => {
                for device in ringing.listening() {
                    let to = Endpoint { user: self.callee.user.clone(), device: device.clone() };
                    let candidate = CandidateFrom { call: self.id.clone(), candidate: candidate.clone() };
                    out.push(Effect { to, event: Event::Candidate(candidate) });
                }
                if ringing.candidates.len() < MAX_STORED_CANDIDATES {
                    ringing.candidates.push(candidate);
                }
                Ok(())
            }
            // A change before the answer is told to the device that answers.
            Ask::Media(media) => {
                self.caller.media = media;
                Ok(())
            }
            Ask::Cancel => {
                self.end_but(EndReason::Cancelled, who, out);
                Ok(())
            }
            Ask::HangUp(reason) => {
                let reason = if reason == EndReason::Failed { reason } else { EndReason::Cancelled };
                self.end_but(reason, who, out);
                Ok(())
            }
            Ask::Description { .. } => Err(Refusal::state("the call is not answered yet: send no description before")),
            ask @ (Ask::Ringing | Ask::Answer(_) | Ask::Decline | Ask::Busy) => Err(wrong_side(&ask, Role::Caller)),
        }
    }

    fn callee_while_ringing(&mut self, who: &Endpoint, ask: Ask, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let call = self.id.clone();
        let Phase::Ringing(ringing) = &mut self.phase else { return Ok(()) };
        let Some(told) = ringing.told_mut(&who.device) else { return Err(Refusal::unknown(&call)) };
        match (ask, *told) {
            (Ask::Ringing, Told::Sent) => {
                *told = Told::Shown;
                if let Some(to) = self.caller.endpoint() {
                    out.push(Effect { to, event: Event::Ringing { call, device: who.device.clone() } });
                }
                Ok(())
            }
            (Ask::Ringing, Told::Shown) | (Ask::Busy | Ask::HangUp(_), Told::Busy) => Ok(()),
            (Ask::Ringing | Ask::Answer(_), Told::Busy) => Err(Refusal::state("this device has said that it is busy")),
            (Ask::Answer(answer), _) => {
                self.take(who, answer, out);
                Ok(())
            }
            (Ask::Busy, _) => {
                *told = Told::Busy;
                self.end_if_nobody_rings(EndReason::Busy, out);
                Ok(())
            }
            (Ask::Decline, _) => {
                self.end(Some(who), EndReason::Declined, EndReason::DeclinedElsewhere, out);
                Ok(())
            }
            (Ask::HangUp(reason), _) => {
                let to_caller =
                    if heard(reason) == EndReason::Failed { EndReason::Failed } else { EndReason::Declined };
                self.end(Some(who), to_caller, EndReason::DeclinedElsewhere, out);
                Ok(())
            }
            (Ask::Candidate(_) | Ask::Description { .. } | Ask::Media(_), _) => {
                Err(Refusal::state("a callee sends nothing before it has answered"))
            }
            (ask @ Ask::Cancel, _) => Err(wrong_side(&ask, Role::Callee)),
        }
    }

    /// The first device to answer has the call; the others stop ringing.
    fn take(&mut self, who: &Endpoint, answer: halloo_protocol::Answer, out: &mut Vec<Effect>) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        for device in ringing.listening().filter(|device| **device != who.device) {
            let to = Endpoint { user: who.user.clone(), device: device.clone() };
            let ended = Ended { call: self.id.clone(), reason: EndReason::AnsweredElsewhere };
            out.push(Effect { to, event: Event::Ended(ended) });
        }
        if ringing.offer.media != self.caller.media {
            let event = Event::MediaState { call: self.id.clone(), media: self.caller.media };
            out.push(Effect { to: who.clone(), event });
        }
        if self.caller.lost {
            let event = Event::PeerReach { call: self.id.clone(), reach: PeerReach::Lost };
            out.push(Effect { to: who.clone(), event });
        }
        self.callee.device = Some(who.device.clone());
        self.callee.media = answer.media;
        self.callee.lost = false;
        self.phase = Phase::Active;
        if let Some(to) = self.caller.endpoint() {
            let answered =
                Answered { call: self.id.clone(), by_device: who.device.clone(), media: answer.media, sdp: answer.sdp };
            out.push(Effect { to, event: Event::Answered(answered) });
        }
    }

    /// Ends a call that rings nowhere any more: busy where a device said so, else for the given reason.
    pub(super) fn end_if_nobody_rings(&mut self, otherwise: EndReason, out: &mut Vec<Effect>) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        if ringing.listening().next().is_some() {
            return;
        }
        let reason = if ringing.devices.is_empty() { otherwise } else { EndReason::Busy };
        self.end(None, reason, reason, out);
    }
}
