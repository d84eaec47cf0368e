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
use halloo_protocol::SourceKind;
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
    missed_camera: AtomicBool,
    missed_screen: AtomicBool,
    dropped_before_keys: AtomicU64,
    /// Whether the peer takes dependency descriptors with these.
    layered_camera: AtomicBool,
    layered_screen: AtomicBool,
    path_changed: AtomicBool,
    input: Arc<dyn MediaInput>,
    events: Arc<EventQueue>,
    pub(super) clock: Clock,
}

struct Core {
    session: Session,
    sources: Sources,
}

/// Our SSRCs, from the negotiation.
#[derive(Clone, Copy, Debug, Default)]
struct Sources {
    microphone: Option<Ssrc>,
    camera: Option<Ssrc>,
    screen: Option<Ssrc>,
}

impl Sources {
    fn sent(&mut self, source: SourceKind) -> &mut Option<Ssrc> {
        match source {
            SourceKind::Microphone => &mut self.microphone,
            SourceKind::Camera => &mut self.camera,
            SourceKind::Screen => &mut self.screen,
        }
    }

    /// Sections that are sent are in the order microphone, camera, screen.
    fn add_sent(&mut self, kind: MediaKind, ssrc: Ssrc) -> SourceKind {
        let source = match (kind, self.camera) {
            (MediaKind::Audio, _) => SourceKind::Microphone,
            (MediaKind::Video, None) => SourceKind::Camera,
            (MediaKind::Video, Some(_)) => SourceKind::Screen,
        };
        *self.sent(source) = Some(ssrc);
        source
    }

    fn source_of(&mut self, ssrc: Ssrc) -> Option<SourceKind> {
        SourceKind::ALL.into_iter().find(|source| *self.sent(*source) == Some(ssrc))
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
            missed_camera: AtomicBool::new(false),
            missed_screen: AtomicBool::new(false),
            dropped_before_keys: AtomicU64::new(0),
            layered_camera: AtomicBool::new(false),
            layered_screen: AtomicBool::new(false),
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
            let source = core.sources.add_sent(stream.kind, stream.ssrc);
            if let Some(layered) = self.layered(source) {
                layered.store(stream.extensions.dependency_descriptor.is_some(), Ordering::Release);
            }
            core.session.add_send_stream(stream);
        }
        for stream in streams.recv {
            core.session.add_recv_stream(stream);
        }
    }

    /// Whether the peer takes dependency descriptors with this source's packets.
    pub(super) fn carries_layers(&self, source: SourceKind) -> bool {
        self.layered(source).is_some_and(|layered| layered.load(Ordering::Acquire))
    }

    fn layered(&self, source: SourceKind) -> Option<&AtomicBool> {
        match source {
            SourceKind::Microphone => None,
            SourceKind::Camera => Some(&self.layered_camera),
            SourceKind::Screen => Some(&self.layered_screen),
        }
    }

    /// DTLS has given keys: units are taken from here on.
    pub(super) fn secured(&self) {
        if self.secured.swap(true, Ordering::AcqRel) {
            return;
        }
        for (source, missed) in [(SourceKind::Camera, &self.missed_camera), (SourceKind::Screen, &self.missed_screen)] {
            if missed.swap(false, Ordering::AcqRel) {
                self.events.push(WireEvent::KeyFrameRequested(source));
            }
        }
    }

    /// Queues a unit for the driver and wakes it. Before there are keys the unit is dropped and counted.
    pub(super) fn send(&self, source: SourceKind, unit: MediaUnit) {
        if !self.secured.load(Ordering::Acquire) {
            self.dropped_before_keys.fetch_add(1, Ordering::Relaxed);
            match source {
                SourceKind::Microphone => {}
                SourceKind::Camera => self.missed_camera.store(true, Ordering::Release),
                SourceKind::Screen => self.missed_screen.store(true, Ordering::Release),
            }
            return;
        }
        match self.outbox.push(source, unit) {
            Pushed::Queued => self.wake.notify_one(),
            Pushed::NeedsKeyFrame => self.events.push(WireEvent::KeyFrameRequested(source)),
            Pushed::AwaitingKeyFrame => {}
        }
    }

    /// Asks the peer for a key frame of a stream.
    pub(super) fn request_key_frame(&self, ssrc: Ssrc) {
        self.outbox.request_key_frame(ssrc);
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
        if taken.units.is_empty() && requests.is_empty() && !moved {
            return;
        }
        let mut lost: Vec<SourceKind> = Vec::new();
        {
            let mut core = self.lock();
            let Core { session, sources } = &mut *core;
            if moved {
                session.handle_path_change(now);
            }
            for (source, unit) in taken.units.drain(..) {
                let Some(ssrc) = *sources.sent(source) else { continue };
                if lost.contains(&source) && !unit.key_frame {
                    continue;
                }
                match session.send(now, ssrc, unit) {
                    Ok(()) => {}
                    Err(SendError::QueueFull(_)) if source == SourceKind::Microphone || lost.contains(&source) => {}
                    Err(SendError::QueueFull(_)) => lost.push(source),
                    Err(SendError::UnknownStream(_)) => tracing::debug!(?ssrc, "unit for a stream that is not there"),
                }
            }
            for ssrc in requests {
                session.request_key_frame(now, ssrc);
            }
        }
        for source in lost {
            self.outbox.require_key_frame(source);
            self.events.push(WireEvent::KeyFrameRequested(source));
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
                let source = self.lock().sources.source_of(ssrc);
                if let Some(source) = source {
                    self.events.push(WireEvent::KeyFrameRequested(source));
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
