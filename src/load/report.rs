//! What is said of a load: a line each second, a table at the end, and one JSON object for programs (docs/report.md).

use super::{
    figures::{Counts, Spread, Summary, round},
    people::{FirstPictures, Joins},
    server::Usage,
};
use serde::Serialize;
use std::{fmt::Write, time::Duration};

/// What was played.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// Rooms.
    pub rooms: u32,
    /// Participants of each.
    pub participants: u32,
    /// Publishers of each.
    pub publishers: u32,
    /// Joins per second.
    pub ramp: f64,
    /// Who left and was followed, per second.
    pub churn: f64,
    /// From the last join of the ramp to the end.
    pub duration_s: f64,
    /// The seed.
    pub seed: u64,
    /// Width and height.
    pub size: (u32, u32),
    /// Pictures a second.
    pub fps: u32,
    /// Of each camera.
    pub video_kbps: u32,
    /// Of each participant.
    pub tiles: u8,
    /// Threads that played media.
    pub threads: u8,
}

/// The figures of a stretch of time.
#[derive(Clone, Debug, Serialize)]
pub struct Stretch {
    /// Its length.
    pub seconds: f64,
    /// Packets of media that clients received, per second.
    pub packets_per_second: f64,
    /// Of media, RTP headers included.
    pub received_mbps: f64,
    /// Pictures that receivers could decode, per second, all together.
    pub pictures_per_second: f64,
    /// From a packet's departure at its source to its arrival at a receiver, both as this program saw them, in milliseconds.
    pub delay_ms: Option<Summary>,
    /// Processors that the server used.
    pub server_cpu: Option<f64>,
    /// Of these, by the threads that forward media.
    pub shards_cpu: Option<f64>,
    /// Processor time of these threads for each packet received, in microseconds.
    pub shard_us_per_packet: Option<f64>,
    /// Processors that this program used.
    pub generator_cpu: f64,
    /// How late pictures and sounds were sent, in milliseconds: where this is long, so is the delay, by this program's fault.
    pub late_ms: Option<Summary>,
}

/// Memory of the server.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Before anybody joined.
    pub before_mb: f64,
    /// When all were there.
    pub loaded_mb: f64,
    /// The most.
    pub peak_mb: f64,
    /// What each participant added.
    pub per_participant_kb: f64,
}

/// The server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Where it was reached.
    pub url: String,
    /// Its process, where known.
    pub pid: Option<u32>,
    /// Whether it was started for this.
    pub started: bool,
    /// Its memory, where its process is known.
    pub memory: Option<Memory>,
}

/// How it was at a second.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub t: f64,
    /// Participants whose media flowed.
    pub present: usize,
    /// Who had failed so far.
    pub failed: usize,
    /// Packets missing so far.
    pub lost: i64,
    /// Memory of the server.
    pub server_mb: Option<f64>,
    /// The second itself.
    #[serde(flatten)]
    pub stretch: Stretch,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this form.
    pub version: u32,
    /// Everybody joined and stayed as long as they were meant to.
    pub passed: bool,
    /// What was played.
    pub load: Played,
    /// The server.
    pub server: ServerReport,
    /// How joining went.
    pub joins: Joins,
    /// How soon there was something to see.
    pub pictures: FirstPictures,
    /// Sums over everybody.
    pub counts: Counts,
    /// While people joined.
    pub ramp: Stretch,
    /// From when all were there to the end.
    pub steady: Stretch,
    /// Each second.
    pub samples: Vec<Sample>,
}

/// What a stretch is made of: what was counted at both ends, and between them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// When.
    pub at: Duration,
    /// Sums until then.
    pub counts: Counts,
    /// What the server had used.
    pub server: Option<Usage>,
    /// Processor time that this program had used.
    pub own_cpu: Duration,
}

impl Stretch {
    /// From one mark to the other.
    pub fn between(from: &Mark, to: &Mark, delay: &Spread, late: &Spread) -> Self {
        let seconds = to.at.saturating_sub(from.at).as_secs_f64().max(1e-9);
        let counts = to.counts - from.counts;
        let server = from.server.zip(to.server);
        let used = |of: fn(&Usage) -> Duration| {
            server.map(|(before, after)| of(&after).saturating_sub(of(&before)).as_secs_f64())
        };
        let (all, shards) = (used(|usage| usage.cpu), used(|usage| usage.shards));
        let received = counts.packets_received as f64;
        Self {
            seconds: round(seconds),
            packets_per_second: (received / seconds).round(),
            received_mbps: round(counts.bytes_received as f64 * 8.0 / 1e6 / seconds),
            pictures_per_second: round(counts.pictures_decodable as f64 / seconds),
            delay_ms: delay.summary(),
            server_cpu: all.map(|used| round(used / seconds)),
            shards_cpu: shards.map(|used| round(used / seconds)),
            shard_us_per_packet: shards.filter(|_| received > 0.0).map(|used| round(used * 1e6 / received)),
            generator_cpu: round(to.own_cpu.saturating_sub(from.own_cpu).as_secs_f64() / seconds),
            late_ms: late.summary(),
        }
    }
}

