//! `/metrics` in Prometheus' text format (version 0.0.4). Numbers only, no identities.

use crate::shared::{Shared, ShellStats};
use std::{
    fmt::{Display, Write},
    sync::atomic::{AtomicU64, Ordering},
};

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn render(shared: &Shared) -> String {
    let hub = shared.with_hub(|hub| hub.stats());
    let mut page = Page(String::new());
    page.one("halloo_connections", "gauge", "Open WebSocket connections.", shared.connections());
    page.one("halloo_sessions", "gauge", "Signed-in sessions, connected or not.", hub.sessions);
    page.one("halloo_sessions_lost", "gauge", "Sessions that wait to be resumed.", hub.sessions_lost);
    let calls = [("ringing", hub.calls_ringing), ("active", hub.calls_active), ("rebuilding", hub.calls_rebuilding)];
    page.labelled("halloo_calls", "gauge", "Calls by state.", "state", calls);
    page.one("halloo_rooms", "gauge", "Rooms that somebody is in.", hub.rooms);
    page.one("halloo_room_participants", "gauge", "Participants of all rooms.", hub.room_participants);
    page.labelled("halloo_calls_ended_total", "counter", "Calls that ended, by reason.", "reason", hub.ended);
    page.labelled("halloo_errors_total", "counter", "Error replies, by code.", "code", hub.errors);
    page.one("halloo_resumes_total", "counter", "Sessions resumed.", hub.resumes);
    page.one("halloo_resumes_refused_total", "counter", "Resumes that got a snapshot instead.", hub.resumes_refused);
    page.one("halloo_sessions_expired_total", "counter", "Sessions whose resume window ran out.", hub.sessions_expired);
    page.one("halloo_draining", "gauge", "1 while the server goes away.", u8::from(shared.is_draining()));
    shell(&mut page, &shared.stats);
    if let Some(plane) = shared.plane.get() {
        page.0.push_str(&plane.metrics());
    }
    page.0
}

fn shell(page: &mut Page, stats: &ShellStats) {
    let counters: [(&str, &str, &AtomicU64); 10] = [
        ("halloo_messages_in_total", "Messages from clients.", &stats.messages_in),
        ("halloo_messages_out_total", "Messages to clients.", &stats.messages_out),
        ("halloo_bytes_in_total", "Bytes of messages from clients.", &stats.bytes_in),
        ("halloo_bytes_out_total", "Bytes of messages to clients.", &stats.bytes_out),
        ("halloo_slow_readers_total", "Connections closed because the client read too slowly.", &stats.slow_readers),
        ("halloo_rate_limited_total", "Messages above their connection's rate.", &stats.rate_limited),
        ("halloo_ping_timeouts_total", "Connections that stopped answering pings.", &stats.ping_timeouts),
        ("halloo_refused_by_limit_total", "Connections above a limit.", &stats.refused_by_limit),
        ("halloo_refused_by_origin_total", "Connections from foreign pages.", &stats.refused_by_origin),
        ("halloo_tls_failures_total", "TLS handshakes that failed.", &stats.tls_failures),
    ];
    for (name, help, counter) in counters {
        page.one(name, "counter", help, counter.load(Ordering::Relaxed));
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn labelled<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}
