//! One RTP session: everything between packetised media and SRTP, for one connection (RFC 3550).
//!
//! ```text
//!  send(unit) -> sequence -> pacer -> history, extensions -> poll_transmit -> (SRTP)
//!  (SRTP) -> handle_rtp -> RTX undone -> reception statistics, NACK, feedback -> poll_event(Media)
//!  (SRTP) -> handle_rtcp -> NACK -> RTX, PLI -> poll_event, feedback -> congestion control -> pacer, TargetBitrate
//! ```
//!
//! Call order, after any input: [`Session::poll_transmit`] until `None`, then [`Session::poll_event`] until `None`,
//! then sleep until [`Session::next_timeout`] or the next input, and on waking call [`Session::handle_timeout`].

mod config;
mod incoming;
mod io;
mod outgoing;
mod receive;
mod rtcp_input;
mod stats;

pub use config::{ExtensionIds, MediaKind, RecvStream, Rtx, SendStream, SessionConfig};
pub use io::{AudioLevel, Event, MAX_PAYLOAD, MediaUnit, ReceivedPacket, SendError, Transmit};
pub use stats::{MediaStat, RecvStats, SendStats, SessionStats};

use crate::{
    congestion::{CongestionConfig, CongestionController, Growth},
    history::SentMedia,
    nack,
    pacer::{Departure, Pacer, Priority},
    random::Random,
    reports::{self, ReportSchedule},
    time::Timestamp,
    twcc::{ArrivalLog, PacketKind, ProbeId, SentLog, SentPacket},
    units::{Bitrate, Ssrc},
};
use incoming::Incoming;
use outgoing::Outgoing;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use std::{collections::VecDeque, fmt, time::Duration};

/// Events that wait for the owner; media beyond that is dropped and counted.
const MAX_EVENTS: usize = 4_096;
/// RTCP packets that wait for the owner; the oldest goes first.
const MAX_RTCP: usize = 64;
/// A change of the target below this share is not worth telling, until a second has passed.
const TARGET_CHANGE: f64 = 0.03;
const TARGET_INTERVAL: Duration = Duration::from_secs(1);
/// Round trip assumed for answering NACKs until one was measured.
const DEFAULT_RTT: Duration = Duration::from_millis(50);
/// What a header with the usual extensions takes, for pacing before it is written.
const HEADER_ESTIMATE: usize = 28;

/// A packet in the pacer.
#[derive(Debug)]
struct Queued {
    stream: Ssrc,
    media: SentMedia,
    kind: PacketKind,
}

/// The whole of RTP for one connection. See the module's text for the order of calls.
pub struct Session {
    config: SessionConfig,
    random: Random,
    send: Vec<Outgoing>,
    recv: Vec<Incoming>,
    /// One id for the whole connection: the sections are bundled (RFC 9143, section 9.2).
    transport_cc_id: Option<u8>,
    pacer: Pacer<Queued>,
    sent_log: SentLog,
    arrival_log: ArrivalLog,
    congestion: CongestionController,
    told_target: (Bitrate, Option<Timestamp>),
    schedule: ReportSchedule,
    rtt: Option<Duration>,
    /// Whether the round trip is measured by reports, which are exact, or only by feedback.
    rtt_from_reports: bool,
    rtcp: VecDeque<Vec<Box<dyn rtcp::Packet>>>,
    events: VecDeque<Event>,
    bytes_sent: u64,
    padding_bytes_sent: u64,
    discarded: u64,
}

impl Session {
    /// A session without streams. Its first event is the target to start with.
    pub fn new(config: SessionConfig) -> Self {
        let mut random = Random::new(config.seed);
        let congestion = CongestionController::new(CongestionConfig {
            start: config.start_bitrate,
            min: config.min_bitrate,
            max: config.max_bitrate,
            growth: Growth::ByItself,
        });
        Self {
            pacer: Pacer::new(congestion.pacing_rate()),
            sent_log: SentLog::new(random.first_sequence_number()),
            told_target: (congestion.target(), None),
            events: [Event::TargetBitrate(congestion.target())].into(),
            congestion,
            config,
            random,
            send: Vec::new(),
            recv: Vec::new(),
            transport_cc_id: None,
            arrival_log: ArrivalLog::new(),
            schedule: ReportSchedule::new(),
            rtt: None,
            rtt_from_reports: false,
            rtcp: VecDeque::new(),
            bytes_sent: 0,
            padding_bytes_sent: 0,
            discarded: 0,
        }
    }

