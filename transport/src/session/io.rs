//! What goes into a session and what comes out of it: units, packets, events.

use super::config::MediaKind;
use crate::{
    time::Timestamp,
    units::{Bitrate, Mid, RtpTime, SeqNo, Ssrc},
};
use bytes::Bytes;
use std::time::Duration;

/// Media that was packetised together: one Opus frame or one AV1 temporal unit.
#[derive(Clone, Debug)]
pub struct MediaUnit {
    /// RTP timestamp, on the stream's clock, extended.
    pub rtp_time: RtpTime,
    /// When its content was captured, on the session's clock.
    pub captured_at: Timestamp,
    /// RTP payloads in order, each at most [`MAX_PAYLOAD`] bytes.
    pub payloads: Vec<Bytes>,
    /// Whether the last packet carries the marker bit (video: always; audio: first packet after silence).
    pub marker: bool,
    /// Whether decoding can start here.
    pub key_frame: bool,
    /// Level in -dBov, 0 (loudest) to 127 (silence), and voice activity (RFC 6464).
    pub audio_level: Option<AudioLevel>,
    /// AV1's dependency descriptors, one for each payload; empty where the encoder makes no layers.
    pub dependency_descriptors: Vec<Bytes>,
}

/// Sound level as RTP carries it (RFC 6464).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// -dBov: 0 is the loudest, 127 silence.
    pub level: u8,
    /// Whether the encoder believes this is speech.
    pub voice: bool,
}

/// Largest RTP payload that a packetiser may produce: leaves room in a 1,280-byte IPv6 path for IP, UDP, RTP, its extensions,
/// RTX's two bytes and SRTP's tag.
pub const MAX_PAYLOAD: usize = 1_140;

/// Something for the wire, to be protected by SRTP or SRTCP.
#[derive(Debug)]
pub enum Transmit {
    /// One RTP packet.
    Rtp(rtp::Packet),
    /// One compound (or reduced-size, RFC 5506) RTCP packet.
    Rtcp(Vec<Box<dyn rtcp::Packet>>),
}

/// A media packet, duplicates removed and retransmissions undone, in order of arrival.
#[derive(Clone, Debug)]
pub struct ReceivedPacket {
    /// Audio or video.
    pub kind: MediaKind,
    /// Media SSRC, also for a packet that came by RTX.
    pub ssrc: Ssrc,
    /// Contributing sources: who is speaking, behind an SFU.
    pub csrcs: Vec<u32>,
    /// The section it came in.
    pub mid: Option<Mid>,
    /// Extended sequence number.
    pub seq: SeqNo,
    /// Extended RTP timestamp.
    pub rtp_time: RtpTime,
    /// The marker bit.
    pub marker: bool,
    /// The payload, padding removed; may be empty.
    pub payload: Bytes,
    /// When it arrived.
    pub arrived_at: Timestamp,
    /// Whether it is a retransmission.
    pub retransmitted: bool,
    /// RFC 6464 level, where carried.
    pub audio_level: Option<AudioLevel>,
}

/// What a session tells its owner.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A media packet arrived.
    Media(ReceivedPacket),
    /// The peer needs a key frame on this send stream (PLI or FIR), already rate-limited.
    KeyFrameRequested(Ssrc),
    /// The congestion controller's target for all media together changed.
    TargetBitrate(Bitrate),
    /// A sender report tied this receive stream's clock to the peer's wall clock, for lip sync.
    SenderReport {
        /// The receive stream.
        ssrc: Ssrc,
        /// The RTP timestamp of the report.
        rtp_time: RtpTime,
        /// The peer's wall clock at that RTP timestamp, since 1900.
        ntp: Duration,
    },
    /// The peer ended this stream (RTCP BYE).
    Bye(Ssrc),
}

/// Why a unit was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// No send stream has this SSRC.
    #[error("no send stream has {0:?}; add it to the session first")]
    UnknownStream(Ssrc),
    /// The pacer's queue is full: the unit was dropped and the next video unit must be a key frame.
    #[error("the send queue of {0:?} is full; the unit was dropped")]
    QueueFull(Ssrc),
}
