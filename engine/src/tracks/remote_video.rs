//! A participant's pictures: a decoder on a thread of its own, started when there is something to see or somebody to see it.
//!
//! What sinks want (how large, whether it matters most) is kept here too: a room asks for no more than is shown.

use super::{Changed, First, Reporter, remote_audio::Received, slot_follower::SlotFollower};
use crate::{
    media::{MediaError, VideoSink},
    video::{
        SinkId, VideoReceiverStats,
        receiver::{VideoInput, VideoReceiver},
    },
};
use halloo_transport::{ReceivedPacket, Ssrc};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Asks whoever sends a stream for a key frame of it.
pub(crate) type KeyFrameRequest = Arc<dyn Fn(Ssrc) + Send + Sync>;

/// See the module's text.
pub(crate) struct RemoteVideo {
    ask_key_frame: KeyFrameRequest,
    reporter: Reporter,
    /// Called when what sinks want changes.
    wanted: Changed,
    /// The stream that packets come by; above `u32::MAX` before the first.
    stream: Arc<AtomicU64>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    receiver: Option<(Arc<VideoReceiver>, VideoInput)>,
    gone: bool,
    follower: SlotFollower,
    received: Received,
    last_stats: VideoReceiverStats,
    round_trip_time: Option<Duration>,
    sizes: HashMap<SinkId, Size>,
    pinned: bool,
}

/// Pixels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Size {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

impl Size {
    /// What a sink gets that did not say how large it is.
    pub(crate) const FULL: Self = Self { width: 1_920, height: 1_080 };

    /// A size that fits the wire.
    pub(crate) fn of(width: u32, height: u32) -> Self {
        let side = |side: u32| u16::try_from(side.max(1)).unwrap_or(u16::MAX);
        Self { width: side(width), height: side(height) }
    }

    pub(crate) fn area(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }
}

/// What the sinks of a track want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    /// The largest sink's size.
    pub(crate) size: Size,
    /// Whether it goes before others.
    pub(crate) pinned: bool,
}

impl RemoteVideo {
    pub(crate) fn new(ask_key_frame: KeyFrameRequest, reporter: Reporter, wanted: Changed) -> Self {
        let stream = Arc::new(AtomicU64::new(u64::MAX));
        Self { ask_key_frame, reporter, wanted, stream, inner: Mutex::default() }
    }

    /// Takes a packet. `None` where it is not this track's any more.
    pub(crate) fn receive(&self, packet: ReceivedPacket) -> Option<First> {
        let mut inner = self.lock();
        if !inner.follower.admit(&packet) {
            return None;
        }
        self.stream.store(packet.ssrc.0.into(), Ordering::Relaxed);
        let input = match self.start(&mut inner) {
            Ok((_, input)) => input,
            Err(error) => {
                // Told once: nothing more is tried.
                inner.gone = true;
                self.reporter.problem(error);
                return None;
            }
        };
        let first = if inner.received.packets == 0 { First::Yes } else { First::No };
        inner.received.packets += 1;
        inner.received.bytes += packet.payload.len() as u64;
        drop(inner);
        input.push(packet);
        Some(first)
    }

    pub(crate) fn attach(&self, sink: Box<dyn VideoSink>, size: Size) -> Result<SinkId, MediaError> {
        let mut inner = self.lock();
        let (receiver, _) = self.start(&mut inner)?;
        let id = receiver.attach(sink);
        inner.sizes.insert(id, size);
        drop(inner);
        self.wanted.tell();
        Ok(id)
    }

    /// The sink shows pictures of this size from now on.
    pub(crate) fn resize(&self, sink: SinkId, size: Size) {
        if let Some(known) = self.lock().sizes.get_mut(&sink) {
            *known = size;
        }
        self.wanted.tell();
    }

    /// Whether it goes before others when bandwidth is short.
    pub(crate) fn set_pinned(&self, pinned: bool) {
        self.lock().pinned = pinned;
        self.wanted.tell();
    }

    /// Takes a sink off, and waits until it has finished.
    pub(crate) fn detach(&self, sink: SinkId) {
        let receiver = {
            let mut inner = self.lock();
            inner.sizes.remove(&sink);
            inner.receiver.as_ref().map(|(receiver, _)| Arc::clone(receiver))
        };
        if let Some(Err(error)) = receiver.map(|receiver| receiver.detach(sink)) {
            self.reporter.problem(error);
        }
        self.wanted.tell();
    }

    /// What the sinks want; `None` while there is none.
    pub(crate) fn wish(&self) -> Option<Wish> {
        let inner = self.lock();
        let size = inner.sizes.values().copied().max_by_key(|size| size.area())?;
        Some(Wish { size, pinned: inner.pinned })
    }

    /// The sender turned it off: a pause is not a freeze.
    pub(crate) fn handle_pause(&self) {
        if let Some((receiver, _)) = &self.lock().receiver {
            receiver.handle_pause();
        }
    }

    pub(crate) fn set_round_trip_time(&self, time: Duration) {
        let mut inner = self.lock();
        inner.round_trip_time = Some(time);
        if let Some((receiver, _)) = &inner.receiver {
            receiver.set_round_trip_time(time);
        }
    }

    pub(crate) fn received(&self) -> Received {
        self.lock().received
    }

    pub(crate) fn stats(&self) -> VideoReceiverStats {
        let inner = self.lock();
        inner.receiver.as_ref().map_or(inner.last_stats, |(receiver, _)| receiver.stats())
    }

    /// Ends the track and finishes its sinks. Blocks until that is done.
    pub(crate) fn end(&self) {
        let receiver = {
            let mut inner = self.lock();
            inner.gone = true;
            inner.sizes.clear();
            let receiver = inner.receiver.take();
            if let Some((receiver, _)) = &receiver {
                inner.last_stats = receiver.stats();
            }
            receiver
        };
        match receiver.map(|(receiver, _)| Arc::try_unwrap(receiver)) {
            Some(Ok(receiver)) => receiver.stop(),
            // A sink is being detached just now: whoever waits for it ends the thread.
            Some(Err(shared)) => drop(shared),
            None => {}
        }
    }

    fn start(&self, inner: &mut Inner) -> Result<(Arc<VideoReceiver>, VideoInput), MediaError> {
        if let Some((receiver, input)) = &inner.receiver {
            return Ok((Arc::clone(receiver), input.clone()));
        }
        if inner.gone {
            return Err(MediaError::new("the track has ended: a sink cannot be attached to it"));
        }
        let (stream, ask_key_frame) = (Arc::clone(&self.stream), Arc::clone(&self.ask_key_frame));
        let ask = move || {
            if let Ok(ssrc) = u32::try_from(stream.load(Ordering::Relaxed)) {
                ask_key_frame(Ssrc(ssrc));
            }
        };
        let reporter = self.reporter.clone();
        let receiver = VideoReceiver::spawn(Box::new(ask), Box::new(move |event| reporter.receiver(event)))?;
        if let Some(time) = inner.round_trip_time {
            receiver.set_round_trip_time(time);
        }
        let input = receiver.input();
        let receiver = Arc::new(receiver);
        inner.receiver = Some((Arc::clone(&receiver), input.clone()));
        Ok((receiver, input))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RemoteVideo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteVideo").field("received", &self.received()).finish_non_exhaustive()
    }
}
