//! Turns packets that come early, late, twice, out of order or never into an unbroken 10 ms clock of sound.
//!
//! Pure: [`JitterBuffer::insert`] takes packets with the time they came at, [`JitterBuffer::pull`] gives the block that is due
//! at `now`. Each stretch of sound is due at its RTP time plus the path's best transit plus the target delay (see
//! [`super::delay`]); the distance to that schedule is the *slack*, and every decision is made on it:
//!
//! ```text
//!  the packet is there ............ decode
//!  it is missing, a later one came  rebuild it from the later one's redundancy, else conceal
//!  nothing came ................... conceal, and hold the position: what comes late is still played where the target allows
//!  timestamps jump, sequence does not (RFC 7587, section 3.1.3: DTX) ... comfort noise until the next packet is due
//!  slack too large or too small ... take a pitch period out or put one in
//! ```
//!
//! Statistics are those of W3C `RTCInboundRtpStreamStats`.

use super::{
    delay::{DelayEstimator, Transit},
    opus::{OpusDecoder, OpusError, PacketInfo},
    time_stretch::{LOOK_AHEAD, LOOK_BACK, TimeStretch, Urgency, smooth_joint},
};
use crate::media::{AudioFrame, BLOCK_SAMPLES};
use bytes::Bytes;
use halloo_transport::{ReceivedPacket, Ssrc, Timestamp};
use std::{collections::VecDeque, time::Duration};

/// Packets held at most; the oldest goes first.
const MAX_PACKETS: usize = 256;
/// A transit this far from the base is another clock, not a late packet.
const CLOCK_JUMP_US: i64 = 2_000_000;
/// A sequence number this far from the newest is another numbering.
const SEQ_JUMP: u64 = 3_000;
/// A hole longer than this (in frames) is a pause and not worth concealing packet by packet.
const MAX_GAP: u64 = 48_000;
/// Concealment plays on for this long, then fades for as long again as lies between the two, then is silence.
const CONCEAL_FULL: usize = 5_760;
const CONCEAL_END: usize = 9_600;
/// Slack beyond the target that is left alone: less than it costs to be heard changing.
const HIGH_SLACK_US: i64 = 15_000;
/// Slack below the target at which the sound is lengthened.
const LOW_SLACK_US: i64 = -2_000;
/// How far off makes a splice pressing, and how far makes it better to drop what is late.
const PRESSING_US: i64 = 80_000;
const SKIP_US: i64 = 400_000;
/// Slack must be high for this many pulls in a row before sound is taken out.
const PATIENCE: u32 = 100;
/// Pulls between two splices, relaxed and pressing.
const RELAXED_INTERVAL: u32 = 5;
const PRESSING_INTERVAL: u32 = 2;

/// Counters since the track was added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct JitterBufferStats {
    /// Samples per channel given out, concealment included.
    pub total_samples_received: u64,
    /// Samples that were made up because a packet was lost or late.
    pub concealed_samples: u64,
    /// Those of them that were silence.
    pub silent_concealed_samples: u64,
    /// Runs of concealment.
    pub concealment_events: u64,
    /// Samples put in to raise the delay.
    pub inserted_samples_for_deceleration: u64,
    /// Samples taken out to lower the delay.
    pub removed_samples_for_acceleration: u64,
    /// Sum, over the samples emitted, of the time each spent in the buffer.
    pub jitter_buffer_delay: Duration,
    /// Sum, over the samples emitted, of the delay that was aimed for.
    pub jitter_buffer_target_delay: Duration,
    /// Decoded samples, the divisor of the two sums above.
    pub jitter_buffer_emitted_count: u64,
    /// Packets that came too late, twice, malformed or in excess.
    pub packets_discarded: u64,
    /// Packets that carried redundancy for the one before.
    pub fec_packets_received: u64,
    /// Lost packets that were rebuilt from redundancy.
    pub fec_packets_used: u64,
}

struct Stored {
    seq: u64,
    ticks: u64,
    arrived_at: Timestamp,
    info: PacketInfo,
    payload: Bytes,
}

