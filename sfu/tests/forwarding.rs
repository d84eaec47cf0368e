//! The whole unit over real sockets: clients join, shake hands, and hear each other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use halloo_sfu::{
    room::{Command, SourceId, SourceKind},
    shard::{Event, LeaveReason},
};
use support::{PATIENCE, Socketed, Unit, heard, hears, start};

fn wait_for(unit: &Unit, mut wanted: impl FnMut(&Event) -> bool) {
    while !wanted(&unit.events.recv_timeout(PATIENCE).expect("the event")) {}
}

#[test]
fn two_clients_hear_each_other_in_their_own_slots() {
    let unit = start();
    let mut alice = Socketed::connect(&unit, "room", 1);
    let mut bob = Socketed::connect(&unit, "room", 2);
    hears(&mut alice, &mut bob, &[b"hello bob", b"how are you"]);
    hears(&mut bob, &mut alice, &[b"fine, alice"]);
    unit.handle.stop();
}

#[test]
fn rooms_do_not_hear_each_other() {
    let unit = start();
    let [mut a, mut b, mut c] = [("one", 1), ("one", 2), ("two", 3)].map(|(room, n)| Socketed::connect(&unit, room, n));
    hears(&mut a, &mut b, &[b"between us"]);
    (0..5).for_each(|_| c.turn(Duration::from_millis(20)));
    assert!(c.rtp.is_empty());
}

#[test]
fn a_client_behind_a_rebinding_nat_stays_in_the_call() {
    let unit = start();
    let mut alice = Socketed::connect(&unit, "room", 1);
    let mut bob = Socketed::connect(&unit, "room", 2);
    hears(&mut alice, &mut bob, &[b"before"]);
    bob.rebind();
    hears(&mut alice, &mut bob, &[b"after"]);
    hears(&mut bob, &mut alice, &[b"from the new port"]);
}

#[test]
fn who_closes_is_reported_and_muted_ones_are_not_heard() {
    let unit = start();
    let mut alice = Socketed::connect(&unit, "room", 1);
    let mut bob = Socketed::connect(&unit, "room", 2);
    hears(&mut alice, &mut bob, &[b"loud"]);
    let source = SourceId::new(alice.id, SourceKind::Microphone);
    unit.handle.command("room".into(), Command::Mute { source, muted: true }).unwrap();
    // The same queue answers in order, so the command was obeyed when this comes back.
    let (reply, answer) = std::sync::mpsc::sync_channel(4);
    unit.handle.stats(move |_, stats| reply.send(stats).unwrap()).unwrap();
    let counted: u64 = (0..2).map(|_| answer.recv_timeout(PATIENCE).unwrap().core.sessions).sum();
    assert_eq!(counted, 2);
    // What was on its way before has arrived by now.
    (0..20).for_each(|_| bob.turn(Duration::from_millis(5)));
    (0..5).for_each(|_| alice.speak(b"muted"));
    (0..20).for_each(|_| bob.turn(Duration::from_millis(5)));
    assert!(!heard(&bob, b"muted"));

    bob.close();
    let id = bob.id;
    wait_for(
        &unit,
        |event| matches!(event, Event::Left { participant, reason: LeaveReason::Closed, .. } if *participant == id),
    );
}
