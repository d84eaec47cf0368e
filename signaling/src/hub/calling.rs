//! Requests about calls: which call, may this device, and what the call makes of it.

use super::{Hub, MAX_ENDED};
use crate::call::{Ask, Call, Endpoint, Offer, Refusal};
use halloo_protocol::{Announce, CallId, EndReason, Ended, ErrorBody, ErrorCode, Event, Invite, Request};
use std::time::Instant;

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

impl Hub {
    pub(super) fn answer_call(&mut self, now: Instant, who: &Endpoint, request: Request) -> Result<(), ErrorBody> {
        let (call, ask) = match request {
            Request::Invite(invite) => return self.invite(now, who, invite),
            Request::Announce(announce) => return self.announce(now, who, announce),
            Request::Ringing { call } => (call, Ask::Ringing),
            Request::Answer(answer) => (answer.call.clone(), Ask::Answer(answer)),
            Request::Candidate(from) => (from.call, Ask::Candidate(from.candidate)),
            Request::Decline { call } => (call, Ask::Decline),
            Request::Busy { call } => (call, Ask::Busy),
            Request::Cancel { call } => (call, Ask::Cancel),
            Request::HangUp { call, reason } => (call, Ask::HangUp(reason)),
            Request::Description(d) => (d.call, Ask::Description { kind: d.kind, sdp: d.sdp }),
            Request::MediaState { call, media } => (call, Ask::Media(media)),
            other => {
                let message = format!("this server cannot do what {other:?} asks");
                return Err(ErrorBody::new(ErrorCode::UnknownType, message));
            }
        };
        if !self.calls.contains_key(&call) {
            return self.ask_unknown(who, call, &ask);
        }
        let outcome = self.with_call(now, &call, |call, out| call.handle(who, ask, out));
        outcome.unwrap_or(Ok(())).map_err(ErrorBody::from)
    }

    /// Whoever ends a call that nobody knows has ended it; its peer learns of it when it announces the call.
    fn ask_unknown(&mut self, who: &Endpoint, call: CallId, ask: &Ask) -> Result<(), ErrorBody> {
        if !matches!(ask, Ask::HangUp(_) | Ask::Cancel) {
            return Err(Refusal::unknown(&call).into());
        }
        let entry = (call, who.user.clone());
        if !self.hung_up_unknown.contains(&entry) {
            self.hung_up_unknown.push_back(entry);
        }
        if self.hung_up_unknown.len() > MAX_HUNG_UP_UNKNOWN {
            self.hung_up_unknown.pop_front();
        }
        Ok(())
    }

    fn invite(&mut self, now: Instant, who: &Endpoint, invite: Invite) -> Result<(), ErrorBody> {
        if let Some(known) = self.calls.get(&invite.call) {
            if known.caller.is(who) && known.callee.user == invite.to {
                return Ok(());
            }
            let message = format!("the call id {} is in use: draw another one", invite.call);
            return Err(ErrorBody::new(ErrorCode::CallExists, message));
        }
        let devices = self.may_invite(now, who, &invite)?;
        let from_name = self.users.get(&who.user).map_or_else(|| who.user.to_string(), |u| u.display_name.clone());
        let offer = Offer { from_name, media: invite.media, sdp: invite.sdp };
        let deadline = now + self.config.ring_timeout;
        let id = invite.call;
        let show = |text| self.config.redactor.show(text);
        tracing::info!(
            call = %show(id.as_str()), from = %show(who.user.as_str()), to = %show(invite.to.as_str()),
            devices = devices.len(), "call rings"
        );
        let call = Call::invite(id.clone(), who, invite.to, offer, deadline);
        self.add_call(who, &id, call);
        self.with_call(now, &id, |call, out| {
            for to in devices {
                call.ring(now, &to.device, out);
            }
        });
        Ok(())
    }

