//! What a call tells the application.

use crate::{
    event_queue::{EventQueue, QueuedEvent, Weight},
    tracks::{MediaEvent, RemoteTrack},
};
use halloo_protocol::{EndReason, ErrorCode, MediaState};
use serde::Serialize;

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

impl QueuedEvent for CallEvent {
    fn weight(&self) -> Weight {
        match self {
            Self::PeerMedia(_) | Self::Signaling { .. } | Self::Media(_) => Weight::Information,
            Self::Ended(_) => Weight::Last,
            _ => Weight::Lifecycle,
        }
    }
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

/// A call's events, in order. Several readers share one queue: each event goes to one of them.
#[derive(Debug)]
pub struct CallEvents(EventQueue<CallEvent>);

impl CallEvents {
    pub(crate) fn new(queue: &EventQueue<CallEvent>) -> Self {
        Self(queue.clone())
    }

    /// The next event; `None` after [`CallEvent::Ended`].
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.0.next().await
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<CallEvent> {
        self.0.try_next()
    }

    /// Informational events dropped so far because nobody read them.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}