/// What the next stretch of sound is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The first packet, without its first `skip` frames.
    Decode { skip: usize },
    /// The first packet's redundancy, without its first `skip` frames.
    Rebuild { skip: usize },
    /// Made-up sound in the place of a lost packet.
    Conceal { frames: usize },
    /// Made-up sound that holds the position, because the packet may still come.
    Hold,
    /// Background noise of a sender that pauses.
    Comfort,
    /// The sender skipped to here.
    Jump { to: u64 },
}

/// One remote track's packets on their way to sound.
pub(crate) struct JitterBuffer {
    ssrc: Option<Ssrc>,
    packets: VecDeque<Stored>,
    delay: DelayEstimator,
    decoder: OpusDecoder,
    stretch: TimeStretch,
    /// Decoded and not yet given out, interleaved.
    pcm: Vec<f32>,
    /// Given out last, interleaved, at most [`LOOK_BACK`] frames.
    played: Vec<f32>,
    /// RTP time of what follows `pcm`; `None` while there is nothing to play.
    next: Option<u64>,
    /// Sequence number of the packet played last.
    last_seq: Option<u64>,
    /// Highest sequence number that came.
    highest_seq: Option<u64>,
    /// Frames made up while the position was held.
    owed: usize,
    /// Frames made up in a row.
    concealed_run: usize,
    /// Whether the sender said that it stops sending.
    in_dtx: bool,
    /// Whether the next decoded samples do not continue what was played.
    joint: bool,
    pulls_above: u32,
    pulls_since_splice: u32,
    stats: JitterBufferStats,
}

impl JitterBuffer {
    pub(crate) fn new() -> Result<Self, OpusError> {
        Ok(Self {
            ssrc: None,
            packets: VecDeque::with_capacity(MAX_PACKETS),
            delay: DelayEstimator::default(),
            decoder: OpusDecoder::new(1)?,
            stretch: TimeStretch::default(),
            pcm: Vec::new(),
            played: Vec::new(),
            next: None,
            last_seq: None,
            highest_seq: None,
            owed: 0,
            concealed_run: 0,
            in_dtx: false,
            joint: false,
            pulls_above: 0,
            pulls_since_splice: 0,
            stats: JitterBufferStats::default(),
        })
    }

    pub(crate) fn stats(&self) -> JitterBufferStats {
        self.stats
    }

    /// The delay that is aimed for now, beyond the path's best.
    pub(crate) fn target_delay(&self) -> Duration {
        self.delay.target()
    }

    /// Takes a packet.
    pub(crate) fn insert(&mut self, packet: ReceivedPacket) {
        if packet.payload.is_empty() {
            return; // A probe or padding: it has a sequence number and nothing to play.
        }
        let Some(info) = PacketInfo::parse(&packet.payload) else {
            self.stats.packets_discarded += 1;
            return;
        };
        let (seq, ticks, arrived_at) = (packet.seq.0, packet.rtp_time.ticks, packet.arrived_at);
        let transit = Transit::new(arrived_at, ticks);
        if self.is_another_stream(packet.ssrc, seq, transit) {
            self.restart(packet.ssrc);
        }
        self.stats.fec_packets_received += u64::from(info.has_fec);
        if !packet.retransmitted {
            self.record_transit(&info, seq, ticks, arrived_at);
        }
        self.highest_seq = self.highest_seq.max(Some(seq));

        let too_late = self.last_seq.is_some_and(|last| seq <= last);
        let at = self.packets.partition_point(|p| p.seq < seq);
        if too_late || self.packets.get(at).is_some_and(|p| p.seq == seq) {
            self.stats.packets_discarded += 1;
            return;
        }
        self.packets.insert(at, Stored { seq, ticks, arrived_at, info, payload: packet.payload });
        if self.packets.len() > MAX_PACKETS {
            self.drop_first();
        }
    }

    /// Fills `block` with the 10 ms that are due at `now`.
    pub(crate) fn pull(&mut self, now: Timestamp, block: &mut AudioFrame) {
        block.at = now;
        if self.next.is_none() && !self.start(now) {
            self.silence(block);
            return;
        }
        self.steer(now);
        self.fill(now, BLOCK_SAMPLES);
        self.emit(block);
        if self.packets.is_empty() && !self.in_dtx && self.concealed_run >= CONCEAL_END {
            self.pause();
        }
    }

