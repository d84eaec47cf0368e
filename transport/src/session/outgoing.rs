//! One stream that is sent: numbering, history, retransmission, counters.

use super::{
    config::{MediaKind, SendStream},
    io::MediaUnit,
    stats::SendStats,
};
use crate::{
    extensions::{self, OutgoingExtensions},
    history::{History, HistoryConfig, SentMedia},
    key_frames::KeyFrameLimiter,
    random::Random,
    reports::SenderInfo,
    rtx::RtxSender,
    time::Timestamp,
    twcc::PacketKind,
    units::{RtpTime, SeqNo, Ssrc},
};
use rtp::header::Header;
use std::time::Duration;

/// Packets that carry the mid at least, whatever the peer reports.
const MIN_PACKETS_WITH_MID: u64 = 10;

/// A send stream's state.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) config: SendStream,
    pub(super) stats: SendStats,
    pub(super) key_frames: KeyFrameLimiter,
    /// The last full intra request's number: a repetition is the same request (RFC 5104, section 4.3.1.2).
    pub(super) last_fir: Option<u8>,
    next_seq: SeqNo,
    rtx: Option<RtxSender>,
    history: History,
    /// First packet of the newest key frame.
    key_frame_at: Option<SeqNo>,
    /// RTP time and capture time of the newest unit: they tie the stream's clock to the session's.
    clock: Option<(RtpTime, Timestamp)>,
    reported_on: bool,
}

impl Outgoing {
    pub(super) fn new(config: SendStream, random: &mut Random) -> Self {
        let history = match config.kind {
            MediaKind::Audio => HistoryConfig::AUDIO,
            MediaKind::Video => HistoryConfig::VIDEO,
        };
        let rtx = rtx_sender(&config, random);
        // One period up, as receivers extend: so that numbers compare in both ends' logs.
        let next_seq = SeqNo((1 << 16) + u64::from(random.first_sequence_number()));
        Self {
            config,
            stats: SendStats::default(),
            key_frames: KeyFrameLimiter::new(),
            last_fir: None,
            next_seq,
            rtx,
            history: History::new(history),
            key_frame_at: None,
            clock: None,
            reported_on: false,
        }
    }

    /// Takes another configuration for the same SSRC; numbering and history go on.
    pub(super) fn reconfigure(&mut self, config: SendStream, random: &mut Random) {
        let same_rtx = self.rtx.as_ref().map(RtxSender::ssrc) == config.rtx.and_then(|r| r.ssrc);
        if !same_rtx || self.config.rtx != config.rtx {
            self.rtx = rtx_sender(&config, random);
        }
        self.config = config;
    }

    /// Whether a retransmission that waits is still worth sending: a key frame that left since replaces it.
    pub(super) fn is_wanted(&self, media: &SentMedia) -> bool {
        self.key_frame_at.is_none_or(|first| media.seq >= first)
    }

    /// Numbers a unit's packets.
    pub(super) fn packetize(&mut self, unit: MediaUnit) -> impl Iterator<Item = SentMedia> + use<> {
        self.clock = Some((unit.rtp_time, unit.captured_at));
        let first = self.next_seq;
        let count = unit.payloads.len() as u64;
        self.next_seq = SeqNo(first.0 + count);
        if unit.key_frame && self.config.kind == MediaKind::Video {
            self.key_frame_at = Some(first);
        }
        let (marker, timestamp, audio_level) = (unit.marker, unit.rtp_time.wire(), unit.audio_level);
        let mut descriptors = unit.dependency_descriptors.into_iter();
        unit.payloads.into_iter().zip(0..).map(move |(payload, i)| SentMedia {
            seq: SeqNo(first.0 + i),
            timestamp,
            marker: marker && i + 1 == count,
            payload,
            audio_level,
            dependency_descriptor: descriptors.next(),
        })
    }

    /// Makes the packet that goes on the wire now.
    pub(super) fn transmit(
        &mut self,
        now: Timestamp,
        media: SentMedia,
        kind: PacketKind,
        transport_seq: Option<u16>,
    ) -> rtp::Packet {
        let mut header = Header {
            version: 2,
            marker: media.marker,
            payload_type: self.config.payload_type.0,
            sequence_number: media.seq.wire(),
            timestamp: media.timestamp,
            ssrc: self.config.ssrc.0,
            ..Header::default()
        };
        let mut payload = media.payload.clone();
        let mut with_mid = !self.reported_on || self.stats.packets_sent < MIN_PACKETS_WITH_MID;
        if kind == PacketKind::Media {
            self.stats.packets_sent += 1;
            self.stats.bytes_sent += payload.len() as u64;
        } else if let Some(rtx) = &mut self.rtx {
            payload = rtx.wrap(&mut header, media.seq.wire(), &payload);
            // Nothing reports on the retransmission stream, so it never becomes superfluous there.
            with_mid = true;
        }
        if kind == PacketKind::Retransmission {
            self.stats.retransmitted_packets_sent += 1;
        }
        let values = OutgoingExtensions {
            transport_seq,
            mid: self.config.mid.as_ref().filter(|_| with_mid),
            sent_at: Some(now),
            audio_level: media.audio_level,
            dependency_descriptor: media.dependency_descriptor.as_ref(),
        };
        extensions::write(&mut header, &self.config.extensions, &values);
        if kind == PacketKind::Media {
            if self.key_frame_at == Some(media.seq) {
                self.history.forget_before(media.seq);
            }
            self.history.insert(now, media);
        }
        rtp::Packet { header, payload }
    }

    /// The packet that a NACK asks for, if it is there and was not sent again just now.
    pub(super) fn resend(&mut self, now: Timestamp, wire: u16, rtt: Duration) -> Option<SentMedia> {
        self.history.resend(now, wire, rtt)
    }

    /// A packet whose repetition serves as padding; only where there is a retransmission stream to carry it.
    pub(super) fn padding(&mut self, size: usize) -> Option<SentMedia> {
        self.rtx.as_ref()?;
        self.history.padding(size)
    }

    /// Whether [`Outgoing::padding`] has something.
    pub(super) fn can_pad(&self) -> bool {
        self.rtx.is_some() && self.history.bytes() > 0
    }

    /// Takes the peer's word on this stream.
    pub(super) fn on_report(&mut self, fraction_lost: u8, total_lost: i64) {
        self.reported_on = true;
        self.stats.fraction_lost = f64::from(fraction_lost) / 256.0;
        self.stats.packets_lost = total_lost;
    }

    /// What a sender report says at `now`; nothing before the first packet.
    pub(super) fn sender_info(&self, now: Timestamp) -> Option<SenderInfo> {
        let (rtp_time, captured_at) = self.clock.filter(|_| self.stats.packets_sent > 0)?;
        let ticks = now.seconds_from(captured_at) * f64::from(self.config.clock_rate);
        Some(SenderInfo {
            ssrc: self.config.ssrc,
            rtp_time: RtpTime::new(rtp_time.ticks.wrapping_add_signed(ticks.round() as i64), self.config.clock_rate),
            packets: self.stats.packets_sent,
            bytes: self.stats.bytes_sent,
        })
    }

    /// The SSRCs this stream sends with.
    pub(super) fn ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        std::iter::once(self.config.ssrc).chain(self.rtx.as_ref().map(RtxSender::ssrc))
    }
}

fn rtx_sender(config: &SendStream, random: &mut Random) -> Option<RtxSender> {
    let rtx = config.rtx?;
    Some(RtxSender::new(rtx.ssrc?, rtx.payload_type, SeqNo(u64::from(random.first_sequence_number()))))
}
