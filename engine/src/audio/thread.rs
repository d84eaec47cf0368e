//! The audio thread: one per call, in blocks of 10 ms, and the handle that steers it.
//!
//! It waits for demand of the playout device or a deadline ([`super::pace`]), lets the [`Console`] make one block, and hands
//! the mix to the device. It runs at real-time priority where the system allows. Commands come over a bounded channel and
//! take effect at the next block; a full channel is an error for the caller, never a wait.

use super::{
    AudioError, AudioEvent, AudioSettings, Muted, SinkId,
    console::{Command, Console},
    pace::{Demand, Pace, PacedBy, Pacer},
    publication::{Publication, PublishedStats},
    remote::{Remote, RemoteAudioInput, RemoteStats},
};
use crate::{
    clock,
    media::{AudioSink, AudioSource},
    route::MediaOutput,
};
use halloo_transport::{Bitrate, Timestamp};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{JoinHandle, Thread},
    time::Duration,
};
use tokio::sync::mpsc;

/// Commands that may wait for the next block.
const COMMANDS: usize = 256;
/// Events that may wait for the application in the channel, and beyond it on the thread: none is dropped before that.
const EVENTS: usize = 64;
const EVENTS_HELD: usize = 1_024;
/// Blocks between two statistics snapshots.
const STATS_EVERY: u64 = 2;

/// Where the audio thread puts the mix: the playout end of a device, or a test's.
pub(crate) trait PlayoutPort: Send {
    /// Whether a block is wanted. Asked each time the thread wakes.
    fn demand(&mut self) -> Demand;
    /// Takes a block of interleaved stereo; what does not fit is dropped and counted.
    fn write(&mut self, mix: &[f32]);
    /// How long until the first sample of the next block is heard.
    fn delay(&self) -> Duration;
    /// Frames that the device asked for and did not get.
    fn frames_missed(&self) -> u64;
}

/// How an audio thread starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct AudioConfig {
    /// Whether the thread asks the system for real-time priority.
    pub priority: Priority,
}

/// Scheduling of the audio thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// Ahead of ordinary threads, where the system allows.
    #[default]
    RealTime,
    /// Like any other.
    Normal,
}

/// A snapshot of all tracks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AudioStats {
    /// By track, in order.
    pub published: Vec<(u32, PublishedStats)>,
    /// By key, in order.
    pub remotes: Vec<(u32, RemoteStats)>,
    /// Blocks made.
    pub blocks: u64,
    /// Blocks given up because the process did not run for long.
    pub blocks_given_up: u64,
    /// Which clock leads.
    pub paced_by: PacedBy,
    /// Frames that the playout device asked for and did not get in time: they were silent.
    pub playout_frames_missed: u64,
}

/// Starts audio threads.
#[derive(Debug)]
pub struct AudioThread;

impl AudioThread {
    /// Starts a thread. It ends with [`AudioHandle::stop`] or with the last handle.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn spawn(config: AudioConfig) -> Result<(AudioHandle, mpsc::Receiver<AudioEvent>), AudioError> {
        let (commands, inbox) = sync_channel(COMMANDS);
        let (outbox, events) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            inbox,
            outbox,
            held: VecDeque::new(),
            shared: Arc::clone(&shared),
            console: Console::new(),
            port: None,
        };
        let thread = std::thread::Builder::new()
            .name("halloo-audio".into())
            .spawn(move || {
                if config.priority == Priority::RealTime {
                    super::priority::raise(super::priority::Inherit::No);
                }
                worker.run();
            })
            .map_err(|e| AudioError::Thread(e.to_string()))?;
        let waker = thread.thread().clone();
        let handle = AudioHandle {
            commands,
            shared,
            waker,
            thread: Arc::new(Mutex::new(Some(thread))),
            #[cfg(feature = "devices")]
            playout: Arc::default(),
        };
        Ok((handle, events))
    }
}

#[derive(Default)]
struct Shared {
    stats: Mutex<AudioStats>,
    next_sink: AtomicU64,
}

#[cfg_attr(not(feature = "devices"), allow(dead_code, reason = "only devices play out"))]
enum Message {
    Console(Command),
    SetPort(Option<Box<dyn PlayoutPort>>),
    Event(AudioEvent),
    Stop,
}

