//! Mouth to ear and glass to glass of a call on loopback, file to file, at 640x360 and 30 pictures a second.
//!
//! Reference: what must be waited for in any case. Sound: 10 ms of capture, 20 ms of packet, and 10 ms of playout. Pictures: one
//! interval of a sender that encodes each picture when it is there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::{Process, halloo};

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("report.json");
    let mut demo = halloo();
    Process::start(
        demo.args(["demo", "--seconds", "15", "--json"]).arg(&file).arg("--out").arg(dir.path().join("out")),
    )
    .finish();
    let report: Value = serde_json::from_slice(&std::fs::read(&file).expect("a report")).expect("JSON");
    row(&report, "mouth_to_ear", "mouth_to_ear_ms", ("capture, packet and playout blocks", 40.0), 60.0);
    row(&report, "glass_to_glass_360p", "glass_to_glass_ms", ("one picture's interval", 33.3), 80.0);
}

fn row(report: &Value, name: &str, field: &str, (reference, reference_value): (&str, f64), reach: f64) {
    // The worse side counts.
    let value = ["alice", "bob"].iter().filter_map(|side| report[side][field].as_f64()).fold(f64::NAN, f64::max);
    println!(
        "{}",
        json!({
            "name": name, "value": value, "unit": "ms (median, worse side)", "reference": reference,
            "reference_value": reference_value, "reach": reach, "reached": value < reach,
        })
    );
}
