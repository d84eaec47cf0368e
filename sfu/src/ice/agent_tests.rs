//! The lite agent against checks as a full agent sends them, and against what is not one.

use std::net::SocketAddr;

use proptest::prelude::*;
use stun_rs::{
    MessageEncoder, StunMessageBuilder,
    attributes::{
        ice::{IceControlled, IceControlling, Priority},
        stun::{ErrorCode, XorMappedAddress},
    },
};

use super::*;
use crate::ice::MAX_ANSWER;

const PWD: &str = "passwordpasswordpassword";
const START: Timestamp = Timestamp::from_millis(1_000);

fn credentials(ufrag: &str) -> Credentials {
    Credentials::new(ufrag, PWD).unwrap()
}

fn agent() -> Agent {
    Agent::new(START, credentials("sfuufrag"), "peer").unwrap()
}

fn address(port: u16) -> TransportAddress {
    TransportAddress::udp(SocketAddr::from(([192, 0, 2, 7], port)))
}

#[derive(Clone, Copy)]
struct Request {
    username: &'static str,
    pwd: &'static str,
    controlled: bool,
    nominate: bool,
    integrity: bool,
    fingerprint: bool,
}

const CHECK: Request = Request {
    username: "sfuufrag:peer",
    pwd: PWD,
    controlled: false,
    nominate: false,
    integrity: true,
    fingerprint: true,
};
const NOMINATION: Request = Request { nominate: true, ..CHECK };

impl Request {
    fn bytes(self) -> Vec<u8> {
        let mut builder = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_attribute(UserName::new(self.username).unwrap())
            .with_attribute(Priority::from(1_862_270_975));
        builder = match self.controlled {
            true => builder.with_attribute(IceControlled::from(7)),
            false => builder.with_attribute(IceControlling::from(7)),
        };
        if self.nominate {
            builder = builder.with_attribute(UseCandidate::default());
        }
        if self.integrity {
            builder = builder.with_attribute(MessageIntegrity::new(HMACKey::new_short_term(self.pwd).unwrap()));
        }
        if self.fingerprint {
            builder = builder.with_attribute(Fingerprint::default());
        }
        let mut bytes = vec![0; 300];
        let len = MessageEncoder::default().encode(&mut bytes, &builder.build()).unwrap();
        bytes.truncate(len);
        bytes
    }
}

/// The change a check made; panics where it was dropped.
fn check(agent: &mut Agent, now: Timestamp, from: TransportAddress, request: Request) -> PathChange {
    match agent.handle_check(now, from, &request.bytes(), &mut [0; MAX_ANSWER]) {
        Check::Answered { change, .. } => change,
        Check::Dropped(why) => panic!("dropped: {why:?}"),
    }
}

fn decode(answer: &[u8]) -> StunMessage {
    let key = HMACKey::new_short_term(PWD).unwrap();
    let context = DecoderContextBuilder::default().with_key(key).with_validation().build();
    MessageDecoderBuilder::default().with_context(context).build().decode(answer).unwrap().0
}

#[test]
fn a_check_is_answered_with_the_address_it_came_from() {
    for from in [address(4_000), TransportAddress::tcp("[2001:db8::1]:9".parse().unwrap())] {
        let (mut agent, request, mut answer) = (agent(), CHECK.bytes(), [0; MAX_ANSWER]);
        let Check::Answered { len, change } = agent.handle_check(START, from, &request, &mut answer) else { panic!() };
        assert!(len <= request.len());
        let message = decode(&answer[..len]);
        assert_eq!(message.class(), MessageClass::SuccessResponse);
        assert_eq!(message.transaction_id().as_bytes(), &request[8..20]);
        assert!(message.get::<MessageIntegrity>().is_some() && message.get::<Fingerprint>().is_some());
        let mapped = message.get::<XorMappedAddress>().unwrap().as_xor_mapped_address().unwrap();
        assert_eq!(*mapped.socket_address(), from.address);
        assert_eq!(change.validated, Some(from));
    }
}

