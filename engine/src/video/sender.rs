//! One published track: a thread that takes pictures from a source and gives packets to a route.
//!
//! Nothing is queued: a picture that comes while another is encoded is skipped by the source, which hands over its newest.
//! Requests (target, key frame, source, on and off, stop) are a small state behind a lock that the thread looks at once per
//! picture; the last one wins.

use super::{
    adapt::Offer,
    cadence::Cadence,
    encoder::{Content, EncoderConfig, KeyFrame},
    scalability::MAX_SPATIAL_LAYERS,
    scale::scale,
    sender_coder::{Coder, Shape},
};
use crate::{
    Timestamp, clock,
    media::{MediaError, SourceWaker, VideoFrame, VideoPoll, VideoSource},
    route::MediaOutput,
};
use halloo_transport::{
    Bitrate, RtpTime,
    session::{MediaKind, MediaUnit},
};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// The limits of a published track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoSettings {
    /// Most bits per second, whatever the path carries.
    pub max_bitrate: Bitrate,
    /// Most frames per second.
    pub max_frame_rate: f64,
    /// Largest picture, for sources in landscape; turned for those in portrait. Larger ones are reduced.
    pub max_size: (u32, u32),
    /// What the source shows.
    pub content: Content,
}

impl Default for VideoSettings {
    fn default() -> Self {
        Self {
            max_bitrate: Bitrate::from_kbps(1_500),
            max_frame_rate: 30.0,
            max_size: (1_280, 720),
            content: Content::Camera,
        }
    }
}

/// Whether a track sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enabled {
    /// Pictures are taken and sent.
    On,
    /// The source is not asked and nothing is sent.
    Off,
}

/// What happens to a published track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VideoSenderEvent {
    /// The source has no more pictures; the last one stays.
    SourceEnded,
    /// The source broke; the last picture stays.
    SourceFailed(String),
    /// A picture could not be encoded; the next one is tried.
    EncoderFailed(String),
}

/// Counters of a published track, cumulative (W3C `RTCOutboundRtpStreamStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VideoSenderStats {
    /// Pictures that the source gave.
    pub frames_captured: u64,
    /// Pictures encoded and handed to the route.
    pub frames_encoded: u64,
    /// Key frames among them.
    pub key_frames_encoded: u64,
    /// Pictures left out to hold the frame rate or the bitrate.
    pub frames_dropped: u64,
    /// Bytes of coded pictures.
    pub bytes_encoded: u64,
    /// Time spent in the encoder.
    pub total_encode_time: Duration,
    /// Sum of quantizers (0 to 255) of encoded pictures.
    pub qp_sum: u64,
    /// Width of the last encoded picture, of its largest layer.
    pub frame_width: u32,
    /// Height of the last encoded picture.
    pub frame_height: u32,
    /// Pictures encoded in the last second.
    pub frames_per_second: f64,
    /// What the encoder is told to hold.
    pub target_bitrate: Bitrate,
}

/// Ticks of RTP time in a second (RTP Payload Format For AV1, section 6.1).
pub(crate) const CLOCK_RATE: u32 = 90_000;
/// Where RTP time begins: above zero, so that nothing precedes it.
const RTP_ORIGIN: u64 = 1 << 32;
/// How long a key-frame request waits for the source's next picture before the last one is sent again.
const KEY_FRAME_PATIENCE: Duration = Duration::from_millis(60);

/// A published track's thread.
#[derive(Debug)]
pub(crate) struct VideoSender {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    control: Mutex<Control>,
    wake: Condvar,
    live: Mutex<Live>,
}

