//! Events on their way to the application, in a queue that never drops a lifecycle event: of the others the oldest go.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Events that wait before informational ones are dropped.
const MAX_WAITING: usize = 256;

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weight {
    /// May be dropped where nobody reads.
    Information,
    /// Is never dropped.
    Lifecycle,
    /// Is never dropped, and nothing follows it.
    Last,
}

/// What can be queued.
pub(crate) trait QueuedEvent {
    /// How much it matters.
    fn weight(&self) -> Weight;
}

#[derive(Debug)]
struct Waiting<E> {
    events: VecDeque<E>,
    dropped: u64,
    closed: bool,
}

/// Both ends of the queue. Cloning shares it; each event goes to one reader.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    waiting: Arc<Mutex<Waiting<E>>>,
    notify: Arc<Notify>,
}

impl<E> Clone for EventQueue<E> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), notify: Arc::clone(&self.notify) }
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        let waiting = Waiting { events: VecDeque::new(), dropped: 0, closed: false };
        Self { waiting: Arc::new(Mutex::new(waiting)), notify: Arc::default() }
    }
}

impl<E: QueuedEvent> EventQueue<E> {
    /// Adds an event. What comes after the last one is not taken.
    pub(crate) fn push(&self, event: E) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if waiting.events.len() >= MAX_WAITING
            && let Some(at) = waiting.events.iter().position(|e| e.weight() == Weight::Information)
        {
            waiting.events.remove(at);
            waiting.dropped += 1;
        }
        waiting.closed = event.weight() == Weight::Last;
        waiting.events.push_back(event);
        drop(waiting);
        self.notify.notify_one();
    }

    /// The next event; `None` after the last.
    pub(crate) async fn next(&self) -> Option<E> {
        loop {
            let notified = self.notify.notified();
            {
                let mut waiting = self.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(event);
                }
                if waiting.closed {
                    self.notify.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// The next event if one waits.
    pub(crate) fn try_next(&self) -> Option<E> {
        self.lock().events.pop_front()
    }

    /// Events dropped so far because nobody read them.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<E>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Numbered(usize, Weight);

    impl QueuedEvent for Numbered {
        fn weight(&self) -> Weight {
            self.1
        }
    }

    #[test]
    fn a_full_queue_drops_the_oldest_information_and_keeps_the_lifecycle() {
        let queue = EventQueue::default();
        queue.push(Numbered(1_000, Weight::Lifecycle));
        for i in 0..2 * MAX_WAITING {
            queue.push(Numbered(i, Weight::Information));
        }
        queue.push(Numbered(2_000, Weight::Last));
        let all: Vec<usize> = std::iter::from_fn(|| queue.try_next()).map(|event| event.0).collect();
        assert_eq!(all[..2], [1_000, 258]);
        assert_eq!(all.last(), Some(&2_000));
        assert_eq!(queue.dropped(), 258);
    }

    #[tokio::test]
    async fn the_stream_ends_after_the_last_event() {
        let queue = EventQueue::default();
        queue.push(Numbered(1, Weight::Last));
        queue.push(Numbered(2, Weight::Lifecycle));
        assert_eq!(queue.next().await, Some(Numbered(1, Weight::Last)));
        assert_eq!(queue.next().await, None);
    }
}
