//! One participant's transport: ICE agent, handshake, SRTP.

use std::net::IpAddr;

use halloo_transport::Timestamp;

use super::{rooms::RoomIndex, wire::Path};
use crate::{
    dtls::Fingerprint,
    ice::Agent,
    net::Lease,
    room::ParticipantId,
    srtp::{Inbound, Outbound, SessionKeys, SrtpError},
};

/// Names a session; not given out again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionKey {
    index: u32,
    generation: u32,
}

impl SessionKey {
    pub(super) const fn as_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub(super) const fn from_u64(value: u64) -> Self {
        Self { index: value as u32, generation: (value >> 32) as u32 }
    }
}

/// A participant's transport.
#[derive(Debug)]
pub(super) struct Session<H> {
    pub(super) room: RoomIndex,
    pub(super) participant: ParticipantId,
    pub(super) agent: Agent,
    /// Which of our addresses the selected path ends at.
    pub(super) local: Option<IpAddr>,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) handshake: Option<H>,
    pub(super) srtp: Option<Box<Srtp>>,
    /// Without keys by then, the session ends.
    pub(super) connect_by: Timestamp,
    /// The arena of the present batch.
    pub(super) lease: Lease,
}

/// SRTP of both directions.
#[derive(Debug)]
pub(super) struct Srtp {
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
}

impl Srtp {
    pub(super) fn new(keys: &SessionKeys) -> Result<Self, SrtpError> {
        Ok(Self { inbound: Inbound::new(&keys.inbound)?, outbound: Outbound::new(&keys.outbound)? })
    }
}

impl<H> Session<H> {
    /// Where to send, once a check told.
    pub(super) fn path(&self) -> Option<Path> {
        self.agent.selected().map(|remote| Path { remote, local: self.local })
    }
}

/// All sessions of a shard: a table of fixed size whose places are used again.
#[derive(Debug)]
pub(super) struct Sessions<H> {
    places: Vec<Place<H>>,
    free: Vec<u32>,
    max: usize,
}

#[derive(Debug)]
struct Place<H> {
    generation: u32,
    session: Option<Session<H>>,
}

impl<H> Sessions<H> {
    pub(super) const fn new(max: usize) -> Self {
        Self { places: Vec::new(), free: Vec::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// The key that [`Sessions::insert`] will give next.
    pub(super) fn next_key(&self) -> SessionKey {
        match self.free.last() {
            Some(index) => SessionKey { index: *index, generation: self.places[*index as usize].generation },
            None => SessionKey { index: self.places.len() as u32, generation: 0 },
        }
    }

    pub(super) fn insert(&mut self, session: Session<H>) -> SessionKey {
        let key = self.next_key();
        if self.free.pop().is_none() {
            self.places.push(Place { generation: 0, session: None });
        }
        self.places[key.index as usize].session = Some(session);
        key
    }

    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session<H>> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        let session = place.session.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(session)
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session<H>> {
        let place = self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        place.session.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session<H>)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = SessionKey { index: index as u32, generation: place.generation };
            place.session.as_ref().map(|session| (key, session))
        })
    }
}
