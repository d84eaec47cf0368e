//! Packets to complete temporal units, in decode order (RTP Payload Format For AV1, section 4; RFC 4585 for key-frame requests).
//!
//! A unit is delivered as soon as it and all before it are complete: no delay is added. Where a packet is missing, the
//! buffer waits for its retransmission; after [`FrameBufferConfig::repair_wait`] it asks for a key frame too, and goes on with
//! whichever comes first, the repair or the key frame. Invariant: a delivered unit was made of packets without a gap, and
//! decodes from what was delivered before it.
//!
//! Order of calls: [`FrameBuffer::insert`] or nothing, then [`FrameBuffer::poll`] until `None`, then wait for the next packet or
//! [`FrameBuffer::next_timeout`].

use super::packetize::{depacketize, starts_sequence};
use crate::Timestamp;
use bytes::Bytes;
use halloo_transport::{ReceivedPacket, RtpTime, SeqNo, Ssrc};
use std::{collections::BTreeMap, time::Duration};

/// How a frame buffer behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameBufferConfig {
    /// How long a missing packet may hold up decoding before a key frame is asked for: about two round trips.
    pub(crate) repair_wait: Duration,
    /// Time between two requests while none is answered.
    pub(crate) request_interval: Duration,
    /// How long packets may arrive out of order before a complete key frame behind a gap is taken instead.
    pub(crate) reorder_wait: Duration,
    /// Most packets held; beyond, the oldest go and decoding starts again at a key frame.
    pub(crate) max_packets: usize,
}

impl Default for FrameBufferConfig {
    fn default() -> Self {
        Self {
            repair_wait: Duration::from_millis(150),
            request_interval: Duration::from_millis(300),
            reorder_wait: Duration::from_millis(10),
            max_packets: 2_048,
        }
    }
}

/// A complete temporal unit.
#[derive(Clone, Debug)]
pub(crate) struct EncodedFrame {
    /// Low-overhead bitstream with a temporal delimiter first.
    pub(crate) data: Bytes,
    /// Its RTP time.
    pub(crate) rtp_time: RtpTime,
    /// Whether decoding can start here.
    pub(crate) key_frame: bool,
    /// When its last missing packet arrived.
    pub(crate) complete_at: Timestamp,
}

/// What a frame buffer wants done.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// Decode this.
    Frame(EncodedFrame),
    /// Ask the sender for a key frame.
    NeedKeyFrame,
}

/// Counters, cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameBufferStats {
    /// Units delivered.
    pub(crate) frames_received: u64,
    /// Units known to have been lost or skipped, as far as their packets were seen.
    pub(crate) frames_dropped: u64,
    /// Packets that came after their unit had been given up.
    pub(crate) packets_late: u64,
    /// Units whose payloads were malformed.
    pub(crate) frames_malformed: u64,
    /// Key frames asked for.
    pub(crate) key_frames_requested: u64,
}

#[derive(Debug)]
struct Packet {
    rtp_time: RtpTime,
    marker: bool,
    payload: Bytes,
    arrived_at: Timestamp,
}

/// The state. See the module's text.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    config: FrameBufferConfig,
    ssrc: Option<Ssrc>,
    packets: BTreeMap<SeqNo, Packet>,
    /// The first packet of the unit to deliver next; `None` until a key frame has been delivered.
    next: Option<SeqNo>,
    /// Packets before this one were delivered or given up.
    floor: SeqNo,
    /// Since when decoding has been held up: by a gap, or by having no key frame.
    stalled_since: Option<Timestamp>,
    last_request: Option<Timestamp>,
    request_now: bool,
    late_in_a_row: u32,
    stats: FrameBufferStats,
}

/// Time that the two ends take to notice a loss and to answer.
const REPAIR_MARGIN: Duration = Duration::from_millis(40);
const SHORTEST_REPAIR_WAIT: Duration = Duration::from_millis(60);
const LONGEST_REPAIR_WAIT: Duration = Duration::from_millis(500);

/// So many late packets in a row mean that the sender's numbers jumped back, not that packets are late.
const RESTART_AFTER_LATE: u32 = 64;

