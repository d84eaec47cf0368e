//! A published track: source, mute, level, Opus, and out by the route's [`MediaOutput`].
//!
//! Its RTP clock ticks with the audio thread, whatever the source does: a source that has nothing, ended or broke leaves a
//! published and silent track.

use super::{
    AudioEvent, Muted, SAMPLES_PER_PACKET,
    level::LevelMeter,
    opus::{AudioSettings, OpusEncoder, OpusError},
};
use crate::{
    media::{AudioFrame, AudioRead, AudioSource, BLOCK, BLOCK_SAMPLES, SAMPLE_RATE},
    route::MediaOutput,
};
use halloo_transport::{
    Bitrate, RtpTime, Timestamp,
    session::{AudioLevel, MediaKind, MediaUnit},
};
use std::{sync::Arc, time::Duration};

/// Counters of a published track (W3C `RTCAudioSourceStats` and `RTCOutboundRtpStreamStats`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PublishedStats {
    /// Packets handed to the route.
    pub packets_sent: u64,
    /// Payload bytes in them.
    pub bytes_sent: u64,
    /// Level of the last block, 0 to 1, after mute.
    pub audio_level: f32,
    /// Sum of squared level times duration, in seconds.
    pub total_audio_energy: f64,
    /// Time that was read from the source.
    pub total_samples_duration: Duration,
    /// Blocks for which the source had nothing.
    pub silent_blocks: u64,
}

pub(crate) struct Publication {
    track: u32,
    source: Option<Box<dyn AudioSource>>,
    encoder: OpusEncoder,
    output: Arc<dyn MediaOutput>,
    muted: Muted,
    gain: f32,
    meter: LevelMeter,
    block: AudioFrame,
    /// Samples that wait for a whole packet, interleaved as the encoder wants them.
    pending: Vec<f32>,
    pending_level: AudioLevel,
    pending_since: Timestamp,
    /// RTP time of the next packet.
    ticks: u64,
    stats: PublishedStats,
}

impl Publication {
    pub(crate) fn new(
        track: u32,
        source: Box<dyn AudioSource>,
        settings: &AudioSettings,
        output: Arc<dyn MediaOutput>,
        first_rtp_time: u32,
    ) -> Result<Self, OpusError> {
        let encoder = OpusEncoder::new(settings)?;
        Ok(Self {
            track,
            source: Some(source),
            pending: Vec::with_capacity(SAMPLES_PER_PACKET * encoder.channels()),
            encoder,
            output,
            muted: settings.muted,
            gain: if settings.muted == Muted::Yes { 0.0 } else { 1.0 },
            meter: LevelMeter::new(),
            block: AudioFrame::silence(Timestamp::ZERO),
            pending_level: QUIET,
            pending_since: Timestamp::ZERO,
            // One wrap above zero, so that an unwrapper on the other side agrees with plain comparison here.
            ticks: (1 << 32) + u64::from(first_rtp_time),
            stats: PublishedStats::default(),
        })
    }

    pub(crate) fn replace_source(&mut self, source: Box<dyn AudioSource>) {
        self.source = Some(source);
    }

    pub(crate) fn set_muted(&mut self, muted: Muted) {
        self.muted = muted;
    }

