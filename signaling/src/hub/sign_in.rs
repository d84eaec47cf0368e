//! Signing in, resuming, being lost, signing out.
//!
//! Invariant: a device has one session and a session one connection; whoever comes later replaces.

use super::{
    ConnId, Hub, MAX_KNOWN_OFFLINE, Timer,
    history::History,
    session::{IdentityKind, Session, SignIn, User},
};
use crate::call::{Departure, Endpoint};
use halloo_protocol::{
    CallId, CloseCode, ErrorBody, ErrorCode, Hello, LeaveReason, PeerReach, ReplyBody, ReplyResult, Resume, UserId,
    Welcome,
};
use std::{collections::BTreeSet, net::IpAddr, time::Instant};

impl Hub {
    /// A `hello`, with what its credential proved.
    pub fn handle_hello(
        &mut self,
        now: Instant,
        conn: ConnId,
        id: u64,
        hello: Hello,
        proof: Result<SignIn, ErrorBody>,
    ) {
        match self.connections.get(&conn) {
            None => return,
            Some(Some(_)) => {
                let message = "this connection is signed in already: open another one for another session";
                return self.refuse(conn, id, ErrorBody::new(ErrorCode::AlreadySignedIn, message));
            }
            Some(None) => {}
        }
        if self.draining {
            let message = "the server is shutting down: connect again in a moment";
            self.refuse(conn, id, ErrorBody::new(ErrorCode::ShuttingDown, message));
            return self.close(conn, CloseCode::GoingAway, "the server is shutting down");
        }
        let admitted = proof.and_then(|sign_in| {
            let who = Endpoint { user: sign_in.identity.user.clone(), device: hello.device.clone() };
            self.admit(now, &who, &sign_in, hello.resume.as_ref())?;
            Ok((who, sign_in))
        });
        match admitted {
            Ok((who, sign_in)) => self.welcome(now, conn, id, who, sign_in, hello.resume),
            Err(error) => {
                self.refuse(conn, id, error);
                self.close(conn, CloseCode::SignInRefused, "the hello was refused: see the reply before");
            }
        }
    }

    /// Whether this name is free for them. A token owns its name. A guest's name belongs to the machine that uses it: other
    /// devices of the same address may share it, and a resumed session keeps it wherever it comes from.
    fn admit(
        &mut self,
        now: Instant,
        who: &Endpoint,
        sign_in: &SignIn,
        resume: Option<&Resume>,
    ) -> Result<(), ErrorBody> {
        let sessions = self.sessions_of(&who.user);
        if sign_in.identity.kind == IdentityKind::Token {
            for session in &sessions {
                if self.kind_of(session) == Some(IdentityKind::Guest) {
                    self.evict(now, session);
                }
            }
        } else if !self.may_share_name(&sessions, who, sign_in.address, resume) {
            let message = format!(
                "somebody else is signed in as {}: choose another name, or try again in {} s if that was you on another network",
                who.user,
                self.config.resume_window.as_secs(),
            );
            return Err(ErrorBody::new(ErrorCode::NameTaken, message));
        }
        let others = self.sessions_of(&who.user).into_iter().filter(|e| e != who).count();
        if others >= self.config.max_devices_per_user {
            let message =
                format!("{} is signed in with {others} devices already, which is as many as there may be", who.user);
            return Err(ErrorBody::new(ErrorCode::RateLimited, message));
        }
        Ok(())
    }

    fn may_share_name(&self, sessions: &[Endpoint], who: &Endpoint, address: IpAddr, resume: Option<&Resume>) -> bool {
        sessions.iter().filter_map(|e| Some((e, self.sessions.get(e)?))).all(|(endpoint, session)| {
            let resumes = endpoint == who && resume.is_some_and(|resume| resume.session == session.id);
            session.kind == IdentityKind::Guest && (session.address == address || resumes)
        })
    }

    fn sessions_of(&self, user: &UserId) -> Vec<Endpoint> {
        let devices = self.users.get(user).map(|user| user.devices.clone()).unwrap_or_default();
        devices.into_iter().map(|device| Endpoint { user: user.clone(), device }).collect()
    }

    fn kind_of(&self, who: &Endpoint) -> Option<IdentityKind> {
        self.sessions.get(who).map(|session| session.kind)
    }