#[test]
fn a_check_that_proves_nothing_gets_no_answer_and_changes_nothing() {
    let wrong = [
        (Request { username: "sfuufrag:else", ..CHECK }, Dropped::WrongUsername),
        (Request { username: "otherone:peer", ..CHECK }, Dropped::WrongUsername),
        (Request { pwd: "wrongwrongwrongwrongwrong", ..CHECK }, Dropped::Authentication),
        (Request { integrity: false, ..CHECK }, Dropped::Malformed),
        (Request { fingerprint: false, ..CHECK }, Dropped::Malformed),
    ];
    let mut agent = agent();
    for (request, why) in wrong {
        let outcome = agent.handle_check(START, address(1), &request.bytes(), &mut [0; MAX_ANSWER]);
        assert_eq!(outcome, Check::Dropped(why));
    }
    assert_eq!(agent.addresses().count(), 0);
    assert_eq!(agent.selected(), None);
}

#[test]
fn any_changed_byte_makes_a_check_worthless() {
    let mut agent = agent();
    let request = NOMINATION.bytes();
    for at in 0..request.len() {
        let mut forged = request.clone();
        forged[at] ^= 1;
        let outcome = agent.handle_check(START, address(1), &forged, &mut [0; MAX_ANSWER]);
        assert!(matches!(outcome, Check::Dropped(_)), "byte {at}: {outcome:?}");
    }
    assert_eq!(agent.selected(), None);
}

#[test]
fn a_peer_that_claims_to_be_controlled_gets_a_role_conflict() {
    let (mut agent, mut answer) = (agent(), [0; MAX_ANSWER]);
    let request = Request { controlled: true, nominate: true, ..CHECK }.bytes();
    let Check::Answered { len, change } = agent.handle_check(START, address(1), &request, &mut answer) else {
        panic!()
    };
    assert!(len <= request.len());
    let message = decode(&answer[..len]);
    assert_eq!(message.class(), MessageClass::ErrorResponse);
    assert_eq!(message.get::<ErrorCode>().unwrap().as_error_code().unwrap().error_code().error_code(), 487);
    assert_eq!(change, PathChange::default());
    assert_eq!(agent.selected(), None);
}

#[test]
fn the_last_nominated_path_is_selected() {
    let mut agent = agent();
    assert_eq!(check(&mut agent, START, address(1), CHECK).selected, Some(address(1)), "better than none");
    assert_eq!(check(&mut agent, START, address(2), CHECK).selected, None);
    assert_eq!(check(&mut agent, START, address(2), NOMINATION).selected, Some(address(2)));
    assert_eq!(check(&mut agent, START, address(2), NOMINATION).selected, None, "already");
    assert_eq!(check(&mut agent, START, address(1), CHECK).selected, None);
    assert_eq!(agent.selected(), Some(address(2)));
}

#[test]
fn a_path_that_fell_silent_gives_way_without_a_nomination() {
    let mut agent = agent();
    check(&mut agent, START, address(1), NOMINATION);
    assert_eq!(check(&mut agent, START + Duration::from_secs(5), address(2), CHECK).selected, None);
    let change = check(&mut agent, START + Duration::from_secs(9), address(2), CHECK);
    assert_eq!(change.selected, Some(address(2)));
}

#[test]
fn a_path_that_ended_gives_way_to_the_one_checked_last_and_then_to_the_next_check() {
    let mut agent = agent();
    let later = |seconds| START + Duration::from_secs(seconds);
    check(&mut agent, later(3), address(3), CHECK);
    check(&mut agent, later(2), address(2), CHECK);
    check(&mut agent, later(1), address(1), NOMINATION);
    assert!(!agent.remove(address(9)));
    assert!(agent.remove(address(1)));
    assert_eq!(agent.selected(), Some(address(3)));
    assert!(!agent.remove(address(2)) && agent.remove(address(3)));
    assert_eq!(agent.selected(), None);
    assert_eq!(agent.consent_until(), later(1) + CONSENT, "consent lasts");
    assert_eq!(check(&mut agent, later(4), address(4), CHECK).selected, Some(address(4)));
}

#[test]
fn consent_is_renewed_by_verified_checks_only() {
    let mut agent = agent();
    assert_eq!(agent.consent_until(), START + CONSENT);
    let later = START + Duration::from_secs(20);
    check(&mut agent, later, address(1), CHECK);
    assert_eq!(agent.consent_until(), later + CONSENT);
    let forged = Request { pwd: "wrongwrongwrongwrongwrong", ..CHECK }.bytes();
    agent.handle_check(later + Duration::from_secs(5), address(1), &forged, &mut [0; MAX_ANSWER]);
    assert_eq!(agent.consent_until(), later + CONSENT);
}

