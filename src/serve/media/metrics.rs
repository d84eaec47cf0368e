//! The forwarding unit's figures for `/metrics`, in Prometheus' text format. Numbers only, no identities.

use halloo_sfu::ShardStats;
use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
};

/// The shards' counters as they last told them.
#[derive(Debug)]
pub(super) struct Figures(Mutex<Vec<ShardStats>>);

/// A figure: name, kind, help, and where it stands.
type Figure = (&'static str, &'static str, &'static str, fn(&ShardStats) -> u64);

const FIGURES: [Figure; 23] = [
    ("participants", "gauge", "Participants with a media connection, open or coming.", |s| s.core.sessions),
    (
        "constrained_participants",
        "gauge",
        "Participants whose path carries less than what they show would need.",
        |s| s.core.constrained,
    ),
    ("rooms", "gauge", "Rooms whose media is forwarded.", |s| s.core.rooms),
    ("datagrams_received_total", "counter", "Datagrams that came in.", |s| s.core.received),
    ("rtp_received_total", "counter", "RTP packets that came in and authenticated.", |s| s.core.rtp_received),
    ("rtp_sent_total", "counter", "RTP packets sent.", |s| s.core.rtp_sent),
    ("rtx_sent_total", "counter", "RTP packets sent again: asked for, or to fill a probe.", |s| s.core.rtx_sent),
    ("padding_sent_total", "counter", "RTP packets that only filled a probe.", |s| s.core.padding_sent),
    ("nacks_sent_total", "counter", "Messages that asked publishers for packets again.", |s| s.core.nacks_sent),
    ("key_frames_requested_total", "counter", "Messages that asked publishers for a key frame.", |s| {
        s.core.key_frames_requested
    }),
    ("rtcp_received_total", "counter", "RTCP packets that came in and authenticated.", |s| s.core.rtcp_received),
    ("rtcp_sent_total", "counter", "RTCP packets sent.", |s| s.core.rtcp_sent),
    ("sent_bytes_total", "counter", "Bytes of media sent, UDP payload.", |s| s.core.bytes_sent),
    ("media_sends_total", "counter", "System calls that sent media.", |s| s.core.sends),
    ("ice_checks_answered_total", "counter", "Connectivity checks answered.", |s| s.core.checks_answered),
    ("dtls_received_total", "counter", "DTLS datagrams that came in.", |s| s.core.dtls_received),
    ("rooms_failed_total", "counter", "Rooms that broke and had to be joined again.", |s| s.core.rooms_failed),
    ("sends_lost_total", "counter", "Sends that the kernel had no room for or refused.", |s| s.sends_lost),
    ("not_sent_total", "counter", "Packets for participants that could not take them.", |s| s.core.not_sent),
    ("tcp_connections", "gauge", "TCP connections of media, of participants or not yet.", |s| s.tcp.connections),
    ("tcp_accepted_total", "counter", "TCP connections that were taken in.", |s| s.tcp.accepted),
    ("tcp_frames_dropped_total", "counter", "Datagrams that slow readers over TCP lost.", |s| s.tcp.frames_dropped),
    ("tcp_refused_total", "counter", "TCP connections closed at once: too many there.", |s| s.tcp.refused),
];

/// A reason, and how many times it was the one.
type Reason = (&'static str, fn(&ShardStats) -> u64);

/// Figures with a line for each reason: name, help, reasons.
const BY_REASON: [(&str, &str, &[Reason]); 2] = [
    (
        "dropped_total",
        "Datagrams that came in and were dropped, by reason.",
        &[
            ("unknown", |s| s.core.unknown),
            ("ice_check", |s| s.core.checks_dropped),
            ("dtls_busy", |s| s.core.dtls_dropped),
            ("not_authentic", |s| s.core.srtp_refused),
            ("replayed", |s| s.core.srtp_replayed),
        ],
    ),
    (
        "tcp_closed_total",
        "TCP connections that the server closed, by reason.",
        &[("unproven", |s| s.tcp.unproven_closed), ("misframed", |s| s.tcp.misframed)],
    ),
];

impl Figures {
    pub(super) fn new(shards: usize) -> Self {
        Self(Mutex::new(vec![ShardStats::default(); shards]))
    }

    pub(super) fn set(&self, shard: usize, stats: ShardStats) {
        if let Some(place) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(shard) {
            *place = stats;
        }
    }

    /// All figures, for each shard.
    pub(super) fn render(&self) -> String {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = String::new();
        // Writing to a `String` cannot fail.
        for (name, kind, help, figure) in FIGURES {
            let _ = writeln!(page, "# HELP halloo_sfu_{name} {help}\n# TYPE halloo_sfu_{name} {kind}");
            for (number, shard) in shards.iter().enumerate() {
                let _ = writeln!(page, "halloo_sfu_{name}{{shard=\"{number}\"}} {}", figure(shard));
            }
        }
        for (name, help, reasons) in BY_REASON {
            let _ = writeln!(page, "# HELP halloo_sfu_{name} {help}\n# TYPE halloo_sfu_{name} counter");
            for (reason, figure) in reasons {
                for (number, shard) in shards.iter().enumerate() {
                    let labels = format!("shard=\"{number}\",reason=\"{reason}\"");
                    let _ = writeln!(page, "halloo_sfu_{name}{{{labels}}} {}", figure(shard));
                }
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_sfu::{net::TcpStats, shard::Stats};

    #[test]
    fn each_shard_has_a_line_of_each_figure_and_each_figure_one_head() {
        let figures = Figures::new(2);
        let core = Stats { rtp_sent: 7, srtp_replayed: 3, ..Stats::default() };
        let tcp = TcpStats { connections: 4, misframed: 5, ..TcpStats::default() };
        figures.set(1, ShardStats { core, sends_lost: 0, tcp });
        figures.set(2, ShardStats::default());
        let page = figures.render();
        assert!(page.contains("halloo_sfu_rtp_sent_total{shard=\"0\"} 0\n"), "{page}");
        assert!(page.contains("halloo_sfu_rtp_sent_total{shard=\"1\"} 7\n"), "{page}");
        assert!(page.contains("halloo_sfu_dropped_total{shard=\"1\",reason=\"replayed\"} 3\n"), "{page}");
        assert!(page.contains("halloo_sfu_tcp_connections{shard=\"1\"} 4\n"), "{page}");
        assert!(page.contains("halloo_sfu_tcp_closed_total{shard=\"1\",reason=\"misframed\"} 5\n"), "{page}");
        assert_eq!(page.matches("# TYPE ").count(), FIGURES.len() + BY_REASON.len());
        let reasons: usize = BY_REASON.iter().map(|(_, _, reasons)| reasons.len()).sum();
        assert_eq!(page.lines().filter(|line| !line.starts_with('#')).count(), 2 * (FIGURES.len() + reasons));
    }
}
