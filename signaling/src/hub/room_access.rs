//! Who may enter which room: what a credential grants, and how many there may be.

use super::{Hub, Identity};
use crate::{
    call::Endpoint,
    room::{Room, RoomCapacity},
    token::RoomScope,
};
use halloo_protocol::{ErrorBody, ErrorCode, RoomGrants, RoomId, RoomLimits, SourceKind};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// What rooms are held to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomRules {
    /// Rooms at a time.
    pub max_rooms: usize,
    /// Rooms that one device may be in at a time.
    pub max_rooms_per_device: usize,
    /// What holds in each room.
    pub limits: RoomLimits,
    /// How long the media plane may take to answer an offer.
    pub media_timeout: Duration,
}

impl Default for RoomRules {
    fn default() -> Self {
        Self {
            max_rooms: 10_000,
            max_rooms_per_device: 4,
            limits: RoomLimits { max_participants: 200, max_publish_kbps: 12_000, max_height: 2_160 },
            media_timeout: Duration::from_secs(10),
        }
    }
}

/// The rooms that somebody's credential opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomAccess {
    /// Which.
    pub rooms: RoomScope,
    /// What they may do there.
    pub grants: RoomGrants,
    /// How long from now on they may enter; `None` for ever.
    pub valid_for: Option<Duration>,
}

impl RoomAccess {
    /// Every room and every grant, for ever: what a guest has.
    pub fn everything() -> Self {
        let grants = RoomGrants { publish: SourceKind::ALL.to_vec(), subscribe: true, moderate: true };
        Self { rooms: RoomScope::Every, grants, valid_for: None }
    }
}

impl Hub {
    /// What this device may do in the room, by the request's own token or by the session's credential.
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`, `room_not_granted`, or what was wrong with the request's token.
    pub(super) fn granted(
        &self,
        now: Instant,
        who: &Endpoint,
        room: &RoomId,
        proof: Option<Result<Identity, ErrorBody>>,
    ) -> Result<RoomGrants, ErrorBody> {
        let (access, until) = match proof {
            Some(identity) => {
                let identity = identity?;
                if identity.user != who.user {
                    let message = format!("the token is for {}, but this session is {}'s", identity.user, who.user);
                    return Err(ErrorBody::new(ErrorCode::TokenInvalid, message));
                }
                (identity.rooms, None)
            }
            None => {
                let session = self.sessions.get(who);
                (session.and_then(|s| s.access.clone()), session.and_then(|s| s.access_until))
            }
        };
        if until.is_some_and(|until| until <= now) {
            let message = "the token of this session has expired: join with a new one, or sign in again";
            return Err(ErrorBody::new(ErrorCode::TokenExpired, message));
        }
        let Some(access) = access else {
            let message = "your token grants no room: ask for one that does";
            return Err(ErrorBody::new(ErrorCode::RoomNotGranted, message));
        };
        if !access.rooms.has(room) {
            let message = format!("your token grants other rooms, not {room}: ask for one that does");
            return Err(ErrorBody::new(ErrorCode::RoomNotGranted, message));
        }
        Ok(access.grants)
    }

    /// Whether there is a place, those counted in whose offer awaits its answer.
    ///
    /// # Errors
    /// `shutting_down`, `room_full`, `room_locked`.
    pub(super) fn may_enter(&self, who: &Endpoint, room: &RoomId, grants: &RoomGrants) -> Result<(), ErrorBody> {
        if self.draining {
            let message = "the server is shutting down: join once connected anew";
            return Err(ErrorBody::new(ErrorCode::ShuttingDown, message));
        }
        let others: BTreeSet<_> = self
            .rooms
            .entering()
            .filter(|(other, into)| *other != who && *into == room)
            .map(|(other, _)| other)
            .collect();
        let capacity = RoomCapacity { entering: others.len() };
        match self.rooms.open.get(room) {
            Some(open) => open.may_enter(who, grants, capacity)?,
            None => {
                self.may_open(room)?;
                Room::new(room.clone(), self.config.rooms.limits.clone()).may_enter(who, grants, capacity)?;
            }
        }
        let own = self.sessions.get(who).map_or(0, |session| session.rooms.iter().filter(|r| *r != room).count());
        if own >= self.config.rooms.max_rooms_per_device {
            let message = format!("this device is in {own} rooms, which is as many as there may be: leave one first");
            return Err(ErrorBody::new(ErrorCode::RoomFull, message));
        }
        Ok(())
    }

    fn may_open(&self, room: &RoomId) -> Result<(), ErrorBody> {
        let coming: BTreeSet<&RoomId> = self.rooms.entering().map(|(_, into)| into).collect();
        let new = coming.iter().filter(|into| **into != room && !self.rooms.open.contains_key(**into)).count();
        if self.rooms.open.len() + new < self.config.rooms.max_rooms {
            return Ok(());
        }
        let message = "the server holds as many rooms as it may: try again later";
        Err(ErrorBody::new(ErrorCode::RoomFull, message))
    }
}
