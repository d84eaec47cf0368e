//! Meetings and calls of those whose network blocks UDP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{heard_correlation, wav, y4m::Frames};
use halloo_engine::video::frame_number;
use std::{collections::HashSet, path::Path};
use support::{Process, Server, clips, endpoint, proxy};

const WORDS: [(&str, [&str; 2]); 2] =
    [("alice", ["Front_Center", "Rear_Center"]), ("bob", ["Side_Left", "Side_Right"])];

/// What each says, written to `DIR/<name>.wav` and `DIR/<name>.y4m`.
fn write_media(dir: &Path) -> Vec<Vec<f32>> {
    let said: Vec<Vec<f32>> = WORDS.iter().map(|(_, words)| clips::speech(words)).collect();
    for ((name, _), said) in WORDS.iter().zip(&said) {
        clips::write_mono_float(&dir.join(format!("{name}.wav")), said, 48_000);
        clips::write_y4m(&dir.join(format!("{name}.y4m")), (320, 180), "25:1", 200);
    }
    said
}

fn start(mut command: std::process::Command, dir: &Path, name: &str) -> Process {
    command.arg("--audio-in").arg(dir.join(format!("{name}.wav")));
    Process::start(command.arg("--video-in").arg(dir.join(format!("{name}.y4m"))))
}

/// That sound and pictures of the other arrived whole: a network that blocks UDP need not lose anything.
fn check_received(name: &str, folder: &Path, said: &[f32], not_said: &[f32]) {
    let heard = wav::read_mono(&folder.join("received.wav")).unwrap();
    let (right, wrong) = (heard_correlation(said, &heard), heard_correlation(not_said, &heard));
    println!("{name}: heard {right:.3} of what was said, {wrong:.3} of what was not");
    assert!(right >= 0.9 && wrong < 0.3, "{name} heard {right:.3} of what was said, {wrong:.3} of what was not");
    let frames: Vec<_> = Frames::open(&folder.join("received.y4m")).unwrap().map(Result::unwrap).collect();
    let numbers: HashSet<u32> = frames.iter().filter_map(frame_number::read).collect();
    println!("{name}: {} different pictures", numbers.len());
    assert!(numbers.len() > 75, "{name}: {} different pictures", numbers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_joined_over_tcp() {
    let server = Server::start();
    let url = proxy::start_tcp_alone(server.port()).await;
    let dir = tempfile::tempdir().unwrap();
    let said = write_media(dir.path());
    let join = |name: &str, url: &str| {
        let mut command = endpoint("join", name, url, &dir.path().join(name));
        command.args(["--room", "standup", "--duration", "7s"]);
        start(command, dir.path(), name)
    };
    // One of them has UDP.
    let (alice, bob) = (join("alice", &url), join("bob", &server.url));
    let done = tokio::task::spawn_blocking(move || [alice.finish().expect_code(0), bob.finish().expect_code(0)]);
    for (finished, name) in done.await.unwrap().iter().zip(["alice", "bob"]) {
        assert_eq!(finished.report()["connected"], true, "{name}: {}", finished.said);
    }
    check_received("alice", &dir.path().join("alice/bob"), &said[1], &said[0]);
    check_received("bob", &dir.path().join("bob/alice"), &said[0], &said[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_over_tcp() {
    let server = Server::start();
    let url = proxy::start_tcp_alone(server.port()).await;
    let dir = tempfile::tempdir().unwrap();
    let said = write_media(dir.path());
    let mut answer = endpoint("answer", "bob", &url, &dir.path().join("bob"));
    answer.arg("--once");
    let bob = start(answer, dir.path(), "bob");
    let mut call = endpoint("call", "alice", &url, &dir.path().join("alice"));
    call.args(["--to", "bob", "--duration", "6s"]);
    let directory = dir.path().to_owned();
    let done = tokio::task::spawn_blocking(move || {
        bob.wait_for("waiting for calls");
        let alice = start(call, &directory, "alice");
        (alice.finish().expect_code(0), bob.finish().expect_code(0))
    });
    done.await.unwrap();
    check_received("alice", &dir.path().join("alice"), &said[1], &said[0]);
    check_received("bob", &dir.path().join("bob"), &said[0], &said[1]);
}