    fn is_another_stream(&self, ssrc: Ssrc, seq: u64, transit: Transit) -> bool {
        if self.ssrc != Some(ssrc) {
            return true;
        }
        let newer = self.highest_seq.is_none_or(|highest| seq > highest);
        let clock_jumped = self.delay.base().is_some_and(|base| (transit.0 - base.0).abs() > CLOCK_JUMP_US);
        let numbers_jumped = self.highest_seq.is_some_and(|highest| highest.abs_diff(seq) > SEQ_JUMP);
        newer && clock_jumped || numbers_jumped
    }

    fn restart(&mut self, ssrc: Ssrc) {
        self.stats.packets_discarded += self.packets.len() as u64;
        self.packets.clear();
        self.delay.reset();
        self.ssrc = Some(ssrc);
        self.last_seq = None;
        self.highest_seq = None;
        self.pause();
    }

    /// Nothing to play until a packet is due.
    fn pause(&mut self) {
        self.next = None;
        self.owed = 0;
        self.in_dtx = false;
        self.pcm.clear();
    }

    fn record_transit(&mut self, info: &PacketInfo, seq: u64, ticks: u64, arrived_at: Timestamp) {
        self.delay.record(arrived_at, Transit::new(arrived_at, ticks));
        // A lost packet is worth as much as one that comes with its successor's redundancy: where losses are frequent
        // enough to matter to the quantile, the target grows until the redundancy comes in time.
        let predecessor_lost = self.highest_seq.is_some_and(|highest| seq > highest + 1);
        if info.has_fec && predecessor_lost {
            self.delay.record(arrived_at, Transit::new(arrived_at, ticks.saturating_sub(info.fec_frames as u64)));
        }
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.packets.pop_front() {
            self.last_seq = Some(dropped.seq);
            self.stats.packets_discarded += 1;
        }
    }

    /// Time since the best packet with this RTP time would have come.
    fn slack_us(&self, now: Timestamp, ticks: u64) -> i64 {
        self.delay.base().map_or(0, |base| Transit::new(now, ticks).0 - base.0)
    }

    fn excess_us(&self, now: Timestamp, ticks: u64) -> i64 {
        self.slack_us(now, ticks) - self.delay.target().as_micros() as i64
    }

    fn buffered(&self) -> usize {
        self.pcm.len() / self.decoder.channels()
    }

    /// Begins to play once the first packet is due.
    fn start(&mut self, now: Timestamp) -> bool {
        let Some(ticks) = self.packets.front().map(|first| first.ticks) else { return false };
        if self.excess_us(now, ticks) < 0 {
            return false;
        }
        self.next = Some(ticks);
        self.joint = true;
        self.owed = 0;
        true
    }

    /// Moves the delay towards the target where it is off.
    fn steer(&mut self, now: Timestamp) {
        let Some(next) = self.next else { return };
        self.pulls_since_splice = self.pulls_since_splice.saturating_add(1);
        if self.owed > 0 || self.concealed_run > 0 || self.in_dtx {
            return;
        }
        // What is left over when the next packet is asked for: it is wanted that much earlier than its sound is played.
        let whole_blocks = Duration::from_millis((self.buffered() / BLOCK_SAMPLES) as u64 * 10);
        let excess = self.excess_us(now + whole_blocks, next);
        self.pulls_above = if excess > HIGH_SLACK_US { self.pulls_above + 1 } else { 0 };
        if excess > SKIP_US {
            self.skip_ahead(now);
            return;
        }
        let urgency = if excess.abs() > PRESSING_US { Urgency::Pressing } else { Urgency::Relaxed };
        let interval = if urgency == Urgency::Pressing { PRESSING_INTERVAL } else { RELAXED_INTERVAL };
        if self.pulls_since_splice < interval {
            return;
        }
        let channels = self.decoder.channels();
        if excess < LOW_SLACK_US {
            self.fill(now, BLOCK_SAMPLES);
            // Close to running dry a rougher splice is better than a hole.
            let urgency = if excess < 3 * LOW_SLACK_US { Urgency::Pressing } else { urgency };
            let added = self.stretch.lengthen(&self.played, &mut self.pcm, channels, urgency);
            self.stats.inserted_samples_for_deceleration += added as u64;
            self.note_splice(added);
        } else if excess > HIGH_SLACK_US && (urgency == Urgency::Pressing || self.pulls_above > PATIENCE) {
            self.fill_from_packets(now, LOOK_AHEAD);
            let removed = self.stretch.shorten(&mut self.pcm, channels, urgency);
            self.stats.removed_samples_for_acceleration += removed as u64;
            self.note_splice(removed);
        }
    }