    /// A guest whose name has turned out to be somebody's.
    fn evict(&mut self, now: Instant, guest: &Endpoint) {
        if let Some(conn) = self.sessions.get(guest).and_then(|session| session.conn) {
            self.close(conn, CloseCode::SignInRefused, "this name belongs to a user who has signed in with a token");
        }
        self.end_session(now, guest, Departure::SignedOut);
    }

    fn welcome(&mut self, now: Instant, conn: ConnId, id: u64, who: Endpoint, sign_in: SignIn, resume: Option<Resume>) {
        let place = self.outputs.len();
        let replay = resume.as_ref().and_then(|resume| self.replay(&who, resume));
        let resumed = replay.is_some();
        if resumed {
            self.stats.resumes += 1;
        } else {
            self.stats.resumes_refused += u64::from(resume.is_some());
            self.start_session(&who, &sign_in);
        }
        self.attach(now, conn, &who, &sign_in);
        self.greet_user(&who, &sign_in);
        // A session that goes on has its rooms; it is told what it missed.
        let (rooms, rests) = if resumed { Default::default() } else { self.room_snapshots(&who) };
        let Some(session) = self.sessions.get(&who) else { return };
        let known: Vec<CallId> = session.calls.clone();
        let welcome = Welcome {
            session: session.id.clone(),
            epoch: self.epoch.clone(),
            resumed,
            user: who.user.clone(),
            display_name: sign_in.identity.display_name,
            ice_servers: sign_in.ice_servers,
            limits: self.limits(),
            rooms,
            calls: known.iter().filter_map(|call| self.calls.get(call)?.snapshot(&who)).collect(),
        };
        self.reply_at(place, conn, id, ReplyBody::Result(ReplyResult::Welcome(welcome)));
        for text in replay.unwrap_or_default() {
            self.outputs.push_back(super::Output::Send { conn, text });
        }
        for (room, rest) in rests {
            self.tell_rest(&who, &room, rest);
        }
        self.catch_up_presence(&who);
        self.rooms_reach(now, &who, PeerReach::Back);
        for call in &known {
            self.with_call(now, call, |call, out| call.handle_back(&who, out));
        }
        self.ring_late(now, &who, resumed);
        self.refresh_presence(now, &who.user);
    }

    /// What a resume has to replay; `None` where it cannot be resumed without a gap.
    fn replay(&self, who: &Endpoint, resume: &Resume) -> Option<Vec<String>> {
        let session = self.sessions.get(who)?;
        if session.id != resume.session || self.epoch != resume.epoch {
            return None;
        }
        session.history.after(resume.last_seq)
    }

    /// A new session for this device. It takes over the calls of the one before, not its events.
    fn start_session(&mut self, who: &Endpoint, sign_in: &SignIn) {
        let id = self.draw_session_id();
        self.watches.remove(who);
        let mut session = Session {
            id,
            kind: sign_in.identity.kind,
            address: sign_in.address,
            conn: None,
            lost_at: None,
            history: History::default(),
            calls: Vec::new(),
            rooms: Vec::new(),
            access: None,
            access_until: None,
            stale: BTreeSet::new(),
        };
        if let Some(old) = self.sessions.remove(who) {
            session.calls = old.calls;
            session.rooms = old.rooms;
            session.conn = old.conn;
            session.lost_at = old.lost_at;
        }
        self.sessions.insert(who.clone(), session);
    }

    fn attach(&mut self, now: Instant, conn: ConnId, who: &Endpoint, sign_in: &SignIn) {
        let Some(session) = self.sessions.get_mut(who) else { return };
        session.address = sign_in.address;
        session.access.clone_from(&sign_in.identity.rooms);
        session.access_until = session.access.as_ref().and_then(|access| access.valid_for).map(|valid| now + valid);
        let lost_at = session.lost_at.take();
        if let Some(old) = session.conn.replace(conn) {
            self.close(old, CloseCode::Replaced, "this device has signed in on another connection");
        }
        if let Some(lost_at) = lost_at {
            self.timers.remove(&(lost_at + self.config.resume_window, Timer::Session(who.clone())));
        }
        self.connections.insert(conn, Some(who.clone()));
    }

