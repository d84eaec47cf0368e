//! Sessions and users: who is signed in, with which device, over which connection.

use super::{history::History, room_access::RoomAccess};
use halloo_protocol::{CallId, DeviceId, IceServer, Presence, RoomId, SessionId, UserId};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How somebody proved who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityKind {
    /// By a token.
    Token,
    /// Not at all: a name of one's own choosing.
    Guest,
}

/// Somebody who has proved who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who.
    pub user: UserId,
    /// What others are shown.
    pub display_name: String,
    /// By what.
    pub kind: IdentityKind,
    /// The rooms they may enter, if any.
    pub rooms: Option<RoomAccess>,
}

/// What the shell knows of a `hello` whose credential is good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignIn {
    /// Who it is.
    pub identity: Identity,
    /// Where the connection comes from; guests keep their name by it.
    pub address: IpAddr,
    /// What the client is given for ICE.
    pub ice_servers: Vec<IceServer>,
}

/// One device of one user, from its sign-in until it signs out or its resume window is over.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) kind: IdentityKind,
    pub(super) address: IpAddr,
    pub(super) conn: Option<super::ConnId>,
    pub(super) lost_at: Option<Instant>,
    pub(super) history: History,
    /// Calls that have not ended and that this device is part of or was told of.
    pub(super) calls: Vec<CallId>,
    /// Rooms that this device is in.
    pub(super) rooms: Vec<RoomId>,
    /// Rooms that its credential opens.
    pub(super) access: Option<RoomAccess>,
    /// Until when; `None` for ever.
    pub(super) access_until: Option<Instant>,
    /// Users whose presence changed while there was no connection: told once, on resume.
    pub(super) stale: BTreeSet<UserId>,
}

impl Session {
    /// Whether the device is there, or broke off so recently that it may be back at once.
    pub(super) fn is_reachable(&self, now: Instant, linger: Duration) -> bool {
        self.lost_at.is_none_or(|lost| now.saturating_duration_since(lost) < linger)
    }
}

/// A user who has been seen.
#[derive(Debug)]
pub(super) struct User {
    pub(super) display_name: String,
    pub(super) devices: Vec<DeviceId>,
    /// As last told to watchers.
    pub(super) online: bool,
    /// As last told to watchers.
    pub(super) in_call: bool,
}

impl User {
    pub(super) fn presence(&self, id: &UserId) -> Presence {
        Presence {
            user: id.clone(),
            display_name: self.display_name.clone(),
            online: self.online,
            in_call: self.in_call,
        }
    }
}
