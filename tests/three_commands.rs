//! `serve`, `answer` and `call` as three commands with nothing else set up, with media that is in no repository.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{heard_correlation, wav, y4m::Frames};
use halloo_engine::video::frame_number;
use std::{collections::HashSet, path::Path};
use support::{Process, Server, clips, endpoint};

#[test]
fn both_sides_record_what_the_other_sent_for_as_long_as_the_call_lasted() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (alice_says, bob_says) =
        (clips::speech(&["Front_Center", "Rear_Center"]), clips::speech(&["Side_Left", "Side_Right"]));
    clips::write_stereo_16(&at("alice.wav"), &alice_says, 44_100);
    clips::write_mono_float(&at("bob.wav"), &bob_says, 22_050);
    clips::write_y4m(&at("alice.y4m"), (427, 241), "25:1", 120);
    clips::write_y4m(&at("bob.y4m"), (320, 180), "30000:1001", 150);

    let bob = Process::start(endpoint("answer", "bob", &server.url, &at("bob")).arg("--once").args([
        "--audio-in".as_ref(),
        at("bob.wav").as_os_str(),
        "--video-in".as_ref(),
        at("bob.y4m").as_os_str(),
    ]));
    bob.wait_for("waiting for calls");
    let alice = Process::start(
        endpoint("call", "alice", &server.url, &at("alice")).args(["--to", "bob", "--duration", "6s"]).args([
            "--audio-in".as_ref(),
            at("alice.wav").as_os_str(),
            "--video-in".as_ref(),
            at("alice.y4m").as_os_str(),
        ]),
    );
    let (alice, bob) = (alice.finish().expect_code(0).report(), bob.finish().expect_code(0).report());

    for (name, report, said, not_said) in
        [("alice", &alice, &bob_says, &alice_says), ("bob", &bob, &alice_says, &bob_says)]
    {
        let folder = at(name);
        let duration = report["duration_s"].as_f64().unwrap();
        assert!((duration - 6.0).abs() < 0.5, "{name}: {duration} s");
        assert_eq!(report["reason"], "hung_up");
        let heard = wav::read_mono(&folder.join("received.wav")).unwrap();
        let seconds = heard.len() as f64 / 48_000.0;
        assert!((seconds - duration).abs() <= 0.1, "{name}: {seconds} s of sound in a call of {duration} s");
        let (right, wrong) = (heard_correlation(said, &heard), heard_correlation(not_said, &heard));
        assert!(right >= 0.9 && wrong < 0.3, "{name} heard {right:.3} of what was said, {wrong:.3} of what was not");
        check_pictures(name, &folder, duration);
    }
}

fn check_pictures(name: &str, folder: &Path, duration: f64) {
    let frames = Frames::open(&folder.join("received.y4m")).unwrap();
    let rate = frames.frame_rate;
    let frames: Vec<_> = frames.map(Result::unwrap).collect();
    let seconds = frames.len() as f64 / rate;
    assert!((seconds - duration).abs() <= 0.1, "{name}: {seconds} s of pictures in a call of {duration} s");
    let numbers: HashSet<u32> = frames.iter().filter_map(frame_number::read).collect();
    assert!(numbers.len() > 100, "{name}: {} different pictures", numbers.len());
}