impl FrameBuffer {
    /// An empty buffer that waits for its first key frame.
    pub(crate) fn new(config: FrameBufferConfig) -> Self {
        Self {
            config,
            ssrc: None,
            packets: BTreeMap::new(),
            next: None,
            floor: SeqNo::default(),
            stalled_since: None,
            last_request: None,
            request_now: false,
            late_in_a_row: 0,
            stats: FrameBufferStats::default(),
        }
    }

    /// The counters.
    pub(crate) fn stats(&self) -> FrameBufferStats {
        self.stats
    }

    /// Waits for two retransmissions of this length, within reason.
    pub(crate) fn set_round_trip_time(&mut self, time: Duration) {
        self.config.repair_wait = (2 * time + REPAIR_MARGIN).clamp(SHORTEST_REPAIR_WAIT, LONGEST_REPAIR_WAIT);
    }

    /// Takes a packet, in any order.
    pub(crate) fn insert(&mut self, packet: ReceivedPacket) {
        if self.ssrc.is_some_and(|ssrc| ssrc != packet.ssrc) {
            self.restart();
        }
        self.ssrc = Some(packet.ssrc);
        if packet.seq < self.floor {
            self.stats.packets_late += 1;
            self.late_in_a_row += 1;
            if self.late_in_a_row < RESTART_AFTER_LATE {
                return;
            }
            self.restart();
        }
        self.late_in_a_row = 0;
        self.packets.entry(packet.seq).or_insert(Packet {
            rtp_time: packet.rtp_time,
            marker: packet.marker,
            payload: packet.payload,
            arrived_at: packet.arrived_at,
        });
        if self.packets.len() > self.config.max_packets {
            self.give_up_oldest();
        }
    }

    /// The decoder could not use what it got: nothing is delivered before the next key frame.
    pub(crate) fn handle_decode_error(&mut self) {
        self.next = None;
        self.request_now = true;
    }

