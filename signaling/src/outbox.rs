//! What waits to be written to one client: bounded, and closed with a reason when the client reads too slowly.
//!
//! Invariant: nothing is dropped in silence. Above the bounds everything that waits is dropped and the connection is closed
//! as a slow reader; the session's history has the events for a resume.

use axum::extract::ws::Utf8Bytes;
use futures_util::task::AtomicWaker;
use halloo_protocol::CloseCode;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// One thing to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    Text(Utf8Bytes),
    /// A ping that carries the number of the last event before it: its pong proves that the client has them all.
    Ping(u64),
}

/// Why the server closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Closing {
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    closing: Option<Closing>,
}

/// The queue of one connection, filled under the hub's lock and drained by the connection's task.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    max_messages: usize,
    max_bytes: usize,
}

impl Outbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { queue: Mutex::default(), waker: AtomicWaker::new(), max_messages, max_bytes }
    }

    /// Adds a message. False where this made the client a slow reader.
    pub(crate) fn push(&self, item: Item) -> bool {
        let fits = {
            let mut queue = self.lock();
            if queue.closing.is_some() {
                return true;
            }
            queue.bytes += size(&item);
            queue.items.push_back(item);
            let fits = queue.items.len() <= self.max_messages && queue.bytes <= self.max_bytes;
            if !fits {
                queue.items = VecDeque::new();
                queue.bytes = 0;
                let reason = "this client reads too slowly";
                queue.closing = Some(Closing { code: CloseCode::SlowReader, reason });
            }
            fits
        };
        self.waker.wake();
        fits
    }

    /// Closes after what waits has been written; the first reason stands.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().closing.get_or_insert(closing);
        self.waker.wake();
    }

    pub(crate) fn pop(&self) -> Option<Item> {
        let mut queue = self.lock();
        let item = queue.items.pop_front()?;
        queue.bytes -= size(&item);
        if queue.items.is_empty() {
            // An idle connection keeps no room for a burst that has passed.
            queue.items = VecDeque::new();
        }
        Some(item)
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        self.lock().closing
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Text(text) => text.len(),
        Item::Ping(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_above_its_bounds_is_dropped_whole_and_closed_with_the_reason() {
        let outbox = Outbox::new(2, 100);
        assert!(outbox.push(Item::Text("a".into())) && outbox.push(Item::Ping(3)));
        assert!(!outbox.push(Item::Text("b".into())));
        assert_eq!(outbox.pop(), None);
        assert_eq!(outbox.closing().unwrap().code, CloseCode::SlowReader);
        assert!(!Outbox::new(9, 100).push(Item::Text("x".repeat(101).into())));
    }

    #[test]
    fn what_waits_goes_out_before_the_close_and_the_first_reason_stands() {
        let outbox = Outbox::new(2, 100);
        outbox.push(Item::Text("a".into()));
        outbox.close(Closing { code: CloseCode::SignedOut, reason: "signed out" });
        outbox.close(Closing { code: CloseCode::GoingAway, reason: "later" });
        outbox.push(Item::Text("too late".into()));
        assert_eq!(outbox.pop(), Some(Item::Text("a".into())));
        assert_eq!(outbox.pop(), None);
        assert_eq!(outbox.closing().unwrap().code, CloseCode::SignedOut);
    }
}
