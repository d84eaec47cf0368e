//! Presence: who watches whom, and telling them of changes.
//!
//! Invariant: a watcher is told each state once; while it has no connection, changes are only marked and told on resume,
//! so that a busy server cannot overflow what is kept for it.

use super::{Hub, Timer};
use crate::call::Endpoint;
use halloo_protocol::{Event, Presence, UserId};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

/// Users shown to a device that watches everyone, and changes marked for one that is away.
const MAX_SHOWN: usize = 1_000;
/// Room for a presence reply within the largest message.
const MAX_REPLY_BYTES: usize = 60 * 1024;

#[derive(Debug, Default)]
pub(super) struct Watches {
    everyone: HashSet<Endpoint>,
    named: HashMap<UserId, HashSet<Endpoint>>,
    by_watcher: HashMap<Endpoint, Vec<UserId>>,
}

impl Watches {
    pub(super) fn remove(&mut self, watcher: &Endpoint) {
        self.everyone.remove(watcher);
        for user in self.by_watcher.remove(watcher).unwrap_or_default() {
            if let Some(watchers) = self.named.get_mut(&user) {
                watchers.remove(watcher);
                if watchers.is_empty() {
                    self.named.remove(&user);
                }
            }
        }
    }

    fn of(&self, user: &UserId) -> Vec<Endpoint> {
        let named = self.named.get(user).into_iter().flatten();
        let everyone = self.everyone.iter().filter(|watcher| watcher.user != *user);
        named.chain(everyone).cloned().collect()
    }
}

impl Hub {
    /// Replaces a device's watch. What does not fit into one reply follows as events.
    pub(super) fn watch(&mut self, who: &Endpoint, users: Option<Vec<UserId>>) -> Vec<Presence> {
        self.watches.remove(who);
        let mut shown: Vec<Presence> = match users {
            None => {
                self.watches.everyone.insert(who.clone());
                let online = self.users.iter().filter(|(id, user)| user.online && **id != who.user);
                online.take(MAX_SHOWN).map(|(id, user)| user.presence(id)).collect()
            }
            Some(mut users) => {
                users.sort();
                users.dedup();
                for user in &users {
                    self.watches.named.entry(user.clone()).or_default().insert(who.clone());
                }
                let shown = users.iter().map(|user| self.presence_of(user)).collect();
                self.watches.by_watcher.insert(who.clone(), users);
                shown
            }
        };
        let mut bytes = 0;
        let fits = shown.iter().take_while(|presence| {
            bytes += presence.user.as_str().len() + presence.display_name.len() * 2 + 80;
            bytes <= MAX_REPLY_BYTES
        });
        let fits = fits.count();
        for presence in shown.split_off(fits) {
            self.emit(who, &Event::Presence(presence));
        }
        shown
    }

    fn presence_of(&self, user: &UserId) -> Presence {
        match self.users.get(user) {
            Some(known) => known.presence(user),
            None => {
                Presence { user: user.clone(), display_name: user.as_str().to_owned(), online: false, in_call: false }
            }
        }
    }

    /// Looks whether a user's presence has changed, and tells the watchers if so.
    pub(super) fn refresh_presence(&mut self, now: Instant, user: &UserId) {
        let Some(known) = self.users.get(user) else { return };
        let (mut online, mut in_call) = (false, false);
        for device in &known.devices {
            let who = Endpoint { user: user.clone(), device: device.clone() };
            let Some(session) = self.sessions.get(&who) else { continue };
            online |= session.is_reachable(now, self.config.linger);
            in_call |= !session.rooms.is_empty();
            in_call |= session.calls.iter().filter_map(|call| self.calls.get(call)).any(|call| call.engages(&who));
        }
        if (known.online, known.in_call) != (online, in_call) {
            self.set_presence(user, online, in_call);
        }
    }

    pub(super) fn set_presence(&mut self, user: &UserId, online: bool, in_call: bool) {
        let Some(known) = self.users.get_mut(user) else { return };
        known.online = online;
        known.in_call = in_call;
        let event = Event::Presence(known.presence(user));
        for watcher in self.watches.of(user) {
            match self.sessions.get_mut(&watcher) {
                Some(session) if session.conn.is_none() => {
                    if session.stale.len() < MAX_SHOWN {
                        session.stale.insert(user.clone());
                    } else {
                        // Too many to catch up on: a resume must give a snapshot.
                        session.history.abandon();
                    }
                }
                _ => self.emit(&watcher, &event),
            }
        }
    }

    /// Tells a device that is back what changed meanwhile.
    pub(super) fn catch_up_presence(&mut self, who: &Endpoint) {
        let Some(session) = self.sessions.get_mut(who) else { return };
        for user in std::mem::take(&mut session.stale) {
            let presence = self.presence_of(&user);
            self.emit(who, &Event::Presence(presence));
        }
    }

    /// Looks again once a broken connection no longer counts as there.
    pub(super) fn refresh_presence_after_linger(&mut self, now: Instant, user: &UserId) {
        self.timers.insert((now + self.config.linger, Timer::Linger(user.clone())));
    }
}
