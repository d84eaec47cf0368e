//! A remote track: packets in from the network, 10 ms out to its sinks and the mixer.
//!
//! The network side only pushes into a bounded queue; all else happens on the audio thread.

use super::{
    AudioEvent, Muted, SinkId,
    jitter_buffer::{JitterBuffer, JitterBufferStats},
    level::LevelMeter,
    mixer::Mixer,
    opus::OpusError,
};
use crate::{
    media::{AudioFrame, AudioSink, BLOCK_SAMPLES, SAMPLE_RATE},
    route::MediaInput,
};
use crossbeam_queue::ArrayQueue;
use halloo_transport::{ReceivedPacket, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Packets that may wait for the audio thread: more than five seconds of 20 ms packets.
const QUEUE: usize = 256;

/// Where the network puts a remote track's packets. Never blocks; when the queue is full the oldest packet goes and is
/// counted in [`RemoteStats::packets_dropped`].
#[derive(Clone)]
pub struct RemoteAudioInput {
    queue: Arc<Queue>,
}

struct Queue {
    packets: ArrayQueue<ReceivedPacket>,
    dropped: AtomicU64,
}

impl RemoteAudioInput {
    fn new() -> Self {
        Self { queue: Arc::new(Queue { packets: ArrayQueue::new(QUEUE), dropped: AtomicU64::new(0) }) }
    }

    /// Hands a packet over.
    pub fn push(&self, packet: ReceivedPacket) {
        if self.queue.packets.force_push(packet).is_some() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl MediaInput for RemoteAudioInput {
    fn receive(&self, packet: ReceivedPacket) {
        self.push(packet);
    }
}

impl std::fmt::Debug for RemoteAudioInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteAudioInput").field("waiting", &self.queue.packets.len()).finish()
    }
}

/// Counters of a remote track (W3C `RTCInboundRtpStreamStats`, what is measured behind the network).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RemoteStats {
    /// The jitter buffer's counters.
    pub jitter_buffer: JitterBufferStats,
    /// The delay that the jitter buffer aims for now, beyond the path's best.
    pub target_delay: Duration,
    /// Level of the last block, 0 to 1, before volume.
    pub audio_level: f32,
    /// Sum of squared level times duration, in seconds.
    pub total_audio_energy: f64,
    /// Time given out.
    pub total_samples_duration: Duration,
    /// Packets dropped because the audio thread did not take them in time.
    pub packets_dropped: u64,
}

pub(crate) struct Remote {
    input: RemoteAudioInput,
    buffer: JitterBuffer,
    sinks: Vec<(SinkId, Box<dyn AudioSink>)>,
    volume: f32,
    muted: Muted,
    meter: LevelMeter,
    block: AudioFrame,
    stats: RemoteStats,
}

impl Remote {
    pub(crate) fn new() -> Result<Self, OpusError> {
        Ok(Self {
            input: RemoteAudioInput::new(),
            buffer: JitterBuffer::new()?,
            sinks: Vec::new(),
            volume: 1.0,
            muted: Muted::No,
            meter: LevelMeter::new(),
            block: AudioFrame::silence(Timestamp::ZERO),
            stats: RemoteStats::default(),
        })
    }

    pub(crate) fn input(&self) -> RemoteAudioInput {
        self.input.clone()
    }

    pub(crate) fn attach(&mut self, id: SinkId, sink: Box<dyn AudioSink>) {
        self.sinks.push((id, sink));
    }

    pub(crate) fn detach(&mut self, id: SinkId) -> Option<Box<dyn AudioSink>> {
        let at = self.sinks.iter().position(|(sink, _)| *sink == id)?;
        Some(self.sinks.swap_remove(at).1)
    }

    pub(crate) fn into_sinks(self) -> impl Iterator<Item = (SinkId, Box<dyn AudioSink>)> {
        self.sinks.into_iter()
    }

    /// 1.0 is as loud as it was sent. Sinks are not affected.
    pub(crate) fn set_volume(&mut self, volume: f32) {
        self.volume = if volume.is_finite() { volume.clamp(0.0, 4.0) } else { 1.0 };
    }

    pub(crate) fn set_muted(&mut self, muted: Muted) {
        self.muted = muted;
    }

    pub(crate) fn stats(&self) -> RemoteStats {
        RemoteStats {
            jitter_buffer: self.buffer.stats(),
            target_delay: self.buffer.target_delay(),
            packets_dropped: self.input.queue.dropped.load(Ordering::Relaxed),
            ..self.stats
        }
    }

    /// Takes what came, gives each sink its block and adds it to the mix.
    pub(crate) fn tick(
        &mut self,
        now: Timestamp,
        played_at: Timestamp,
        mixer: &mut Mixer,
        events: &mut Vec<AudioEvent>,
    ) {
        while let Some(packet) = self.input.queue.packets.pop() {
            self.buffer.insert(packet);
        }
        self.buffer.pull(now, &mut self.block);
        self.block.at = played_at;
        self.meter.measure(&self.block.samples);
        self.count();
        let block = &self.block;
        self.sinks.retain_mut(|(id, sink)| match sink.write(block) {
            Ok(()) => true,
            Err(error) => {
                events.push(AudioEvent::SinkBroken { sink: *id, error });
                false
            }
        });
        if self.muted == Muted::No {
            mixer.add(&self.block, self.volume);
        }
    }

    fn count(&mut self) {
        let level = self.meter.linear();
        let seconds = BLOCK_SAMPLES as f64 / f64::from(SAMPLE_RATE);
        self.stats.audio_level = level;
        self.stats.total_audio_energy += f64::from(level * level) * seconds;
        self.stats.total_samples_duration += crate::media::BLOCK;
    }
}
