//! One remote track: a thread that makes pictures of packets and shows them to every attached sink.
//!
//! Packets come through a bounded queue that drops its oldest; a frame goes to the decoder as soon as it is complete, and to the
//! sinks as soon as it is decoded. Sinks are owned by the thread: attaching and detaching are messages, which are never dropped.

use super::{
    cadence::Cadence,
    decoder::{DecodeError, Decoder},
};
use crate::{
    Timestamp,
    av1::frame_buffer::{EncodedFrame, FrameBuffer, FrameBufferConfig, Output},
    clock,
    media::{MediaError, VideoFrame, VideoSink},
};
use halloo_transport::ReceivedPacket;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

/// An attached sink.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SinkId(u64);

/// What happens to a remote track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VideoReceiverEvent {
    /// The first picture was shown.
    FirstFrame,
    /// Pictures have another size.
    Resized {
        /// New width in pixels.
        width: u32,
        /// New height in pixels.
        height: u32,
    },
    /// A sink broke and was detached.
    SinkFailed(SinkId, String),
    /// The peer sends what cannot be shown.
    Unsupported(String),
}

/// Counters of a remote track, cumulative (W3C `RTCInboundRtpStreamStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct VideoReceiverStats {
    /// Complete frames.
    pub frames_received: u64,
    /// Frames decoded.
    pub frames_decoded: u64,
    /// Key frames among them.
    pub key_frames_decoded: u64,
    /// Frames received or begun that were never shown.
    pub frames_dropped: u64,
    /// Packets dropped since the queue was full or they came too late.
    pub packets_discarded: u64,
    /// Key frames asked for.
    pub key_frames_requested: u64,
    /// Times that the picture stood still (more than 150 ms over the average frame's time).
    pub freeze_count: u32,
    /// For how long in all.
    pub total_freezes_duration: Duration,
    /// Time between pictures in all.
    pub total_inter_frame_delay: Duration,
    /// Time spent in the decoder.
    pub total_decode_time: Duration,
    /// Time from the last packet's arrival to the sinks, over all frames decoded.
    pub total_processing_delay: Duration,
    /// Width of the last picture.
    pub frame_width: u32,
    /// Height of the last picture.
    pub frame_height: u32,
    /// Pictures shown in the last second.
    pub frames_per_second: f64,
}

/// Packets that may wait for the thread: over a second at 10 Mbit/s.
const QUEUE: usize = 2_048;

/// A remote track's thread.
#[derive(Debug)]
pub(crate) struct VideoReceiver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where a route puts a track's packets. Cloning gives another handle to the same track.
#[derive(Clone, Debug)]
pub(crate) struct VideoInput(Arc<Shared>);

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    live: Mutex<Live>,
}

/// What callers may look at.
#[derive(Default)]
struct Live {
    stats: VideoReceiverStats,
    cadence: Cadence,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Default)]
struct Inbox {
    packets: VecDeque<ReceivedPacket>,
    commands: VecDeque<Command>,
    dropped: u64,
    next_sink: u64,
    closed: bool,
}

enum Command {
    Attach(SinkId, Box<dyn VideoSink>),
    Detach(SinkId, mpsc::Sender<Result<(), MediaError>>),
    Pause,
    RoundTripTime(Duration),
    Stop,
}

impl VideoInput {
    /// Hands over a packet. Never blocks; where the queue is full, its oldest packet is dropped and counted.
    pub(crate) fn push(&self, packet: ReceivedPacket) {
        let mut inbox = lock(&self.0.inbox);
        if inbox.closed {
            return;
        }
        if inbox.packets.len() == QUEUE {
            inbox.packets.pop_front();
            inbox.dropped += 1;
        }
        inbox.packets.push_back(packet);
        drop(inbox);
        self.0.wake.notify_one();
    }
}