    fn note_splice(&mut self, frames: usize) {
        if frames > 0 {
            self.pulls_since_splice = 0;
        }
    }

    /// Drops what is so late that catching up by splices would take too long.
    fn skip_ahead(&mut self, now: Timestamp) {
        while self.packets.len() > 1 && self.packets.front().is_some_and(|p| self.excess_us(now, p.ticks) > 0) {
            self.drop_first();
        }
        if let Some(first) = self.packets.front() {
            self.next = Some(first.ticks);
            self.pcm.clear();
            self.joint = true;
        }
    }

    /// Decodes packets that are there and in order, without making anything up.
    fn fill_from_packets(&mut self, now: Timestamp, frames: usize) {
        while self.buffered() < frames && self.packets.front().is_some_and(|p| Some(p.ticks) == self.next) {
            self.decode(now, 0);
        }
    }

    fn fill(&mut self, now: Timestamp, frames: usize) {
        while self.buffered() < frames {
            let step = self.next_step(now);
            self.take(now, step);
        }
    }

    fn next_step(&self, now: Timestamp) -> Step {
        let (Some(first), Some(next)) = (self.packets.front(), self.next) else {
            return if self.in_dtx { Step::Comfort } else { Step::Hold };
        };
        if first.ticks <= next {
            let overlap = (next - first.ticks) as usize;
            let late = self.excess_us(now, first.ticks).max(0) as usize * 48 / 1_000;
            return Step::Decode { skip: overlap + late.min(self.owed) };
        }
        let gap = first.ticks - next;
        let in_sequence = self.last_seq.is_some_and(|last| last + 1 == first.seq);
        if in_sequence || gap > MAX_GAP {
            return match self.excess_us(now, first.ticks) {
                0.. => Step::Jump { to: first.ticks },
                _ if in_sequence => Step::Comfort,
                _ => Step::Hold,
            };
        }
        if self.owed > 0 {
            // What was made up while holding stood in for the beginning of what turns out to be lost.
            return Step::Jump { to: next + gap.min(self.owed as u64) };
        }
        let gap = gap as usize;
        if first.info.has_fec && gap <= first.info.fec_frames {
            return Step::Rebuild { skip: first.info.fec_frames - gap };
        }
        Step::Conceal { frames: gap.min(BLOCK_SAMPLES) }
    }

    fn take(&mut self, now: Timestamp, step: Step) {
        let Some(next) = self.next else { return };
        match step {
            Step::Decode { skip } => self.decode(now, skip),
            Step::Rebuild { skip } => self.rebuild(skip),
            Step::Conceal { frames } => {
                self.conceal(frames);
                self.next = Some(next + frames as u64);
            }
            Step::Hold => {
                self.conceal(BLOCK_SAMPLES);
                self.owed += BLOCK_SAMPLES;
            }
            Step::Comfort => self.decoder.conceal(BLOCK_SAMPLES, &mut self.pcm),
            Step::Jump { to } => {
                self.owed = self.owed.saturating_sub((to - next) as usize);
                self.next = Some(to);
            }
        }
    }

    fn decode(&mut self, now: Timestamp, skip: usize) {
        let Some(packet) = self.packets.pop_front() else { return };
        self.match_channels(packet.info.channels);
        let before = self.pcm.len();
        let waiting = self.buffered();
        if self.decoder.decode(&packet.payload, &mut self.pcm).is_err() {
            self.conceal(packet.info.frames);
        } else {
            self.concealed_run = 0;
        }
        let channels = self.decoder.channels();
        let frames = (self.pcm.len() - before) / channels;
        let skipped = skip.min(frames);
        self.pcm.drain(before..before + skipped * channels);
        if self.joint || skipped > 0 {
            self.soften(before);
        }
        self.owed = if skipped < frames { 0 } else { self.owed.saturating_sub(skipped) };
        self.last_seq = Some(packet.seq);
        self.next = Some(packet.ticks.saturating_add(frames as u64).max(self.next.unwrap_or(0)));
        self.in_dtx = packet.info.dtx;

        let emitted = (frames - skipped) as u32;
        let held = now.since(packet.arrived_at) + Duration::from_micros(waiting as u64 * 125 / 6);
        self.stats.jitter_buffer_delay += held * emitted;
        self.stats.jitter_buffer_target_delay += self.delay.target() * emitted;
        self.stats.jitter_buffer_emitted_count += u64::from(emitted);
    }

