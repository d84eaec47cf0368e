//! What goes wrong gets a clear error, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{wav, y4m::Frames};
use std::time::{Duration, Instant};
use support::{Process, Server, clips, endpoint, halloo};

fn quiet(command: &mut std::process::Command) -> Process {
    Process::start(command.args(["--audio-in", "silence"]))
}

#[test]
fn a_callee_who_is_not_there_is_named() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let alice =
        quiet(endpoint("call", "alice", &server.url, dir.path()).args(["--to", "nobody"])).finish().expect_code(3);
    assert!(alice.said.contains("nobody"), "{}", alice.said);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let alice =
        quiet(endpoint("call", "alice", "ws://127.0.0.1:9", dir.path()).args(["--to", "bob"])).finish().expect_code(4);
    assert!(alice.said.contains("127.0.0.1:9"), "{}", alice.said);
}

#[test]
fn a_wrong_token_is_refused_in_words() {
    let server = Server::start();
    let mut command = halloo();
    command.args(["answer", "--token", "not.a.token", "--server", &server.url, "--audio-out", "none"]);
    let bob = quiet(&mut command).finish().expect_code(5);
    assert!(bob.said.contains("token"), "{}", bob.said);
}

#[test]
fn bad_files_are_told_before_anybody_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "not media").unwrap();
    for (option, word) in [("--audio-in", "WAV"), ("--video-in", "Y4M")] {
        let mut command = endpoint("call", "alice", "ws://127.0.0.1:9", dir.path());
        command.args(["--to", "bob"]);
        if option == "--video-in" {
            command.args(["--audio-in", "silence"]);
        }
        let alice = Process::start(command.arg(option).arg(&file)).finish().expect_code(1);
        assert!(alice.said.contains("notes.txt") && alice.said.contains(word), "{}", alice.said);
    }
}

#[test]
fn a_port_in_use_is_told() {
    let server = Server::start();
    let second = Process::start(halloo().args(["serve", "--port", &server.port().to_string()])).finish();
    assert_ne!(second.code(), 0);
    assert!(second.said.contains("in use"), "{}", second.said);
}

#[test]
fn the_other_side_killed_ends_the_call_and_leaves_playable_recordings() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let says = dir.path().join("says.wav");
    wav::write_mono(&says, &clips::speech(&["Front_Center", "Side_Left"])).unwrap();
    let bob_folder = dir.path().join("bob");
    let bob = Process::start(
        endpoint("answer", "bob", &server.url, &bob_folder)
            .args(["--once", "--video-in", "pattern", "--audio-in"])
            .arg(&says),
    );
    bob.wait_for("waiting for calls");
    let alice = Process::start(
        endpoint("call", "alice", &server.url, &dir.path().join("alice"))
            .args(["--to", "bob", "--video-in", "pattern", "--audio-in"])
            .arg(&says),
    );
    alice.wait_for("connected with bob");
    bob.wait_for("connected with alice");
    // Long enough for something to be recorded on both sides.
    std::thread::sleep(Duration::from_secs(2));
    let killed = Instant::now();
    alice.kill();
    let bob = bob.finish().expect_code(4);
    assert!(killed.elapsed() < Duration::from_secs(10), "it took {:?}", killed.elapsed());
    assert_eq!(bob.report()["reason"], "peer_lost", "{}", bob.said);
    for folder in ["alice", "bob"].map(|name| dir.path().join(name)) {
        let sound = wav::read_mono(&folder.join("received.wav")).unwrap();
        assert!(sound.len() > 48_000, "{}: {} samples", folder.display(), sound.len());
        assert!(Frames::open(&folder.join("received.y4m")).unwrap().count() > 20);
    }
}

#[test]
fn the_call_outlives_the_server_and_signaling_comes_back() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let bob = quiet(endpoint("answer", "bob", &server.url, &dir.path().join("bob")).args([
        "--once",
        "--video-in",
        "pattern",
    ]));
    bob.wait_for("waiting for calls");
    let alice = quiet(endpoint("call", "alice", &server.url, &dir.path().join("alice")).args([
        "--to",
        "bob",
        "--duration",
        "8s",
        "--video-in",
        "pattern",
    ]));
    alice.wait_for("connected with bob");
    let remains = server.kill();
    alice.wait_for("the server is away");
    let _server = Server::restart(remains);
    alice.wait_for("the server is back");
    bob.wait_for("the server is back");
    let alice = alice.finish().expect_code(0).report();
    let bob = bob.finish().expect_code(0).report();
    for report in [alice, bob] {
        assert_eq!(report["reason"], "hung_up");
        assert_eq!(report["stats"]["inbound_video"]["freeze_count"], 0, "the pictures went on");
    }
}

#[test]
fn ctrl_c_hangs_up_and_still_reports() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let bob = quiet(endpoint("answer", "bob", &server.url, &dir.path().join("bob")).arg("--once"));
    bob.wait_for("waiting for calls");
    let alice = quiet(endpoint("call", "alice", &server.url, &dir.path().join("alice")).args(["--to", "bob"]));
    alice.wait_for("connected with bob");
    alice.interrupt();
    let (alice, bob) = (alice.finish().expect_code(0).report(), bob.finish().expect_code(0).report());
    assert_eq!((&alice["reason"], &bob["reason"]), (&"hung_up".into(), &"hung_up".into()));
}
