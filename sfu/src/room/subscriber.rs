//! What a participant receives: its slots, and everything that leaves towards it: numbering, pacing, congestion control,
//! retransmission, probing.
//!
//! ```text
//!  slot's verdict -> room in the budget and nothing waits? -> sent at once (most packets)
//!                    else -> pacer -> looked up in the source's history when it may leave
//! ```
//!
//! Sound never waits. A burst of pictures up to [`BURST_BYTES`] leaves as it came, so that a frame stays one batch; what is
//! beyond that is paced. A queue that would take too long to drain is cut at the next picture, and starts at a key frame.

use super::{
    bandwidth::Desired,
    config::{Limits, ParticipantConfig, ParticipantId, ReceiveSlot, SlotKind, SourceId},
    history::StoredPacket,
    interface::{Egress, VideoWish},
    publisher::Publisher,
};
use crate::{
    av1::{MAX_DESCRIPTOR, Rewrite},
    rtp::{ExtensionIds, OutgoingHeader},
    slot::{Sent, SlotStream},
};
use halloo_transport::{
    SeqNo, Ssrc, Timestamp,
    congestion::{CongestionConfig, CongestionController},
    extensions::abs_send_time,
    pacer::{Departure, Pacer, Priority},
    random::Random,
    reports::ReportSchedule,
    twcc::{PacketKind, ProbeId, SentLog, SentPacket},
};
use std::time::Duration;

/// Slots and wishes that are used.
pub(super) const MAX_SLOTS: usize = 32;
/// Packets of a slot that carry its mid.
const PACKETS_WITH_MID: u64 = 50;
/// What may leave at once, whatever the rate, and as time at the pacing rate.
const BURST_BYTES: usize = 16_000;
const BURST_TIME: Duration = Duration::from_millis(20);
/// Round trip assumed until one was measured.
const DEFAULT_RTT: Duration = Duration::from_millis(100);
/// Probes go out only while pictures do.
const PROBE_NEEDS_VIDEO_WITHIN: Duration = Duration::from_millis(500);

/// A receive slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) config: ReceiveSlot,
    pub(super) stream: SlotStream,
    pub(super) showing: Option<SourceId>,
    /// What the subscriber was last told that it shows.
    pub(super) announced: Option<SourceId>,
    /// The layers that it would get if there were bandwidth.
    pub(super) desired: Option<Desired>,
    rtx_seq: u16,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) last_fir: Option<u8>,
}

/// Why a packet leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// For the first time.
    Media,
    /// In place of one that was left out: without payload.
    Fill,
    /// Again, because it was asked for.
    Retransmission,
    /// Again, to fill a probe.
    Padding,
}

/// A packet that is to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departing {
    pub(super) slot: u8,
    pub(super) purpose: Purpose,
    pub(super) sent: Sent,
}

/// A participant as a receiver.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) id: ParticipantId,
    pub(super) connected: bool,
    ids: ExtensionIds,
    pub(super) slots: Vec<Slot>,
    pub(super) limits: Limits,
    pub(super) may_receive: bool,
    pub(super) wishes: Vec<VideoWish>,
    /// Size of tiles that follow the dominant speaker; `None` until it said.
    pub(super) others: Option<(u32, u32)>,
    pub(super) congestion: CongestionController,
    pub(super) sent_log: SentLog,
    pacer: Pacer<Departing>,
    busy_until: Timestamp,
    video_at: Option<Timestamp>,
    /// More bandwidth would be used if it were there.
    pub(super) wants_more: bool,
    turn: u64,
    pub(super) rtt: Option<Duration>,
    pub(super) reports: ReportSchedule,
    pub(super) random: Random,
    pub(super) cname: String,
    pub(super) feedback_ssrc: Ssrc,
}

impl Subscriber {
    pub(super) fn new(id: ParticipantId, config: &ParticipantConfig) -> Self {
        let mut random = Random::new(config.seed);
        let limits = config.limits;
        let congestion = CongestionController::new(CongestionConfig {
            start: limits.start_receive,
            min: limits.min_receive,
            max: limits.max_receive,
        });
        let mut subscriber = Self {
            id,
            connected: false,
            ids: config.outgoing_extensions,
            slots: Vec::new(),
            limits,
            may_receive: config.grants.subscribe,
            wishes: Vec::new(),
            others: None,
            pacer: Pacer::new(congestion.pacing_rate()),
            congestion,
            sent_log: SentLog::new(random.first_sequence_number()),
            busy_until: Timestamp::ZERO,
            video_at: None,
            wants_more: false,
            turn: 0,
            rtt: None,
            reports: ReportSchedule::new(),
            random,
            cname: config.cname.clone(),
            feedback_ssrc: config.feedback_ssrc,
        };
        subscriber.add_slots(&config.slots);
        subscriber
    }

