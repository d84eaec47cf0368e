//! One stream that a publisher sends: an encoding of a source. Reception and its report, what is missing, the history all
//! subscribers share, the template structure, rates by layer, and the sender's clock.

use super::{
    config::SlotKind,
    history::{HistoryBounds, PacketFacts, PacketHistory, StoredPacket},
};
use crate::{
    av1::{Descriptor, Structure, starts_coded_video_sequence},
    layers::{Goal, Layer, PacketLayers},
    rtp::{AudioLevel, ExtensionIds, RtpHeader},
};
use halloo_transport::{
    Bitrate, RtpTime, SeqNo, Timestamp,
    key_frames::KeyFrameLimiter,
    nack::{NackConfig, NackGenerator},
    reception::{Arrival, Reception, Route},
    reports::LastSenderReport,
    units::RtpTimeUnwrapper,
};
use std::time::Duration;

/// Decode targets and layers whose rates are kept.
const TARGETS: usize = 32;
/// Share of a new measurement in a rate, once there were as many: about a second is remembered, in which a base layer of a
/// few frames a second comes out even.
const RATE_SHARE: f64 = 0.1;
/// A key picture is a rare burst, which the pacer spreads: a quarter of it counts.
const KEY_PICTURE_DIVISOR: usize = 4;
/// What a packet takes beside its payload: RTP header, CSRC, extensions, and what the transport adds.
const PACKET_OVERHEAD: usize = 36 + super::subscriber::TRANSPORT_OVERHEAD;
/// A stream without packets for this long is not there to choose.
const SILENT: Duration = Duration::from_millis(1_000);

/// What a stream made of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// New and stored: to be forwarded.
    New(SeqNo),
    /// The same, but the stream went on elsewhere in its numbers.
    Restarted(SeqNo),
    /// Seen before, implausible, or not to be understood.
    Nothing,
}

/// The sender's report last heard.
#[derive(Clone, Copy, Debug)]
struct SenderClock {
    /// Its wall clock, nanoseconds since 1900.
    ntp: i128,
    rtp: u32,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) ssrc: Option<u32>,
    pub(super) rtx_ssrc: Option<u32>,
    kind: SlotKind,
    reception: Reception,
    nack: Option<NackGenerator>,
    rtp_times: RtpTimeUnwrapper,
    history: PacketHistory,
    structure: Option<Structure>,
    active_targets: u32,
    key_frames: KeyFrameLimiter,
    clock: Option<SenderClock>,
    pub(super) last_report: Option<LastSenderReport>,
    newest: Option<(u32, Timestamp)>,
    bytes: [u32; TARGETS],
    all_bytes: u32,
    rates: [LayerRate; TARGETS],
    rate: LayerRate,
    measured_at: Timestamp,
    /// The timestamp of the newest key picture.
    key_picture: Option<u32>,
}

/// The rate of a layer and what it needs, followed by measurements: their mean at first, then the newer the weightier.
#[derive(Clone, Copy, Debug, Default)]
struct LayerRate {
    bps: f32,
    measured: u8,
}

impl LayerRate {
    fn follow(&mut self, bytes: u32, passed: f64) {
        // Until something came there is nothing to measure.
        if bytes == 0 && self.measured == 0 {
            return;
        }
        self.measured = self.measured.saturating_add(1);
        let share = (1.0 / f64::from(self.measured)).max(RATE_SHARE);
        self.bps += (share * (f64::from(bytes) * 8.0 / passed - f64::from(self.bps))) as f32;
    }

    fn rate(self) -> Bitrate {
        Bitrate::from_bps(self.bps as u64)
    }
}

impl Stream {
    pub(super) fn new(kind: SlotKind, nack: bool, ssrc: Option<u32>, rtx_ssrc: Option<u32>) -> Self {
        let (bounds, config) = match kind {
            SlotKind::Audio => (HistoryBounds::AUDIO, NackConfig::AUDIO),
            SlotKind::Video => (HistoryBounds::VIDEO, NackConfig::VIDEO),
        };
        Self {
            ssrc,
            rtx_ssrc,
            kind,
            reception: Reception::new(kind.clock_rate()),
            nack: nack.then(|| NackGenerator::new(config)),
            rtp_times: RtpTimeUnwrapper::new(),
            history: PacketHistory::new(bounds),
            structure: None,
            active_targets: 0,
            key_frames: KeyFrameLimiter::new(),
            clock: None,
            last_report: None,
            newest: None,
            bytes: [0; TARGETS],
            all_bytes: 0,
            rates: [LayerRate::default(); TARGETS],
            rate: LayerRate::default(),
            measured_at: Timestamp::ZERO,
            key_picture: None,
        }
    }

