//! One stream that is received: statistics, missing packets, the clock of its sender, key-frame requests.

use super::{
    config::{MediaKind, RecvStream},
    io::ReceivedPacket,
    stats::RecvStats,
};
use crate::{
    extensions,
    key_frames::KeyFrameLimiter,
    nack::{NackConfig, NackGenerator},
    reception::{Arrival, Reception, Route},
    reports::LastSenderReport,
    time::Timestamp,
    units::{RtpTime, RtpTimeUnwrapper, SeqNo, Ssrc},
};
use rtcp::sender_report::SenderReport;
use std::time::Duration;

/// A learned SSRC that was silent for this long gives way to another one with the same payload type.
const REPLACE_AFTER: Duration = Duration::from_millis(1_000);

/// A receive stream's state.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) config: RecvStream,
    /// The SSRC, configured or learned.
    pub(super) ssrc: Option<Ssrc>,
    /// The retransmission stream's SSRC, configured or learned.
    pub(super) rtx_ssrc: Option<Ssrc>,
    pub(super) reception: Reception,
    pub(super) nack: Option<NackGenerator>,
    pub(super) key_frames: KeyFrameLimiter,
    pub(super) last_sr: Option<LastSenderReport>,
    pub(super) stats: RecvStats,
    rtp_times: RtpTimeUnwrapper,
    last_packet_at: Option<Timestamp>,
}

impl Incoming {
    pub(super) fn new(config: RecvStream) -> Self {
        let nack = config.nack.then(|| {
            NackGenerator::new(match config.kind {
                MediaKind::Audio => NackConfig::AUDIO,
                MediaKind::Video => NackConfig::VIDEO,
            })
        });
        Self {
            ssrc: config.ssrc,
            rtx_ssrc: config.rtx.and_then(|rtx| rtx.ssrc),
            reception: Reception::new(config.clock_rate),
            nack,
            key_frames: KeyFrameLimiter::new(),
            last_sr: None,
            stats: RecvStats::default(),
            rtp_times: RtpTimeUnwrapper::new(),
            last_packet_at: None,
            config,
        }
    }

    /// Whether a packet with an SSRC nobody declared may be this stream's.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let silent = self.last_packet_at.is_none_or(|at| now.since(at) >= REPLACE_AFTER);
        self.ssrc.is_none() || (self.config.ssrc.is_none() && silent)
    }

    /// Takes `ssrc` as this stream's; what was counted stays counted.
    pub(super) fn learn(&mut self, ssrc: Ssrc) {
        if self.ssrc == Some(ssrc) {
            return;
        }
        let fresh = Self::new(self.config.clone());
        let stats = std::mem::take(&mut self.stats);
        *self = Self { ssrc: Some(ssrc), stats, ..fresh };
    }

    /// Takes a packet of this stream, retransmissions already undone; gives it back as media if it is new.
    pub(super) fn receive(&mut self, now: Timestamp, packet: rtp::Packet, route: Route) -> Option<ReceivedPacket> {
        let ssrc = self.ssrc?;
        let header = packet.header;
        let seq = self.place(now, header.sequence_number, route)?;
        self.last_packet_at = Some(now);
        let rtp_time = RtpTime::new(self.rtp_times.unwrap(u64::from(header.timestamp)), self.config.clock_rate);
        self.stats.packets_received += 1;
        self.stats.bytes_received += packet.payload.len() as u64;
        match route {
            Route::Direct => self.reception.on_arrival_time(now, rtp_time),
            Route::Retransmitted => self.stats.retransmitted_packets_received += 1,
        }
        let audio_level = extensions::read(&header, &self.config.extensions).audio_level;
        Some(ReceivedPacket {
            kind: self.config.kind,
            ssrc,
            csrcs: header.csrc,
            mid: self.config.mid.clone(),
            seq,
            rtp_time,
            marker: header.marker,
            payload: packet.payload,
            arrived_at: now,
            retransmitted: route == Route::Retransmitted,
            audio_level,
        })
    }

    /// Takes a sender report of this stream; gives the extended RTP time it speaks of, once a packet fixed the period.
    pub(super) fn on_sender_report(&mut self, now: Timestamp, report: &SenderReport) -> Option<RtpTime> {
        let ntp_middle = crate::reports::ntp_middle(report.ntp_time);
        self.last_sr = Some(LastSenderReport { ntp_middle, arrived_at: now });
        let ticks = self.rtp_times.peek(u64::from(report.rtp_time));
        self.reception.is_active().then(|| RtpTime::new(ticks, self.config.clock_rate))
    }

    /// The counters, with what is derived from reception.
    pub(super) fn snapshot(&self) -> RecvStats {
        let (packets_lost, jitter) = (self.reception.lost(), self.reception.jitter());
        RecvStats { packets_lost, jitter, ..self.stats.clone() }
    }

    fn place(&mut self, now: Timestamp, wire: u16, route: Route) -> Option<SeqNo> {
        match self.reception.on_packet(wire, route) {
            Arrival::New(seq) => {
                if let Some(nack) = &mut self.nack {
                    nack.on_packet(now, seq, route == Route::Retransmitted);
                }
                Some(seq)
            }
            Arrival::Restarted(seq) => {
                if let Some(nack) = &mut self.nack {
                    nack.restart(seq);
                }
                Some(seq)
            }
            Arrival::Duplicate => {
                if route == Route::Direct {
                    self.stats.packets_duplicated += 1;
                }
                None
            }
            Arrival::Implausible => None,
        }
    }
}
