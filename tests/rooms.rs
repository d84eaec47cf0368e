//! Meetings of native endpoints through `halloo serve`, with media that is in no repository.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{heard_correlation, wav, y4m::Frames};
use halloo_engine::video::frame_number;
use serde_json::Value;
use std::{collections::HashSet, path::Path};
use support::{Process, Server, clips, endpoint};

const WORDS: [(&str, [&str; 2]); 3] = [
    ("alice", ["Front_Center", "Rear_Center"]),
    ("bob", ["Side_Left", "Side_Right"]),
    ("carol", ["Front_Left", "Rear_Right"]),
];

fn join(server: &Server, name: &str, folder: &Path, seconds: &str) -> std::process::Command {
    let mut command = endpoint("join", name, &server.url, folder);
    command.args(["--room", "standup", "--duration", seconds]);
    command
}

fn participant<'a>(report: &'a Value, user: &str) -> &'a Value {
    let all = report["participants"].as_array().unwrap();
    all.iter().find(|each| each["user"] == user).unwrap_or_else(|| panic!("{user} is not in {all:?}"))
}

#[test]
fn two_join_a_room_and_record_each_other_for_as_long_as_they_met() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let said: Vec<Vec<f32>> = WORDS.iter().map(|(_, words)| clips::speech(words)).collect();
    for ((name, _), said) in WORDS.iter().zip(&said).take(2) {
        clips::write_mono_float(&at(&format!("{name}.wav")), said, 48_000);
        clips::write_y4m(&at(&format!("{name}.y4m")), (320, 180), "25:1", 200);
    }
    let start = |name: &str| {
        let mut command = join(&server, name, &at(name), "7s");
        command.arg("--audio-in").arg(at(&format!("{name}.wav")));
        Process::start(command.arg("--video-in").arg(at(&format!("{name}.y4m"))))
    };
    let (alice, bob) = (start("alice"), start("bob"));
    let (alice, bob) = (alice.finish().expect_code(0).report(), bob.finish().expect_code(0).report());
    for (report, me, other) in [(&alice, 0, 1), (&bob, 1, 0)] {
        let (name, peer) = (WORDS[me].0, WORDS[other].0);
        assert_eq!((report["reason"].as_str(), report["connected"].as_bool()), (Some("left"), Some(true)));
        let met = participant(report, peer);
        let there = met["there_s"].as_f64().unwrap();
        assert!(there > 5.0, "{name} met {peer} for {there} s");
        let folder = at(name).join(peer);
        let heard = wav::read_mono(&folder.join("received.wav")).unwrap();
        let seconds = heard.len() as f64 / 48_000.0;
        assert!((seconds - there).abs() <= 0.2, "{name}: {seconds} s of sound, {peer} was there for {there} s");
        let (right, wrong) = (heard_correlation(&said[other], &heard), heard_correlation(&said[me], &heard));
        assert!(right >= 0.9 && wrong < 0.3, "{name} heard {right:.3} of {peer}, {wrong:.3} of itself");
        check_pictures(name, &folder.join("received.y4m"), there, 75);
        assert!(met["stats"]["camera"]["frames_decoded"].as_u64().unwrap() > 75, "{met}");
        assert_eq!(met["stats"]["camera"]["frame_width"], 320);
    }
}

#[test]
fn three_hear_one_another_apart() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let said: Vec<Vec<f32>> = WORDS.iter().map(|(_, words)| clips::speech(words)).collect();
    let all: Vec<Process> = WORDS
        .iter()
        .zip(&said)
        .map(|((name, _), said)| {
            clips::write_mono_float(&at(&format!("{name}.wav")), said, 48_000);
            Process::start(join(&server, name, &at(name), "7s").arg("--audio-in").arg(at(&format!("{name}.wav"))))
        })
        .collect();
    let reports: Vec<Value> = all.into_iter().map(|each| each.finish().expect_code(0).report()).collect();
    for (me, report) in reports.iter().enumerate() {
        assert_eq!(report["participants"].as_array().unwrap().len(), 2);
        for other in (0..3).filter(|other| *other != me) {
            let folder = at(WORDS[me].0).join(WORDS[other].0);
            let heard = wav::read_mono(&folder.join("received.wav")).unwrap();
            let scores: Vec<f64> = said.iter().map(|said| heard_correlation(said, &heard)).collect();
            let wrong = (0..3).filter(|each| *each != other).map(|each| scores[each]).fold(0.0, f64::max);
            let (name, peer) = (WORDS[me].0, WORDS[other].0);
            assert!(scores[other] >= 0.9 && wrong < 0.5, "{name} of {peer}: {scores:.3?}");
        }
    }
}

#[test]
fn who_comes_late_is_seen_from_then_on_and_who_leaves_is_let_go() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pattern = ["--audio-in", "silence", "--video-in", "pattern", "--pattern-size", "320x180"];
    let alice = Process::start(join(&server, "alice", &at("alice"), "9s").args(pattern));
    alice.wait_for("connected to standup");
    let bob = Process::start(join(&server, "bob", &at("bob"), "3s").args(pattern));
    bob.finish().expect_code(0);
    alice.wait_for("bob has left");
    let alice = alice.finish().expect_code(0).report();
    let bob = participant(&alice, "bob");
    let there = bob["there_s"].as_f64().unwrap();
    assert!((2.5..5.0).contains(&there), "{there} s");
    assert!(bob["left_s"].as_f64().unwrap() > there);
    check_pictures("alice", &at("alice").join("bob/received.y4m"), there, 45);
}

#[test]
fn a_room_needs_a_place_for_each_participants_sound() {
    let done = Process::start(support::halloo().args([
        "join",
        "--as",
        "alice",
        "--room",
        "standup",
        "--audio-in",
        "silence",
        "--audio-out",
        "all.wav",
    ]))
    .finish()
    .expect_code(1);
    assert!(done.said.contains("--record DIR"), "{}", done.said);
}

fn check_pictures(name: &str, file: &Path, there: f64, least: usize) {
    let frames = Frames::open(file).unwrap();
    let rate = frames.frame_rate;
    let frames: Vec<_> = frames.map(Result::unwrap).collect();
    let seconds = frames.len() as f64 / rate;
    assert!((seconds - there).abs() <= 0.3, "{name}: {seconds} s of pictures of {there} s");
    let numbers: HashSet<u32> = frames.iter().filter_map(frame_number::read).collect();
    assert!(numbers.len() > least, "{name}: {} different pictures", numbers.len());
}
