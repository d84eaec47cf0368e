//! CPU of each endpoint of a call at 1280x720, 30 pictures a second and 1.5 Mbit/s in both directions.
//!
//! Reference: a core. Both send the moving test pattern from a file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use halloo::measure::wav;
use serde_json::{Value, json};
use support::{Process, Server, clips, endpoint};

const REACH: f64 = 0.8;

fn main() {
    let (server, dir) = (Server::start(), tempfile::tempdir().expect("a folder"));
    let (says, clip) = (dir.path().join("says.wav"), dir.path().join("clip.y4m"));
    wav::write_mono(&says, &clips::speech(&["Front_Center", "Side_Left"])).expect("a clip");
    clips::write_y4m(&clip, (1_280, 720), "30:1", 150);
    let start = |command, name: &str, more: &[&str]| {
        let mut command = endpoint(command, name, &server.url, &dir.path().join(name));
        Process::start(
            command.args(more).args(["--video-kbps", "1500", "--video-in"]).arg(&clip).arg("--audio-in").arg(&says),
        )
    };
    let bob = start("answer", "bob", &["--once"]);
    bob.wait_for("waiting for calls");
    let alice = start("call", "alice", &["--to", "bob", "--duration", "20s"]);
    let reports = [alice.finish().report(), bob.finish().report()];
    let worst = |value: &dyn Fn(&Value) -> f64, pick: fn(f64, f64) -> f64| {
        reports.iter().map(value).reduce(pick).unwrap_or(f64::NAN)
    };
    let seconds = |r: &Value| r["duration_s"].as_f64().unwrap_or(f64::NAN);
    let cores = worst(&|r| r["cpu_seconds"].as_f64().unwrap_or(f64::NAN) / seconds(r), f64::max);
    let rate = worst(&|r| r["stats"]["inbound_video"]["frames_decoded"].as_f64().unwrap_or(0.0) / seconds(r), f64::min);
    let kbps =
        worst(&|r| r["stats"]["inbound_video"]["bytes_received"].as_f64().unwrap_or(0.0) * 8e-3 / seconds(r), f64::min);
    for (name, value, unit, reference, reference_value, reach, reached) in [
        ("call_720p_cpu", cores, "cores (worse side, recording included)", "one core", 1.0, REACH, cores < REACH),
        ("call_720p_frame_rate", rate, "pictures/s (worse side)", "sent", 30.0, 28.5, rate >= 28.5),
        ("call_720p_bitrate", kbps, "kbit/s (worse side)", "asked for", 1_500.0, 1_350.0, kbps >= 1_350.0),
    ] {
        println!(
            "{}",
            json!({ "name": name, "value": value, "unit": unit, "reference": reference, "reference_value": reference_value, "reach": reach, "reached": reached })
        );
    }
}