    /// What to do at `now`.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<Output> {
        if std::mem::take(&mut self.request_now) {
            return Some(self.request(now));
        }
        while let Some(unit) = self.next_unit(now) {
            if let Some(frame) = self.take(unit) {
                self.stalled_since = None;
                self.stats.frames_received += 1;
                return Some(Output::Frame(frame));
            }
        }
        if std::mem::take(&mut self.request_now) {
            return Some(self.request(now));
        }
        self.stall(now);
        if self.request_due().is_some_and(|due| due <= now) {
            return Some(self.request(now));
        }
        None
    }

    /// When [`FrameBuffer::poll`] is wanted though no packet came.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        let reordered = self.stalled_since.map(|since| since + self.config.reorder_wait);
        let reordered = reordered.filter(|_| self.next.is_some() && self.key_unit().is_some());
        [self.request_due(), reordered].into_iter().flatten().min()
    }

    fn stall(&mut self, now: Timestamp) {
        match self.next {
            Some(next) => self.stalled_since = self.gap_since(next),
            None if self.packets.is_empty() => self.stalled_since = None,
            None => {
                self.stalled_since.get_or_insert(now);
            }
        }
    }

    /// Since when something waits behind a packet that is missing at or after `next`.
    fn gap_since(&self, next: SeqNo) -> Option<Timestamp> {
        let mut expected = next;
        for (&seq, packet) in self.packets.range(next..) {
            if seq != expected {
                return Some(self.stalled_since.map_or(packet.arrived_at, |since| since.min(packet.arrived_at)));
            }
            expected = seq.next();
        }
        None
    }

    fn request_due(&self) -> Option<Timestamp> {
        let since = self.stalled_since?;
        // Without any key frame there is nothing to repair: ask at once, unless one is arriving.
        let first = match (self.next, self.key_begun_at()) {
            (Some(_), _) => since + self.config.repair_wait,
            (None, Some(begun)) => begun.max(since) + self.config.repair_wait,
            (None, None) => since,
        };
        let again = self.last_request.map(|last| last + self.config.request_interval);
        Some(again.map_or(first, |again| again.max(first)))
    }

    fn request(&mut self, now: Timestamp) -> Output {
        self.last_request = Some(now);
        self.stats.key_frames_requested += 1;
        Output::NeedKeyFrame
    }

    /// The unit to deliver: the next one, or else a key frame behind a gap that has lasted.
    fn next_unit(&mut self, now: Timestamp) -> Option<Unit> {
        if let Some(next) = self.next {
            let next = self.skip_padding(next);
            if let Some(unit) = self.unit_at(next) {
                return Some(unit);
            }
            let since = self.gap_since(next)?;
            if now < since + self.config.reorder_wait {
                return None;
            }
        }
        let unit = self.key_unit()?;
        self.drop_before(unit.first);
        Some(unit)
    }

    /// Packets without a payload are the sender's padding: they fill a number and mean nothing.
    fn skip_padding(&mut self, mut next: SeqNo) -> SeqNo {
        while self.packets.get(&next).is_some_and(|packet| packet.payload.is_empty()) {
            self.packets.remove(&next);
            next = next.next();
        }
        (self.next, self.floor) = (Some(next), next);
        next
    }

    /// The complete unit whose first packet is `first`.
    fn unit_at(&self, first: SeqNo) -> Option<Unit> {
        let rtp_time = self.packets.get(&first)?.rtp_time;
        let mut expected = first;
        for (&seq, packet) in self.packets.range(first..) {
            if seq != expected {
                return None;
            }
            let padding = packet.payload.is_empty();
            if !padding && packet.rtp_time != rtp_time {
                // The sender set no marker; the next unit has begun.
                return Some(Unit { first, end: seq });
            }
            expected = seq.next();
            if packet.marker && packet.rtp_time == rtp_time {
                return Some(Unit { first, end: expected });
            }
        }
        None
    }

    /// The newest complete unit that starts a coded video sequence: the shortest way back to the present.
    fn key_unit(&self) -> Option<Unit> {
        let starts = self.packets.range(self.floor..).rev().filter(|(_, packet)| starts_sequence(&packet.payload));
        starts.take(8).find_map(|(&seq, _)| self.unit_at(seq))
    }

    /// When the newest key frame that waits here, complete or not, began to arrive.
    fn key_begun_at(&self) -> Option<Timestamp> {
        let mut waiting = self.packets.range(self.floor..).rev();
        waiting.find(|(_, packet)| starts_sequence(&packet.payload)).map(|(_, packet)| packet.arrived_at)
    }

    /// Takes the unit out; `None` where it is malformed, and then a key frame is needed.
    fn take(&mut self, unit: Unit) -> Option<EncodedFrame> {
        let rest = self.packets.split_off(&unit.end);
        let packets: Vec<Packet> = std::mem::replace(&mut self.packets, rest).into_values().collect();
        (self.next, self.floor) = (Some(unit.end), unit.end);
        let first = packets.first()?;
        let frame = depacketize(packets.iter().map(|packet| &packet.payload[..])).map(|data| EncodedFrame {
            data,
            rtp_time: first.rtp_time,
            key_frame: starts_sequence(&first.payload),
            complete_at: packets.iter().map(|packet| packet.arrived_at).max().unwrap_or(first.arrived_at),
        });
        match frame {
            Ok(frame) => Some(frame),
            Err(_) => {
                self.stats.frames_malformed += 1;
                self.handle_decode_error();
                None
            }
        }
    }

    fn drop_before(&mut self, seq: SeqNo) {
        let kept = self.packets.split_off(&seq);
        self.floor = self.floor.max(seq);
        let dropped = std::mem::replace(&mut self.packets, kept);
        let mut last = None;
        for packet in dropped.into_values().filter(|packet| !packet.payload.is_empty()) {
            if last.replace(packet.rtp_time.ticks) != Some(packet.rtp_time.ticks) {
                self.stats.frames_dropped += 1;
            }
        }
    }

    /// Full: the older half goes, and with it what could be decoded.
    fn give_up_oldest(&mut self) {
        if let Some(&middle) = self.packets.keys().nth(self.packets.len() / 2) {
            self.drop_before(middle);
        }
        self.handle_decode_error();
    }

    fn restart(&mut self) {
        self.drop_before(SeqNo(u64::MAX));
        (self.next, self.floor) = (None, SeqNo::default());
        self.stalled_since = None;
        self.late_in_a_row = 0;
    }
}

/// Packets `first..end`.
#[derive(Clone, Copy, Debug)]
struct Unit {
    first: SeqNo,
    end: SeqNo,
}

#[cfg(test)]
mod tests;
