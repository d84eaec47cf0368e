use super::*;
use halloo_protocol::{Answered, DeviceId, Ended};
use proptest::prelude::*;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn id() -> CallId {
    CallId::new("c").unwrap()
}

fn candidate(n: usize) -> Candidate {
    Candidate { candidate: format!("candidate:{n}"), sdp_mid: None, sdp_m_line_index: None, username_fragment: None }
}

fn caller() -> CallMachine {
    CallMachine::outgoing(id(), UserId::new("bob").unwrap(), MediaState::default())
}

fn callee() -> CallMachine {
    let ring = Duration::from_secs(30);
    CallMachine::incoming(at(0), id(), UserId::new("al").unwrap(), "offer".into(), ring)
}

fn drain(machine: &mut CallMachine) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).collect()
}

fn answered() -> Event {
    let by_device = DeviceId::new("d").unwrap();
    Event::Answered(Answered { call: id(), by_device, media: MediaState::default(), sdp: "answer".into() })
}

fn active_caller() -> CallMachine {
    let mut m = caller();
    m.handle_local_sdp(at(1), SdpKind::Offer, "offer".into());
    m.handle_event(at(2), answered());
    m.handle_media_path(at(3), MediaPath::Connected, None);
    drain(&mut m);
    m
}

/// What went to the server.
fn requests(outputs: &[Output]) -> Vec<&Request> {
    outputs
        .iter()
        .filter_map(|o| if let Output::Request(r) | Output::Critical(r) = o { Some(r) } else { None })
        .collect()
}

#[test]
fn a_callee_sends_no_sdp_and_no_candidate_before_its_user_accepts() {
    let mut m = callee();
    m.handle_local_candidate(candidate(1));
    m.handle_event(at(1), Event::Candidate(CandidateFrom { call: id(), candidate: candidate(9) }));
    let outputs = drain(&mut m);
    assert_eq!(requests(&outputs), [&Request::Ringing { call: id() }]);
    m.accept(MediaState::default());
    assert_eq!(drain(&mut m), [Output::CreateAnswer]);
    m.handle_local_candidate(candidate(2));
    assert_eq!(drain(&mut m), []);
    m.handle_local_sdp(at(2), SdpKind::Answer, "answer".into());
    let outputs = drain(&mut m);
    let sent = requests(&outputs);
    assert!(matches!(sent[0], Request::Answer(_)) && sent.len() == 3, "{sent:?}");
}

#[test]
fn the_callers_candidates_follow_its_invitation() {
    let mut m = caller();
    m.handle_local_candidate(candidate(1));
    assert_eq!(drain(&mut m), [Output::CreateOffer]);
    m.handle_local_sdp(at(1), SdpKind::Offer, "offer".into());
    let outputs = drain(&mut m);
    assert!(matches!(requests(&outputs)[..], [Request::Invite(_), Request::Candidate(_)]));
}

#[test]
fn hang_up_in_every_state_ends_once_and_tells_the_server_rightly() {
    let inviting = || {
        let mut m = caller();
        m.handle_local_sdp(at(1), SdpKind::Offer, "o".into());
        m
    };
    let answering = || {
        let mut m = callee();
        m.accept(MediaState::default());
        m
    };
    let cases: [(CallMachine, Option<Request>, EndReason); 5] = [
        (caller(), None, EndReason::Cancelled),
        (inviting(), Some(Request::Cancel { call: id() }), EndReason::Cancelled),
        (callee(), Some(Request::Decline { call: id() }), EndReason::Declined),
        (answering(), Some(Request::HangUp { call: id(), reason: EndReason::HungUp }), EndReason::HungUp),
        (active_caller(), Some(Request::HangUp { call: id(), reason: EndReason::HungUp }), EndReason::HungUp),
    ];
    for (mut m, request, reason) in cases {
        drain(&mut m);
        m.hang_up();
        m.hang_up();
        let mut expected: Vec<Output> = request.into_iter().map(Output::Request).collect();
        expected.push(Output::CloseMedia);
        expected.push(Output::Ended(CallEnd { reason, error: None, code: None }));
        assert_eq!(drain(&mut m), expected);
    }
}

#[test]
fn a_killed_peer_is_given_up_two_seconds_after_both_signs_of_it() {
    let mut m = active_caller();
    m.handle_event(at(1_000), Event::PeerReach { call: id(), reach: PeerReach::Lost });
    m.handle_media_path(at(6_000), MediaPath::Disconnected, None);
    assert_eq!(m.next_timeout(), Some(at(8_000)));
    m.handle_timeout(at(8_000));
    assert!(drain(&mut m).iter().any(|o| matches!(o, Output::Ended(CallEnd { reason: EndReason::PeerLost, .. }))));
}

