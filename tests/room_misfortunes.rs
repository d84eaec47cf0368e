//! What goes wrong in a room gets a clear error, and nothing is lost: neither the meeting nor its recordings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{freezes::longest_interval, heard_correlation, video_log, wav, y4m::Frames};
use halloo_engine::{Engine, JoinOptions, RoomEvent, SourceState, Timestamp, TrackKind, video::frame_number};
use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{Process, Server, clips, endpoint, halloo};

/// The server is gone for a moment: everybody is back within this time of its return.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// The server is gone for this long.
const AWAY: Duration = Duration::from_secs(2);

fn join(server: &str, name: &str, folder: &Path) -> Command {
    let mut command = endpoint("join", name, server, folder);
    command.args(["--room", "standup"]);
    command
}

fn silent(command: &mut Command) -> Process {
    Process::start(command.args(["--audio-in", "silence"]))
}

/// A token that the server takes.
fn mint(server: &Server, args: &[&str]) -> String {
    let minted = halloo().arg("token").args(args).arg("--data").arg(server.data()).output().unwrap();
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    String::from_utf8(minted.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let alice = silent(&mut join("ws://127.0.0.1:9", "alice", dir.path())).finish().expect_code(4);
    assert!(alice.said.contains("127.0.0.1:9"), "{}", alice.said);
}

#[test]
fn a_server_without_rooms_says_so() {
    let server = Server::start_with(&["--no-rooms"]);
    let dir = tempfile::tempdir().unwrap();
    let alice = silent(&mut join(&server.url, "alice", dir.path())).finish().expect_code(4);
    assert!(alice.said.contains("could not join standup") && alice.said.contains("rooms"), "{}", alice.said);
}

#[test]
fn a_name_that_no_room_can_have_is_a_wrong_usage() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = endpoint("join", "alice", &server.url, dir.path());
    let alice = silent(command.args(["--room", "no spaces"])).finish().expect_code(2);
    assert!(alice.said.contains("no spaces"), "{}", alice.said);
}

#[test]
fn tokens_that_do_not_open_the_room_are_refused_by_name() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let enter = |token: &str| {
        let mut command = halloo();
        command.args(["join", "--room", "standup", "--audio-out", "none", "--duration", "1s", "--server", &server.url]);
        silent(command.args(["--token", token, "--record"]).arg(dir.path())).finish()
    };
    let right = mint(&server, &["--user", "alice", "--room", "standup"]);
    enter(&right).expect_code(0);
    let other = enter(&mint(&server, &["--user", "alice", "--room", "kitchen"])).expect_code(3);
    assert!(other.said.contains("standup"), "{}", other.said);
    let forged = enter(&format!("{right}x")).expect_code(5);
    assert!(forged.said.contains("token"), "{}", forged.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_room_lets_nobody_in_and_who_is_removed_is_told() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder().server(&server.url).guest("host").build().await.unwrap();
    let host = engine.join("standup", JoinOptions::default()).await.unwrap();
    let url = server.url.clone();
    let alice = silent(join(&url, "alice", &dir.path().join("alice")).args(["--duration", "30s"]));
    alice.wait_for("connected to standup");
    let mut events = host.events();
    host.lock(true).await.unwrap();
    // The server tells everybody but who asked: who did it sees it at once.
    let locked = std::iter::from_fn(|| events.try_next()).any(|event| matches!(event, RoomEvent::Locked(true)));
    assert!(locked, "the moderator does not see that the room is locked");
    alice.wait_for("the room was locked");
    // Guests may moderate, and moderators get into locked rooms.
    let token = mint(&server, &["--user", "bob", "--room", "standup"]);
    let mut command = halloo();
    command.args(["join", "--token", &token, "--room", "standup", "--server", &url, "--audio-out", "none"]);
    let bob = silent(&mut command).finish().expect_code(3);
    assert!(bob.said.contains("locked"), "{}", bob.said);
    let alice_there = || host.participants().into_iter().find(|each| each.user == "alice");
    let id = alice_there().unwrap().id;
    while alice_there().unwrap().media.microphone != SourceState::On {
        events.next().await.unwrap();
    }
    host.mute(id, TrackKind::Microphone).await.unwrap();
    assert_eq!(alice_there().unwrap().media.microphone, SourceState::Muted);
    host.remove(id).await.unwrap();
    assert_eq!(alice_there(), None);
    let alice = alice.finish().expect_code(3);
    assert_eq!(alice.report()["reason"], "removed", "{}", alice.said);
    assert!(alice.said.contains("removed"), "{}", alice.said);
}

#[test]
fn ctrl_c_leaves_and_still_reports() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let alice = silent(&mut join(&server.url, "alice", &dir.path().join("alice")));
    let bob = silent(&mut join(&server.url, "bob", &dir.path().join("bob")));
    alice.wait_for("bob is here");
    alice.wait_for("connected to standup");
    bob.wait_for("connected to standup");
    alice.interrupt();
    let alice = alice.finish().expect_code(0).report();
    assert_eq!((&alice["reason"], &alice["connected"]), (&"left".into(), &true.into()));
    bob.wait_for("alice has left");
    bob.interrupt();
    bob.finish().expect_code(0);
}

