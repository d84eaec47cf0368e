//! From answering until the first sound is played and the first picture shown, over 20 calls on loopback.
//!
//! Reference: until ICE and DTLS have connected in the same calls; nothing can be played earlier.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]

#[path = "../tests/support/mod.rs"]
mod support;

use halloo::measure::{audio_log::AudioLog, signal::percentile, video_log, wav};
use serde_json::{Value, json};
use support::{Process, Server, clips, endpoint};

const CALLS: usize = 20;
const REACH_MS: f64 = 300.0;

fn main() {
    let (server, dir) = (Server::start(), tempfile::tempdir().expect("a folder"));
    let (says, bob_folder) = (dir.path().join("says.wav"), dir.path().join("bob"));
    wav::write_mono(&says, &clips::speech(&["Front_Center"])).expect("a clip");
    let mut answer = endpoint("answer", "bob", &server.url, &bob_folder);
    let answer = answer.args(["--video-in", "pattern", "--audio-in"]).arg(&says).arg("--media-log").arg(&bob_folder);
    let bob = Process::start(answer);
    bob.wait_for("waiting for calls");
    for number in 0..CALLS {
        let folder = dir.path().join("alice");
        let mut call = endpoint("call", "alice", &server.url, &folder);
        let call = call.args(["--to", "bob", "--duration", "1s", "--video-in", "pattern", "--audio-in"]).arg(&says);
        Process::start(call).finish().expect_code(0);
        eprint!("\rcall {} of {CALLS}", number + 1);
    }
    eprintln!();
    bob.interrupt();
    let report = bob.finish().report();
    let calls = report["calls"].as_array().expect("the calls that bob took");
    let folder = |number: usize| if number == 1 { bob_folder.clone() } else { bob_folder.join(number.to_string()) };
    let (mut sound, mut picture, mut connected) = (Vec::new(), Vec::new(), Vec::new());
    for (index, call) in calls.iter().enumerate() {
        let answered = call["clock"]["started_ns"].as_u64().expect("a time");
        let since = |ns: u64| ns.saturating_sub(answered) as f64 / 1e6;
        let heard = AudioLog::read(&folder(index + 1).join("heard.log")).expect("a log");
        let first = heard.samples.iter().position(|s| s.abs() > 1e-4).map(|at| heard.times[at / 480].as_nanos());
        sound.push(first.map_or(f64::INFINITY, since));
        let shown = video_log::read(&folder(index + 1).join("shown.jsonl")).expect("a log");
        picture.push(shown.first().map_or(f64::INFINITY, |p| since(p.at_ns)));
        connected.push(call["connect_ms"].as_f64().unwrap_or(f64::INFINITY));
    }
    row("answer_to_first_sound", &sound, &connected);
    row("answer_to_first_picture", &picture, &connected);
}

fn row(name: &str, values: &[f64], connected: &[f64]) {
    let lost = values.iter().filter(|v| !v.is_finite()).count();
    let value = percentile(values, 0.95).filter(|_| lost == 0);
    let row: Value = json!({
        "name": name, "value": value, "unit": "ms (p95 of 20 calls)",
        "reference": "ICE and DTLS connected, same calls (p95)", "reference_value": percentile(connected, 0.95),
        "reach": REACH_MS, "reached": value.is_some_and(|v| v < REACH_MS),
    });
    println!("{row}");
}
