//! Many rooms on one processor: what is lost at 70 % of what it can do, and how long packets take there.
//!
//! Rooms of one publisher and thirty receivers, as many as keep the shard's thread busy for 70 % of the time, while ten people
//! a second join rooms. The floor forwards the same rooms; meanwhile as many people join a unit that does nothing else, so
//! that handshakes take the same time from the generator. A delay counts from before the packet is sealed to after it is
//! opened, of one packet in sixteen. Whose pictures fall together is chance, and decides on the longest delays: both are measured
//! in turns, and the medians count.

use std::{sync::mpsc::sync_channel, time::Duration};

use halloo_sfu::{
    Sfu, SfuConfig,
    dtls::{Certificate, Endpoint},
};

use crate::{
    generator::{Generator, Scenario, Window},
    median,
};

const PER_ROOM: Scenario =
    Scenario { name: "rooms_of_31", publishers: 1, speakers: 1, participants: 31, mutual: false, rooms: 1 };
/// Rooms by which the cost of a packet is told at first.
const FIRST_ROOMS: usize = 10;
const SHARE: f64 = 0.7;
/// Loads that are tried to get there.
const ATTEMPTS: usize = 4;
const JOIN_INTERVAL: Duration = Duration::from_millis(100);

/// What was measured.
pub(crate) struct Measured {
    pub(crate) rooms: usize,
    pub(crate) sfu: UnderLoad,
    pub(crate) floor: UnderLoad,
}

/// What one of both did under the load.
pub(crate) struct UnderLoad {
    /// Of its processor.
    pub(crate) share: f64,
    pub(crate) micros: f64,
    pub(crate) p99_ms: f64,
    /// In all windows together.
    pub(crate) lost: i64,
}

impl UnderLoad {
    fn of(windows: &[(Window, f64)]) -> Self {
        let median_of = |value: fn(&(Window, f64)) -> f64| median(windows.iter().map(value).collect());
        Self {
            share: median_of(|(window, _)| window.share),
            micros: median_of(|(window, _)| window.micros),
            p99_ms: median_of(|(_, p99)| *p99),
            lost: windows.iter().map(|(window, _)| window.lost.max(0)).sum(),
        }
    }
}

/// Finds the load and measures both under it, so many times; at most `limit` is asked of the generator.
pub(crate) fn measure(window: Duration, limit: f64, rounds: usize) -> Measured {
    let first = Generator::against_sfu(Scenario { rooms: FIRST_ROOMS, ..PER_ROOM }).measure(window / 2);
    say("sfu", FIRST_ROOMS, &first);
    let by_unit = SHARE / first.share;
    let by_generator = 0.9 * limit / first.generator;
    if by_generator < by_unit {
        eprintln!("the generator is the limit: {:.0} % of a processor is not reached", 100.0 * SHARE);
    }
    let mut rooms = (FIRST_ROOMS as f64 * by_unit.min(by_generator)) as usize;
    for attempt in 0.. {
        let scenario = Scenario { rooms, ..PER_ROOM };
        let found = one("sfu", Generator::against_sfu(scenario), scenario, window);
        let sfu = &found.0;
        // Costs a packet less where there are more of them, or the generator more: once more with what fits.
        if sfu.generator > limit && rooms > FIRST_ROOMS {
            rooms = (0.85 * rooms as f64) as usize;
            continue;
        }
        // And the other way round.
        if sfu.share < SHARE && sfu.generator < 0.8 * limit && attempt < ATTEMPTS {
            rooms = ((SHARE + 0.01) / sfu.share * rooms as f64).ceil() as usize;
            continue;
        }
        let (mut sfu, mut floor) = (vec![found], Vec::new());
        for round in 0..rounds {
            if round > 0 {
                sfu.push(one("sfu", Generator::against_sfu(scenario), scenario, window));
            }
            floor.push(one("floor", Generator::against_floor(scenario), scenario, window));
        }
        return Measured { rooms, sfu: UnderLoad::of(&sfu), floor: UnderLoad::of(&floor) };
    }
    unreachable!("the loop returns")
}

fn one(system: &str, mut generator: Generator, scenario: Scenario, window: Duration) -> (Window, f64) {
    let clock = generator.clock();
    let (sender, _events) = sync_channel(4_096);
    let aside = Sfu::start(&SfuConfig::default(), sender).expect("a unit");
    let endpoint = Endpoint::new(Certificate::generate().expect("a certificate"), clock.origin()).expect("an endpoint");
    let mut next_join = None;
    let taken = generator.measure_while(window, |generator| {
        let now = clock.now();
        let due = *next_join.get_or_insert_with(|| {
            generator.take_delays();
            now
        });
        if due <= now {
            next_join = Some(due + JOIN_INTERVAL);
            generator.join_one_more(Some((&aside, &endpoint)));
        }
    });
    say(system, scenario.rooms, &taken);
    let mut delays = generator.take_delays();
    delays.sort_unstable();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    eprintln!("    delay: median {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms", at(0.5), at(0.99), at(0.999));
    (taken, at(0.99))
}

fn say(system: &str, rooms: usize, taken: &Window) {
    eprintln!(
        "{system}, {rooms} rooms: {:.3} us, {:.0} % of its processor, {} received, {} lost, generator {:.1} %",
        taken.micros,
        100.0 * taken.share,
        taken.received,
        taken.lost,
        100.0 * taken.generator
    );
}