#[test]
fn media_that_stops_while_the_peer_is_there_restarts_ice_and_waits() {
    let mut m = active_caller();
    m.handle_media_path(at(5_000), MediaPath::Disconnected, None);
    m.handle_timeout(at(8_000));
    assert_eq!(drain(&mut m), [Output::Notice(Notice::Reconnecting), Output::RestartIce]);
    m.handle_media_path(at(9_000), MediaPath::Connected, None);
    assert_eq!(drain(&mut m), [Output::Notice(Notice::Reconnected)]);
    assert_eq!(m.next_timeout(), None);
}

#[test]
fn a_call_goes_on_without_its_server_and_is_announced_to_the_next_one() {
    let mut m = active_caller();
    m.handle_signed_in(false, false);
    let outputs = drain(&mut m);
    assert!(matches!(requests(&outputs)[..], [Request::Announce(_)]));
    assert!(m.is_active());
}

#[test]
fn glare_names_the_call_to_answer() {
    let mut m = caller();
    m.handle_local_sdp(at(1), SdpKind::Offer, "o".into());
    drain(&mut m);
    let mut error = ErrorBody::new(ErrorCode::Glare, "they call you");
    error.call = Some(CallId::new("other").unwrap());
    m.handle_refused(&error);
    assert_eq!(drain(&mut m)[0], Output::Notice(Notice::Glare(CallId::new("other").unwrap())));
    assert!(m.is_ended());
}

#[derive(Clone, Debug)]
enum Op {
    Accept,
    HangUp,
    Busy,
    LocalOffer,
    LocalAnswer,
    LocalCandidate,
    MediaError,
    Refused(ErrorCode),
    Path(MediaPath),
    SignedIn(bool, bool),
    Event(Event),
    Wait(u64),
    Media(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let event = prop_oneof![
        Just(answered()),
        Just(Event::Ringing { call: id(), device: DeviceId::new("d").unwrap() }),
        Just(Event::PeerReach { call: id(), reach: PeerReach::Lost }),
        Just(Event::PeerReach { call: id(), reach: PeerReach::Back }),
        Just(Event::Candidate(CandidateFrom { call: id(), candidate: candidate(1) })),
        Just(Event::Ended(Ended { call: id(), reason: EndReason::HungUp })),
        Just(Event::Description(Description { call: id(), kind: SdpKind::Offer, sdp: "o".into() })),
    ];
    prop_oneof![
        Just(Op::Accept),
        Just(Op::HangUp),
        Just(Op::Busy),
        Just(Op::LocalOffer),
        Just(Op::LocalAnswer),
        Just(Op::LocalCandidate),
        Just(Op::MediaError),
        prop_oneof![Just(ErrorCode::Glare), Just(ErrorCode::NotSignedIn), Just(ErrorCode::CallState)]
            .prop_map(Op::Refused),
        prop_oneof![Just(MediaPath::Connected), Just(MediaPath::Disconnected), Just(MediaPath::Failed)]
            .prop_map(Op::Path),
        (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Op::SignedIn(a, b)),
        event.prop_map(Op::Event),
        (0..40_000u64).prop_map(Op::Wait),
        any::<bool>().prop_map(Op::Media),
    ]
}

proptest! {
    #[test]
    fn it_ends_once_and_says_nothing_after(is_caller: bool, ops in prop::collection::vec(op(), 0..60)) {
        let mut m = if is_caller { caller() } else { callee() };
        let (mut now, mut ended, mut accepted) = (0, 0, is_caller);
        for op in ops {
            match op {
                Op::Accept => { accepted = true; m.accept(MediaState::default()) }
                Op::HangUp => m.hang_up(),
                Op::Busy => m.busy(),
                Op::LocalOffer => m.handle_local_sdp(at(now), SdpKind::Offer, "o".into()),
                Op::LocalAnswer => m.handle_local_sdp(at(now), SdpKind::Answer, "a".into()),
                Op::LocalCandidate => m.handle_local_candidate(candidate(1)),
                Op::MediaError => m.handle_media_error("broken".into()),
                Op::Refused(code) => m.handle_refused(&ErrorBody::new(code, "no")),
                Op::Path(path) => m.handle_media_path(at(now), path, None),
                Op::SignedIn(a, b) => m.handle_signed_in(a, b),
                Op::Event(event) => m.handle_event(at(now), event),
                Op::Wait(ms) => { now += ms; m.handle_timeout(at(now)) }
                Op::Media(audio_muted) => m.set_media(MediaState { audio_muted, ..MediaState::default() }),
            }
            for output in drain(&mut m) {
                prop_assert_eq!(ended, 0, "{:?} after the end", output);
                if let Output::Request(r) | Output::Critical(r) = &output {
                    let tells = matches!(r, Request::Answer(_) | Request::Candidate(_) | Request::Description(_));
                    prop_assert!(accepted || !tells, "{:?} before the user accepted", r);
                }
                ended += usize::from(matches!(output, Output::Ended(_)));
            }
            prop_assert_eq!(m.is_ended(), ended == 1);
            prop_assert!(!m.is_ended() || m.next_timeout().is_none());
        }
    }
}