    fn greet_user(&mut self, who: &Endpoint, sign_in: &SignIn) {
        let name = &sign_in.identity.display_name;
        let user = self.users.entry(who.user.clone()).or_insert_with(|| User {
            display_name: name.clone(),
            devices: Vec::with_capacity(1),
            online: false,
            in_call: false,
        });
        if !user.devices.contains(&who.device) {
            user.devices.push(who.device.clone());
        }
        if user.display_name != *name {
            user.display_name.clone_from(name);
            let (online, in_call) = (user.online, user.in_call);
            if online {
                self.set_presence(&who.user, online, in_call);
            }
        }
    }

    /// Calls that ring its user ring a device that signs in late, and again one that has forgotten them.
    fn ring_late(&mut self, now: Instant, who: &Endpoint, resumed: bool) {
        let own: Vec<CallId> = self.sessions.get(who).map(|s| s.calls.clone()).unwrap_or_default();
        let engaged = own.iter().filter_map(|call| self.calls.get(call)).any(|call| call.engages(who));
        let mut ringing = BTreeSet::new();
        for device in self.sessions_of(&who.user) {
            let calls = self.sessions.get(&device).into_iter().flat_map(|session| &session.calls);
            ringing.extend(calls.filter(|id| self.calls.get(id).is_some_and(|c| c.rings(&who.user))).cloned());
        }
        for call in ringing {
            let knows = own.contains(&call);
            if if knows { !resumed } else { !engaged } {
                self.with_call(now, &call, |call, out| call.ring(now, &who.device, out));
            }
        }
    }

    /// The connection of a session broke.
    pub(super) fn lose(&mut self, now: Instant, conn: ConnId, who: &Endpoint) {
        let Some(session) = self.sessions.get_mut(who) else { return };
        if session.conn != Some(conn) {
            return;
        }
        session.conn = None;
        session.lost_at = Some(now);
        let calls = session.calls.clone();
        self.timers.insert((now + self.config.resume_window, Timer::Session(who.clone())));
        self.refresh_presence_after_linger(now, &who.user);
        for call in calls {
            self.with_call(now, &call, |call, out| call.handle_lost(who, out));
        }
        self.rooms_reach(now, who, PeerReach::Lost);
    }

    /// The resume window is over.
    pub(super) fn expire(&mut self, now: Instant, who: &Endpoint) {
        let window = self.config.resume_window;
        if self.sessions.get(who).is_some_and(|s| s.lost_at.is_some_and(|lost| lost + window <= now)) {
            self.stats.sessions_expired += 1;
            self.end_session(now, who, Departure::Expired);
        }
    }

    /// The device leaves for good, at its own wish.
    pub(super) fn sign_out(&mut self, now: Instant, who: &Endpoint) {
        let conn = self.sessions.get(who).and_then(|session| session.conn);
        self.end_session(now, who, Departure::SignedOut);
        if let Some(conn) = conn {
            self.close(conn, CloseCode::SignedOut, "signed out");
        }
    }

    fn end_session(&mut self, now: Instant, who: &Endpoint, why: Departure) {
        let calls = self.sessions.get(who).map(|session| session.calls.clone()).unwrap_or_default();
        for call in calls {
            self.with_call(now, &call, |call, out| call.handle_gone(who, why, out));
        }
        let reason = match why {
            Departure::SignedOut => LeaveReason::Left,
            Departure::Expired => LeaveReason::Lost,
        };
        self.leave_rooms(now, who, reason);
        self.watches.remove(who);
        if let Some(lost_at) = self.sessions.remove(who).and_then(|session| session.lost_at) {
            self.timers.remove(&(lost_at + self.config.resume_window, Timer::Session(who.clone())));
        }
        let Some(user) = self.users.get_mut(&who.user) else { return };
        user.devices.retain(|device| *device != who.device);
        if user.devices.is_empty() {
            self.offline.push_back(who.user.clone());
        }
        self.refresh_presence(now, &who.user);
        self.forget_long_gone();
    }

    fn forget_long_gone(&mut self) {
        while self.offline.len() > MAX_KNOWN_OFFLINE
            && let Some(user) = self.offline.pop_front()
        {
            if self.users.get(&user).is_some_and(|user| user.devices.is_empty()) {
                self.users.remove(&user);
            }
        }
    }
}
