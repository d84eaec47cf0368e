//! How a connection is set up: addresses, servers, codecs, header extensions and timers.

use super::{
    error::WireError,
    events::WireEvent,
    sdp::{ABS_SEND_TIME_URI, AUDIO_LEVEL_URI, DEPENDENCY_DESCRIPTOR_URI, MID_URI, TRANSPORT_CC_URI},
};
use crate::route::MediaInput;
use halloo_protocol::SourceKind;
use halloo_transport::{Bitrate, Ssrc, session::MediaKind};
use rtc::{
    ice::mdns::MulticastDnsMode,
    media_stream::MediaStreamTrack,
    peer_connection::configuration::media_engine::{MIME_TYPE_AV1, MIME_TYPE_OPUS, MIME_TYPE_RTX},
    rtp_transceiver::RTCRtpTransceiverDirection,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
    },
};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc};
use webrtc::peer_connection::{MediaEngine, RTCIceServer, SettingEngine, SettingEngineBuilder};

/// Time between rounds of connectivity checks while a path is looked for. RFC 8445 paces single checks at 50 ms; here a round
/// checks every pair, and this much passes between a check that succeeded and the nomination that ends the search.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// Checks per pair before it counts as dead: 2 s, so that a peer that is slow to answer is still there to be found.
const CHECKS_PER_PAIR: u16 = 200;
/// Silence after which the path counts as interrupted, and after which as lost: with consent checks every second
/// (RFC 7675), a peer whose process died is noticed within 8 s.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(3);
const FAILED_AFTER: Duration = Duration::from_secs(5);
const CONSENT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a better pair is waited for once one of these kinds works.
const PREFLX_WAIT: Duration = Duration::from_millis(50);
const SRFLX_WAIT: Duration = Duration::from_millis(150);
const RELAY_WAIT: Duration = Duration::from_millis(500);
/// Host candidates of a machine with many bridges and containers cost pairs, not connectivity.
const MAX_ADDRESSES: usize = 8;

/// A STUN or TURN server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IceServer {
    /// `stun:host:port`, `turn:host:port`.
    pub(crate) urls: Vec<String>,
    /// For TURN.
    pub(crate) username: String,
    /// For TURN.
    pub(crate) credential: String,
}

/// Which local addresses carry media.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum BindPolicy {
    /// Every interface but loopback, and loopback where there is nothing else.
    #[default]
    Interfaces,
    /// Every interface, loopback included.
    InterfacesAndLoopback,
    /// These, and nothing else.
    Addresses(Vec<IpAddr>),
}

/// Which media sections a wire offers. Fixed for its life: a camera that is turned on later renegotiates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A call between two: one section for sound and perhaps one for pictures, both ways.
    Call {
        /// Whether there is a video section.
        video: bool,
    },
    /// A room's: microphone, camera and screen are sent, and slots are received.
    Room {
        /// Slots for sound.
        audio_slots: u8,
        /// Slots for pictures; without any there is no section for pictures at all.
        video_slots: u8,
    },
}

impl Layout {
    pub(super) fn has_video(self) -> bool {
        match self {
            Self::Call { video } => video,
            Self::Room { video_slots, .. } => video_slots > 0,
        }
    }
}

/// What a [`super::Wire`] is made from.
pub(crate) struct WireConfig {
    /// STUN and TURN servers.
    pub(crate) ice_servers: Vec<IceServer>,
    /// Local addresses.
    pub(crate) bind: BindPolicy,
    /// Its media sections.
    pub(crate) layout: Layout,
    /// First target of the congestion controller.
    pub(crate) start_bitrate: Bitrate,
    /// Its lowest target.
    pub(crate) min_bitrate: Bitrate,
    /// Its highest target.
    pub(crate) max_bitrate: Bitrate,
    /// Where the connection's tasks run.
    pub(crate) runtime: Handle,
    /// Takes what arrives.
    pub(crate) input: Arc<dyn MediaInput>,
    /// Takes what happens. Lifecycle events wait for room; see [`super::events`].
    pub(crate) events: mpsc::Sender<WireEvent>,
    /// Seeds SSRCs, the canonical name and the session. ICE and DTLS draw their own randomness.
    pub(crate) seed: u64,
}

/// Local addresses as the stack asks for them: anew for each bind, so that an ICE restart follows a network change.
#[derive(Clone, Debug)]
pub(super) struct BindAddresses(pub(super) BindPolicy);

impl ToSocketAddrs for BindAddresses {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let mut ips = match &self.0 {
            BindPolicy::Addresses(ips) => ips.clone(),
            BindPolicy::Interfaces | BindPolicy::InterfacesAndLoopback => {
                let (loopback, mut ips): (Vec<_>, Vec<_>) =
                    interface_addresses()?.into_iter().partition(IpAddr::is_loopback);
                ips.truncate(MAX_ADDRESSES);
                if ips.is_empty() || self.0 == BindPolicy::InterfacesAndLoopback {
                    ips.extend(loopback);
                }
                ips
            }
        };
        ips.dedup();
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter())
    }
}

impl fmt::Display for BindAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BindPolicy::Interfaces => f.write_str("this machine's network interfaces"),
            BindPolicy::InterfacesAndLoopback => f.write_str("this machine's network interfaces and loopback"),
            BindPolicy::Addresses(ips) => write!(f, "{ips:?}"),
        }
    }
}

/// Addresses of all interfaces that another machine, or this one, can reach without a scope id.
fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = rtc::shared::ifaces::ifaces()?;
    let mut ips: Vec<IpAddr> = interfaces
        .into_iter()
        .filter_map(|interface| interface.addr.map(|addr| addr.ip()))
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
        })
        .collect();
    ips.sort_unstable();
    ips.dedup();
    Ok(ips)
}

