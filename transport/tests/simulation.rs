//! Two sessions over simulated paths: what a call feels, on virtual time, from seeds.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod support;

use halloo_transport::{Bitrate, Timestamp};
use std::time::Duration;
use support::{
    link::LinkConfig,
    pair::{Pair, percentile},
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const AT: fn(u64) -> Timestamp = Timestamp::from_millis;

fn path(delay_ms: u64) -> LinkConfig {
    LinkConfig { delay: MS(delay_ms), ..LinkConfig::default() }
}

#[test]
fn a_clean_path_reaches_the_maximum_within_two_seconds() {
    for delay in [0, 25, 100] {
        let mut pair = Pair::new(path(delay), path(delay), 1);
        pair.run_until(AT(4_000));
        for endpoint in [&pair.alice, &pair.bob] {
            let reached = endpoint.reached(AT(0), Bitrate::from_kbps(2_450));
            let in_time = MS(if delay > 50 { 3_000 } else { 2_000 });
            assert!(reached.is_some_and(|t| t <= in_time), "{delay} ms: {reached:?} {:?}", endpoint.targets);
            assert_eq!(endpoint.got_video.iter().filter(|g| g.retransmitted).count(), 0);
        }
    }
}

#[test]
fn lost_packets_come_back_by_rtx() {
    for seed in 0..5 {
        let lossy = LinkConfig { loss: 0.10, ..path(50) };
        let mut pair = Pair::new(lossy.clone(), lossy, seed);
        pair.run_until(AT(20_000));
        let sent = pair.alice.sent_video.values().filter(|at| **at < AT(19_500)).count();
        let in_time = |g: &&support::pair::Got| g.sent_at < AT(19_500) && g.delay <= MS(300);
        let delivered = pair.bob.got_video.iter().filter(in_time).count();
        let share = delivered as f64 / sent as f64;
        assert!(share > 0.99, "seed {seed}: {share}");
        assert_eq!(pair.bob.repeated, 0);
    }
}

#[test]
fn target_follows_a_capacity_drop_and_recovers() {
    for seed in 0..3 {
        let limited = LinkConfig { rate: Some(Bitrate::from_kbps(2_000)), ..path(50) };
        let mut pair = Pair::new(limited, path(50), seed);
        pair.run_until(AT(10_000));
        assert!(pair.alice.target_at(AT(10_000)) > Bitrate::from_kbps(1_500), "{:?}", pair.alice.targets);

        pair.forth.config.rate = Some(Bitrate::from_kbps(300));
        pair.run_until(AT(20_000));
        let low = pair.alice.target_at(AT(20_000));
        assert!((Bitrate::from_kbps(180)..Bitrate::from_kbps(330)).contains(&low), "{low:?}");
        let settled = |from, to| {
            let waits = pair.forth.queue_delays.iter().filter(|(at, _)| (from..to).contains(at));
            percentile(waits.map(|(_, d)| *d).collect(), 0.95)
        };
        assert!(settled(AT(13_500), AT(20_000)) < MS(150), "{:?}", settled(AT(13_500), AT(20_000)));
        assert!(pair.alice.reached_down(AT(10_000), Bitrate::from_kbps(400)).is_some_and(|t| t < MS(500)));

        pair.forth.config.rate = Some(Bitrate::from_kbps(2_000));
        pair.run_until(AT(40_000));
        let back = pair.alice.reached(AT(20_000), Bitrate::from_kbps(1_500));
        assert!(back.is_some_and(|t| t <= MS(10_000)), "seed {seed}: {back:?}");
    }
}

#[test]
fn audio_never_waits_behind_video() {
    let limited = LinkConfig { rate: Some(Bitrate::from_kbps(10_000)), ..path(10) };
    let mut pair = Pair::new(limited, path(10), 3);
    pair.run_until(AT(5_000));
    assert!(pair.bob.got_audio.len() > 240);
    let worst = pair.bob.got_audio.iter().map(|g| g.delay).max().unwrap();
    // The path itself, and what one burst of the pacer takes on the link.
    assert!(worst <= MS(10) + MS(8), "{worst:?}");
}

#[test]
fn duplicates_are_delivered_once() {
    let doubling = LinkConfig { duplicate: 0.3, ..path(20) };
    let mut pair = Pair::new(doubling.clone(), doubling, 4);
    pair.run_until(AT(5_000));
    assert_eq!(pair.bob.repeated, 0);
    assert_eq!(pair.bob.got_video.len(), pair.alice.sent_video.len() - in_flight(&pair));
    let stats = pair.bob.session.stats(pair.bob.local(pair.now));
    assert!(stats.recv.iter().all(|(_, s)| s.stats.packets_duplicated > 0));
}

#[test]
fn a_narrow_path_is_used_and_its_queue_stays_short() {
    for kbps in [500, 1_000, 2_000] {
        let limited = LinkConfig { rate: Some(Bitrate::from_kbps(kbps)), ..path(50) };
        let mut pair = Pair::new(limited, path(50), kbps);
        pair.run_until(AT(20_000));
        let used: usize = pair.alice.departures.iter().filter(|(at, _)| *at > AT(5_000)).map(|(_, size)| size).sum();
        let used = Bitrate::from_bytes_over(used as u64, MS(15_000)).as_kbps_f64() / kbps as f64;
        assert!((0.85..1.0).contains(&used), "{kbps}: {used}");
        let waits: Vec<Duration> = pair.forth.queue_delays.iter().map(|(_, d)| *d).collect();
        assert!(percentile(waits.clone(), 0.95) < MS(100), "{kbps}: {:?}", percentile(waits, 0.95));
    }
}

#[test]
fn random_loss_and_jitter_cost_no_bitrate() {
    for link in [
        LinkConfig { loss: 0.05, ..path(50) },
        LinkConfig { loss: 0.10, ..path(50) },
        LinkConfig { jitter: MS(20), ..path(50) },
    ] {
        let mut pair = Pair::new(link.clone(), link.clone(), 7);
        pair.run_until(AT(15_000));
        assert!(pair.alice.target_at(AT(15_000)) >= Bitrate::from_kbps(2_000), "{link:?} {:?}", pair.alice.targets);
    }
}

#[test]
fn sending_little_neither_lowers_the_target_nor_lets_it_grow_unproven() {
    let limited = LinkConfig { rate: Some(Bitrate::from_kbps(1_500)), ..path(30) };
    let mut pair = Pair::new(limited, path(30), 8);
    pair.run_until(AT(6_000));
    let before = pair.alice.target_at(AT(6_000));
    pair.alice.usage = 0.2;
    pair.run_until(AT(20_000));
    let after = pair.alice.target_at(AT(20_000));
    assert!(after >= before.scale(0.8), "{before:?} {after:?}");
    assert!(after <= Bitrate::from_kbps(1_700), "{after:?}");
}

#[test]
fn a_stall_of_the_path_costs_little() {
    let mut pair = Pair::new(path(20), path(20), 9);
    pair.run_until(AT(5_000));
    for i in 0..10 {
        pair.forth.stall(AT(5_000 + 700 * i), MS(150));
        pair.run_until(AT(5_000 + 700 * (i + 1)));
    }
    let least = pair.alice.targets.iter().filter(|(at, _)| *at > AT(6_000)).map(|(_, t)| *t).min();
    assert!(pair.alice.target_at(pair.now) >= Bitrate::from_kbps(2_000), "{:?}", pair.alice.targets);
    assert!(least.is_none_or(|t| t >= Bitrate::from_kbps(1_000)), "{:?}", pair.alice.targets);
}

#[test]
fn a_silent_peer_halves_the_target_and_its_return_restores_it() {
    let mut pair = Pair::new(path(20), path(20), 10);
    pair.run_until(AT(5_000));
    pair.back.config.loss = 1.0;
    pair.run_until(AT(9_000));
    assert!(pair.alice.target_at(AT(9_000)) <= Bitrate::from_kbps(300), "{:?}", pair.alice.targets);
    pair.back.config.loss = 0.0;
    pair.run_until(AT(16_000));
    assert!(pair.alice.target_at(AT(16_000)) >= Bitrate::from_kbps(2_000), "{:?}", pair.alice.targets);
}

#[test]
fn key_frame_requests_arrive_merged() {
    let mut pair = Pair::new(path(20), path(20), 11);
    pair.run_until(AT(2_000));
    for ms in (2_000..3_000).step_by(33) {
        pair.run_until(AT(ms));
        let now = pair.bob.local(pair.now);
        pair.bob.session.request_key_frame(now, halloo_transport::Ssrc(0x1002));
    }
    pair.run_until(AT(3_200));
    let asked = pair.alice.key_frames_asked.len();
    assert!((5..=7).contains(&asked), "{asked}");
}

#[test]
fn reports_measure_the_round_trip_and_tie_the_clocks() {
    let mut pair = Pair::new(path(30), path(45), 12);
    pair.run_until(AT(5_000));
    for endpoint in [&pair.alice, &pair.bob] {
        let rtt = endpoint.session.round_trip_time().unwrap();
        assert!((MS(74)..MS(77)).contains(&rtt), "{rtt:?}");
        // Two streams, about one report a second.
        assert!((6..=14).contains(&endpoint.sender_reports), "{}", endpoint.sender_reports);
    }
    pair.alice.session.close();
    pair.run_until(AT(5_200));
    assert_eq!(pair.bob.byes, 2);
}

fn in_flight(pair: &Pair) -> usize {
    let got = pair.bob.got_video.iter().map(|g| g.sent_at).max().unwrap();
    pair.alice.sent_video.values().filter(|at| **at > got).count()
}

#[test]
fn reordering_alone_causes_no_bitrate_loss() {
    let reordering = LinkConfig { reorder: 0.2, reorder_by: MS(30), ..path(40) };
    let mut pair = Pair::new(reordering.clone(), reordering, 5);
    pair.run_until(AT(20_000));
    let least = pair.alice.targets.iter().filter(|(at, _)| *at > AT(4_000)).map(|(_, t)| *t).min();
    assert!(pair.alice.target_at(AT(20_000)) >= Bitrate::from_kbps(2_400), "{:?}", pair.alice.targets);
    assert!(least.is_none_or(|t| t >= Bitrate::from_kbps(2_300)), "{least:?}");
}