    /// The devices to ring.
    fn may_invite(&self, now: Instant, who: &Endpoint, invite: &Invite) -> Result<Vec<Endpoint>, ErrorBody> {
        let to = &invite.to;
        if self.draining {
            let message = "the server is shutting down: call again once connected anew";
            return Err(ErrorBody::new(ErrorCode::ShuttingDown, message));
        }
        if *to == who.user {
            return Err(ErrorBody::new(ErrorCode::CalleeSelf, "one cannot call oneself: choose somebody else"));
        }
        let own = self.sessions.get(who).map(|session| session.calls.as_slice()).unwrap_or_default();
        let glare = own.iter().find(|id| self.calls.get(*id).is_some_and(|c| c.is_ringing_between(to, &who.user)));
        if let Some(call) = glare {
            let mut error =
                ErrorBody::new(ErrorCode::Glare, format!("{to} is calling you at this moment: answer that call"));
            error.call = Some(call.clone());
            return Err(error);
        }
        self.room_for_a_call(who)?;
        let Some(user) = self.users.get(to) else {
            return Err(ErrorBody::new(ErrorCode::CalleeUnknown, format!("nobody called {to} has signed in here yet")));
        };
        let endpoints = user.devices.iter().map(|device| Endpoint { user: to.clone(), device: device.clone() });
        let reachable: Vec<Endpoint> = endpoints
            .filter(|e| self.sessions.get(e).is_some_and(|s| s.is_reachable(now, self.config.linger)))
            .collect();
        if reachable.is_empty() {
            return Err(ErrorBody::new(ErrorCode::CalleeOffline, format!("{to} is not online: try again later")));
        }
        let free: Vec<Endpoint> = reachable.into_iter().filter(|e| !self.is_engaged(e)).collect();
        if free.is_empty() {
            return Err(ErrorBody::new(ErrorCode::CalleeBusy, format!("{to} is in another call: try again later")));
        }
        Ok(free)
    }

    fn is_engaged(&self, who: &Endpoint) -> bool {
        if self.sessions.get(who).is_some_and(|session| !session.rooms.is_empty()) {
            return true;
        }
        let calls = self.sessions.get(who).into_iter().flat_map(|session| &session.calls);
        calls.filter_map(|id| self.calls.get(id)).any(|call| call.engages(who))
    }

    fn room_for_a_call(&self, who: &Endpoint) -> Result<(), ErrorBody> {
        let calls = self.sessions.get(who).into_iter().flat_map(|session| &session.calls);
        let own = calls.filter_map(|id| self.calls.get(id)).filter(|call| call.engages(who)).count();
        if own < self.config.max_calls_per_device {
            return Ok(());
        }
        let message = format!("this device has {own} calls already, which is as many as there may be: end one first");
        Err(ErrorBody::new(ErrorCode::TooManyCalls, message))
    }

    fn add_call(&mut self, who: &Endpoint, id: &CallId, call: Call) {
        if let Some(deadline) = call.deadline() {
            self.timers.insert((deadline, super::Timer::Call(id.clone())));
        }
        self.calls.insert(id.clone(), call);
        self.remember_call(who, id);
    }

    fn announce(&mut self, now: Instant, who: &Endpoint, announce: Announce) -> Result<(), ErrorBody> {
        let id = announce.call.clone();
        if announce.peer == who.user {
            return Err(ErrorBody::new(ErrorCode::CalleeSelf, "a call needs another user as its peer"));
        }
        let hung_up = (id.clone(), announce.peer.clone());
        if self.hung_up_unknown.contains(&hung_up) {
            self.hung_up_unknown.retain(|entry| *entry != hung_up);
            self.emit(who, &Event::Ended(Ended { call: id, reason: EndReason::HungUp }));
            return Ok(());
        }
        if self.calls.contains_key(&id) {
            let outcome = self.with_call(now, &id, |call, out| {
                call.handle_announce(who, &announce, out).map(|()| call.ended().is_none())
            });
            if outcome.unwrap_or(Ok(false))? {
                self.remember_call(who, &id);
                self.refresh_presence(now, &who.user);
            }
            return Ok(());
        }
        self.room_for_a_call(who)?;
        let mut out = Vec::new();
        let call = Call::rebuild(who, announce, now + self.config.resume_window, &mut out);
        self.add_call(who, &id, call);
        for effect in out {
            self.emit(&effect.to, &effect.event);
        }
        self.refresh_presence(now, &who.user);
        Ok(())
    }
}

/// Hang-ups of unknown calls that are remembered; beyond it the oldest is forgotten.
const MAX_HUNG_UP_UNKNOWN: usize = MAX_ENDED / 10;
