//! How long it takes from joining a room of ten to the first picture: ICE, DTLS, a slot, a key frame asked for and sent on.
//!
//! The first picture is a complete key frame. The recording's pictures cannot be decoded here; decoding one takes under two
//! milliseconds.

use std::time::Duration;

use crate::generator::{Generator, Scenario};

const SCENARIO: Scenario =
    Scenario { name: "room_of_10", publishers: 10, speakers: 3, participants: 10, mutual: true, rooms: 1 };
/// Between one's first picture and the next one's joining.
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

/// Times of joins one after the other, in milliseconds: until media could flow, and until the first picture.
pub(crate) fn measure(times: usize) -> Vec<(f64, f64)> {
    let mut generator = Generator::against_sfu(SCENARIO);
    let clock = generator.clock();
    generator.begin();
    run(&mut generator, Duration::from_secs(2));
    (0..times)
        .map(|_| {
            let began = clock.now();
            let (id, index) = generator.join_one_more(None).expect("a unit");
            while generator.peer(index).first_picture_at.is_none() {
                assert!(clock.now().since(began) < PATIENCE, "no picture");
                generator.step(clock.now() + Duration::from_millis(5));
            }
            let peer = generator.peer(index);
            let millis = |at: Option<_>| {
                1e3 * at.map_or(Duration::ZERO, |at: halloo_transport::Timestamp| at.since(began)).as_secs_f64()
            };
            let taken = (millis(peer.connected_at), millis(peer.first_picture_at));
            generator.last_leaves(id);
            run(&mut generator, PAUSE);
            taken
        })
        .collect()
}

fn run(generator: &mut Generator, duration: Duration) {
    let until = generator.clock().now() + duration;
    while generator.clock().now() < until {
        generator.step(until);
    }
}