/// Timers of ICE, and how names of `.local` hosts, which browsers send, are treated.
pub(super) fn setting_engine(mdns: MulticastDnsMode) -> SettingEngine {
    SettingEngineBuilder::new()
        .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(CONSENT_INTERVAL))
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS_PER_PAIR))
        .with_prflx_acceptance_min_wait(Some(PREFLX_WAIT))
        .with_srflx_acceptance_min_wait(Some(SRFLX_WAIT))
        .with_relay_acceptance_min_wait(Some(RELAY_WAIT))
        .with_include_loopback_candidate(true)
        .with_discard_local_candidates_during_ice_restart(true)
        .with_multicast_dns_mode(mdns)
        .build()
}

/// The servers in the stack's own type.
pub(super) fn ice_servers(servers: &[IceServer]) -> Vec<RTCIceServer> {
    servers
        .iter()
        .map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone(),
            credential: server.credential.clone(),
        })
        .collect()
}

/// Opus, AV1 with retransmission, and the header extensions that the transport core writes and reads.
pub(super) fn media_engine(layout: Layout) -> Result<MediaEngine, WireError> {
    let video = layout.has_video();
    let failed = |err: rtc::shared::error::Error| WireError::Negotiation {
        attempted: "register a codec",
        reason: err.to_string(),
    };
    let mut engine = MediaEngine::default();
    engine
        .register_codec(
            RTCRtpCodecParameters { rtp_codec: codec(MediaKind::Audio), payload_type: 111 },
            RtpCodecKind::Audio,
        )
        .map_err(failed)?;
    for uri in [MID_URI, TRANSPORT_CC_URI, ABS_SEND_TIME_URI, AUDIO_LEVEL_URI] {
        let capability = || RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        engine.register_header_extension(capability(), RtpCodecKind::Audio, None).map_err(failed)?;
        if video && uri != AUDIO_LEVEL_URI {
            engine.register_header_extension(capability(), RtpCodecKind::Video, None).map_err(failed)?;
        }
    }
    if let Layout::Room { video_slots: 1.., .. } = layout {
        // With what is sent: a forwarding unit has to know which packets are of which layer. With what comes it is of no use: the
        // unit forwards only what can be decoded.
        let capability = RTCRtpHeaderExtensionCapability { uri: DEPENDENCY_DESCRIPTOR_URI.to_owned() };
        let sent = Some(RTCRtpTransceiverDirection::Sendonly);
        engine.register_header_extension(capability, RtpCodecKind::Video, sent).map_err(failed)?;
    }
    if video {
        let av1 = RTCRtpCodecParameters { rtp_codec: codec(MediaKind::Video), payload_type: 45 };
        let rtx = RTCRtpCodec {
            mime_type: MIME_TYPE_RTX.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: "apt=45".to_owned(),
            rtcp_feedback: Vec::new(),
        };
        engine.register_codec(av1, RtpCodecKind::Video).map_err(failed)?;
        engine
            .register_codec(RTCRtpCodecParameters { rtp_codec: rtx, payload_type: 46 }, RtpCodecKind::Video)
            .map_err(failed)?;
    }
    Ok(engine)
}

fn codec(kind: MediaKind) -> RTCRtpCodec {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    match kind {
        MediaKind::Audio => RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: vec![feedback("transport-cc", "")],
        },
        MediaKind::Video => RTCRtpCodec {
            mime_type: MIME_TYPE_AV1.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            // What Chromium and libwebrtc write: the parameters must be consistent with theirs to match.
            sdp_fmtp_line: "level-idx=5;profile=0;tier=0".to_owned(),
            rtcp_feedback: vec![
                feedback("transport-cc", ""),
                feedback("ccm", "fir"),
                feedback("nack", ""),
                feedback("nack", "pli"),
            ],
        },
    }
}

/// The sources that one connection sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalSources {
    pub(super) microphone: Ssrc,
    pub(super) camera: Video,
    pub(super) screen: Video,
}

/// A source of pictures, and the stream that repairs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Video {
    pub(super) ssrc: Ssrc,
    pub(super) rtx: Ssrc,
}

impl LocalSources {
    /// Numbers that `draw` gives, which must be distinct and not zero.
    pub(super) fn draw(mut draw: impl FnMut() -> Ssrc) -> Self {
        let microphone = draw();
        let mut video = || Video { ssrc: draw(), rtx: draw() };
        Self { microphone, camera: video(), screen: video() }
    }
}

/// The stack's name for a medium.
pub(super) fn codec_kind(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
    }
}

/// What the description says of a track we send: its source, what repairs it, and the stream that groups tracks.
pub(super) fn track(source: SourceKind, sources: LocalSources, stream_id: &str) -> MediaStreamTrack {
    let (ssrc, rtx, kind, name) = match source {
        SourceKind::Microphone => (sources.microphone, None, MediaKind::Audio, "audio"),
        SourceKind::Camera => (sources.camera.ssrc, Some(sources.camera.rtx), MediaKind::Video, "video"),
        SourceKind::Screen => (sources.screen.ssrc, Some(sources.screen.rtx), MediaKind::Video, "screen"),
    };
    let rtp_kind = codec_kind(kind);
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc.0),
            rtx: rtx.map(|ssrc| RTCRtpRtxParameters { ssrc: ssrc.0 }),
            ..Default::default()
        },
        active: true,
        codec: codec(kind),
        ..Default::default()
    };
    MediaStreamTrack::new(stream_id.to_owned(), name.to_owned(), name.to_owned(), rtp_kind, vec![coding])
}