impl VideoReceiver {
    /// Starts the thread. `key_frame_request` is called on it, at most every 300 ms.
    ///
    /// # Errors
    /// Where no thread or decoder can be started.
    pub(crate) fn spawn(
        key_frame_request: Box<dyn Fn() + Send>,
        events: Box<dyn Fn(VideoReceiverEvent) + Send>,
    ) -> Result<Self, MediaError> {
        let decoder = Decoder::new()?;
        let shared = Arc::new(Shared { inbox: Mutex::default(), wake: Condvar::new(), live: Mutex::default() });
        let worker = Worker {
            shared: Arc::clone(&shared),
            key_frame_request,
            events,
            buffer: FrameBuffer::new(FrameBufferConfig::default()),
            decoder,
            sinks: Vec::new(),
            shown: None,
            unsupported: None,
        };
        let thread = std::thread::Builder::new()
            .name("video-receive".into())
            .spawn(move || worker.run())
            .map_err(|e| MediaError::new(format!("the video thread cannot be started: {e}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Where the track's packets go.
    pub(crate) fn input(&self) -> VideoInput {
        VideoInput(Arc::clone(&self.shared))
    }

    /// Shows the track on one more sink, beginning with the picture that is shown now.
    pub(crate) fn attach(&self, sink: Box<dyn VideoSink>) -> SinkId {
        let mut inbox = lock(&self.shared.inbox);
        let id = SinkId(inbox.next_sink);
        inbox.next_sink += 1;
        inbox.commands.push_back(Command::Attach(id, sink));
        drop(inbox);
        self.shared.wake.notify_one();
        id
    }

    /// Takes a sink off and waits until it has finished. Not to be called from a sink.
    ///
    /// # Errors
    /// Where the sink could not finish, or is not attached (any more).
    pub(crate) fn detach(&self, id: SinkId) -> Result<(), MediaError> {
        let (reply, done) = mpsc::channel();
        self.command(Command::Detach(id, reply));
        done.recv().unwrap_or_else(|_| Err(not_attached()))
    }

    /// The sender paused on purpose (its camera is off): the time until its next picture is no freeze.
    pub(crate) fn handle_pause(&self) {
        self.command(Command::Pause);
    }

    /// How long a retransmission takes: decides how long a missing packet is waited for before a key frame is asked for.
    pub(crate) fn set_round_trip_time(&self, time: Duration) {
        self.command(Command::RoundTripTime(time));
    }

    /// The counters.
    pub(crate) fn stats(&self) -> VideoReceiverStats {
        let dropped = lock(&self.shared.inbox).dropped;
        let live = lock(&self.shared.live);
        let cadence = live.cadence.stats();
        VideoReceiverStats {
            packets_discarded: live.stats.packets_discarded + dropped,
            freeze_count: cadence.freeze_count,
            total_freezes_duration: cadence.total_freezes_duration,
            total_inter_frame_delay: cadence.total_inter_frame_delay,
            frames_per_second: live.cadence.frames_per_second(clock::now()),
            ..live.stats
        }
    }

    /// Finishes all sinks, ends the thread and waits for it.
    pub(crate) fn stop(mut self) {
        self.join();
    }

    fn command(&self, command: Command) {
        lock(&self.shared.inbox).commands.push_back(command);
        self.shared.wake.notify_one();
    }

    fn join(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in an application's sink has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for VideoReceiver {
    fn drop(&mut self) {
        self.join();
    }
}

fn not_attached() -> MediaError {
    MediaError::new("this video sink is not attached (any more)")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread owns.
struct Worker {
    shared: Arc<Shared>,
    key_frame_request: Box<dyn Fn() + Send>,
    events: Box<dyn Fn(VideoReceiverEvent) + Send>,
    buffer: FrameBuffer,
    decoder: Decoder,
    sinks: Vec<(SinkId, Box<dyn VideoSink>)>,
    shown: Option<VideoFrame>,
    /// The last text of this kind, so that it is told once.
    unsupported: Option<String>,
}

enum Next {
    GoOn,
    Stop,
}

impl Worker {
    fn run(mut self) {
        loop {
            let (packets, commands) = self.wait();
            let next = self.obey(commands);
            packets.into_iter().for_each(|packet| self.buffer.insert(packet));
            while let Some(output) = self.buffer.poll(clock::now()) {
                match output {
                    Output::Frame(frame) => self.decode(frame),
                    Output::NeedKeyFrame => (self.key_frame_request)(),
                }
            }
            self.publish_stats();
            if let Next::Stop = next {
                break;
            }
        }
        let now = clock::now();
        for (id, mut sink) in self.sinks.drain(..) {
            if let Err(e) = sink.finish(now) {
                (self.events)(VideoReceiverEvent::SinkFailed(id, e.to_string()));
            }
        }
    }

    /// Sleeps until something has come or is due.
    fn wait(&self) -> (VecDeque<ReceivedPacket>, VecDeque<Command>) {
        let due = self.buffer.next_timeout();
        let mut inbox = lock(&self.shared.inbox);
        while inbox.packets.is_empty() && inbox.commands.is_empty() {
            let Some(due) = due else {
                inbox = self.shared.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.since(clock::now());
            if left.is_zero() {
                break;
            }
            inbox = self.shared.wake.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (std::mem::take(&mut inbox.packets), std::mem::take(&mut inbox.commands))
    }

    fn obey(&mut self, commands: VecDeque<Command>) -> Next {
        for command in commands {
            match command {
                Command::Attach(id, sink) => self.attach(id, sink),
                Command::Detach(id, reply) => {
                    let found = self.sinks.iter().position(|(other, _)| *other == id);
                    let result = match found.map(|index| self.sinks.remove(index)) {
                        Some((_, mut sink)) => sink.finish(clock::now()),
                        None => Err(not_attached()),
                    };
                    // Nobody may wait for the answer any more.
                    let _ = reply.send(result);
                }
                Command::Pause => lock(&self.shared.live).cadence.handle_pause(),
                Command::RoundTripTime(time) => self.buffer.set_round_trip_time(time),
                Command::Stop => {
                    lock(&self.shared.inbox).closed = true;
                    return Next::Stop;
                }
            }
        }
        Next::GoOn
    }

    fn attach(&mut self, id: SinkId, mut sink: Box<dyn VideoSink>) {
        if let Some(frame) = &self.shown
            && let Err(e) = sink.write(clock::now(), frame)
        {
            (self.events)(VideoReceiverEvent::SinkFailed(id, e.to_string()));
            return;
        }
        self.sinks.push((id, sink));
    }

    fn decode(&mut self, encoded: EncodedFrame) {
        let start = clock::now();
        let result = self.decoder.decode(encoded.data.clone(), encoded.complete_at);
        let now = clock::now();
        lock(&self.shared.live).stats.total_decode_time += now.since(start);
        match result {
            Ok(None) => {}
            Ok(Some(frame)) => {
                self.show(now, &encoded, &frame);
                self.prepare_next(&encoded, &frame);
            }
            Err(DecodeError::Broken(text)) => {
                tracing::debug!(text, rtp_time = ?encoded.rtp_time, "a video frame could not be decoded; asking for a key frame");
                self.buffer.handle_decode_error();
            }
            Err(DecodeError::Unsupported(text)) => {
                if self.unsupported.as_ref() != Some(&text) {
                    (self.events)(VideoReceiverEvent::Unsupported(text.clone()));
                    self.unsupported = Some(text);
                }
            }
        }
    }

    fn show(&mut self, now: Timestamp, encoded: &EncodedFrame, frame: &VideoFrame) {
        let size = (frame.width(), frame.height());
        let before = self.shown.replace(frame.clone()).map(|shown| (shown.width(), shown.height()));
        self.count_shown(now, encoded, size);
        let mut failed = Vec::new();
        for (id, sink) in &mut self.sinks {
            if let Err(e) = sink.write(now, frame) {
                failed.push((*id, e.to_string()));
            }
        }
        for (id, text) in failed {
            self.sinks.retain(|(other, _)| *other != id);
            (self.events)(VideoReceiverEvent::SinkFailed(id, text));
        }
        match before {
            None => (self.events)(VideoReceiverEvent::FirstFrame),
            Some(before) if before != size => {
                (self.events)(VideoReceiverEvent::Resized { width: size.0, height: size.1 });
            }
            Some(_) => {}
        }
    }

    fn count_shown(&self, now: Timestamp, encoded: &EncodedFrame, size: (u32, u32)) {
        let mut live = lock(&self.shared.live);
        live.cadence.handle_frame(now);
        let stats = &mut live.stats;
        stats.frames_decoded += 1;
        stats.key_frames_decoded += u64::from(encoded.key_frame);
        stats.total_processing_delay += now.since(encoded.complete_at);
        (stats.frame_width, stats.frame_height) = size;
    }

    /// A key frame of a much larger size gets a second thread. Its references are lost with the old decoder: it is decoded again.
    fn prepare_next(&mut self, encoded: &EncodedFrame, frame: &VideoFrame) {
        if !encoded.key_frame {
            return;
        }
        match self.decoder.prepare_for(frame.width(), frame.height()) {
            Ok(true) => {
                if self.decoder.decode(encoded.data.clone(), encoded.complete_at).is_err() {
                    self.buffer.handle_decode_error();
                }
            }
            Ok(false) => {}
            Err(e) => tracing::warn!(%e, "video goes on with the decoder's threads as they are"),
        }
    }

    fn publish_stats(&self) {
        let buffer = self.buffer.stats();
        let stats = &mut lock(&self.shared.live).stats;
        stats.frames_received = buffer.frames_received;
        stats.key_frames_requested = buffer.key_frames_requested;
        stats.packets_discarded = buffer.packets_late;
        let undecoded = buffer.frames_received.saturating_sub(stats.frames_decoded);
        stats.frames_dropped = buffer.frames_dropped + buffer.frames_malformed + undecoded;
    }
}
