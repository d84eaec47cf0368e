//! Who of hundreds of participants is wanted next: by the kernel (epoll) and by the clock (a heap). Looking at all of them for
//! each packet would cost the generator more than the packets do.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use halloo_transport::Timestamp;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    time::Timespec,
};

/// Sockets that are told of at once.
const READY: usize = 256;

/// Wakes participants by their place.
pub(crate) struct Schedule {
    epoll: OwnedFd,
    ready: Vec<Event>,
    /// When each is woken; entries of the heap that say something else were overtaken.
    wake: Vec<Timestamp>,
    heap: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("epoll"),
            ready: Vec::with_capacity(READY),
            wake: Vec::new(),
            heap: BinaryHeap::new(),
        }
    }

    /// Adds the next participant, to be looked at at once.
    pub(crate) fn add(&mut self, socket: impl AsFd) {
        let place = EventData::new_u64(self.wake.len() as u64);
        epoll::add(&self.epoll, socket, place, EventFlags::IN).expect("room for a socket");
        self.heap.push(Reverse((Timestamp::ZERO, self.wake.len())));
        self.wake.push(Timestamp::ZERO);
    }

    /// Forgets the one that was added last.
    pub(crate) fn remove_last(&mut self) {
        self.wake.pop();
    }

    /// Somebody is to be woken then.
    pub(crate) fn wake_at(&mut self, place: usize, at: Timestamp) {
        if let Some(wake) = self.wake.get_mut(place).filter(|wake| **wake != at) {
            *wake = at;
            self.heap.push(Reverse((at, place)));
        }
    }

    /// The first time at which somebody is to be woken.
    pub(crate) fn next(&mut self) -> Option<Timestamp> {
        self.forget_overtaken();
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Somebody who is to be woken by now; they have to say anew when next.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<usize> {
        self.forget_overtaken();
        let Reverse((_, place)) = self.heap.peek().copied().filter(|Reverse((at, _))| *at <= now)?;
        self.heap.pop();
        self.wake[place] = Timestamp::MAX;
        Some(place)
    }

    /// Waits for so long at most, and gives the places of those whose sockets have something.
    pub(crate) fn wait(&mut self, wait: Duration) -> Vec<usize> {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.ready.clear();
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout));
        self.ready.iter().map(|event| event.data.u64() as usize).filter(|place| *place < self.wake.len()).collect()
    }

    fn forget_overtaken(&mut self) {
        while let Some(Reverse((at, place))) = self.heap.peek()
            && self.wake.get(*place) != Some(at)
        {
            self.heap.pop();
        }
    }
}