    /// Takes a packet: `wire` and `payload` are the media's, retransmission undone.
    pub(super) fn receive(
        &mut self,
        now: Timestamp,
        header: &RtpHeader<'_>,
        ids: &ExtensionIds,
        wire: u16,
        payload: &[u8],
        route: Route,
    ) -> Received {
        let (seq, restarted) = match self.reception.on_packet(wire, route) {
            Arrival::New(seq) => (seq, false),
            Arrival::Restarted(seq) => (seq, true),
            Arrival::Duplicate | Arrival::Implausible => return Received::Nothing,
        };
        if let Some(nack) = &mut self.nack {
            if restarted { nack.restart(seq) } else { nack.on_packet(now, seq, route == Route::Retransmitted) }
        }
        let timestamp = header.timestamp();
        if route == Route::Direct {
            let ticks = self.rtp_times.unwrap(u64::from(timestamp));
            self.reception.on_arrival_time(now, RtpTime::new(ticks, self.kind.clock_rate()));
            self.newest = Some((timestamp, now));
        }
        // A packet that is only padding has a number, but nothing to forward.
        let mut facts = PacketFacts {
            seq,
            timestamp,
            marker: header.marker(),
            starts_key_frame: false,
            audio_level: None,
            video_orientation: None,
            descriptor: None,
        };
        let mut bytes: &[u8] = &[];
        match self.kind {
            SlotKind::Audio => facts.audio_level = header.extension(ids.audio_level).and_then(AudioLevel::parse),
            SlotKind::Video => {
                facts.video_orientation = header.extension(ids.video_orientation).and_then(|v| v.first().copied());
                bytes = header.extension(ids.dependency_descriptor).unwrap_or_default();
                self.read_layers(&mut facts, bytes, payload);
            }
        }
        self.count(&facts, payload.len() + PACKET_OVERHEAD);
        self.history.insert(now, facts, bytes, payload);
        if facts.starts_key_frame {
            self.read_again(now, seq);
        }
        if restarted { Received::Restarted(seq) } else { Received::New(seq) }
    }

    /// The packets that subscribers share.
    pub(super) const fn history(&self) -> &PacketHistory {
        &self.history
    }

    /// What a stored packet says of layers; `None` for audio.
    pub(super) fn layers<'a>(&'a self, encoding: u8, facts: &'a PacketFacts) -> Option<PacketLayers<'a>> {
        (self.kind == SlotKind::Video).then(|| PacketLayers {
            encoding,
            descriptor: facts.descriptor.as_ref().zip(self.structure.as_ref()),
            active_targets: self.active_targets,
            starts_key_frame: facts.starts_key_frame,
            marker: facts.marker,
        })
    }

