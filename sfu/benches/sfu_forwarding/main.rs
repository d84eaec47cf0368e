//! What forwarding a packet costs, beside the least it can cost and beside a peer.
//!
//! The unit's shard, the floor and Janus run on processor 0 in turns, the load generator on processor 1. All get the same packets
//! at the same times (recorded from a Chromium) and the same feedback. The value is processor time of the forwarding thread
//! per packet that arrived, for Janus of its whole process; the median of the rounds counts, and a ratio is the median of the
//! rounds' ratios. A window in which a packet is lost or forged, or the generator uses over 85 % of its processor, is void.
//!
//! Two more figures come of the same parts: how soon somebody who joins sees a picture, and loss and delay under load.
//!
//! `SFU_FORWARDING_ROUNDS`, `SFU_FORWARDING_SECONDS` and `SFU_FORWARDING_ONLY` (a scenario's name, `joining` or `capacity`) change what is run;
//! `SFU_FORWARDING_SYSTEM` (`sfu`, `floor` or `janus`) runs one of them alone, to be profiled.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]
#![allow(unreachable_pub, missing_docs, reason = "a program")]

mod capacity;
mod cpu;
mod floor;
mod generator;
mod janus;
mod joining;
mod peer;
mod schedule;
mod traffic;

use std::time::Duration;

use generator::{Generator, Scenario, Window};

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "1_to_10", publishers: 1, speakers: 1, participants: 11, mutual: false, rooms: 1 },
    Scenario { name: "1_to_30", publishers: 1, speakers: 1, participants: 31, mutual: false, rooms: 1 },
    Scenario { name: "meeting_of_6", publishers: 6, speakers: 3, participants: 6, mutual: true, rooms: 1 },
];
/// Most that forwarding may cost, in floors.
const REACH: f64 = 1.3;
/// Most that forwarding may cost, in what it costs Janus.
const REACH_OF_JANUS: f64 = 1.0 / 6.0;
/// Most of its processor that the generator may use.
const GENERATOR_LIMIT: f64 = 0.85;
const REACH_FIRST_PICTURE_MS: f64 = 400.0;
/// By how much the unit's delay may exceed the floor's.
const REACH_MORE_DELAY_MS: f64 = 1.0;
/// Rounds in which Janus runs too.
const JANUS_ROUNDS: usize = 2;
/// Windows of one round that may be void before the benchmark gives up.
const ATTEMPTS: usize = 5;

fn main() {
    // `cargo test` runs benchmarks too, to see that they run.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let setting = |name: &str, default: f64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(if measures { default } else { 1.0 })
    };
    let rounds = setting("SFU_FORWARDING_ROUNDS", 5.0) as usize;
    let window = Duration::from_secs_f64(setting("SFU_FORWARDING_SECONDS", traffic::length().as_secs_f64()));
    let only = std::env::var("SFU_FORWARDING_ONLY").ok();
    let system = std::env::var("SFU_FORWARDING_SYSTEM").ok();
    janus::enter_namespace();
    if !janus::is_available() {
        eprintln!("Janus is not installed (Debian: apt-get install janus), or cannot run here: it is left out");
    }
    cpu::pin(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    for scenario in SCENARIOS.into_iter().filter(|scenario| wanted(scenario.name)) {
        match system.as_deref() {
            Some("sfu") => _ = valid("sfu", scenario, window, Generator::against_sfu),
            Some("floor") => _ = valid("floor", scenario, window, Generator::against_floor),
            Some("janus") => _ = valid("janus", scenario, window, Generator::against_janus),
            _ => compare(scenario, rounds, window),
        }
    }
    if wanted("joining") && system.is_none() {
        joining(if measures { 60 } else { 2 });
    }
    if wanted("capacity") && system.is_none() && measures {
        capacity(window, rounds);
    }
}

