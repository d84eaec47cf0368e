//! What a session is told about its streams and its start: the outcome of SDP negotiation.

use crate::units::{Bitrate, Mid, PayloadType, Ssrc};
use std::time::Duration;

/// Audio or video: decides pacing priority and which repair is worth asking for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MediaKind {
    /// Sound. Never waits in the pacer.
    Audio,
    /// Pictures.
    Video,
}

/// RTP header extension ids negotiated for a stream (RFC 8285); `None` where the peer did not take the extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtensionIds {
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    pub abs_send_time: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    pub audio_level: Option<u8>,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    pub dependency_descriptor: Option<u8>,
}

/// The retransmission stream that repairs a media stream (RFC 4588).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rtx {
    /// Its SSRC; for a receive stream `None` means "learn it from the payload type".
    pub ssrc: Option<Ssrc>,
    /// Its payload type.
    pub payload_type: PayloadType,
}

/// A stream this side sends.
#[derive(Clone, Debug)]
pub struct SendStream {
    /// Audio or video.
    pub kind: MediaKind,
    /// SSRC of the media packets.
    pub ssrc: Ssrc,
    /// Payload type of the media packets.
    pub payload_type: PayloadType,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// The media section it belongs to, sent on the first packets where negotiated.
    pub mid: Option<Mid>,
    /// Retransmission, where negotiated. `ssrc` must be given.
    pub rtx: Option<Rtx>,
    /// Negotiated header extensions.
    pub extensions: ExtensionIds,
}

/// A stream this side receives.
#[derive(Clone, Debug)]
pub struct RecvStream {
    /// Audio or video.
    pub kind: MediaKind,
    /// SSRC where the SDP declared it; otherwise learned from the first packet with one of the payload types.
    pub ssrc: Option<Ssrc>,
    /// Payload type of the media packets.
    pub payload_type: PayloadType,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// The media section it belongs to.
    pub mid: Option<Mid>,
    /// Retransmission, where negotiated.
    pub rtx: Option<Rtx>,
    /// Whether generic NACK was negotiated.
    pub nack: bool,
    /// Negotiated header extensions.
    pub extensions: ExtensionIds,
}

/// How a session starts.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// SSRC for feedback that belongs to no send stream.
    pub feedback_ssrc: Ssrc,
    /// The canonical name in our RTCP SDES (RFC 7022): random, the same for all streams of this endpoint.
    pub cname: String,
    /// First target of the congestion controller.
    pub start_bitrate: Bitrate,
    /// Lowest target.
    pub min_bitrate: Bitrate,
    /// Highest target.
    pub max_bitrate: Bitrate,
    /// Seed of everything this session draws: first sequence numbers, RTCP interval jitter.
    pub seed: u64,
    /// Wall-clock time at [`Timestamp::ZERO`], since 1900 (NTP era 0), for sender reports.
    pub ntp_at_zero: Duration,
}
