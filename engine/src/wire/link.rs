//! The transport core of one connection, shared by the interceptor that drives it and the handle that feeds and reads it.
//!
//! Lock order: the outbox is never locked while the session is. Nothing here waits.

use super::{
    clock::Clock,
    events::{EventQueue, WireEvent},
    outbox::{Outbox, Pushed, Taken},
    sdp::Negotiated,
};
use crate::route::MediaInput;
use halloo_transport::{
    Event, Session, SessionConfig, Ssrc, Timestamp, Transmit,
    session::{MediaKind, MediaUnit, SendError, SessionStats},
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::Notify;

/// One connection's transport core and what surrounds it.
pub(super) struct Link {
    core: Mutex<Core>,
    outbox: Outbox,
    /// Ends the driver's sleep: see [`super::runtime`].
    wake: Arc<Notify>,
    /// Whether DTLS has given keys.
    secured: AtomicBool,
    /// Video was given before there were keys, so the first picture the peer gets must be asked for again.
    missed_video: AtomicBool,
    dropped_before_keys: AtomicU64,
    path_changed: AtomicBool,
    input: Arc<dyn MediaInput>,
    events: Arc<EventQueue>,
    pub(super) clock: Clock,
}

struct Core {
    session: Session,
    sources: Sources,
}

/// SSRCs by kind: ours from the negotiation, the peer's from it or from the first packet.
#[derive(Clone, Copy, Debug, Default)]
struct Sources {
    audio: Pair,
    video: Pair,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    send: Option<Ssrc>,
    recv: Option<Ssrc>,
}

impl Sources {
    fn of(&mut self, kind: MediaKind) -> &mut Pair {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }

    fn kind_of_sent(&self, ssrc: Ssrc) -> Option<MediaKind> {
        if self.audio.send == Some(ssrc) {
            Some(MediaKind::Audio)
        } else {
            (self.video.send == Some(ssrc)).then_some(MediaKind::Video)
        }
    }
}

impl Link {
    pub(super) fn new(
        config: SessionConfig,
        clock: Clock,
        wake: Arc<Notify>,
        input: Arc<dyn MediaInput>,
        events: Arc<EventQueue>,
    ) -> Self {
        Self {
            core: Mutex::new(Core { session: Session::new(config), sources: Sources::default() }),
            outbox: Outbox::default(),
            wake,
            secured: AtomicBool::new(false),
            missed_video: AtomicBool::new(false),
            dropped_before_keys: AtomicU64::new(0),
            path_changed: AtomicBool::new(false),
            input,
            events,
            clock,
        }
    }

    /// Adds the streams of a finished negotiation.
    pub(super) fn add_streams(&self, streams: Negotiated) {
        let mut core = self.lock();
        for stream in streams.send {
            core.sources.of(stream.kind).send = Some(stream.ssrc);
            core.session.add_send_stream(stream);
        }
        for stream in streams.recv {
            core.sources.of(stream.kind).recv = stream.ssrc;
            core.session.add_recv_stream(stream);
        }
    }

    /// DTLS has given keys: units are taken from here on.
    pub(super) fn secured(&self) {
        if !self.secured.swap(true, Ordering::AcqRel) && self.missed_video.swap(false, Ordering::AcqRel) {
            self.events.push(WireEvent::KeyFrameRequested(MediaKind::Video));
        }
    }

    /// Queues a unit for the driver and wakes it. Before there are keys the unit is dropped and counted.
    pub(super) fn send(&self, kind: MediaKind, unit: MediaUnit) {
        if !self.secured.load(Ordering::Acquire) {
            self.dropped_before_keys.fetch_add(1, Ordering::Relaxed);
            if kind == MediaKind::Video {
                self.missed_video.store(true, Ordering::Release);
            }
            return;
        }
        match self.outbox.push(kind, unit) {
            Pushed::Queued => self.wake.notify_one(),
            Pushed::NeedsKeyFrame => self.events.push(WireEvent::KeyFrameRequested(kind)),
            Pushed::AwaitingKeyFrame => {}
        }
    }

    /// Asks the peer for a key frame.
    pub(super) fn request_key_frame(&self, kind: MediaKind) {
        self.outbox.request_key_frame(kind);
        self.wake.notify_one();
    }

    /// Notes that packets now take another path; the session learns it on the driver's next pass.
    pub(super) fn note_path_change(&self) {
        self.path_changed.store(true, Ordering::Release);
    }

    pub(super) fn stats(&self) -> SessionStats {
        let now = crate::clock::now();
        self.lock().session.stats(now)
    }

    /// Units dropped before they reached the session.
    pub(super) fn dropped(&self) -> u64 {
        self.outbox.dropped() + self.dropped_before_keys.load(Ordering::Relaxed)
    }

    /// Moves queued units into the session. Called on the driver once there are keys.
    pub(super) fn flush(&self, now: Timestamp, taken: &mut Taken) {
        self.secured();
        self.outbox.take(taken);
        let moved = self.path_changed.swap(false, Ordering::AcqRel);
        let requests = std::mem::take(&mut taken.requests);
        if taken.units.is_empty() && requests.kinds().next().is_none() && !moved {
            return;
        }
        let mut lost_video = false;
        {
            let mut core = self.lock();
            let Core { session, sources } = &mut *core;
            if moved {
                session.handle_path_change(now);
            }
            for (kind, unit) in taken.units.drain(..) {
                let Some(ssrc) = sources.of(kind).send else { continue };
                if kind == MediaKind::Video && lost_video && !unit.key_frame {
                    continue;
                }
                match session.send(now, ssrc, unit) {
                    Ok(()) => {}
                    Err(SendError::QueueFull(_)) => lost_video |= kind == MediaKind::Video,
                    Err(SendError::UnknownStream(_)) => tracing::debug!(?ssrc, "unit for a stream that is not there"),
                }
            }
            for kind in requests.kinds() {
                if let Some(ssrc) = sources.of(kind).recv {
                    session.request_key_frame(now, ssrc);
                }
            }
        }
        if lost_video {
            self.outbox.require_key_frame();
            self.events.push(WireEvent::KeyFrameRequested(MediaKind::Video));
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Feeds the session and hands over what it says.
    pub(super) fn drive(&self, scratch: &mut Vec<Event>, step: impl FnOnce(&mut Session)) {
        {
            let mut core = self.lock();
            step(&mut core.session);
            while let Some(event) = core.session.poll_event() {
                if let Event::Media(packet) = &event {
                    core.sources.of(packet.kind).recv = Some(packet.ssrc);
                }
                scratch.push(event);
            }
        }
        for event in scratch.drain(..) {
            self.tell(event);
        }
    }

    pub(super) fn poll_transmit(&self, now: Timestamp) -> Option<Transmit> {
        self.lock().session.poll_transmit(now)
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.lock().session.next_timeout()
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Media(packet) => self.input.receive(packet),
            Event::KeyFrameRequested(ssrc) => {
                if let Some(kind) = self.lock().sources.kind_of_sent(ssrc) {
                    self.events.push(WireEvent::KeyFrameRequested(kind));
                }
            }
            Event::TargetBitrate(rate) => self.events.push(WireEvent::TargetBitrate(rate)),
            Event::SenderReport { ssrc, rtp_time, ntp } => {
                self.events.push(WireEvent::SenderReport { ssrc, rtp_time, ntp });
            }
            Event::Bye(ssrc) => self.events.push(WireEvent::Bye(ssrc)),
            other => tracing::debug!(?other, "a transport event without a listener"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