    /// Adds a stream to send, or replaces the one with the same SSRC; then numbering and history go on.
    pub fn add_send_stream(&mut self, stream: SendStream) {
        match self.send.iter_mut().find(|s| s.config.ssrc == stream.ssrc) {
            Some(same) => same.reconfigure(stream, &mut self.random),
            None => self.send.push(Outgoing::new(stream, &mut self.random)),
        }
    }

    /// Ends a stream that is sent, and says goodbye for it. What it still has in the pacer is dropped.
    pub fn remove_send_stream(&mut self, ssrc: Ssrc) {
        let Some(at) = self.send.iter().position(|s| s.config.ssrc == ssrc) else { return };
        let ended: Vec<Ssrc> = self.send.remove(at).ssrcs().collect();
        self.queue_rtcp(reports::goodbye(self.config.feedback_ssrc, &ended, &self.config.cname));
    }

    /// Adds a stream to receive.
    pub fn add_recv_stream(&mut self, stream: RecvStream) {
        self.transport_cc_id = self.transport_cc_id.or(stream.extensions.transport_cc);
        self.recv.push(Incoming::new(stream));
    }

    /// Ends the streams that are received in this section; nothing of them is taken any more.
    pub fn remove_recv_stream(&mut self, mid: &crate::units::Mid) {
        self.recv.retain(|s| s.config.mid.as_ref() != Some(mid));
    }

    /// Queues a unit on the stream with this SSRC. Sequence numbers and extensions are this session's work.
    ///
    /// # Errors
    /// [`SendError::UnknownStream`], and [`SendError::QueueFull`] where the pacer holds too much already.
    pub fn send(&mut self, now: Timestamp, ssrc: Ssrc, unit: MediaUnit) -> Result<(), SendError> {
        let stream = self.send.iter_mut().find(|s| s.config.ssrc == ssrc).ok_or(SendError::UnknownStream(ssrc))?;
        let priority = match stream.config.kind {
            MediaKind::Audio => Priority::Audio,
            MediaKind::Video => Priority::Video,
        };
        if priority == Priority::Video && !self.pacer.has_room() {
            stream.stats.units_dropped += 1;
            return Err(SendError::QueueFull(ssrc));
        }
        for media in stream.packetize(unit) {
            let size = media.payload.len() + HEADER_ESTIMATE;
            let queued = Queued { stream: ssrc, media, kind: PacketKind::Media };
            // Sound that is pushed out leaves a gap in its numbers: the peer sees it as lost, which it is.
            if self.pacer.push(priority, queued, size).is_some() {
                stream.stats.units_dropped += 1;
            }
        }
        self.schedule.start(now, &mut self.random);
        Ok(())
    }

