//! The delays that are reported are true: 100 ms more on the network are 100 ms more from mouth to ear and glass to glass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo::measure::{Summary, Traces, wav};
use std::{thread, time::Duration};
use support::{
    Process, Server, clips, endpoint, proxy,
    relay::{Impairment, Relay},
};

/// Calls whose sound is measured, [`AT_ONCE`] at a time. How long a packet waits for the listener's next block of 10 ms depends on
/// how the two ends' clocks happen to stand to each other, evenly between 0 and 10 ms; the mean of a dozen calls is known to 0.8 ms.
const CALLS: u64 = 12;
const AT_ONCE: u64 = 4;

fn call(impairment: Impairment, seed: u64, pictures: &str) -> Summary {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server::start();
    let url = runtime.block_on(proxy::start(server.port(), Relay::new(impairment, seed)));
    let dir = tempfile::tempdir().unwrap();
    let says = dir.path().join("says.wav");
    wav::write_mono(&says, &clips::speech(&["Front_Center", "Side_Left", "Rear_Right"])).unwrap();
    let side = |command, name: &str, more: &[&str]| {
        let folder = dir.path().join(name);
        let mut command = endpoint(command, name, &url, &folder);
        let media = ["--video-in", "pattern", "--pattern-size", pictures, "--audio-in"];
        Process::start(command.args(more).args(media).arg(&says).arg("--media-log").arg(&folder))
    };
    let bob = side("answer", "bob", &["--once"]);
    bob.wait_for("waiting for calls");
    let alice = side("call", "alice", &["--to", "bob", "--duration", "5s"]);
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);
    let (a, b) = (dir.path().join("alice"), dir.path().join("bob"));
    Summary::measure(&Traces { speaker: &a, listener: &b, recordings: &b, clip: None, wrong_clip: None }).unwrap()
}

fn mean_mouth_to_ear(impairment: Impairment) -> f64 {
    let one = move |seed| call(impairment, seed, "160x90").mouth_to_ear_ms.unwrap();
    let mut delays = Vec::new();
    for first in (0..CALLS).step_by(AT_ONCE as usize) {
        let beside: Vec<_> = (first..first + AT_ONCE).map(|seed| thread::spawn(move || one(seed))).collect();
        delays.extend(beside.into_iter().map(|call| call.join().unwrap()));
    }
    println!("mouth to ear: {delays:.1?}");
    delays.iter().sum::<f64>() / delays.len() as f64
}

#[test]
fn a_hundred_milliseconds_on_the_network_are_reported_as_such() {
    let near = Impairment::default();
    let far = Impairment { delay: Duration::from_millis(100), ..Impairment::default() };
    let heard = (mean_mouth_to_ear(near), mean_mouth_to_ear(far));
    let seen =
        (call(near, 7, "640x360").glass_to_glass_ms.unwrap(), call(far, 7, "640x360").glass_to_glass_ms.unwrap());
    for (what, (near, far)) in [("mouth to ear", heard), ("glass to glass", seen)] {
        let more = far - near;
        assert!((more - 100.0).abs() <= 5.0, "{what}: {near:.1} ms, then {far:.1} ms: {more:.1} ms more");
    }
}