    pub(crate) fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), OpusError> {
        self.encoder.set_bitrate(bitrate)
    }

    pub(crate) fn set_expected_loss(&mut self, share: f64) -> Result<(), OpusError> {
        self.encoder.set_expected_loss(share)
    }

    pub(crate) fn stats(&self) -> PublishedStats {
        self.stats
    }

    /// Reads 10 ms and sends when 20 are there.
    pub(crate) fn tick(&mut self, now: Timestamp, events: &mut Vec<AudioEvent>) {
        self.read(now, events);
        self.apply_mute();
        let level = self.meter.measure(&self.block.samples);
        self.count();
        if self.pending.is_empty() {
            self.pending_level = level;
            self.pending_since = self.block.at - BLOCK;
        } else {
            self.pending_level = AudioLevel {
                level: self.pending_level.level.min(level.level),
                voice: self.pending_level.voice || level.voice,
            };
        }
        append(&self.block, self.encoder.channels(), &mut self.pending);
        if self.pending.len() >= SAMPLES_PER_PACKET * self.encoder.channels() {
            self.send(events);
        }
    }

    fn read(&mut self, now: Timestamp, events: &mut Vec<AudioEvent>) {
        let read = match &mut self.source {
            Some(source) => source.read(now, &mut self.block),
            None => Ok(AudioRead::Silence),
        };
        match read {
            Ok(AudioRead::Filled) => {
                self.block.channels = self.block.channels.clamp(1, 2);
                self.block.samples.resize(BLOCK_SAMPLES * usize::from(self.block.channels), 0.0);
                self.block.samples.iter_mut().filter(|s| !s.is_finite()).for_each(|s| *s = 0.0);
                return;
            }
            Ok(AudioRead::Silence) => {}
            Ok(AudioRead::Ended) => {
                self.source = None;
                events.push(AudioEvent::SourceEnded { track: self.track });
            }
            Err(error) => {
                self.source = None;
                events.push(AudioEvent::SourceBroken { track: self.track, error });
            }
        }
        self.stats.silent_blocks += 1;
        self.block.channels = 1;
        self.block.at = now;
        self.block.samples.clear();
        self.block.samples.resize(BLOCK_SAMPLES, 0.0);
    }

    /// Goes to silence or back over one block, so that muting does not click.
    fn apply_mute(&mut self) {
        let target = if self.muted == Muted::Yes { 0.0 } else { 1.0 };
        if self.gain == 1.0 && target == 1.0 {
            return;
        }
        let step = (target - self.gain) / BLOCK_SAMPLES as f32;
        for frame in self.block.samples.chunks_exact_mut(usize::from(self.block.channels)) {
            self.gain += step;
            frame.iter_mut().for_each(|s| *s *= self.gain);
        }
        self.gain = target;
    }

    fn count(&mut self) {
        let level = self.meter.linear();
        self.stats.audio_level = level;
        self.stats.total_audio_energy += f64::from(level * level) * BLOCK_SAMPLES as f64 / f64::from(SAMPLE_RATE);
        self.stats.total_samples_duration += BLOCK;
    }

    fn send(&mut self, events: &mut Vec<AudioEvent>) {
        match self.encoder.encode(&self.pending) {
            Ok(Some(encoded)) => {
                self.stats.packets_sent += 1;
                self.stats.bytes_sent += encoded.payload.len() as u64;
                self.output.send(
                    MediaKind::Audio,
                    MediaUnit {
                        rtp_time: RtpTime::new(self.ticks, SAMPLE_RATE),
                        captured_at: self.pending_since,
                        payloads: vec![encoded.payload],
                        marker: encoded.after_silence || self.stats.packets_sent == 1,
                        key_frame: true,
                        audio_level: Some(self.pending_level),
                        dependency_descriptors: Vec::new(),
                    },
                );
            }
            Ok(None) => {}
            Err(error) => events.push(AudioEvent::EncoderFailed { track: self.track, error }),
        }
        self.pending.clear();
        self.ticks += SAMPLES_PER_PACKET as u64;
    }
}

const QUIET: AudioLevel = AudioLevel { level: 127, voice: false };

/// Appends a block in the number of channels that the encoder takes.
fn append(block: &AudioFrame, channels: usize, pending: &mut Vec<f32>) {
    match (block.channels, channels) {
        (1, 2) => pending.extend(block.samples.iter().flat_map(|s| [*s, *s])),
        (2, 1) => pending.extend(block.samples.chunks_exact(2).map(|f| 0.5 * (f[0] + f[1]))),
        _ => pending.extend_from_slice(&block.samples),
    }
}