#[test]
fn who_is_killed_leaves_playable_recordings_behind_and_at_the_others() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let says = at("says.wav");
    wav::write_mono(&says, &clips::speech(&["Front_Center", "Side_Left"])).unwrap();
    let start = |name: &str| {
        let mut command = join(&server.url, name, &at(name));
        command.args(["--video-in", "pattern", "--pattern-size", "320x180", "--audio-in"]).arg(&says);
        Process::start(&mut command)
    };
    let (alice, bob) = (start("alice"), start("bob"));
    for (process, other) in [(&alice, "bob"), (&bob, "alice")] {
        process.wait_for("connected to standup");
        process.wait_for(&format!("{other} is here"));
    }
    // Long enough for something to be recorded on both sides.
    std::thread::sleep(Duration::from_secs(2));
    alice.kill();
    std::thread::sleep(Duration::from_secs(1));
    bob.interrupt();
    bob.finish().expect_code(0);
    for folder in [at("alice").join("bob"), at("bob").join("alice")] {
        let sound = wav::read_mono(&folder.join("received.wav")).unwrap();
        assert!(sound.len() > 48_000, "{}: {} samples", folder.display(), sound.len());
        assert!(Frames::open(&folder.join("received.y4m")).unwrap().count() > 20);
    }
}

/// The server, with the forwarding unit in it, is killed and started again while three meet.
#[test]
fn everybody_rejoins_a_restarted_server_and_recordings_stay_whole() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let names = ["alice", "bob", "carol"];
    let words = [["Front_Center", "Rear_Center"], ["Side_Left", "Side_Right"], ["Front_Left", "Rear_Right"]];
    let said: Vec<Vec<f32>> = words.iter().map(|words| clips::speech(words)).collect();
    let start = |index: usize| {
        let name = names[index];
        clips::write_mono_float(&at(&format!("{name}.wav")), &said[index], 48_000);
        let mut command = join(&server.url, name, &at(name));
        command.args([
            "--video-in",
            "pattern",
            "--pattern-size",
            "320x180",
            "--pattern-rate",
            "15",
            "--pattern-series",
        ]);
        command.args([&index.to_string(), "--duration", "18s", "--media-log"]).arg(at(name)).arg("--audio-in");
        Process::start(command.arg(at(&format!("{name}.wav"))))
    };
    let all: Vec<Process> = (0..3).map(start).collect();
    for (index, process) in all.iter().enumerate() {
        process.wait_for("connected to standup");
        (0..3).filter(|other| *other != index).for_each(|other| process.wait_for(&format!("{} is here", names[other])));
    }
    // They have met for a while when it happens.
    std::thread::sleep(Duration::from_secs(4));
    let killed = Instant::now();
    let remains = server.kill();
    all.iter().for_each(|process| process.wait_for("the server is away"));
    // Long enough that attempts fail, and clients wait between two of them when it returns.
    std::thread::sleep(AWAY);
    let _server = Server::restart(remains);
    let returned = Instant::now();
    all.iter().for_each(|process| process.wait_for("reconnected"));
    println!("back after {:?} of the server's return, {:?} of its death", returned.elapsed(), killed.elapsed());
    assert!(returned.elapsed() < BACK_WITHIN, "it took {:?}", returned.elapsed());
    let reports: Vec<Value> = all.into_iter().map(|each| each.finish().expect_code(0).report()).collect();
    for (me, report) in reports.iter().enumerate() {
        assert_eq!((report["reason"].as_str(), report["interruptions"].as_u64()), (Some("left"), Some(1)));
        let participants = report["participants"].as_array().unwrap();
        assert_eq!(participants.len(), 2, "nobody counts twice: {participants:?}");
        let away =
            report["notices"].as_array().unwrap().iter().filter(|said| said.as_str().unwrap().contains("is away"));
        assert_eq!(away.count(), 1, "{}", report["notices"]);
        for other in (0..3).filter(|other| *other != me) {
            let met = participants.iter().find(|each| each["user"] == names[other]).unwrap();
            check_whole(
                &at(names[me]).join(names[other]),
                met["there_s"].as_f64().unwrap(),
                other as u32,
                &said[other],
            );
        }
    }
}

/// One file for sound and one for pictures, as long as the two met, with the gap where the server was away and nothing else missing.
fn check_whole(folder: &Path, there: f64, series: u32, said: &[f32]) {
    let name = folder.display();
    let heard = wav::read_mono(&folder.join("received.wav")).unwrap();
    let seconds = heard.len() as f64 / 48_000.0;
    assert!((seconds - there).abs() <= 0.2, "{name}: {seconds} s of sound of {there} s");
    // Before it happened and after it was over; in between there was nothing to be heard.
    let (before, after) = (&heard[..3 * 48_000], &heard[heard.len() - 3 * 48_000..]);
    let [before, after] = [before, after].map(|part| heard_correlation(said, part));
    assert!(before >= 0.9 && after >= 0.9, "{name}: heard {before:.3} before and {after:.3} after");
    let frames = Frames::open(&folder.join("received.y4m")).unwrap();
    let rate = frames.frame_rate;
    let numbers: Vec<Option<u32>> = frames.map(|frame| frame_number::read(&frame.unwrap())).collect();
    assert!((numbers.len() as f64 / rate - there).abs() <= 0.3, "{name}: {} pictures of {there} s", numbers.len());
    let numbers: Vec<u32> = numbers.into_iter().flatten().collect();
    assert!(numbers.is_sorted(), "{name}: pictures go back in time");
    assert!(numbers.iter().all(|number| number / halloo_engine::video::pattern::SERIES == series), "{name}: another's");
    let shown = video_log::read(&folder.join("shown.jsonl")).unwrap();
    let times: Vec<Timestamp> = shown.iter().map(|picture| Timestamp::from_nanos(picture.at_ns)).collect();
    let gap = longest_interval(&times);
    println!("{name}: {gap:?} without a new picture");
    assert!(gap < AWAY + BACK_WITHIN, "{name}: {gap:?} without a new picture");
    let fresh = times.iter().rev().take_while(|at| times.last().unwrap().since(**at) < Duration::from_secs(2)).count();
    assert!(fresh >= 27, "{name}: {fresh} pictures in the last 2 s");
}