/// What callers may look at.
#[derive(Default)]
struct Live {
    stats: VideoSenderStats,
    cadence: Cadence,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

struct Control {
    target: Bitrate,
    settings: VideoSettings,
    key_frame_wanted: Option<Timestamp>,
    spatial_layers: u8,
    enabled: Enabled,
    source: Option<Box<dyn VideoSource>>,
    woken: bool,
    stop: bool,
}

impl VideoSender {
    /// Starts the thread. The target is `settings.max_bitrate` until [`VideoSender::set_target`] says otherwise.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn spawn(
        source: Box<dyn VideoSource>,
        settings: VideoSettings,
        output: Arc<dyn MediaOutput>,
        events: Box<dyn Fn(VideoSenderEvent) + Send>,
    ) -> Result<Self, MediaError> {
        let control = Control {
            target: settings.max_bitrate,
            settings,
            key_frame_wanted: None,
            spatial_layers: MAX_SPATIAL_LAYERS,
            enabled: Enabled::On,
            source: Some(source),
            woken: false,
            stop: false,
        };
        let shared = Arc::new(Shared { control: Mutex::new(control), wake: Condvar::new(), live: Mutex::default() });
        let worker = Worker::new(Arc::clone(&shared), settings, output, events);
        let thread = std::thread::Builder::new()
            .name("video-send".into())
            .spawn(move || worker.run())
            .map_err(|e| MediaError::new(format!("the video thread cannot be started: {e}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Holds this rate (or `max_bitrate` where that is less) from the next picture on.
    pub(crate) fn set_target(&self, target: Bitrate) {
        self.shared.update(|control| control.target = target);
    }

    /// Makes the next picture a key frame; where none comes soon, the last one is sent again.
    pub(crate) fn request_key_frame(&self) {
        self.shared.update(|control| {
            control.key_frame_wanted.get_or_insert_with(clock::now);
        });
    }

    /// Codes no more than so many spatial layers, from the smallest, where the route carries layers at all.
    pub(crate) fn set_spatial_layers(&self, layers: u8) {
        self.shared.update(|control| {
            if layers > control.spatial_layers {
                // They begin with a key frame, for which a source that rests must not be waited for.
                control.key_frame_wanted.get_or_insert_with(clock::now);
            }
            control.spatial_layers = layers;
        });
    }

    /// Switches the track on (with a key frame) or off.
    pub(crate) fn set_enabled(&self, enabled: Enabled) {
        self.shared.update(|control| {
            if control.enabled != enabled {
                control.enabled = enabled;
                control.key_frame_wanted = (enabled == Enabled::On).then(clock::now);
            }
        });
    }

    /// Takes pictures from another source from now on.
    pub(crate) fn replace_source(&self, source: Box<dyn VideoSource>, content: Content) {
        self.shared.update(|control| {
            control.source = Some(source);
            control.settings.content = content;
        });
    }

    /// The counters.
    pub(crate) fn stats(&self) -> VideoSenderStats {
        let live = lock(&self.shared.live);
        VideoSenderStats { frames_per_second: live.cadence.frames_per_second(clock::now()), ..live.stats }
    }

    /// Ends the thread and waits for it: no longer than one picture takes.
    pub(crate) fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.shared.update(|control| control.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic in an application's source has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for VideoSender {
    fn drop(&mut self) {
        self.join();
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Control)) {
        let mut control = lock(&self.control);
        change(&mut control);
        control.woken = true;
        self.wake.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread owns.
struct Worker {
    shared: Arc<Shared>,
    output: Arc<dyn MediaOutput>,
    events: Box<dyn Fn(VideoSenderEvent) + Send>,
    source: Option<Box<dyn VideoSource>>,
    coder: Coder,
    last_frame: Option<VideoFrame>,
    /// No picture is encoded before, to hold the frame rate.
    not_before: Timestamp,
    origin: Option<Timestamp>,
    last_ticks: u64,
}

/// What the thread reads from [`Control`] once per round.
struct Orders {
    target: Bitrate,
    settings: VideoSettings,
    key_frame_wanted: Option<Timestamp>,
    spatial_layers: u8,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        settings: VideoSettings,
        output: Arc<dyn MediaOutput>,
        events: Box<dyn Fn(VideoSenderEvent) + Send>,
    ) -> Self {
        let coder = Coder::new(EncoderConfig {
            bitrate: settings.max_bitrate,
            frame_rate: settings.max_frame_rate,
            content: settings.content,
        });
        Self {
            shared,
            output,
            events,
            source: None,
            coder,
            last_frame: None,
            not_before: Timestamp::ZERO,
            origin: None,
            last_ticks: 0,
        }
    }

    fn run(mut self) {
        let mut wake_at = Timestamp::ZERO;
        while let Some(orders) = self.next_orders(wake_at) {
            let now = clock::now();
            wake_at = self.poll_source(now, &orders);
            wake_at = wake_at.min(self.repeat_for_key_frame(now, &orders));
        }
    }

    /// Sleeps until `wake_at`, or until there is something to look at; `None` to end.
    fn next_orders(&mut self, wake_at: Timestamp) -> Option<Orders> {
        let shared = Arc::clone(&self.shared);
        let mut control = lock(&shared.control);
        loop {
            if control.stop {
                return None;
            }
            let off = control.enabled == Enabled::Off;
            let left = wake_at.since(clock::now());
            if (control.woken || left.is_zero()) && !off {
                break;
            }
            control = if off || wake_at == Timestamp::MAX {
                shared.wake.wait(control).unwrap_or_else(PoisonError::into_inner)
            } else {
                shared.wake.wait_timeout(control, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
        control.woken = false;
        let replacement = control.source.take();
        let orders = Orders {
            target: control.target.min(control.settings.max_bitrate),
            settings: control.settings,
            key_frame_wanted: control.key_frame_wanted,
            spatial_layers: control.spatial_layers,
        };
        drop(control);
        if let Some(source) = replacement {
            self.start_source(source);
        }
        Some(orders)
    }

    fn start_source(&mut self, mut source: Box<dyn VideoSource>) {
        let shared = Arc::downgrade(&self.shared);
        let waker = SourceWaker::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.update(|_| {});
            }
        });
        // Its first picture is taken however soon it comes: it may be its only one.
        self.not_before = Timestamp::ZERO;
        match source.start(waker) {
            Ok(()) => self.source = Some(source),
            Err(e) => {
                self.source = None;
                (self.events)(VideoSenderEvent::SourceFailed(e.to_string()));
            }
        }
    }

    /// Asks the source; when it wants to be asked again.
    fn poll_source(&mut self, now: Timestamp, orders: &Orders) -> Timestamp {
        let Some(source) = &mut self.source else { return Timestamp::MAX };
        let source_rate = source.frame_rate();
        match source.poll(now) {
            Ok(VideoPoll::Frame(frame)) => {
                lock(&self.shared.live).stats.frames_captured += 1;
                self.last_frame = Some(frame.clone());
                self.handle_frame(now, &frame, source_rate, orders);
                // Ask at once for when the next is due.
                now
            }
            Ok(VideoPoll::Wait(next)) => next,
            Ok(VideoPoll::Ended) => {
                self.source = None;
                (self.events)(VideoSenderEvent::SourceEnded);
                Timestamp::MAX
            }
            Err(e) => {
                self.source = None;
                (self.events)(VideoSenderEvent::SourceFailed(e.to_string()));
                Timestamp::MAX
            }
        }
    }

    /// Sends the last picture again where a key frame is wanted and the source rests; when to look again.
    fn repeat_for_key_frame(&mut self, now: Timestamp, orders: &Orders) -> Timestamp {
        let Some(wanted) = orders.key_frame_wanted else { return Timestamp::MAX };
        if lock(&self.shared.control).key_frame_wanted.is_none() {
            return Timestamp::MAX;
        }
        let due = wanted + KEY_FRAME_PATIENCE;
        match self.last_frame.clone() {
            Some(mut frame) if due <= now => {
                frame.captured_at = now;
                let shape = self.shape(now, &frame, orders.settings.max_frame_rate, orders);
                self.encode(&frame, orders, &shape);
                // Where rate control dropped it, it is still owed.
                now + KEY_FRAME_PATIENCE
            }
            Some(_) => due,
            None => Timestamp::MAX,
        }
    }

    fn handle_frame(&mut self, now: Timestamp, frame: &VideoFrame, source_rate: f64, orders: &Orders) {
        let shape = self.shape(now, frame, source_rate, orders);
        let period = Duration::from_secs_f64(1.0 / shape.frame_rate().max(0.1));
        // A quarter of a period of tolerance: sources jitter.
        if frame.captured_at + period / 4 < self.not_before && orders.key_frame_wanted.is_none() {
            lock(&self.shared.live).stats.frames_dropped += 1;
            return;
        }
        self.not_before = (self.not_before + period).max(frame.captured_at + period / 2);
        self.encode(frame, orders, &shape);
    }

    /// What to make of a picture of the source.
    fn shape(&mut self, now: Timestamp, frame: &VideoFrame, source_rate: f64, orders: &Orders) -> Shape {
        let offer = Offer {
            size: (frame.width(), frame.height()),
            frame_rate: source_rate.min(orders.settings.max_frame_rate),
            max_size: orders.settings.max_size,
            content: orders.settings.content,
        };
        let layers = self.output.carries_layers().then_some(orders.spatial_layers);
        self.coder.shape(now, orders.target, layers, &offer)
    }

    fn encode(&mut self, frame: &VideoFrame, orders: &Orders, shape: &Shape) {
        let (width, height) = shape.size();
        let frame = match scale(frame, width, height) {
            Ok(frame) => frame,
            Err(e) => return (self.events)(VideoSenderEvent::EncoderFailed(e.to_string())),
        };
        let key_frame = lock(&self.shared.control).key_frame_wanted.take();
        let force = if key_frame.is_some() { KeyFrame::Force } else { KeyFrame::AsNeeded };
        self.coder.set_content(orders.settings.content);
        let start = clock::now();
        let result = self.coder.encode(&frame, force, orders.target, shape);
        let now = clock::now();
        let mut live = lock(&self.shared.live);
        let stats = &mut live.stats;
        stats.total_encode_time += now.since(start);
        stats.target_bitrate = orders.target;
        let coded = match result {
            Ok(Some(coded)) => coded,
            Ok(None) => {
                stats.frames_dropped += 1;
                drop(live);
                // What was asked for is still owed.
                if key_frame.is_some() {
                    lock(&self.shared.control).key_frame_wanted = key_frame;
                }
                return;
            }
            Err(e) => {
                drop(live);
                (self.events)(VideoSenderEvent::EncoderFailed(e.to_string()));
                return;
            }
        };
        stats.frames_encoded += 1;
        stats.key_frames_encoded += u64::from(coded.key_frame);
        stats.bytes_encoded += coded.bytes as u64;
        stats.qp_sum += u64::from(coded.quantizer);
        (stats.frame_width, stats.frame_height) = coded.size;
        live.cadence.handle_frame(now);
        drop(live);
        let unit = MediaUnit {
            rtp_time: self.rtp_time(frame.captured_at),
            captured_at: frame.captured_at,
            payloads: coded.payloads,
            marker: true,
            key_frame: coded.key_frame,
            audio_level: None,
            dependency_descriptors: coded.descriptors,
        };
        self.output.send(MediaKind::Video, unit);
    }

    fn rtp_time(&mut self, captured_at: Timestamp) -> RtpTime {
        let origin = *self.origin.get_or_insert(captured_at);
        let elapsed = captured_at.since(origin).as_nanos() * u128::from(CLOCK_RATE) / 1_000_000_000;
        let ticks = RTP_ORIGIN + elapsed as u64;
        self.last_ticks = ticks.max(self.last_ticks + 1);
        RtpTime::new(self.last_ticks, CLOCK_RATE)
    }
}