/// Steers an audio thread. Clones steer the same one.
#[derive(Clone)]
pub struct AudioHandle {
    commands: SyncSender<Message>,
    shared: Arc<Shared>,
    waker: Thread,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    #[cfg(feature = "devices")]
    playout: Arc<Mutex<Option<super::device::Supervisor>>>,
}

impl std::fmt::Debug for AudioHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AudioHandle").finish_non_exhaustive()
    }
}

impl AudioHandle {
    /// Publishes `source` as `track`; what it gives goes encoded to `output`. A track of the same number is replaced.
    pub(crate) fn publish(
        &self,
        track: u32,
        source: Box<dyn AudioSource>,
        settings: &AudioSettings,
        output: Arc<dyn MediaOutput>,
    ) -> Result<(), AudioError> {
        let publication = Publication::new(track, source, settings, output, rand::random())?;
        self.command(Command::Publish(track, Box::new(publication)))
    }

    /// Goes on with another source on the same track, without a gap.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn replace_source(&self, track: u32, source: Box<dyn AudioSource>) -> Result<(), AudioError> {
        self.command(Command::ReplaceSource(track, source))
    }

    /// Ends a track.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn unpublish(&self, track: u32) -> Result<(), AudioError> {
        self.command(Command::Unpublish(track))
    }

    /// Sends silence instead of the source, which is read on.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn set_muted(&self, track: u32, muted: Muted) -> Result<(), AudioError> {
        self.command(Command::SetMuted(track, muted))
    }

    /// Tells the encoders which share of packets is lost, 0 to 1.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn set_expected_loss(&self, share: f64) -> Result<(), AudioError> {
        self.command(Command::SetExpectedLoss(share))
    }

    /// Gives each published track this rate.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn set_bitrate(&self, bitrate: Bitrate) -> Result<(), AudioError> {
        self.command(Command::SetBitrate(bitrate))
    }

    /// Makes room for a remote track; its packets go to the input. One with the same key is replaced.
    ///
    /// # Errors
    /// Where no decoder can be made, or the thread has stopped or is far behind.
    pub fn add_remote(&self, key: u32) -> Result<RemoteAudioInput, AudioError> {
        let remote = Remote::new()?;
        let input = remote.input();
        self.command(Command::AddRemote(key, Box::new(remote)))?;
        Ok(input)
    }

    /// Ends a remote track; its sinks are finished.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn remove_remote(&self, key: u32) -> Result<(), AudioError> {
        self.command(Command::RemoveRemote(key))
    }

    /// Gives each block of a remote track to `sink`, silence where the track has nothing. Where there is no such track the
    /// sink is finished at once.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn attach(&self, key: u32, sink: Box<dyn AudioSink>) -> Result<SinkId, AudioError> {
        let id = SinkId(self.shared.next_sink.fetch_add(1, Ordering::Relaxed));
        self.command(Command::Attach(key, id, sink))?;
        Ok(id)
    }

    /// Ends a sink; it is finished on a thread of its own.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn detach(&self, sink: SinkId) -> Result<(), AudioError> {
        self.command(Command::Detach(sink))
    }

    /// How loud a remote track is in the mix: 0 to 4, 1 is as it was sent. Sinks hear it unchanged.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn set_remote_volume(&self, key: u32, volume: f32) -> Result<(), AudioError> {
        self.command(Command::SetRemoteVolume(key, volume))
    }

    /// Takes a remote track out of the mix. Sinks still hear it.
    ///
    /// # Errors
    /// Where the thread has stopped or is far behind.
    pub fn set_remote_muted(&self, key: u32, muted: Muted) -> Result<(), AudioError> {
        self.command(Command::SetRemoteMuted(key, muted))
    }

    /// Puts the mix out through `port`, or nowhere.
    #[cfg(feature = "devices")]
    pub(crate) fn set_port(&self, port: Option<Box<dyn PlayoutPort>>) -> Result<(), AudioError> {
        self.message(Message::SetPort(port))
    }

    /// Raises events as if the thread had. Does not keep the thread's handles alive.
    #[cfg(feature = "devices")]
    pub(super) fn event_raiser(&self) -> impl Fn(AudioEvent) + Send + 'static {
        let commands = self.commands.clone();
        move |event| {
            // A thread that is gone or far behind has nobody to tell.
            let _ = commands.try_send(Message::Event(event));
        }
    }

    /// What wakes the thread when a device wants a block.
    #[cfg(feature = "devices")]
    pub(super) fn waker(&self) -> Thread {
        self.waker.clone()
    }

    /// The stream that plays the mix.
    #[cfg(feature = "devices")]
    pub(super) fn playout_supervisor(&self) -> &Mutex<Option<super::device::Supervisor>> {
        &self.playout
    }

    /// The counters of the last 20 ms.
    pub fn stats(&self) -> AudioStats {
        self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Levels of published and of remote tracks, 0 to 1, for meters.
    pub fn levels(&self) -> Levels {
        let stats = self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        Levels {
            published: stats.published.iter().map(|(track, s)| (*track, s.audio_level)).collect(),
            remotes: stats.remotes.iter().map(|(key, s)| (*key, s.audio_level)).collect(),
        }
    }

    /// Ends the thread and waits for it and for all sinks to finish. Calling it again does nothing.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        #[cfg(feature = "devices")]
        {
            *self.playout.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        // A full channel empties within a block; a thread that is gone needs no message.
        let _ = self.commands.send(Message::Stop);
        self.waker.unpark();
        let _ = thread.join();
    }

    fn command(&self, command: Command) -> Result<(), AudioError> {
        self.message(Message::Console(command))
    }

    fn message(&self, message: Message) -> Result<(), AudioError> {
        self.commands.try_send(message).map_err(|e| match e {
            TrySendError::Full(_) => AudioError::Behind,
            TrySendError::Disconnected(_) => AudioError::Stopped,
        })
    }
}

