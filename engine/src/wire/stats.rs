//! A snapshot of a connection: the session's counters and the path under it.

use super::tcp::StandIns;
use halloo_transport::session::SessionStats;
use rtc::peer_connection::transport::RTCIceCandidatePair;
use std::{net::SocketAddr, time::Duration};
use webrtc::peer_connection::{RTCIceCandidate, RTCStatsReport};

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireStats {
    /// Everything about RTP.
    pub(crate) session: SessionStats,
    /// Units dropped on their way to the session: before there were keys, or because the driver stalled.
    pub(crate) units_dropped: u64,
    /// The path that packets take, once one was chosen.
    pub(crate) path: Option<Path>,
    /// For example `SRTP_AEAD_AES_128_GCM`, once keys were agreed on.
    pub(crate) srtp_cipher: Option<String>,
    /// For example `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
    pub(crate) dtls_cipher: Option<String>,
}

/// The chosen ICE candidate pair (W3C `RTCIceCandidatePairStats`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    /// Our end.
    pub(crate) local: PathEnd,
    /// The peer's end.
    pub(crate) remote: PathEnd,
    /// From connectivity checks.
    pub(crate) round_trip_time: Option<Duration>,
    /// Datagrams' bytes sent on it, connectivity checks excluded.
    pub(crate) bytes_sent: u64,
    /// Datagrams' bytes received on it, connectivity checks excluded.
    pub(crate) bytes_received: u64,
}

/// One end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathEnd {
    /// `host`, `srflx`, `prflx` or `relay`.
    pub(crate) candidate_type: String,
    /// Address and port.
    pub(crate) address: String,
    /// `udp` or `tcp`.
    pub(crate) protocol: String,
}

/// Reads the path and the ciphers from the stack's report. The pair comes separately: the report does not know candidates that
/// were learned from the peer's checks.
pub(super) fn read(
    report: &RTCStatsReport,
    pair: Option<&RTCIceCandidatePair>,
    stand_ins: &StandIns,
    session: SessionStats,
    units_dropped: u64,
) -> WireStats {
    let transport = report.transport();
    let cipher = |name: Option<&String>| name.filter(|name| !name.is_empty()).cloned();
    WireStats {
        session,
        units_dropped,
        path: pair.map(|pair| path(report, pair, stand_ins)),
        srtp_cipher: cipher(transport.map(|t| &t.srtp_cipher)),
        dtls_cipher: cipher(transport.map(|t| &t.dtls_cipher)),
    }
}

fn path(report: &RTCStatsReport, pair: &RTCIceCandidatePair, stand_ins: &StandIns) -> Path {
    let chosen = report.transport().map(|t| t.selected_candidate_pair_id.as_str());
    let counters = report.candidate_pairs().find(|counters| Some(counters.stats.id.as_str()) == chosen);
    let round_trip_time =
        counters.map(|c| c.current_round_trip_time).filter(|time| (0.0..1e6).contains(time) && *time > 0.0);
    Path {
        local: end(pair.local(), stand_ins),
        remote: end(pair.remote(), stand_ins),
        round_trip_time: round_trip_time.map(Duration::from_secs_f64),
        bytes_sent: counters.map_or(0, |c| c.bytes_sent),
        bytes_received: counters.map_or(0, |c| c.bytes_received),
    }
}

fn end(candidate: &RTCIceCandidate, stand_ins: &StandIns) -> PathEnd {
    let address = match candidate.address.parse() {
        Ok(ip) => stand_ins.real(SocketAddr::new(ip, candidate.port)).to_string(),
        Err(_) => format!("{}:{}", candidate.address, candidate.port),
    };
    PathEnd { candidate_type: candidate.typ.to_string(), address, protocol: candidate.protocol.to_string() }
}
