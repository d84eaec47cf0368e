//! Each example does what it says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{heard_correlation, wav, y4m::Frames};
use std::{path::PathBuf, process::Command};
use support::{Process, Server, clips, endpoint};

fn example(name: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_halloo")).parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --release --examples`", path.display());
    Command::new(path)
}

#[test]
fn ten_lines_play_and_record() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let (mine, theirs) = (clips::speech(&["Front_Center", "Rear_Center"]), clips::speech(&["Side_Left", "Side_Right"]));
    wav::write_mono(&at("mine.wav"), &mine).unwrap();
    wav::write_mono(&at("theirs.wav"), &theirs).unwrap();
    let mut answer = endpoint("answer", "bob", &server.url, &at("bob"));
    let bob = Process::start(answer.args(["--once", "--duration", "5s", "--audio-in"]).arg(at("theirs.wav")));
    bob.wait_for("waiting for calls");
    let mut command = example("embed_in_ten_lines");
    let done = Process::start(command.args([&server.url, "bob"]).arg(at("mine.wav")).arg(at("received.wav"))).finish();
    assert_eq!((done.code(), done.stdout.trim()), (0, "HungUp"), "{}", done.said);
    bob.finish().expect_code(0);
    assert!(heard_correlation(&theirs, &wav::read_mono(&at("received.wav")).unwrap()) > 0.9);
    assert!(heard_correlation(&mine, &wav::read_mono(&at("bob/received.wav")).unwrap()) > 0.9);
}

#[test]
fn own_audio_goes_out_and_comes_in() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let says = dir.path().join("says.wav");
    wav::write_mono(&says, &clips::speech(&["Front_Center"])).unwrap();
    let mut answer = endpoint("answer", "bob", &server.url, &dir.path().join("bob"));
    let bob = Process::start(answer.args(["--once", "--audio-in"]).arg(&says));
    bob.wait_for("waiting for calls");
    let done = Process::start(example("bring_your_own_audio").args([&server.url, "bob", "3"])).finish();
    assert_eq!(done.code(), 0, "{}", done.said);
    let loudest: u32 = done.stdout.split(' ').rev().nth(2).unwrap().parse().unwrap();
    assert!(loudest > 100, "{}", done.stdout);
    bob.finish().expect_code(0);
    let heard = wav::read_mono(&dir.path().join("bob/received.wav")).unwrap();
    let crossings = heard[48_000..96_000].windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
    assert!((435..=445).contains(&crossings), "{crossings} Hz rather than 440");
}

#[test]
fn the_recorder_leaves_sound_pictures_and_a_snapshot() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("recordings");
    let mut recorder = example("record_a_call");
    let mut recorder =
        recorder.args([&server.url, "archivist"]).arg(&folder).stdout(std::process::Stdio::null()).spawn().unwrap();
    let alice = call_until_there(&server, "archivist", dir.path(), &["--duration", "3s", "--video-in", "pattern"]);
    alice.expect_code(0);
    assert!(recorder.wait().unwrap().success());
    for (file, least) in [("call.wav", 200_000), ("call.y4m", 5_000_000), ("first.png", 1_000)] {
        let length = std::fs::metadata(folder.join(file)).unwrap().len();
        assert!(length > least, "{file}: {length} bytes");
    }
}

#[test]
fn the_bot_answers_plays_its_file_and_hangs_up() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let greeting = dir.path().join("greeting.wav");
    let words = clips::speech(&["Front_Center", "Side_Left", "Rear_Right"]);
    wav::write_mono(&greeting, &words).unwrap();
    let _bot = Process::start(example("answering_bot").args([&server.url, "bot"]).arg(&greeting));
    let alice = call_until_there(&server, "bot", dir.path(), &[]).expect_code(0).report();
    assert_eq!(alice["reason"], "hung_up");
    let heard = wav::read_mono(&dir.path().join("received.wav")).unwrap();
    assert!(heard_correlation(&words, &heard) > 0.9);
}

#[test]
fn the_archivist_joins_a_room_and_leaves_when_it_has_said_its_piece() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    let (hers, its) = (clips::speech(&["Front_Center", "Rear_Center"]), clips::speech(&["Side_Left", "Side_Right"]));
    wav::write_mono(&at("hers.wav"), &hers).unwrap();
    wav::write_mono(&at("its.wav"), &its.repeat(2)).unwrap();
    let mut command = endpoint("join", "alice", &server.url, &at("alice"));
    command.args(["--room", "standup", "--video-in", "pattern", "--pattern-size", "320x180", "--audio-in"]);
    let alice = Process::start(command.arg(at("hers.wav")));
    alice.wait_for("connected to standup");
    let mut command = example("join_room");
    command.args([&server.url, "standup", "archivist"]).arg(at("its.wav")).arg(at("recordings"));
    let done = Process::start(&mut command).finish();
    assert_eq!(done.code(), 0, "{}", done.said);
    assert!(done.stdout.contains("alice is here") && done.stdout.trim().ends_with("Left"), "{}", done.stdout);
    alice.wait_for("archivist has left");
    alice.interrupt();
    alice.finish().expect_code(0);
    assert!(heard_correlation(&hers, &wav::read_mono(&at("recordings/alice.wav")).unwrap()) > 0.9);
    let heard = wav::read_mono(&at("alice/archivist/received.wav")).unwrap();
    assert!(heard_correlation(&its, &heard) > 0.9);
    assert!(Frames::open(&at("recordings/alice-Camera.y4m")).unwrap().count() > 60);
}

/// Calls until the callee is online: an example prints that it waits, but only to its own output.
fn call_until_there(server: &Server, callee: &str, folder: &std::path::Path, more: &[&str]) -> support::Finished {
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        let mut command = endpoint("call", "alice", &server.url, folder);
        let call = Process::start(command.args(["--to", callee, "--audio-in", "silence"]).args(more)).finish();
        if call.code() != 3 || std::time::Instant::now() > deadline {
            return call;
        }
    }
}