/// Levels of tracks, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// By track.
    pub published: Vec<(u32, f32)>,
    /// By key.
    pub remotes: Vec<(u32, f32)>,
}

struct Worker {
    inbox: Receiver<Message>,
    outbox: mpsc::Sender<AudioEvent>,
    held: VecDeque<AudioEvent>,
    shared: Arc<Shared>,
    console: Console,
    port: Option<Box<dyn PlayoutPort>>,
}

#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl Worker {
    fn run(mut self) {
        let mut pacer = Pacer::new(clock::now());
        let mut blocks = 0;
        while self.take_messages() == Flow::Continue {
            let demand = self.port.as_mut().map_or(Demand::NoDevice, |port| port.demand());
            let now = clock::now();
            match pacer.next(now, demand) {
                Pace::Wait(until) => std::thread::park_timeout(until.since(now)),
                Pace::Block => {
                    self.block(now);
                    blocks += 1;
                    if blocks % STATS_EVERY == 0 {
                        self.publish_stats(blocks, &pacer);
                    }
                }
            }
        }
        for event in self.console.close() {
            let _ = self.outbox.try_send(event);
        }
    }

    fn take_messages(&mut self) -> Flow {
        loop {
            match self.inbox.try_recv() {
                Ok(Message::Console(command)) => self.console.obey(command),
                Ok(Message::SetPort(port)) => self.port = port,
                Ok(Message::Event(event)) => self.held.push_back(event),
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return Flow::Stop,
                Err(TryRecvError::Empty) => return Flow::Continue,
            }
        }
    }

    fn block(&mut self, now: Timestamp) {
        let delay = self.port.as_ref().map_or(Duration::ZERO, |port| port.delay());
        let mix = self.console.tick(now, now + delay);
        if let Some(port) = &mut self.port {
            port.write(mix);
        }
        self.held.extend(self.console.take_events());
        while let Some(event) = self.held.pop_front() {
            if let Err(e) = self.outbox.try_send(event) {
                if let mpsc::error::TrySendError::Full(event) = e {
                    self.held.push_front(event);
                    self.held.truncate(EVENTS_HELD);
                }
                break;
            }
        }
    }

    /// Where a reader holds the snapshot just now, it gets the next one.
    fn publish_stats(&self, blocks: u64, pacer: &Pacer) {
        let Ok(mut stats) = self.shared.stats.try_lock() else { return };
        stats.published.clear();
        stats.published.extend(self.console.published_stats());
        stats.remotes.clear();
        stats.remotes.extend(self.console.remote_stats());
        stats.blocks = blocks;
        stats.blocks_given_up = pacer.blocks_given_up();
        stats.paced_by = pacer.paced_by();
        stats.playout_frames_missed = self.port.as_ref().map_or(0, |port| port.frames_missed());
    }
}

#[cfg(test)]
mod tests;
