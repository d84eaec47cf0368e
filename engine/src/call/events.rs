//! What a call tells the application, in a queue that never drops a lifecycle event.

use halloo_protocol::{EndReason, ErrorCode, MediaState};
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

use super::tracks::RemoteTrack;

/// Informational events that wait at most; beyond that the oldest of them are dropped.
const MAX_WAITING: usize = 256;

/// What happens in a call. Lifecycle events (marked) are never dropped; of the others the oldest are, when the application
/// does not read them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallEvent {
    /// Lifecycle, caller only: a device of the callee shows the call.
    Ringing,
    /// Lifecycle: it was answered; media is being connected.
    Answered,
    /// Lifecycle: media flows.
    Connected,
    /// Lifecycle: media stopped flowing and is being restored.
    Reconnecting,
    /// Lifecycle: media flows again.
    Reconnected,
    /// Lifecycle: the first packet of a track came in. The track existed before, and may have sinks already.
    TrackStarted(RemoteTrack),
    /// What the other side sends changed.
    PeerMedia(MediaState),
    /// The connection to the signaling server broke (false) or is back (true). Media is not affected.
    Signaling {
        /// Whether it is there.
        connected: bool,
    },
    /// A source, sink or device has a problem, or a file has ended. The call goes on.
    Media(MediaEvent),
    /// Lifecycle, the last one: over, and every sink is finished.
    Ended(CallEnded),
}

impl CallEvent {
    fn is_lifecycle(&self) -> bool {
        !matches!(self, Self::PeerMedia(_) | Self::Signaling { .. } | Self::Media(_))
    }
}

/// Something about a source, sink or device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaEvent {
    /// A source has given all it had.
    SourceEnded,
    /// A source, sink, device or codec failed; the text says which, how, and what happens now.
    Problem(String),
    /// A device went away or changed, and the call went on with another; the text says which.
    DeviceChanged(String),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallEnded {
    /// Why.
    pub reason: EndReason,
    /// What went wrong, for people, where something did.
    pub error: Option<String>,
    /// The server's code, where the server refused.
    pub code: Option<ErrorCode>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<CallEvent>,
    dropped: u64,
    closed: bool,
}

/// The writing end.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventQueue {
    queue: Arc<Mutex<Queue>>,
    notify: Arc<Notify>,
}

impl EventQueue {
    pub(crate) fn push(&self, event: CallEvent) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= MAX_WAITING
            && let Some(at) = queue.waiting.iter().position(|e| !e.is_lifecycle())
        {
            queue.waiting.remove(at);
            queue.dropped += 1;
        }
        queue.closed |= matches!(event, CallEvent::Ended(_));
        queue.waiting.push_back(event);
        drop(queue);
        self.notify.notify_one();
    }

    pub(crate) fn reader(&self) -> CallEvents {
        CallEvents(self.clone())
    }
}

/// A call's events, in order. Several readers share one queue: each event goes to one of them.
#[derive(Debug)]
pub struct CallEvents(EventQueue);

impl CallEvents {
    /// The next event; `None` after [`CallEvent::Ended`].
    pub async fn next(&mut self) -> Option<CallEvent> {
        loop {
            let notified = self.0.notify.notified();
            {
                let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(event) = queue.waiting.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    self.0.notify.notify_one();
                    return None;
                }
            }
            notified.await;
        }
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<CallEvent> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.pop_front()
    }

    /// Informational events dropped so far because nobody read them.
    pub fn dropped(&self) -> u64 {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_oldest_information_and_keeps_the_lifecycle() {
        let queue = EventQueue::default();
        queue.push(CallEvent::Connected);
        for i in 0..2 * MAX_WAITING {
            queue.push(CallEvent::Media(MediaEvent::Problem(i.to_string())));
        }
        let ended = CallEnded { reason: EndReason::HungUp, error: None, code: None };
        queue.push(CallEvent::Ended(ended));
        let mut events = queue.reader();
        let all: Vec<CallEvent> = std::iter::from_fn(|| events.try_next()).collect();
        assert!(matches!(all[0], CallEvent::Connected));
        assert!(matches!(&all[1], CallEvent::Media(MediaEvent::Problem(text)) if text == "258"), "{:?}", all[1]);
        assert!(matches!(all.last(), Some(CallEvent::Ended(_))));
        assert_eq!(events.dropped(), 258);
    }

    #[tokio::test]
    async fn the_stream_ends_after_the_end() {
        let queue = EventQueue::default();
        queue.push(CallEvent::Ended(CallEnded { reason: EndReason::Busy, error: None, code: None }));
        let mut events = queue.reader();
        assert!(events.next().await.is_some());
        assert!(events.next().await.is_none());
    }
}