    /// Asks the peer for a key frame on the receive stream with this SSRC; merged and rate-limited. Ask again while it is
    /// missing: a request that comes too soon after the last is dropped, not put off.
    pub fn request_key_frame(&mut self, now: Timestamp, ssrc: Ssrc) {
        let rtt = self.rtt;
        let Some(stream) = self.recv.iter_mut().find(|s| s.ssrc == Some(ssrc)) else { return };
        if !stream.key_frames.admit(now, rtt) {
            return;
        }
        stream.stats.pli_count += 1;
        let sender_ssrc = self.config.feedback_ssrc.0;
        self.queue_rtcp(vec![Box::new(rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
            sender_ssrc,
            media_ssrc: ssrc.0,
        })]);
    }

    /// Tells that the path changed (ICE chose another pair): estimates start again from what is known.
    pub fn handle_path_change(&mut self, now: Timestamp) {
        (self.rtt, self.rtt_from_reports) = (None, false);
        self.pacer.cancel_probe();
        self.congestion.on_path_change(now);
        self.apply_target(now);
    }

    /// Says goodbye for every stream (RFC 3550, section 6.6): fetch it by [`Session::poll_transmit`], then drop the session.
    pub fn close(&mut self) {
        let ended: Vec<Ssrc> = self.send.iter().flat_map(Outgoing::ssrcs).collect();
        if !ended.is_empty() {
            self.queue_rtcp(reports::goodbye(self.config.feedback_ssrc, &ended, &self.config.cname));
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.send_nacks(now);
        self.send_feedback(now);
        if self.schedule.poll(now, &mut self.random) {
            self.send_report(now);
        }
        if self.congestion.next_timeout().is_some_and(|due| due <= now) {
            self.congestion.handle_timeout(now);
            self.apply_target(now);
        }
    }

    /// When [`Session::handle_timeout`] and then [`Session::poll_transmit`] are next wanted.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let nacks = self.recv.iter().filter_map(|s| s.nack.as_ref()?.next_timeout()).min();
        let timers = [
            nacks,
            self.arrival_log.next_timeout(),
            self.schedule.next_timeout(),
            self.congestion.next_timeout(),
            self.pacer.next_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    /// The next packet that may go out at `now`.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<Transmit> {
        if let Some(packets) = self.rtcp.pop_front() {
            return Some(Transmit::Rtcp(packets));
        }
        loop {
            let (queued, probe) = match self.pacer.poll(now)? {
                Departure::Packet { item, probe } => (item, probe),
                Departure::Padding { size, probe } => match self.padding(size) {
                    Some(queued) => {
                        let packet = self.transmit(now, queued, Some(probe));
                        let size = packet.as_ref().map_or(0, wire_size);
                        self.pacer.on_padding_sent(now, size);
                        self.padding_bytes_sent += size as u64;
                        match packet {
                            Some(packet) => return Some(Transmit::Rtp(packet)),
                            None => continue,
                        }
                    }
                    None => {
                        self.pacer.cancel_probe();
                        continue;
                    }
                },
            };
            // Its stream may have ended, or a key frame replaced it, meanwhile: then the next one.
            if let Some(packet) = self.transmit(now, queued, probe) {
                return Some(Transmit::Rtp(packet));
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The smoothed round-trip time, once known.
    pub fn round_trip_time(&self) -> Option<Duration> {
        self.rtt
    }

    /// The congestion controller's target for all media together.
    pub fn target_bitrate(&self) -> Bitrate {
        self.congestion.target()
    }

    /// The counters as of `now`.
    pub fn stats(&self, now: Timestamp) -> SessionStats {
        let _ = now;
        let send = |s: &Outgoing| (s.config.ssrc.0, MediaStat { kind: s.config.kind, stats: s.stats.clone() });
        let recv = |s: &Incoming| Some((s.ssrc?.0, MediaStat { kind: s.config.kind, stats: s.snapshot() }));
        SessionStats {
            send: self.send.iter().map(send).collect(),
            recv: self.recv.iter().filter_map(recv).collect(),
            round_trip_time: self.rtt,
            target_bitrate: self.congestion.target(),
            pacer_queue_bytes: self.pacer.queued_bytes() as u64,
            bytes_sent: self.bytes_sent,
            padding_bytes_sent: self.padding_bytes_sent,
            packets_discarded: self.discarded,
        }
    }

    /// Makes a queued packet the one that leaves now, and notes it where feedback will look for it.
    fn transmit(&mut self, now: Timestamp, queued: Queued, probe: Option<ProbeId>) -> Option<rtp::Packet> {
        let stream = self.send.iter_mut().find(|s| s.config.ssrc == queued.stream)?;
        if queued.kind == PacketKind::Retransmission && !stream.is_wanted(&queued.media) {
            return None;
        }
        let numbered = stream.config.extensions.transport_cc.is_some();
        let transport_seq = numbered.then(|| self.sent_log.next_seq().wire());
        let packet = stream.transmit(now, queued.media, queued.kind, transport_seq);
        let size = wire_size(&packet);
        self.bytes_sent += size as u64;
        if numbered {
            let sent = SentPacket { sent_at: now, size, kind: queued.kind, probe };
            self.sent_log.on_sent(sent);
            self.congestion.on_sent(&sent);
        }
        Some(packet)
    }

    fn padding(&mut self, size: usize) -> Option<Queued> {
        self.send.iter_mut().filter(|s| s.config.kind == MediaKind::Video).find_map(|s| {
            let media = s.padding(size)?;
            Some(Queued { stream: s.config.ssrc, media, kind: PacketKind::Padding })
        })
    }

    /// Lets pacer, probes and owner follow the controller.
    fn apply_target(&mut self, now: Timestamp) {
        let target = self.congestion.target();
        self.pacer.set_rate(now, self.congestion.pacing_rate());
        if self.pacer.probe().is_none()
            && self.can_pad()
            && let Some(cluster) = self.congestion.poll_probe(now)
        {
            self.pacer.start_probe(cluster);
        }
        let (told, at) = self.told_target;
        let change = (target.as_bps() as f64 - told.as_bps() as f64).abs();
        let meaningful = change >= told.as_bps() as f64 * TARGET_CHANGE;
        let periodic = target != told && at.is_none_or(|at| now.since(at) >= TARGET_INTERVAL);
        if meaningful || periodic {
            self.told_target = (target, Some(now));
            self.push_event(Event::TargetBitrate(target));
        }
    }

    /// Probes need something to fill them with: pictures that were sent, and a retransmission stream to repeat them on.
    fn can_pad(&self) -> bool {
        self.send.iter().any(|s| s.config.kind == MediaKind::Video && s.can_pad())
    }

    fn send_nacks(&mut self, now: Timestamp) {
        for at in 0..self.recv.len() {
            let stream = &mut self.recv[at];
            let (Some(nack), Some(ssrc)) = (&mut stream.nack, stream.ssrc) else { continue };
            let missing = nack.poll(now, self.rtt);
            if missing.is_empty() {
                continue;
            }
            stream.stats.nack_count += 1;
            let (sender_ssrc, media_ssrc) = (self.config.feedback_ssrc.0, ssrc.0);
            self.queue_rtcp(vec![Box::new(TransportLayerNack {
                sender_ssrc,
                media_ssrc,
                nacks: nack::pack(&missing),
            })]);
        }
    }

    fn send_feedback(&mut self, now: Timestamp) {
        let media = self.recv.iter().find_map(|s| s.ssrc).unwrap_or(Ssrc(0));
        for message in self.arrival_log.poll(now, self.config.feedback_ssrc, media) {
            self.queue_rtcp(vec![Box::new(message)]);
        }
    }

    fn send_report(&mut self, now: Timestamp) {
        let senders: Vec<_> = self.send.iter().filter_map(|s| s.sender_info(now)).collect();
        let blocks: Vec<_> = self
            .recv
            .iter_mut()
            .filter_map(|s| {
                let block = s.reception.report()?;
                Some(reports::reception_report(now, s.ssrc?, &block, s.last_sr))
            })
            .collect();
        let feedback_ssrc = self.config.feedback_ssrc;
        self.queue_rtcp(reports::compound(self.ntp(now), &senders, feedback_ssrc, &blocks, &self.config.cname));
    }

    fn ntp(&self, now: Timestamp) -> u64 {
        reports::to_ntp(self.config.ntp_at_zero + Duration::from_nanos(now.as_nanos()))
    }

    fn queue_rtcp(&mut self, packets: Vec<Box<dyn rtcp::Packet>>) {
        if self.rtcp.len() >= MAX_RTCP {
            self.rtcp.pop_front();
        }
        self.rtcp.push_back(packets);
    }

    fn push_event(&mut self, event: Event) {
        let full = self.events.len() >= MAX_EVENTS;
        if full && matches!(event, Event::Media(_)) {
            self.discarded += 1;
            return;
        }
        if full && let Some(at) = self.events.iter().position(|e| matches!(e, Event::Media(_))) {
            self.events.remove(at);
            self.discarded += 1;
        }
        self.events.push_back(event);
    }
}

/// An RTP packet's size before SRTP.
fn wire_size(packet: &rtp::Packet) -> usize {
    let header = &packet.header;
    let extensions = if header.extension { 4 + header.get_extension_payload_len().next_multiple_of(4) } else { 0 };
    12 + 4 * header.csrc.len() + extensions + packet.payload.len()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("send", &self.send.len())
            .field("recv", &self.recv.len())
            .field("target", &self.congestion.target())
            .field("rtt", &self.rtt)
            .finish_non_exhaustive()
    }
}