#[test]
fn paths_are_bounded_and_the_selected_one_stays() {
    let mut agent = agent();
    check(&mut agent, START, address(1), NOMINATION);
    for port in 2..100 {
        let change = check(&mut agent, START + Duration::from_millis(u64::from(port)), address(port), CHECK);
        assert_eq!(change.removed.is_some(), usize::from(port) > MAX_PATHS);
    }
    assert_eq!(agent.addresses().count(), MAX_PATHS);
    assert!(agent.is_valid(address(1)) && agent.is_valid(address(99)) && !agent.is_valid(address(50)));
}

#[test]
fn both_generations_are_valid_until_a_restart_completes() {
    let mut agent = agent();
    check(&mut agent, START, address(1), NOMINATION);
    assert_eq!(agent.restart(credentials("newufrag"), "fresh"), Ok(None));
    assert_eq!(agent.ufrags().collect::<Vec<_>>(), ["newufrag", "sfuufrag"]);
    assert_eq!(check(&mut agent, START, address(1), CHECK).retired_ufrag, None);

    let new = Request { username: "newufrag:fresh", ..NOMINATION };
    let change = check(&mut agent, START, address(2), new);
    assert_eq!(change.retired_ufrag.as_deref(), Some("sfuufrag"));
    assert_eq!(agent.selected(), Some(address(2)));
    let old = agent.handle_check(START, address(1), &CHECK.bytes(), &mut [0; MAX_ANSWER]);
    assert_eq!(old, Check::Dropped(Dropped::WrongUsername));
}

#[test]
fn a_second_restart_retires_the_one_that_was_never_checked() {
    let mut agent = agent();
    agent.restart(credentials("second01"), "b").unwrap();
    assert_eq!(agent.restart(credentials("third001"), "c"), Ok(Some("second01".to_owned())));
    assert_eq!(agent.ufrags().collect::<Vec<_>>(), ["third001", "sfuufrag"]);
}

#[test]
fn an_indication_is_dropped() {
    let mut indication = CHECK.bytes();
    indication[..2].copy_from_slice(&[0x00, 0x11]);
    let outcome = agent().handle_check(START, address(1), &indication, &mut [0; MAX_ANSWER]);
    assert_eq!(outcome, Check::Dropped(Dropped::Malformed));
}

proptest! {
    #[test]
    fn arbitrary_attributes_are_dropped_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut datagram = CHECK.bytes()[..20].to_vec();
        datagram.extend(&tail);
        datagram[2..4].copy_from_slice(&(tail.len() as u16).to_be_bytes());
        let outcome = agent().handle_check(START, address(1), &datagram, &mut [0; MAX_ANSWER]);
        prop_assert!(matches!(outcome, Check::Dropped(_)));
    }

    #[test]
    fn mutated_checks_are_dropped_without_a_panic(at in 20usize..90, with in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut datagram = NOMINATION.bytes();
        let original = datagram.clone();
        datagram.splice(at..(at + with.len()).min(original.len()), with);
        datagram.truncate(original.len());
        let outcome = agent().handle_check(START, address(1), &datagram, &mut [0; MAX_ANSWER]);
        prop_assert!(matches!(outcome, Check::Dropped(_)) || datagram == original);
    }
}

#[test]
fn an_overheard_check_takes_a_session_nowhere() {
    let mut agent = agent();
    let (own, elsewhere) = (address(1), address(2));
    let request = NOMINATION.bytes();
    let answered = |check| matches!(check, Check::Answered { .. });
    let mut answer = [0; MAX_ANSWER];
    assert!(answered(agent.handle_check(START, own, &request, &mut answer)));
    assert_eq!(
        agent.handle_check(START, elsewhere, &request, &mut answer),
        Check::Dropped(Dropped::Replayed),
        "the same check from elsewhere"
    );
    assert_eq!((agent.selected(), agent.is_valid(elsewhere)), (Some(own), false));
    assert!(answered(agent.handle_check(START, own, &request, &mut answer)), "a retransmission");
    check(&mut agent, START, elsewhere, NOMINATION);
    assert_eq!(agent.selected(), Some(elsewhere), "a check of its own");
    for _ in 0..2 * MAX_REMEMBERED {
        check(&mut agent, START, own, CHECK);
    }
    assert_eq!(agent.checks.len(), MAX_REMEMBERED);
}
