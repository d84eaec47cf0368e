//! What forwarding a packet costs, beside the least it can cost and beside a peer.
//!
//! The unit's shard, the floor and Janus run on processor 0 in turns, the load generator on processor 1. All get the same packets
//! at the same times (recorded from a Chromium) and the same feedback. The value is processor time of the forwarding thread
//! per packet that arrived, for Janus of its whole process; the median of the rounds counts, and a ratio is the median of the
//! rounds' ratios. A window in which a packet is lost or forged, or the generator uses over 85 % of its processor, is void.
//!
//! `SFU_FORWARDING_ROUNDS`, `SFU_FORWARDING_SECONDS` and `SFU_FORWARDING_ONLY` (a scenario's name) change what is run;
//! `SFU_FORWARDING_SYSTEM` (`sfu`, `floor` or `janus`) runs one of them alone, to be profiled.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]
#![allow(unreachable_pub, missing_docs, reason = "a program")]

mod cpu;
mod floor;
mod generator;
mod janus;
mod peer;
mod traffic;

use std::time::Duration;

use generator::{Generator, Scenario, Window};

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "1_to_10", publishers: 1, speakers: 1, participants: 11, mutual: false },
    Scenario { name: "1_to_30", publishers: 1, speakers: 1, participants: 31, mutual: false },
    Scenario { name: "meeting_of_6", publishers: 6, speakers: 3, participants: 6, mutual: true },
];
/// Most that forwarding may cost, in floors.
const REACH: f64 = 1.3;
/// Most that forwarding may cost, in what it costs Janus.
const REACH_OF_JANUS: f64 = 1.0 / 6.0;
/// Most of its processor that the generator may use.
const GENERATOR_LIMIT: f64 = 0.85;
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
    for scenario in SCENARIOS.into_iter().filter(|s| only.as_deref().is_none_or(|only| only == s.name)) {
        match system.as_deref() {
            Some("sfu") => _ = valid("sfu", scenario, window, Generator::against_sfu),
            Some("floor") => _ = valid("floor", scenario, window, Generator::against_floor),
            Some("janus") => _ = valid("janus", scenario, window, Generator::against_janus),
            _ => compare(scenario, rounds, window),
        }
    }
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
