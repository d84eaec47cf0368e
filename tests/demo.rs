//! The demo passes, its report holds what it promises, and it fails by name where somebody's pictures fall behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{PATIENCE, Process, halloo};

const GROUP: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

fn report(json: &Path, said: &str) -> Value {
    serde_json::from_slice(&std::fs::read(json).unwrap_or_default()).unwrap_or_else(|e| panic!("{e}; it said:\n{said}"))
}

#[test]
fn the_demo_passes_and_its_page_is_self_contained() {
    let dir = tempfile::tempdir().unwrap();
    let (json, out) = (dir.path().join("out.json"), dir.path().join("demo"));
    let demo = Process::start(halloo().args(["demo", "--seconds", "5", "--json"]).arg(&json).arg("--out").arg(&out));
    let demo = demo.finish();
    let report = report(&json, &demo.said);
    assert_eq!(demo.code(), 0, "{}", report["failures"]);
    check_call(&report);
    check_group(&report["group"]);
    // Who received whom stands on the terminal too: a row each.
    for name in GROUP {
        let cells = |line: &&str| line.split_whitespace().count() == 12 && line.trim_start().starts_with(name);
        assert!(demo.stdout.lines().any(|line| cells(&line)), "no row of {name}:\n{}", demo.stdout);
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 6 && page.matches("data:image/png").count() == 12 + 30);
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing from elsewhere");
}

fn check_call(report: &Value) {
    assert!(report["connect_ms"].as_f64().unwrap() > 0.0);
    for side in ["alice", "bob"] {
        for field in [
            "mouth_to_ear_ms",
            "glass_to_glass_ms",
            "audio_concealed_ratio",
            "video_frames_decoded",
            "video_freezes",
            "heard_correlation",
        ] {
            assert!(report[side][field].is_number(), "{side}.{field} is {}", report[side][field]);
        }
        assert!(report[side]["heard_correlation"].as_f64().unwrap() >= 0.9);
        assert!(report[side]["wrong_clip_correlation"].as_f64().unwrap() < 0.3);
    }
}

fn check_group(group: &Value) {
    let (members, pairs) = (group["participants"].as_array().unwrap(), group["pairs"].as_array().unwrap());
    assert_eq!(members.iter().map(|each| each["name"].as_str().unwrap()).collect::<Vec<_>>(), GROUP);
    assert!(members.iter().all(|each| each["noticed_by"] == 5 && each["connect_ms"].as_f64().unwrap() > 0.0));
    assert!(group["server_cpu_cores"].as_f64().unwrap() > 0.0);
    for receiver in GROUP {
        for sender in GROUP.into_iter().filter(|sender| *sender != receiver) {
            let pair = pairs.iter().find(|pair| pair["receiver"] == receiver && pair["sender"] == sender).unwrap();
            let figure = |field: &str| pair[field].as_f64().unwrap_or_else(|| panic!("{field} of {pair}"));
            assert!((14.0..15.5).contains(&figure("frames_per_second")), "{pair}");
            assert!(figure("heard_correlation") >= 0.8 && figure("wrong_clip_correlation") < 0.5, "{pair}");
            assert!(figure("glass_to_glass_ms") > 0.0 && figure("mouth_to_ear_ms") > 0.0, "{pair}");
            assert_eq!((&pair["foreign_frames"], &pair["failures"]), (&0.into(), &Value::Array(Vec::new())));
        }
    }
    assert_eq!(pairs.len(), 30);
}

#[test]
fn somebody_whose_pictures_stop_for_a_while_fails_the_demo_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (json, out) = (dir.path().join("out.json"), dir.path().join("demo"));
    let mut command = halloo();
    let demo = Process::start(command.args(["demo", "--only", "group", "--json"]).arg(&json).arg("--out").arg(&out));
    let dave = wait_for_pictures(&out.join("group/dave"));
    signal("-STOP", dave);
    std::thread::sleep(Duration::from_secs(3));
    signal("-CONT", dave);
    let demo = demo.finish();
    let report = report(&json, &demo.said);
    assert_eq!(demo.code(), 1, "{}", demo.stdout);
    assert_eq!(report["passed"], false);
    for receiver in GROUP.into_iter().filter(|receiver| *receiver != "dave") {
        let named = |text: &&str| text.starts_with(&format!("{receiver} received")) && text.contains("of dave");
        let failures = report["failures"].as_array().unwrap();
        assert!(failures.iter().filter_map(Value::as_str).any(|text| named(&text)), "{receiver}: {failures:#?}");
    }
    assert!(demo.stdout.contains("FAILED: alice received"), "{}", demo.stdout);
    assert!(report["call"].is_null() && report["alice"].is_null(), "only the meeting was asked for");
}

/// Waits until the endpoint that records to this folder has sent pictures for two seconds, and gives its process.
fn wait_for_pictures(folder: &Path) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    let folder_name = folder.display().to_string();
    loop {
        let sent = std::fs::read_to_string(folder.join("sent.jsonl")).unwrap_or_default().lines().count();
        let process = processes().find(|(_, arguments)| arguments.contains(&folder_name));
        if let (true, Some((id, _))) = (sent >= 30, process) {
            return id;
        }
        assert!(Instant::now() < deadline, "nobody sends pictures");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes() -> impl Iterator<Item = (u32, Vec<String>)> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((id, String::from_utf8_lossy(&line).split('\0').map(str::to_owned).collect()))
    })
}

fn signal(signal: &str, process: u32) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success());
}
