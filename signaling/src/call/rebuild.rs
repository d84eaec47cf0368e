//! A call that a restarted server learns of from its participants: whole once both sides have announced it.
//!
//! Invariant: a side that has not announced the call itself hears nothing of it, so nobody can be drawn into a call by
//! another's claim.

use super::{Ask, Call, Effect, Endpoint, Phase, Refusal, Role, Side, wrong_side};
use halloo_protocol::{
    Announce, AnnouncedRole, CandidateFrom, Description, EndReason, Ended, Event, MediaState, PeerReach,
};
use std::time::Instant;

/// Events kept for the side that has not announced itself yet.
pub(crate) const MAX_PENDING: usize = 64;

/// One side has announced the call, the other is awaited.
#[derive(Debug)]
pub(crate) struct Rebuilding {
    /// What the first side sent since, for the other.
    pending: Vec<Event>,
    pub(crate) deadline: Instant,
}

impl Call {
    /// A call as its first side announces it; its peer has until `deadline`.
    pub(crate) fn rebuild(who: &Endpoint, announce: Announce, deadline: Instant, out: &mut Vec<Effect>) -> Self {
        let own = Side::new(who.user.clone(), Some(who.device.clone()), announce.media);
        let mut peer = Side::new(announce.peer, None, MediaState::default());
        peer.lost = true;
        let (caller, callee) = match announce.role {
            AnnouncedRole::Caller => (own, peer),
            AnnouncedRole::Callee => (peer, own),
        };
        let event = Event::PeerReach { call: announce.call.clone(), reach: PeerReach::Lost };
        out.push(Effect { to: who.clone(), event });
        let phase = Phase::Rebuilding(Rebuilding { pending: Vec::new(), deadline });
        Self { id: announce.call, caller, callee, phase }
    }

    /// A device says that it is in this call.
    ///
    /// # Errors
    /// `call_state` while the call rings or where another device holds that side, `call_unknown` for a stranger.
    pub(crate) fn handle_announce(
        &mut self,
        who: &Endpoint,
        announce: &Announce,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let (own, peer) = match announce.role {
            AnnouncedRole::Caller => (&self.caller, &self.callee),
            AnnouncedRole::Callee => (&self.callee, &self.caller),
        };
        if own.user != who.user || peer.user != announce.peer {
            return Err(Refusal::unknown(&self.id));
        }
        if let Phase::Ended(reason) = self.phase {
            let event = Event::Ended(Ended { call: self.id.clone(), reason });
            out.push(Effect { to: who.clone(), event });
            return Ok(());
        }
        if matches!(self.phase, Phase::Ringing(_)) {
            return Err(Refusal::state("the call still rings: it cannot be announced"));
        }
        if own.is(who) {
            return match self.phase {
                Phase::Active => self.handle(who, Ask::Media(announce.media), out),
                _ => self.handle_rebuilding(self.role(who)?, Ask::Media(announce.media)),
            };
        }
        if own.device.is_some() {
            return Err(Refusal::state("another device of yours is in this call"));
        }
        self.complete(who, announce, out);
        Ok(())
    }

    /// The second side is here: the call is whole again.
    fn complete(&mut self, who: &Endpoint, announce: &Announce, out: &mut Vec<Effect>) {
        let joined = Side::new(who.user.clone(), Some(who.device.clone()), announce.media);
        let first = match announce.role {
            AnnouncedRole::Caller => {
                self.caller = joined;
                &self.callee
            }
            AnnouncedRole::Callee => {
                self.callee = joined;
                &self.caller
            }
        };
        let Phase::Rebuilding(rebuilding) = std::mem::replace(&mut self.phase, Phase::Active) else { return };
        let call = &self.id;
        if let Some(to) = first.endpoint() {
            let back = Event::PeerReach { call: call.clone(), reach: PeerReach::Back };
            let media = Event::MediaState { call: call.clone(), media: announce.media };
            out.push(Effect { to: to.clone(), event: back });
            out.push(Effect { to, event: media });
        }
        let media = Event::MediaState { call: call.clone(), media: first.media };
        out.push(Effect { to: who.clone(), event: media });
        if first.lost {
            let lost = Event::PeerReach { call: call.clone(), reach: PeerReach::Lost };
            out.push(Effect { to: who.clone(), event: lost });
        }
        out.extend(rebuilding.pending.into_iter().map(|event| Effect { to: who.clone(), event }));
    }

    pub(super) fn handle_rebuilding(&mut self, role: Role, ask: Ask) -> Result<(), Refusal> {
        let Phase::Rebuilding(rebuilding) = &mut self.phase else { return Ok(()) };
        let call = self.id.clone();
        let announced = match role {
            Role::Caller => &mut self.caller,
            Role::Callee => &mut self.callee,
            Role::Sibling => return Err(Refusal::state("announce the call first: the server has restarted")),
        };
        let event = match ask {
            Ask::HangUp(reason) => {
                self.phase = Phase::Ended(super::heard(reason));
                return Ok(());
            }
            Ask::Cancel if role == Role::Caller => {
                self.phase = Phase::Ended(EndReason::HungUp);
                return Ok(());
            }
            Ask::Decline if role == Role::Callee => {
                self.phase = Phase::Ended(EndReason::HungUp);
                return Ok(());
            }
            Ask::Media(media) => {
                announced.media = media;
                return Ok(());
            }
            Ask::Candidate(candidate) => Event::Candidate(CandidateFrom { call, candidate }),
            Ask::Description { kind, sdp } => Event::Description(Description { call, kind, sdp }),
            ask => return Err(wrong_side(&ask, role)),
        };
        if rebuilding.pending.len() >= MAX_PENDING {
            return Err(Refusal::state("the other side has not announced the call yet: wait for peer_reach"));
        }
        rebuilding.pending.push(event);
        Ok(())
    }
}
