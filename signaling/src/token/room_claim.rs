//! The `room` claim of a token: which rooms its bearer may enter, and what they may do there.
//!
//! Invariant: what a token does not say is not granted, except that a room which is granted may be published to and received.

use super::invalid;
use halloo_protocol::{ErrorBody, RoomGrants, RoomId, SourceKind};
use serde::{Deserialize, Serialize};

/// What a token grants of rooms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomGrant {
    /// Which.
    pub rooms: RoomScope,
    /// What, in each of them.
    pub grants: RoomGrants,
}

/// Rooms that are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoomScope {
    /// All of them: `*` in a token.
    Every,
    /// These.
    Named(Vec<RoomId>),
}

impl RoomScope {
    /// Whether this room is meant.
    pub fn has(&self, room: &RoomId) -> bool {
        match self {
            Self::Every => true,
            Self::Named(rooms) => rooms.contains(room),
        }
    }
}

/// Rooms looked at in one token; the rest is not granted.
const MAX_ROOMS: usize = 100;

/// The `room` claim: `{"name": "standup", "publish": ["microphone"], "subscribe": true, "moderate": false}`.
#[derive(Serialize, Deserialize)]
pub(super) struct RoomClaim {
    name: OneOrSeveral,
    /// `true` for every source, or a list of them.
    #[serde(default = "PublishClaim::everything")]
    publish: PublishClaim,
    #[serde(default = "granted")]
    subscribe: bool,
    #[serde(default)]
    moderate: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PublishClaim {
    All(bool),
    Kinds(Vec<SourceKind>),
}

impl PublishClaim {
    fn everything() -> Self {
        Self::All(true)
    }
}

fn granted() -> bool {
    true
}

impl RoomClaim {
    pub(super) fn of(grant: &RoomGrant) -> Self {
        let name = match &grant.rooms {
            RoomScope::Every => OneOrSeveral::One("*".to_owned()),
            RoomScope::Named(rooms) => OneOrSeveral::Several(rooms.iter().map(ToString::to_string).collect()),
        };
        let RoomGrants { publish, subscribe, moderate } = grant.grants.clone();
        Self { name, publish: PublishClaim::Kinds(publish), subscribe, moderate }
    }

    pub(super) fn read(self) -> Result<RoomGrant, ErrorBody> {
        let names = match self.name {
            OneOrSeveral::One(name) => vec![name],
            OneOrSeveral::Several(names) => names,
        };
        let rooms = if names.iter().any(|name| name == "*") {
            RoomScope::Every
        } else {
            let rooms: Result<_, _> = names.into_iter().take(MAX_ROOMS).map(RoomId::new).collect();
            RoomScope::Named(rooms.map_err(|e| invalid(format!("the token's room claim names no room: {e}")))?)
        };
        let publish = match self.publish {
            PublishClaim::All(true) => SourceKind::ALL.to_vec(),
            PublishClaim::All(false) => Vec::new(),
            PublishClaim::Kinds(kinds) => SourceKind::ALL.into_iter().filter(|kind| kinds.contains(kind)).collect(),
        };
        Ok(RoomGrant { rooms, grants: RoomGrants { publish, subscribe: self.subscribe, moderate: self.moderate } })
    }
}
