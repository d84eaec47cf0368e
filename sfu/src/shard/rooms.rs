//! The rooms of a shard, their members, and when each wants to be called.
//!
//! Timers are a heap in which overtaken entries stay until they come first: after warming up it allocates nothing.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

use halloo_transport::Timestamp;

use super::session::SessionKey;
use crate::room::ParticipantId;

/// A place in [`Rooms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoomIndex(usize);

/// A room and what the shard knows of it.
#[derive(Debug)]
pub(super) struct Hosted<R> {
    pub(super) name: Arc<str>,
    pub(super) room: R,
    /// Sorted by participant.
    members: Vec<Member>,
    timer: Option<Timestamp>,
    /// Whether its time came since it was last looked at.
    pub(super) served: bool,
    /// Whether it is in [`Rooms::touched`].
    touched: bool,
}

/// A participant's transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) participant: ParticipantId,
    pub(super) session: SessionKey,
}

/// Who of a room is reached over which session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a>(&'a [Member]);

impl Members<'_> {
    pub(super) fn session(self, participant: ParticipantId) -> Option<SessionKey> {
        let at = self.0.binary_search_by_key(&participant, |member| member.participant).ok()?;
        Some(self.0[at].session)
    }
}

impl<R> Hosted<R> {
    pub(super) fn add(&mut self, participant: ParticipantId, session: SessionKey) {
        let at = self.members.partition_point(|member| member.participant < participant);
        self.members.insert(at, Member { participant, session });
    }

    pub(super) fn remove(&mut self, participant: ParticipantId) {
        self.members.retain(|member| member.participant != participant);
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The room and its members, to be used at the same time.
    pub(super) fn split(&mut self) -> (&mut R, Members<'_>) {
        (&mut self.room, Members(&self.members))
    }
}

/// All rooms of a shard.
#[derive(Debug)]
pub(super) struct Rooms<R> {
    names: HashMap<Arc<str>, RoomIndex>,
    places: Vec<Option<Hosted<R>>>,
    free: Vec<usize>,
    timers: BinaryHeap<Reverse<(Timestamp, RoomIndex)>>,
    touched: VecDeque<RoomIndex>,
    max: usize,
}

impl<R> Rooms<R> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            names: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            touched: VecDeque::new(),
            max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<RoomIndex> {
        self.names.get(name).copied()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Hosted<R>> {
        self.places.iter().flatten()
    }

    /// Opens a room whose name is not in use; `None` where there are too many.
    pub(super) fn open(&mut self, name: Arc<str>, room: R) -> Option<RoomIndex> {
        if self.names.len() >= self.max {
            return None;
        }
        let hosted =
            Hosted { name: Arc::clone(&name), room, members: Vec::new(), timer: None, served: false, touched: false };
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index] = Some(hosted);
                RoomIndex(index)
            }
            None => {
                self.places.push(Some(hosted));
                RoomIndex(self.places.len() - 1)
            }
        };
        self.names.insert(name, index);
        Some(index)
    }

    pub(super) fn close(&mut self, index: RoomIndex) -> Option<Hosted<R>> {
        let hosted = self.places.get_mut(index.0)?.take()?;
        self.names.remove(&hosted.name);
        self.free.push(index.0);
        self.touched.retain(|touched| *touched != index);
        Some(hosted)
    }

    pub(super) fn get_mut(&mut self, index: RoomIndex) -> Option<&mut Hosted<R>> {
        self.places.get_mut(index.0)?.as_mut()
    }

    /// Remembers that something happened in a room: events and timer are to be looked at.
    pub(super) fn touch(&mut self, index: RoomIndex) {
        if let Some(hosted) = self.places.get_mut(index.0).and_then(Option::as_mut)
            && !hosted.touched
        {
            hosted.touched = true;
            self.touched.push_back(index);
        }
    }

    /// How many rooms are to be looked at.
    pub(super) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// The next room to look at.
    pub(super) fn pop_touched(&mut self) -> Option<RoomIndex> {
        let index = self.touched.pop_front()?;
        if let Some(hosted) = self.get_mut(index) {
            hosted.touched = false;
        }
        Some(index)
    }

    pub(super) fn arm(&mut self, index: RoomIndex, timer: Option<Timestamp>) {
        let Some(hosted) = self.places.get_mut(index.0).and_then(Option::as_mut) else { return };
        if hosted.timer != timer {
            hosted.timer = timer;
            self.timers.extend(timer.map(|at| Reverse((at, index))));
        }
    }

    /// When the first room's time comes. Nobody is woken for entries that were overtaken.
    pub(super) fn next_timeout(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if self.get_mut(index).is_some_and(|hosted| hosted.timer == Some(at)) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }

    /// The next room whose time has come.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<RoomIndex> {
        self.next_timeout().filter(|at| *at <= now)?;
        let Reverse((_, index)) = self.timers.pop()?;
        let hosted = self.get_mut(index)?;
        (hosted.timer, hosted.served) = (None, true);
        Some(index)
    }
}
