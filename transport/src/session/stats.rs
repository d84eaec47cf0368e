//! Counters of a session, named after the W3C's WebRTC statistics.

use super::config::MediaKind;
use crate::units::Bitrate;
use std::time::Duration;

/// Counters of one send stream, cumulative (W3C `RTCOutboundRtpStreamStats`, `RTCRemoteInboundRtpStreamStats`).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SendStats {
    /// Media packets sent, retransmissions excluded.
    pub packets_sent: u64,
    /// Payload bytes sent in them.
    pub bytes_sent: u64,
    /// Retransmitted packets.
    pub retransmitted_packets_sent: u64,
    /// Units refused or dropped because the queue was full.
    pub units_dropped: u64,
    /// NACK messages received.
    pub nack_count: u64,
    /// Key-frame requests received.
    pub pli_count: u64,
    /// Loss reported by the peer in its last report, 0 to 1.
    pub fraction_lost: f64,
    /// Packets lost in all, as the peer reports.
    pub packets_lost: i64,
}

/// Counters of one receive stream, cumulative (W3C `RTCInboundRtpStreamStats`).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecvStats {
    /// Media packets received, duplicates excluded, retransmissions included.
    pub packets_received: u64,
    /// Payload bytes in them.
    pub bytes_received: u64,
    /// Expected less received (RFC 3550, section 6.4.1), not counting what retransmission brought; may fall when a late packet
    /// arrives.
    pub packets_lost: i64,
    /// Packets that were repaired by retransmission.
    pub retransmitted_packets_received: u64,
    /// Packets dropped because they had been received before, retransmissions and padding excluded.
    pub packets_duplicated: u64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// NACK messages sent.
    pub nack_count: u64,
    /// Key-frame requests sent.
    pub pli_count: u64,
}

/// A snapshot of a session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SessionStats {
    /// By send stream.
    pub send: Vec<(u32, MediaStat<SendStats>)>,
    /// By receive stream.
    pub recv: Vec<(u32, MediaStat<RecvStats>)>,
    /// Smoothed round-trip time, from reports (RFC 3550) or transport feedback, once known.
    pub round_trip_time: Option<Duration>,
    /// What the congestion controller believes the path carries.
    pub target_bitrate: Bitrate,
    /// Bytes that wait in the pacer.
    pub pacer_queue_bytes: u64,
    /// RTP bytes sent in all: media, retransmissions and padding, headers included.
    pub bytes_sent: u64,
    /// Of those, bytes that only filled the path for a probe.
    pub padding_bytes_sent: u64,
    /// Packets dropped for want of a stream they belong to, or because the owner did not fetch events.
    pub packets_discarded: u64,
}

/// A stream's counters and its kind.
#[derive(Clone, Debug)]
pub struct MediaStat<T> {
    /// Audio or video.
    pub kind: MediaKind,
    /// The counters.
    pub stats: T,
}