    /// Makes the packet before the first one from the first one's redundancy; the first stays.
    fn rebuild(&mut self, skip: usize) {
        let (Some(first), Some(next)) = (self.packets.front(), self.next) else { return };
        let (payload, frames, ticks, seq) = (first.payload.clone(), first.info.fec_frames, first.ticks, first.seq);
        let before = self.pcm.len();
        if self.decoder.decode_fec(&payload, frames, &mut self.pcm).is_err() {
            self.conceal(frames - skip);
        } else {
            let channels = self.decoder.channels();
            let end = (before + skip * channels).min(self.pcm.len());
            self.pcm.drain(before..end);
            self.concealed_run = 0;
            self.stats.fec_packets_used += 1;
            if skip > 0 {
                self.soften(before);
            }
        }
        self.last_seq = Some(seq.saturating_sub(1));
        self.next = Some(ticks.max(next));
    }

    /// Makes up `frames` that continue what was played, and counts them.
    fn conceal(&mut self, frames: usize) {
        let before = self.pcm.len();
        self.stats.concealment_events += u64::from(self.concealed_run == 0);
        self.stats.concealed_samples += frames as u64;
        let channels = self.decoder.channels();
        if self.concealed_run >= CONCEAL_END {
            self.pcm.resize(before + frames * channels, 0.0);
            self.stats.silent_concealed_samples += frames as u64;
        } else {
            self.decoder.conceal(frames, &mut self.pcm);
            self.pcm.resize(before + frames * channels, 0.0);
            let fade = (CONCEAL_END - CONCEAL_FULL) as f32;
            for (i, frame) in self.pcm[before..].chunks_exact_mut(channels).enumerate() {
                let past = (self.concealed_run + i).saturating_sub(CONCEAL_FULL) as f32;
                let gain = (1.0 - past / fade).max(0.0);
                frame.iter_mut().for_each(|s| *s *= gain);
            }
        }
        self.concealed_run += frames;
    }

    /// Joins what was decoded from `at` on to what precedes it.
    fn soften(&mut self, at: usize) {
        self.joint = false;
        let channels = self.decoder.channels();
        let (before, new) = self.pcm.split_at_mut(at);
        smooth_joint(if before.is_empty() { &self.played } else { before }, new, channels);
    }

    /// Once a stereo packet came, all is stereo.
    fn match_channels(&mut self, channels: usize) {
        if channels <= self.decoder.channels() {
            return;
        }
        let Ok(decoder) = OpusDecoder::new(channels) else { return };
        self.decoder = decoder;
        for samples in [&mut self.pcm, &mut self.played] {
            *samples = samples.iter().flat_map(|s| [*s; 2]).collect();
        }
    }

    fn emit(&mut self, block: &mut AudioFrame) {
        let channels = self.decoder.channels();
        let samples = BLOCK_SAMPLES * channels;
        block.channels = channels as u8;
        block.samples.clear();
        block.samples.extend(self.pcm.drain(..samples));
        self.played.extend_from_slice(&block.samples);
        let surplus = self.played.len().saturating_sub(LOOK_BACK * channels);
        self.played.drain(..surplus);
        self.stats.total_samples_received += BLOCK_SAMPLES as u64;
    }

    /// Before the first packet, and after one that was long ago.
    fn silence(&mut self, block: &mut AudioFrame) {
        let channels = self.decoder.channels();
        block.channels = channels as u8;
        block.samples.clear();
        block.samples.resize(BLOCK_SAMPLES * channels, 0.0);
        if self.concealed_run > 0 {
            self.stats.total_samples_received += BLOCK_SAMPLES as u64;
            self.stats.concealed_samples += BLOCK_SAMPLES as u64;
            self.stats.silent_concealed_samples += BLOCK_SAMPLES as u64;
        }
    }
}

#[cfg(test)]
mod tests;
