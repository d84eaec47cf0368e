//! What a participant receives: its slots, and everything that leaves towards it: numbering, pacing, congestion control,
//! retransmission, probing.
//!
//! ```text
//!  slot's verdict -> room in the budget and nothing waits? -> sent at once (most packets)
//!                    else -> pacer -> looked up in the source's history when it may leave
//!  NACK ----------> within the share for repetition? -> pacer
//!  more is wanted than there is -> probe: padding on a retransmission stream, whether or not pictures flow
//! ```
//!
//! Sound never waits, and pictures wait for what it took. A burst of pictures up to [`BURST_BYTES`] leaves as it came, so that
//! a frame stays one batch; what is beyond that is paced. A path whose capacity was seen is paced at that: in no second it gets
//! more. A queue that takes long to drain costs temporal layers; one that takes too long is cut at the next picture, and
//! starts at a key frame.

use super::{
    audio_rate::AudioRate,
    bandwidth::Desired,
    comebacks::Comebacks,
    config::{Limits, ParticipantConfig, ParticipantId, ReceiveSlot, SlotKind, SourceId},
    history::StoredPacket,
    interface::{Egress, VideoWish},
    publisher::Publisher,
};
use crate::{
    av1::{MAX_DESCRIPTOR, Rewrite},
    prefetch,
    rtp::{ExtensionIds, OutgoingHeader},
    slot::{Sent, SlotStream},
};
use halloo_transport::{
    Bitrate, SeqNo, Ssrc, Timestamp,
    congestion::{CongestionConfig, CongestionController, Growth},
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
/// What may leave at once: so many bytes, but of time at the pacing rate no less and no more than this, and no more than the
/// least where what leaves is spread evenly.
const BURST_BYTES: usize = 16_000;
const BURST_TIME: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(40));
/// A path that nothing is known of yet, this long after it came up at most, is sent what the start allows and no more at
/// once: its first probe tells.
const NEW_PATH: Duration = Duration::from_millis(400);
/// For so long after it came up, a path's pictures begin as soon as a probe makes room for them. Later ones wait for the next
/// look: on a narrow path what one probe gives the next feedback may take back, and a key frame is dear.
const STARTING: Duration = Duration::from_millis(1_000);
/// A queue this long costs pictures their temporal layers, and one longer than the next is cut. That one is long, since key
/// frames are large: one that did not fit would be asked for again and again.
const THIN_QUEUE: Duration = Duration::from_millis(150);
const MAX_QUEUE: Duration = Duration::from_millis(1_000);
/// Share of the target for retransmissions, at least so much, and how much of it may be used at once.
const RTX_SHARE: f64 = 0.25;
const MIN_RTX: Bitrate = Bitrate::from_kbps(50);
const RTX_BURST: Duration = Duration::from_millis(150);
/// What a packet takes on the network beside itself: SRTP's tag, UDP and IPv4.
pub(super) const TRANSPORT_OVERHEAD: usize = 16 + 8 + 20;
/// Padding of a packet that carries nothing else, at most (RFC 3550, section 5.1).
const MAX_PADDING: usize = 255;
/// A probe whose packets are to be this small takes packets that are only padding, else it repeats old ones.
const SMALL_PADDING: usize = 400;
/// Where more is wanted and nothing at all goes out, a small packet goes this often: without any, nobody could tell that a
/// queue is gone.
const KEEP_LOOKING: Duration = Duration::from_millis(200);
const LOOKING_PADDING: u8 = 60;
/// Round trip assumed until one was measured.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

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
    /// Where the retransmission stream is in time.
    rtx_timestamp: u32,
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
    /// The same for retransmissions and their share.
    rtx_busy_until: Timestamp,
    last_sent_at: Timestamp,
    /// When its path came up.
    connected_at: Timestamp,
    /// More bandwidth would be used if it were there.
    pub(super) wants_more: bool,
    /// When pictures may start.
    pub(super) comebacks: Comebacks,
    /// The target that slots were last given layers by.
    pub(super) allocated_by: Bitrate,
    /// What sound takes.
    pub(super) audio: AudioRate,
    pub(super) counts: Counts,
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
            growth: Growth::ByProbes,
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
            rtx_busy_until: Timestamp::ZERO,
            last_sent_at: Timestamp::ZERO,
            connected_at: Timestamp::ZERO,
            wants_more: false,
            comebacks: Comebacks::default(),
            allocated_by: Bitrate::ZERO,
            audio: AudioRate::default(),
            counts: Counts::default(),
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
                rtx_timestamp: timestamp,
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

    /// Asks for what the next packet through a slot touches.
    pub(super) fn prefetch(&self, slot: u8) {
        prefetch::value(self);
        if let Some(slot) = self.slots.get(usize::from(slot)) {
            prefetch::value(slot);
            slot.stream.prefetch();
        }
        self.sent_log.newest().into_iter().for_each(prefetch::value_and_next);
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
        let queued = self.pacer.queued_bytes() > 0 || self.pacer.probe().is_some();
        if audio || (!queued && self.has_budget(now)) {
            let probe = self.pacer.probe();
            let size = self.send(now, &departing, stored, probe, egress);
            self.pacer.on_sent_past(now, size);
            if audio {
                self.audio.on_sent(size);
            }
            return;
        }
        if self.queue_is_full(now) {
            if let Some(slot) = self.slots.get_mut(usize::from(departing.slot)) {
                slot.stream.restart();
            }
            self.counts.cut += 1;
            return;
        }
        self.pacer.push(Priority::Video, departing, size_of_stored(stored));
        self.drain(now, publishers, egress);
    }

    /// Queues a retransmission of what the slot sent under `wire`, unless it was repeated within a round trip.
    /// A slot whose picture was given up repeats nothing: it starts again at a key frame.
    pub(super) fn retransmit(&mut self, now: Timestamp, slot: u8, wire: u16, publishers: &[Option<Publisher>]) {
        // A little under the round trip: the request for the next copy must not fall to jitter.
        let interval = self.round_trip().mul_f64(0.8);
        let Some(state) = self.slots.get_mut(usize::from(slot)).filter(|s| s.config.rtx.is_some()) else { return };
        self.counts.nacked += 1;
        if state.config.kind == SlotKind::Video && state.stream.selected().goal().is_none() {
            return;
        }
        if self.rtx_busy_until.since(now) > RTX_BURST {
            return;
        }
        let Some(sent) = state.stream.resend(now, wire, interval) else { return };
        let Some(stored) = stored(now, publishers, &sent) else { return };
        let size = size_of_stored(&stored);
        let rate = self.congestion.target().scale(RTX_SHARE).max(MIN_RTX);
        self.rtx_busy_until = self.rtx_busy_until.max(now) + rate.time_for(size);
        let departing = Departing { slot, purpose: Purpose::Retransmission, sent };
        self.pacer.push(Priority::Retransmission, departing, size);
    }

    /// Lets leave what may leave now.
    pub(super) fn drain(&mut self, now: Timestamp, publishers: &[Option<Publisher>], egress: &mut impl Egress) {
        while let Some(departure) = self.pacer.poll(now) {
            match departure {
                Departure::Packet { item, probe } => {
                    if let Some(stored) = stored(now, publishers, &item.sent) {
                        self.send(now, &item, &stored, probe, egress);
                    } else if let (Purpose::Media, Some(slot)) =
                        (item.purpose, self.slots.get_mut(usize::from(item.slot)))
                    {
                        // It waited for longer than its source's history lasts: what follows cannot be decoded.
                        slot.stream.restart();
                        self.counts.cut += 1;
                    }
                }
                Departure::Padding { probe, size } => match self.pad(now, size, probe, publishers, egress) {
                    Some(size) => self.pacer.on_padding_sent(now, size),
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
        self.pacer.set_rate(now, self.pacing_rate(now));
        if self.ids.transport_cc.is_some() && self.wants_more && self.pacer.probe().is_none() {
            if let Some(cluster) = self.congestion.poll_probe(now) {
                self.pacer.start_probe_at_once(now, cluster);
            } else if now.since(self.last_sent_at) >= KEEP_LOOKING {
                self.send_padding(now, LOOKING_PADDING, None, egress);
            }
        }
        self.drain(now, publishers, egress);
    }

    /// Whether layers are to be given out anew: the target moved away from the one they were given out by.
    pub(super) fn is_allocation_stale(&self, now: Timestamp) -> bool {
        let (target, by) = (self.budget(now), self.allocated_by);
        target < by.scale(0.95) || (target > by.scale(1.25) && self.wants_more)
    }

    /// What layers are given out by. While a queue is emptied that is what the path carries: base layers wait in the pacer
    /// until it is gone, instead of starting again at a key frame.
    /// On a new path it is half of what the start allows: sound and a picture or two, until the first probe tells.
    pub(super) fn budget(&self, now: Timestamp) -> Bitrate {
        if self.is_new(now) {
            return self.congestion.target().scale(0.5);
        }
        let target = self.congestion.target();
        match self.congestion.capacity() {
            Some(capacity) if self.congestion.is_draining() => target.max(capacity.min(self.limits.max_receive)),
            _ => target,
        }
    }

    /// Whether pictures have to do with their base layers for now, so that what waits can leave.
    pub(super) fn is_thin(&self, now: Timestamp, wants_more: bool) -> bool {
        self.congestion.is_draining()
            || (self.is_new(now) && wants_more)
            || self.queue_time(now, self.pacer.queued_bytes()) > THIN_QUEUE
    }

    /// Drops what waits of a slot whose picture was given up.
    pub(super) fn give_up(&mut self, now: Timestamp, slot: usize) {
        // A path that is new takes a moment to show what it carries: that is not the picture's fault.
        if !self.is_new(now) {
            self.comebacks.on_give_up(now, self.allocated_by);
        }
        let dropped = self.pacer.retain(|departing| usize::from(departing.slot) != slot);
        self.counts.cut += u64::from(dropped > 0);
    }

    /// Its path came up.
    pub(super) fn start(&mut self, now: Timestamp) {
        self.connected_at = now;
        self.audio = AudioRate::new(now);
        self.reports.start(now, &mut self.random);
    }

    /// Whether its path came up just now.
    pub(super) fn is_starting(&self, now: Timestamp) -> bool {
        now.since(self.connected_at) < STARTING
    }

    fn is_new(&self, now: Timestamp) -> bool {
        self.congestion.is_guess() && now.since(self.connected_at) < NEW_PATH
    }

    /// How long so many bytes of pictures take beside sound.
    fn queue_time(&self, now: Timestamp, bytes: usize) -> Duration {
        let rate = self.pacing_rate(now).max(self.budget(now)).as_bps();
        let beside_sound = rate.saturating_sub(self.audio.rate().as_bps()).max(rate / 8);
        Bitrate::from_bps(beside_sound).time_for(bytes)
    }

    /// Bytes that wait to leave.
    pub(super) fn queued_bytes(&self) -> usize {
        self.pacer.queued_bytes()
    }

    fn queue_is_full(&self, now: Timestamp) -> bool {
        let bytes = self.pacer.queued_bytes();
        let time = self.queue_time(now, bytes);
        time > MAX_QUEUE
    }

    fn pacing_rate(&self, now: Timestamp) -> Bitrate {
        if self.is_smooth(now) { self.congestion.target() } else { self.congestion.pacing_rate() }
    }

    /// Whether what leaves is spread evenly: the path's capacity was seen, or nothing is known of it.
    fn is_smooth(&self, now: Timestamp) -> bool {
        (self.congestion.capacity().is_some() && !self.congestion.is_draining()) || self.is_new(now)
    }

    /// When something that waits may leave next.
    pub(super) fn next_departure_at(&self) -> Option<Timestamp> {
        self.pacer.next_timeout().filter(|_| self.connected)
    }

    /// When a report is due, or missing feedback is to be answered.
    pub(super) fn next_report_at(&self) -> Option<Timestamp> {
        let times = [self.congestion.next_timeout(), self.reports.next_timeout()];
        times.into_iter().flatten().min().filter(|_| self.connected)
    }

    /// The transport went down or changed: nothing that waits is worth sending.
    pub(super) fn reset_path(&mut self, now: Timestamp) {
        self.counts.cut += u64::from(self.pacer.queued_bytes() > 0);
        self.pacer = Pacer::new(self.congestion.pacing_rate());
        self.congestion.on_path_change(now);
        self.slots.iter_mut().for_each(|slot| slot.stream.restart());
    }

    fn kind_of(&self, slot: u8) -> Option<SlotKind> {
        self.slots.get(usize::from(slot)).map(|s| s.config.kind)
    }

    fn has_budget(&self, now: Timestamp) -> bool {
        let (least, most) = BURST_TIME;
        let most = if self.is_smooth(now) { least } else { most };
        self.busy_until.since(now) <= self.pacing_rate(now).time_for(BURST_BYTES).clamp(least, most)
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
            slot.rtx_timestamp = sent.timestamp;
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
        let size = header.packet_len(payload.len()) + TRANSPORT_OVERHEAD;
        egress.rtp(self.id, &header, payload);
        let kind = match purpose {
            Purpose::Media | Purpose::Fill => PacketKind::Media,
            Purpose::Retransmission => PacketKind::Retransmission,
            Purpose::Padding => PacketKind::Padding,
        };
        self.on_sent(SentPacket { sent_at: now, size, kind, probe });
        size
    }

    fn on_sent(&mut self, packet: SentPacket) {
        let SentPacket { sent_at: now, size, kind, .. } = packet;
        match kind {
            PacketKind::Media => {}
            PacketKind::Retransmission => self.counts.retransmitted += 1,
            PacketKind::Padding => self.counts.padding += 1,
        }
        if self.ids.transport_cc.is_some() {
            self.congestion.on_sent(&packet);
            self.sent_log.on_sent(packet);
        }
        self.last_sent_at = now;
        self.busy_until = self.busy_until.max(now) + self.pacing_rate(now).time_for(size);
    }

    /// Fills a probe with a packet of about `size` bytes; gives its size, or `None` where there is no stream to pad.
    fn pad(
        &mut self,
        now: Timestamp,
        size: usize,
        probe: ProbeId,
        publishers: &[Option<Publisher>],
        egress: &mut impl Egress,
    ) -> Option<usize> {
        if size > SMALL_PADDING
            && let Some((departing, stored)) = self.recent(now, publishers)
        {
            return Some(self.send(now, &departing, &stored, Some(probe), egress));
        }
        self.send_padding(now, size.min(MAX_PADDING) as u8, Some(probe), egress)
    }

    /// Sends a packet that is only padding, on a retransmission stream: receivers count it and look no further
    /// (RFC 4588, section 4: without an original's number there is nothing to restore).
    fn send_padding(
        &mut self,
        now: Timestamp,
        padding: u8,
        probe: Option<ProbeId>,
        egress: &mut impl Egress,
    ) -> Option<usize> {
        let transport_seq = self.ids.transport_cc.map(|_| self.sent_log.next_seq().wire());
        let slot = self.slots.iter_mut().find(|s| s.config.kind == SlotKind::Video && s.config.rtx.is_some())?;
        let rtx = slot.config.rtx?;
        let mut header = OutgoingHeader::new(rtx.ssrc, rtx.payload_type, slot.rtx_seq, slot.rtx_timestamp, &self.ids);
        slot.rtx_seq = slot.rtx_seq.wrapping_add(1);
        header.padding = padding.max(1);
        header.mid = Some(slot.config.mid.0.as_bytes());
        header.transport_seq = transport_seq;
        header.abs_send_time = self.ids.abs_send_time.map(|_| abs_send_time(now));
        let size = header.packet_len(0) + TRANSPORT_OVERHEAD;
        egress.rtp(self.id, &header, &[]);
        self.on_sent(SentPacket { sent_at: now, size, kind: PacketKind::Padding, probe });
        Some(size)
    }

    /// A recent packet of any slot with retransmission.
    fn recent<'p>(
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

/// What was sent to a subscriber beside media, and what was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) nacked: u64,
    pub(super) retransmitted: u64,
    pub(super) padding: u64,
    /// Times that pictures were cut because too much waited.
    pub(super) cut: u64,
}

/// About what a packet takes on the network.
const fn size_of_stored(stored: &StoredPacket<'_>) -> usize {
    stored.payload.len() + stored.descriptor.len() + 36 + TRANSPORT_OVERHEAD
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
