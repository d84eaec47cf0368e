//! Who joins and leaves when: a schedule made ahead from a seed, the same each time.
//!
//! Invariants: everybody who leaves has joined before; a place is never taken twice at a time; nobody comes or goes in the last
//! seconds, so that whoever came has seen something.

use halloo_transport::random::Random;
use std::time::Duration;

/// Nobody comes or goes at random this close to the end.
const CALM: Duration = Duration::from_secs(3);
/// How long a place stays empty between two people.
const EMPTY: (f64, f64) = (0.2, 2.0);

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rooms.
    pub rooms: u32,
    /// Participants of each room.
    pub participants: u32,
    /// Those of them with camera and microphone; the others watch and listen.
    pub publishers: u32,
    /// Joins per second at the start.
    pub ramp: f64,
    /// People who leave, and are followed by another, per second, all rooms together.
    pub churn: f64,
    /// From the last join of the ramp to the end.
    pub duration: Duration,
    /// For everything at random.
    pub seed: u64,
}

/// Somebody who takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Person {
    /// From 0, in the order of joining.
    pub number: u32,
    /// Which room.
    pub room: u32,
    /// Which place of the room; publishers have the first ones.
    pub place: u32,
    /// Whether they have camera and microphone on.
    pub publishes: bool,
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Somebody joins.
    Join(Person),
    /// Somebody, by number, leaves.
    Leave(u32),
}

/// The schedule.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order of time since the start.
    pub steps: Vec<(Duration, Step)>,
    /// From when on figures are those of a steady load.
    pub steady: Duration,
    /// The end.
    pub end: Duration,
}

impl Plan {
    /// The schedule of this shape.
    pub fn new(shape: &Shape) -> Self {
        let seats: Vec<(u32, u32)> =
            (0..shape.participants).flat_map(|place| (0..shape.rooms).map(move |room| (room, place))).collect();
        let person = |number: usize, (room, place): (u32, u32)| Person {
            number: number as u32,
            room,
            place,
            publishes: place < shape.publishers,
        };
        let at = |number: usize| Duration::from_secs_f64(number as f64 / shape.ramp.max(0.001));
        let mut steps: Vec<(Duration, Step)> =
            seats.iter().enumerate().map(|(number, seat)| (at(number), Step::Join(person(number, *seat)))).collect();
        let full = at(seats.len().saturating_sub(1));
        let end = full + shape.duration;
        let steady = full + Duration::from_secs(2).min(shape.duration / 4);

        let mut random = Random::new(shape.seed);
        let mut holders: Vec<(u32, Duration)> = (0..seats.len() as u32).map(|number| (number, full)).collect();
        let mut made = seats.len();
        let mut now = full;
        while shape.churn > 0.0 && !seats.is_empty() {
            now += Duration::from_secs_f64(-(1.0 - random.next_f64()).ln() / shape.churn);
            let back = now + Duration::from_secs_f64(EMPTY.0 + (EMPTY.1 - EMPTY.0) * random.next_f64());
            if back + CALM > end {
                break;
            }
            let seat = (random.next_u64() % seats.len() as u64) as usize;
            let (holder, since) = holders[seat];
            // Still empty, or just taken.
            if since >= now {
                continue;
            }
            steps.push((now, Step::Leave(holder)));
            steps.push((back, Step::Join(person(made, seats[seat]))));
            holders[seat] = (made as u32, back);
            made += 1;
        }
        steps.sort_by_key(|(at, _)| *at);
        Self { steps, steady, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SHAPE: Shape = Shape {
        rooms: 2,
        participants: 3,
        publishers: 2,
        ramp: 10.0,
        churn: 0.0,
        duration: Duration::from_secs(20),
        seed: 1,
    };

    #[test]
    fn the_ramp_fills_all_rooms_evenly_with_publishers_first() {
        let plan = Plan::new(&SHAPE);
        let joins: Vec<_> = plan
            .steps
            .iter()
            .map(|(at, step)| match step {
                Step::Join(p) => (at.as_millis(), p.room, p.place, p.publishes),
                Step::Leave(_) => panic!("nobody leaves"),
            })
            .collect();
        let expected = [(0, 0, 0), (100, 1, 0), (200, 0, 1), (300, 1, 1), (400, 0, 2), (500, 1, 2)];
        assert_eq!(joins, expected.map(|(at, room, place)| (at, room, place, place < 2)));
        assert_eq!(plan.end, Duration::from_millis(20_500));
        assert_eq!(plan.steady, Duration::from_millis(2_500));
    }

    proptest! {
        #[test]
        fn places_are_never_taken_twice_and_leavers_have_joined(seed: u64, churn in 0.1_f64..20.0) {
            let shape = Shape { churn, seed, ..SHAPE };
            let plan = Plan::new(&shape);
            prop_assert_eq!(&plan.steps, &Plan::new(&shape).steps);
            let (mut taken, mut there, mut last) = (BTreeSet::new(), BTreeMap::new(), Duration::ZERO);
            for (at, step) in plan.steps {
                prop_assert!(at >= last && at <= plan.end);
                last = at;
                match step {
                    Step::Join(person) => {
                        prop_assert!(taken.insert((person.room, person.place)));
                        prop_assert!(there.insert(person.number, person).is_none());
                    }
                    Step::Leave(number) => {
                        let person = there.remove(&number).unwrap();
                        taken.remove(&(person.room, person.place));
                    }
                }
            }
            prop_assert_eq!(taken.len(), 6, "everybody's place is taken at the end");
        }
    }

    #[test]
    fn people_come_and_go_as_often_as_asked() {
        let plan = Plan::new(&Shape { participants: 50, churn: 2.0, duration: Duration::from_secs(100), ..SHAPE });
        let left = plan.steps.iter().filter(|(_, step)| matches!(step, Step::Leave(_))).count();
        assert!((150..240).contains(&left), "{left} in 100 s at 2 a second");
    }
}