impl Sample {
    /// The line that a person sees.
    pub fn line(&self) -> String {
        let s = &self.stretch;
        let delay = s.delay_ms.map_or_else(|| "-".to_owned(), |d| format!("{:.1}/{:.1} ms", d.p50, d.p99));
        let mut line = format!(
            "{:>4.0} s  {} there  {:>6.1} Mbit/s  {:>6.0} packets/s  lost {}  delay {delay}",
            self.t, self.present, s.received_mbps, s.packets_per_second, self.lost,
        );
        // Writing to a `String` cannot fail.
        if let (Some(cpu), Some(mb)) = (s.server_cpu, self.server_mb) {
            let _ = write!(line, "  server {:.0} % {mb:.0} MB", cpu * 100.0);
        }
        let _ = write!(line, "  load {:.0} %", s.generator_cpu * 100.0);
        if self.failed > 0 {
            let _ = write!(line, "  FAILED {}", self.failed);
        }
        line
    }
}

impl Report {
    /// The table that a person sees.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |what: &str, value: String| {
            let _ = writeln!(out, "  {what:<34} {value}");
        };
        let spread = |summary: &Option<Summary>| {
            summary.map_or_else(
                || "-".to_owned(),
                |s| format!("p50 {:.1}  p95 {:.1}  p99 {:.1}  max {:.1} ms", s.p50, s.p95, s.p99, s.max),
            )
        };
        let (joins, steady, counts) = (&self.joins, &self.steady, &self.counts);
        let rate = joins.per_second.map_or_else(String::new, |rate| format!(", {rate} a second"));
        row("joined", format!("{} of {}{rate}", joins.joined, joins.asked));
        for (reason, times) in &joins.reasons {
            row("  failed", format!("{times} x {reason}"));
        }
        if joins.rejoined > 0 {
            row("  told to join again, and did", format!("{}", joins.rejoined));
        }
        let pictures = &self.pictures;
        row("until media flowed", spread(&joins.join_ms));
        row("until the first picture", spread(&pictures.first_picture_ms));
        row("  saw one, of those who wanted", format!("{} of {}", pictures.seen, pictures.wanted));
        row("until it was decoded", spread(&pictures.first_decoded_ms));
        for (reason, times) in &pictures.undecodable {
            row("  NOT DECODED", format!("{times} x {reason}"));
        }
        row("from asking for somebody's picture", spread(&pictures.tile_ms));
        row("  saw whom they showed", format!("{} of {}", pictures.tiles_seen, pictures.tiles_wanted));
        row("packets lost", format!("{} of {}", counts.lost, counts.packets_received + counts.lost));
        row("  repaired by retransmission", format!("{}", counts.repaired));
        row("  not what was sent", format!("{}", counts.altered));
        row("pictures that can be decoded", format!("{:.0} a second", steady.pictures_per_second));
        row(
            "received",
            format!("{:.1} Mbit/s, {:.0} packets a second", steady.received_mbps, steady.packets_per_second),
        );
        row("forwarding delay", spread(&steady.delay_ms));
        if let (Some(cpu), Some(shards)) = (steady.server_cpu, steady.shards_cpu) {
            let each = steady.shard_us_per_packet.map_or_else(String::new, |us| format!(", {us:.2} us a packet"));
            row("server's processor", format!("{:.0} %, forwarding {:.0} %{each}", cpu * 100.0, shards * 100.0));
        }
        if let Some(memory) = &self.server.memory {
            let Memory { before_mb, loaded_mb, peak_mb, per_participant_kb } = memory;
            row(
                "server's memory",
                format!(
                    "{before_mb:.0} to {loaded_mb:.0} MB, at most {peak_mb:.0}; {per_participant_kb:.0} kB a participant"
                ),
            );
        }
        row("the load's own processor", format!("{:.0} %", steady.generator_cpu * 100.0));
        row("  sent late", spread(&steady.late_ms));
        if counts.skipped > 0 {
            row(
                "  NOT SENT IN TIME",
                format!("{} pictures and sounds: this machine is too slow for this load", counts.skipped),
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_what_happened_between_its_marks() {
        let usage = |cpu, shards| {
            Some(Usage { cpu: Duration::from_millis(cpu), shards: Duration::from_millis(shards), rss_bytes: 1 })
        };
        let counts = |n: i64| Counts {
            packets_received: 1_000 * n,
            bytes_received: 1_000_000 * n,
            pictures_decodable: 60 * n,
            ..Counts::default()
        };
        let from =
            Mark { at: Duration::from_secs(2), counts: counts(1), server: usage(100, 50), own_cpu: Duration::ZERO };
        let to = Mark {
            at: Duration::from_secs(4),
            counts: counts(3),
            server: usage(1_100, 850),
            own_cpu: Duration::from_secs(1),
        };
        let stretch = Stretch::between(&from, &to, &Spread::new(), &Spread::new());
        assert_eq!((stretch.seconds, stretch.packets_per_second, stretch.received_mbps), (2.0, 1_000.0, 8.0));
        assert_eq!((stretch.server_cpu, stretch.shards_cpu), (Some(0.5), Some(0.4)));
        assert_eq!((stretch.shard_us_per_packet, stretch.generator_cpu), (Some(400.0), 0.5));
        assert_eq!(stretch.pictures_per_second, 60.0);
        let unknown = Stretch::between(&from, &Mark { server: None, ..to }, &Spread::new(), &Spread::new());
        assert_eq!(unknown.server_cpu, None);
    }
}