fn joining(times: usize) {
    let taken = joining::measure(times);
    let p95 = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) * 95 / 100]
    };
    let connected = p95(taken.iter().map(|(connected, _)| *connected).collect());
    let picture = p95(taken.iter().map(|(_, picture)| *picture).collect());
    let unit = "ms from joining a room of ten to a whole key frame, p95";
    row("sfu_join_to_first_picture", picture, unit, "ICE and DTLS alone, p95", connected, REACH_FIRST_PICTURE_MS);
}

fn capacity(window: Duration, rounds: usize) {
    let taken = capacity::measure(window, GENERATOR_LIMIT, rounds);
    let (sfu, floor) = (taken.sfu, taken.floor);
    if floor.lost > 0 {
        eprintln!("void: the floor loses packets too, so the processors are not free for this");
        return;
    }
    let unit = format!("packets lost at {:.0} % of a processor, {} rooms of 1 to 30", 100.0 * sfu.share, taken.rooms);
    row("sfu_loss_under_load", sfu.lost as f64, &unit, FLOOR, floor.lost as f64, 0.0);
    let unit = "ms of forwarding delay p99 under that load, ten joining a second";
    row("sfu_delay_under_load", sfu.p99_ms, unit, FLOOR, floor.p99_ms, floor.p99_ms + REACH_MORE_DELAY_MS);
    let unit = "us of server CPU per forwarded packet under that load";
    row("sfu_forwarding_under_load", sfu.micros, unit, FLOOR, floor.micros, REACH * floor.micros);
}

fn compare(scenario: Scenario, rounds: usize, window: Duration) {
    let (mut costs, mut floors, mut of_floor) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peers, mut of_peer) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let floor = valid("floor", scenario, window, Generator::against_floor);
        let sfu = valid("sfu", scenario, window, Generator::against_sfu);
        costs.push(sfu.micros);
        floors.push(floor.micros);
        of_floor.push(sfu.micros / floor.micros);
        // A factor of many needs no precision.
        if janus::is_available() && round < JANUS_ROUNDS {
            let janus = valid("janus", scenario, window, Generator::against_janus);
            peers.push(janus.micros);
            of_peer.push(sfu.micros / janus.micros);
        }
    }
    let (cost, floor) = (median(costs), median(floors));
    let name = format!("sfu_forwarding_{}", scenario.name);
    let unit = "us of server CPU per forwarded packet";
    row(&name, cost, unit, FLOOR, floor, REACH * floor);
    row(&format!("{name}_ratio"), median(of_floor), "times the floor", FLOOR, 1.0, REACH);
    if !peers.is_empty() {
        row(&format!("{name}_of_janus"), median(of_peer), "of Janus' cost", JANUS, 1.0, REACH_OF_JANUS);
        let peer = median(peers);
        row(&format!("{name}_beside_janus"), cost, unit, JANUS, peer, REACH_OF_JANUS * peer);
    }
}

/// Measures until a window is not void.
fn valid(system: &str, scenario: Scenario, window: Duration, start: impl Fn(Scenario) -> Generator) -> Window {
    for _ in 0..ATTEMPTS {
        let taken = start(scenario).measure(window);
        eprintln!(
            "{system} {}: {:.3} us, {} packets sent, {} received, {} more, {} lost, generator {:.1} %",
            scenario.name,
            taken.micros,
            taken.sent,
            taken.received,
            taken.extra,
            taken.lost,
            100.0 * taken.generator
        );
        if taken.lost == 0 && taken.forged == 0 && taken.generator <= GENERATOR_LIMIT && taken.authenticated > 0 {
            return taken;
        }
        eprintln!("void");
    }
    panic!("{system} {}: {ATTEMPTS} windows were void", scenario.name);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const FLOOR: &str = "floor: receive, open, seal for each, send by GSO";
const JANUS: &str = "Janus (VideoRoom)";

fn row(name: &str, value: f64, unit: &str, reference: &str, reference_value: f64, reach: f64) {
    let reached = value <= reach;
    println!(
        r#"{{"name":"{name}","value":{value:.3},"unit":"{unit}","reference":"{reference}","reference_value":{reference_value:.3},"reach":{reach:.3},"reached":{reached}}}"#
    );
}