    /// Adds slots, up to the bound.
    pub(super) fn add_slots(&mut self, slots: &[ReceiveSlot]) {
        for config in slots.iter().take(MAX_SLOTS.saturating_sub(self.slots.len())) {
            let seq = SeqNo((1 << 16) + u64::from(self.random.first_sequence_number()));
            let timestamp = self.random.next_u64() as u32;
            let stream = SlotStream::new(seq, timestamp, config.kind.clock_rate());
            self.slots.push(Slot {
                stream: if config.rtx.is_some() { stream } else { stream.without_memory() },
                config: config.clone(),
                showing: None,
                announced: None,
                desired: None,
                rtx_seq: self.random.first_sequence_number(),
                packets: 0,
                bytes: 0,
                last_fir: None,
            });
        }
    }

    /// The round trip, measured or assumed.
    pub(super) fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }

    /// Sends a packet of a source now, or queues it.
    pub(super) fn forward(
        &mut self,
        now: Timestamp,
        departing: Departing,
        stored: &StoredPacket<'_>,
        publishers: &[Option<Publisher>],
        egress: &mut impl Egress,
    ) {
        if !self.connected {
            return;
        }
        let audio = self.kind_of(departing.slot) == Some(SlotKind::Audio);
        if !audio {
            self.video_at = Some(now);
        }
        let queued = self.pacer.queued_bytes() > 0 || self.pacer.probe().is_some();
        if audio || (!queued && self.has_budget(now)) {
            self.send(now, &departing, stored, None, egress);
            return;
        }
        if !self.pacer.has_room() {
            if let Some(slot) = self.slots.get_mut(usize::from(departing.slot)) {
                slot.stream.restart();
            }
            return;
        }
        self.pacer.push(Priority::Video, departing, stored.payload.len() + stored.descriptor.len() + 40);
        self.drain(now, publishers, egress);
    }

    /// Queues a retransmission of what the slot sent under `wire`, unless it was repeated within a round trip.
    pub(super) fn retransmit(&mut self, now: Timestamp, slot: u8, wire: u16) {
        // A little under the round trip: the request for the next copy must not fall to jitter.
        let interval = self.round_trip().mul_f64(0.8);
        let Some(state) = self.slots.get_mut(usize::from(slot)).filter(|s| s.config.rtx.is_some()) else { return };
        if let Some(sent) = state.stream.resend(now, wire, interval) {
            let departing = Departing { slot, purpose: Purpose::Retransmission, sent };
            self.pacer.push(Priority::Retransmission, departing, 1_200);
        }
    }

    /// Lets leave what may leave now.
    pub(super) fn drain(&mut self, now: Timestamp, publishers: &[Option<Publisher>], egress: &mut impl Egress) {
        while let Some(departure) = self.pacer.poll(now) {
            match departure {
                Departure::Packet { item, probe } => {
                    if let Some(stored) = stored(now, publishers, &item.sent) {
                        self.send(now, &item, &stored, probe, egress);
                    }
                }
                Departure::Padding { probe, .. } => match self.padding(now, publishers) {
                    Some((departing, stored)) => {
                        let size = self.send(now, &departing, &stored, Some(probe), egress);
                        self.pacer.on_padding_sent(now, size);
                    }
                    None => self.pacer.cancel_probe(),
                },
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(
        &mut self,
        now: Timestamp,
        publishers: &[Option<Publisher>],
        egress: &mut impl Egress,
    ) {
        if !self.connected {
            return;
        }
        self.congestion.handle_timeout(now);
        let shows = self.video_at.is_some_and(|at| now.since(at) < PROBE_NEEDS_VIDEO_WITHIN);
        if self.ids.transport_cc.is_some()
            && self.wants_more
            && shows
            && self.pacer.probe().is_none()
            && let Some(cluster) = self.congestion.poll_probe(now)
        {
            self.pacer.start_probe(cluster);
        }
        self.pacer.set_rate(now, self.congestion.pacing_rate());
        self.drain(now, publishers, egress);
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        if !self.connected {
            return None;
        }
        [self.pacer.next_timeout(), self.congestion.next_timeout(), self.reports.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The transport went down or changed: nothing that waits is worth sending.
    pub(super) fn reset_path(&mut self, now: Timestamp) {
        self.pacer = Pacer::new(self.congestion.pacing_rate());
        self.congestion.on_path_change(now);
        self.slots.iter_mut().for_each(|slot| slot.stream.restart());
    }

    fn kind_of(&self, slot: u8) -> Option<SlotKind> {
        self.slots.get(usize::from(slot)).map(|s| s.config.kind)
    }

    fn has_budget(&self, now: Timestamp) -> bool {
        let burst = self.congestion.pacing_rate().time_for(BURST_BYTES).max(BURST_TIME);
        self.busy_until.since(now) <= burst
    }

    /// Writes and sends one packet; gives its size.
    fn send(
        &mut self,
        now: Timestamp,
        departing: &Departing,
        stored: &StoredPacket<'_>,
        probe: Option<ProbeId>,
        egress: &mut impl Egress,
    ) -> usize {
        let Some(slot) = self.slots.get_mut(usize::from(departing.slot)) else { return 0 };
        let (sent, purpose) = (&departing.sent, departing.purpose);
        let transport_seq = self.ids.transport_cc.map(|_| self.sent_log.next_seq().wire());
        let media = slot.config.ssrc;
        let mut header =
            OutgoingHeader::new(media, slot.config.payload_type, sent.seq.wire(), sent.timestamp, &self.ids);
        header.marker = sent.marker;
        header.csrc = Some(sent.csrc);
        header.transport_seq = transport_seq;
        header.abs_send_time = self.ids.abs_send_time.map(|_| abs_send_time(now));
        header.audio_level = stored.facts.audio_level;
        header.video_orientation = stored.facts.video_orientation;
        let repeats = matches!(purpose, Purpose::Retransmission | Purpose::Padding);
        if slot.packets < PACKETS_WITH_MID || repeats {
            header.mid = Some(slot.config.mid.0.as_bytes());
        }
        if repeats {
            let Some(rtx) = slot.config.rtx else { return 0 };
            (header.ssrc, header.payload_type, header.seq) = (rtx.ssrc, rtx.payload_type, slot.rtx_seq);
            header.original_seq = Some(sent.seq.wire());
            slot.rtx_seq = slot.rtx_seq.wrapping_add(1);
        } else {
            slot.packets += 1;
            slot.bytes += stored.payload.len() as u64;
        }
        let mut descriptor = [0; MAX_DESCRIPTOR];
        if let (Some(frame_number), Some(read)) = (sent.frame_number, &stored.facts.descriptor) {
            let rewrite = Rewrite { frame_number, active_targets: sent.active_targets, structure: None };
            if let Some(len) = read.write(stored.descriptor, &rewrite, &mut descriptor) {
                header.dependency_descriptor = descriptor.get(..len);
            }
        }
        let payload = if purpose == Purpose::Fill { &[][..] } else { stored.payload };
        let size = header.packet_len(payload.len());
        if transport_seq.is_some() {
            let kind = match purpose {
                Purpose::Media | Purpose::Fill => PacketKind::Media,
                Purpose::Retransmission => PacketKind::Retransmission,
                Purpose::Padding => PacketKind::Padding,
            };
            let packet = SentPacket { sent_at: now, size, kind, probe };
            self.congestion.on_sent(&packet);
            self.sent_log.on_sent(packet);
        }
        self.busy_until = self.busy_until.max(now) + self.congestion.pacing_rate().time_for(size);
        egress.rtp(self.id, &header, payload);
        size
    }

    /// A recent packet of any slot with retransmission.
    fn padding<'p>(
        &mut self,
        now: Timestamp,
        publishers: &'p [Option<Publisher>],
    ) -> Option<(Departing, StoredPacket<'p>)> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.slots.len();
        let turn = self.turn;
        (0..count).find_map(|i| {
            let index = (turn as usize + i) % count;
            let slot = self.slots.get_mut(index)?;
            if slot.config.rtx.is_none() || slot.config.kind == SlotKind::Audio {
                return None;
            }
            let sent = slot.stream.recent(turn)?;
            let stored = stored(now, publishers, &sent)?;
            Some((Departing { slot: index as u8, purpose: Purpose::Padding, sent }, stored))
        })
    }
}

/// The packet that a rewrite was made from, while its source's history has it.
fn stored<'p>(now: Timestamp, publishers: &'p [Option<Publisher>], sent: &Sent) -> Option<StoredPacket<'p>> {
    let source = SourceId::from_csrc(sent.csrc);
    let publisher = publishers.get(source.participant().index())?.as_ref()?;
    if publisher.id != source.participant() {
        return None;
    }
    publisher.section(source.kind())?.streams.get(usize::from(sent.stream))?.history().get(now, sent.source_seq)
}