    /// Whether packets came lately.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.newest.is_some_and(|(_, at)| now.since(at) < SILENT)
    }

    /// Whether anything ever came.
    pub(super) const fn is_started(&self) -> bool {
        self.newest.is_some()
    }

    /// The packets to ask the publisher for.
    pub(super) fn missing(&mut self, now: Timestamp, rtt: Option<Duration>) -> Vec<SeqNo> {
        match &mut self.nack {
            Some(nack) if nack.missing() > 0 => nack.poll(now, rtt),
            _ => Vec::new(),
        }
    }

    /// Whether a key frame may be asked for now: requests are merged.
    pub(super) fn admit_key_frame_request(&mut self, now: Timestamp, rtt: Option<Duration>) -> bool {
        self.newest.is_some() && self.key_frames.admit(now, rtt)
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.nack.as_ref().filter(|nack| nack.missing() > 0).and_then(NackGenerator::next_timeout)
    }

    /// What was received and what was not.
    pub(super) const fn received(&self) -> &Reception {
        &self.reception
    }

    pub(super) fn reception(&mut self) -> &mut Reception {
        &mut self.reception
    }

    /// Takes the sender's report: wall clock in nanoseconds since 1900, and the RTP time it stands for.
    pub(super) fn on_sender_report(&mut self, now: Timestamp, ntp: i128, rtp: u32, ntp_middle: u32) {
        self.clock = Some(SenderClock { ntp, rtp });
        self.last_report = Some(LastSenderReport { ntp_middle, arrived_at: now });
    }

    /// The stream's RTP time now: `ntp` is our wall clock and `behind` by how much the publisher's is behind it, where known.
    pub(super) fn rtp_at(&self, now: Timestamp, ntp: i128, behind: Option<i128>) -> Option<u32> {
        let rate = i128::from(self.kind.clock_rate());
        match (self.clock, behind) {
            (Some(clock), Some(behind)) => {
                let ticks = (ntp - behind - clock.ntp) * rate / 1_000_000_000;
                Some(clock.rtp.wrapping_add(ticks as u32))
            }
            _ => {
                let (timestamp, at) = self.newest?;
                let ticks = now.since(at).as_nanos() as i128 * rate / 1_000_000_000;
                Some(timestamp.wrapping_add(ticks as u32))
            }
        }
    }

    /// Brings the rates up to date: to be called every 100 ms or so.
    pub(super) fn measure(&mut self, now: Timestamp) {
        let passed = now.since(self.measured_at).as_secs_f64();
        self.measured_at = now;
        if passed <= 0.0 || passed > 5.0 {
            (self.bytes, self.all_bytes) = ([0; TARGETS], 0);
            return;
        }
        self.rate.follow(self.all_bytes, passed);
        for (rate, bytes) in self.rates.iter_mut().zip(self.bytes) {
            rate.follow(bytes, passed);
        }
        (self.bytes, self.all_bytes) = ([0; TARGETS], 0);
    }

    /// All layers together.
    pub(super) fn rate(&self) -> Bitrate {
        self.rate.rate()
    }

    /// Adds what there is to choose from in this encoding, worst first. `scale` is how many encodings are larger.
    pub(super) fn choices(&self, encoding: u8, larger: u32, keep_resolution: bool, out: &mut Vec<Layer>) {
        let Some(structure) = self.structure.as_ref().filter(|_| self.active_targets != 0) else {
            let goal = Goal { encoding, spatial: 0, temporal: 0 };
            out.push(Layer { goal, rate: self.rate(), height: assumed_height(larger) });
            return;
        };
        let active = (0..structure.targets()).filter(|t| self.active_targets & (1 << t) != 0);
        let top = active.clone().map(|t| structure.spatial(t)).max().unwrap_or_default();
        let smoothest = active.clone().map(|t| structure.temporal(t)).max().unwrap_or_default();
        for spatial in 0..=top {
            for target in active.clone().filter(|t| structure.spatial(*t) == spatial) {
                let temporal = structure.temporal(target);
                // Motion before sharpness, except on a screen: only the smallest picture, or the largest, drops frames.
                let drops = if keep_resolution { spatial == top } else { spatial == 0 && encoding == 0 };
                if temporal < smoothest && !drops {
                    continue;
                }
                let rate = self.rates.get(usize::from(target)).copied().unwrap_or_default().rate();
                let height = structure
                    .resolution(spatial)
                    .map_or_else(|| assumed_height(larger + u32::from(top - spatial)), |r| r.height.min(r.width));
                let goal = Goal { encoding, spatial, temporal };
                out.push(Layer { goal, rate, height });
            }
        }
    }

    /// Forgets what was stored, at a stop.
    pub(super) fn forget(&mut self) {
        self.history.clear();
        self.structure = None;
    }

    /// Bytes of memory that it holds beside its own size.
    pub(super) fn memory(&self) -> usize {
        self.history.memory()
    }

    /// Reads what the packet says of layers. One that cannot be read is kept all the same: the structure that it needs may
    /// come behind it.
    fn read_layers(&mut self, facts: &mut PacketFacts, bytes: &[u8], payload: &[u8]) {
        if bytes.is_empty() {
            facts.starts_key_frame = starts_coded_video_sequence(payload);
            return;
        }
        let Ok(descriptor) = Descriptor::read(bytes, &mut self.structure) else { return };
        if let Some(active) = descriptor.active_targets {
            self.active_targets = active;
        }
        facts.starts_key_frame = descriptor.starts_key_frame();
        facts.descriptor = Some(descriptor);
    }

    /// Reads what came before the structure that the packet `from` brought, though it belongs behind it.
    fn read_again(&mut self, now: Timestamp, from: SeqNo) {
        let Some(highest) = self.history.highest() else { return };
        for seq in (from.0 + 1..=highest.0).map(SeqNo) {
            let Some(stored) = self.history.get(now, seq).filter(StoredPacket::is_unread) else { continue };
            if let Ok(descriptor) = Descriptor::read(stored.descriptor, &mut self.structure) {
                self.history.set_descriptor(seq, descriptor);
            }
        }
    }

    fn count(&mut self, facts: &PacketFacts, size: usize) {
        if facts.starts_key_frame {
            self.key_picture = Some(facts.timestamp);
        }
        let is_key = self.key_picture == Some(facts.timestamp);
        let size = if is_key { size / KEY_PICTURE_DIVISOR } else { size };
        self.all_bytes = self.all_bytes.saturating_add(size as u32);
        let Some(descriptor) = &facts.descriptor else { return };
        let mut targets = descriptor.targets();
        while targets != 0 {
            let target = targets.trailing_zeros() as usize;
            targets &= targets - 1;
            if let Some(bytes) = self.bytes.get_mut(target) {
                *bytes = bytes.saturating_add(size as u32);
            }
        }
    }
}

/// A picture's height where nothing tells it: 720 lines, halved for each larger one.
fn assumed_height(larger: u32) -> u32 {
    (720 >> larger.min(3)).max(90)
}
