//! Stays in a room as tables: what comes in, and what is to be done then.

use super::*;
use crate::room::members::MemberKey;
use halloo_protocol::{DeviceId, Participant, PeerReach, Role, RoomJoined, RoomLimits, SourceOf, UserId};

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn media(microphone: SourceState, camera: SourceState) -> RoomMedia {
    RoomMedia { microphone, camera, screen: SourceState::Off }
}

fn somebody(number: u32, name: &str) -> Participant {
    Participant {
        participant: ParticipantId(number),
        user: UserId::new(name).unwrap(),
        device: DeviceId::new(format!("{name}-1")).unwrap(),
        display_name: name.to_owned(),
        role: Role::Participant,
        media: NOTHING,
        reach: PeerReach::Back,
    }
}

fn snapshot(you: u32, others: &[(u32, &str)]) -> RoomSnapshot {
    let mut participants: Vec<_> = others.iter().map(|(number, name)| somebody(*number, name)).collect();
    participants.push(somebody(you, "me"));
    RoomSnapshot {
        room: room(),
        you: ParticipantId(you),
        grants: RoomGrants {
            publish: vec![SourceKind::Microphone, SourceKind::Camera],
            subscribe: true,
            moderate: false,
        },
        state: RoomState {
            locked: false,
            limits: RoomLimits { max_participants: 50, max_publish_kbps: 3_000, max_height: 720 },
        },
        participants,
        dominant_speaker: None,
    }
}

fn joined(you: u32, others: &[(u32, &str)]) -> Result<ReplyResult, ErrorBody> {
    Ok(ReplyResult::RoomJoined(RoomJoined { sdp: format!("answer {you}"), snapshot: snapshot(you, others) }))
}

fn refused(code: ErrorCode) -> Result<ReplyResult, ErrorBody> {
    Err(ErrorBody::new(code, "no"))
}

/// What is to be done, in short.
fn todo(machine: &mut RoomMachine) -> String {
    let mut all = Vec::new();
    while let Some(output) = machine.poll_output() {
        all.push(match output {
            Output::Open => "open".to_owned(),
            Output::SetAnswer(sdp) => sdp,
            Output::RestartIce => "restart".to_owned(),
            Output::Close => "close".to_owned(),
            Output::Join(Request::JoinRoom(join)) => format!("join({})", short(&join.media)),
            Output::Offer(Request::RoomOffer { sdp, .. }) => format!("offer({sdp})"),
            Output::Request(Request::RoomMedia { media, .. }) => format!("media({})", short(&media)),
            Output::Request(Request::LeaveRoom { .. }) => "leave".to_owned(),
            Output::Subscribe => "subscribe".to_owned(),
            Output::Ended(end) => format!("ended({:?})", end.reason),
            Output::Notice(Notice::Inside { you, .. }) => format!("inside({you})"),
            Output::Notice(Notice::State(state)) => format!("locked({})", state.locked),
            Output::Notice(Notice::Muted(kind)) => format!("muted({kind:?})"),
            Output::Notice(Notice::Member(Change::Joined(key, who))) => format!("+{}={}", key.0, who.user),
            Output::Notice(Notice::Member(Change::Changed(key, who))) => {
                format!("~{}={}:{:?}", key.0, who.participant, who.reach)
            }
            Output::Notice(Notice::Member(Change::Left(key, reason))) => format!("-{}:{reason:?}", key.0),
            Output::Notice(Notice::Member(Change::Speaker(key))) => {
                format!("speaker({:?})", key.map(|k: MemberKey| k.0))
            }
            Output::Notice(notice) => format!("{notice:?}").to_lowercase(),
            other => format!("{other:?}"),
        });
    }
    all.join(" ")
}

fn short(media: &RoomMedia) -> String {
    let letter = |state: SourceState| match state {
        SourceState::Off => '-',
        SourceState::Muted => 'm',
        SourceState::On => 'o',
    };
    SourceKind::ALL.into_iter().map(|kind| letter(media.get(kind))).collect()
}

/// Inside, with media flowing, and the others there.
fn inside(others: &[(u32, &str)]) -> RoomMachine {
    let mut machine = RoomMachine::new(room(), None, 7);
    machine.handle_offer("offer".to_owned());
    machine.handle_joined(at(0), joined(1, others));
    machine.handle_media_path(at(100), MediaPath::Connected);
    todo(&mut machine);
    machine
}

#[test]
fn a_device_enters_publishes_and_leaves() {
    let mut machine = RoomMachine::new(room(), None, 7);
    machine.set_media(media(SourceState::On, SourceState::Off));
    assert_eq!(todo(&mut machine), "open");
    machine.handle_offer("offer".to_owned());
    // What one may publish is known only inside.
    assert_eq!(todo(&mut machine), "join(---)");
    machine.handle_joined(at(10), joined(1, &[(4, "bob")]));
    assert_eq!(todo(&mut machine), "answer 1 inside(1) locked(false) +1=bob media(o--) subscribe");
    machine.handle_media_path(at(50), MediaPath::Connected);
    assert_eq!(todo(&mut machine), "connected");
    machine.set_media(media(SourceState::Muted, SourceState::On));
    assert_eq!(todo(&mut machine), "media(mo-)");
    machine.leave();
    assert_eq!(todo(&mut machine), "leave close ended(Left)");
    machine.leave();
    assert_eq!(todo(&mut machine), "");
}

#[test]
fn what_is_not_granted_is_not_declared() {
    let mut machine = inside(&[]);
    machine.set_media(RoomMedia { screen: SourceState::On, ..media(SourceState::On, SourceState::Off) });
    assert_eq!(todo(&mut machine), "media(o--)");
}

#[test]
fn a_refusal_ends_it_unless_it_may_pass() {
    for (code, then) in [
        (ErrorCode::RoomNotGranted, "leave close ended(Refused)"),
        (ErrorCode::RoomLocked, "leave close ended(Refused)"),
        (ErrorCode::MediaUnavailable, "leave close ended(Refused)"),
        (ErrorCode::NotSignedIn, "close"),
        (ErrorCode::ShuttingDown, "close"),
    ] {
        let mut machine = RoomMachine::new(room(), None, 7);
        machine.handle_offer("offer".to_owned());
        todo(&mut machine);
        machine.handle_joined(at(0), refused(code));
        assert_eq!(todo(&mut machine), then, "{code:?}");
    }
}

#[test]
fn the_forwarding_unit_restarts_and_everybody_keeps_their_tracks() {
    let mut machine = inside(&[(4, "bob"), (5, "carol")]);
    machine.handle_event(at(1_000), Event::RejoinRoom { room: room() });
    // At once the first time.
    assert_eq!(todo(&mut machine), "reconnecting open");
    machine.handle_offer("offer".to_owned());
    machine.handle_joined(at(1_100), joined(1, &[]));
    // Those who are slower to come back are away, not gone.
    assert_eq!(todo(&mut machine), "join(---) answer 1 inside(1) ~1=4:Lost ~2=5:Lost subscribe");
    machine.handle_media_path(at(1_300), MediaPath::Connected);
    machine.handle_event(at(1_400), Event::ParticipantJoined { room: room(), participant: somebody(2, "carol") });
    assert_eq!(todo(&mut machine), "reconnected ~2=2:Back");
    machine.handle_timeout(at(14_000));
    assert_eq!(todo(&mut machine), "-1:Lost");
    assert_eq!(machine.members().present().count(), 1);
}

#[test]
fn tries_follow_one_another_with_pauses_and_then_end() {
    let mut machine = inside(&[]);
    machine.handle_event(at(0), Event::RejoinRoom { room: room() });
    let (mut now, mut pauses, mut tries) = (0, Vec::new(), 0);
    loop {
        let todo = todo(&mut machine);
        if todo.contains("ended") {
            assert!(todo.ends_with("leave close ended(Lost)"), "{todo}");
            break;
        }
        if todo.contains("open") {
            tries += 1;
            machine.handle_offer("offer".to_owned());
            machine.handle_joined(at(now), refused(ErrorCode::MediaUnavailable));
        } else if let Some(due) = machine.next_timeout() {
            pauses.push(due.since(at(now)).as_millis());
            now = due.as_micros() / 1_000 + 1;
            machine.handle_timeout(at(now));
        }
    }
    assert_eq!(tries, MAX_FAILURES);
    assert!(pauses[0] < 1_000 && pauses.last().is_some_and(|last| (1_300..2_300).contains(last)), "{pauses:?}");
}

#[test]
fn a_server_that_is_back_ends_the_pause() {
    let mut machine = inside(&[]);
    machine.handle_event(at(0), Event::RejoinRoom { room: room() });
    machine.handle_offer("offer".to_owned());
    machine.handle_joined(at(10), refused(ErrorCode::NotSignedIn));
    todo(&mut machine);
    machine.handle_signed_in(at(20), false, None);
    assert_eq!(todo(&mut machine), "open");
}

#[test]
fn a_server_that_does_not_sign_in_again_ends_the_stay() {
    let mut machine = inside(&[(4, "bob")]);
    machine.handle_sign_in_refused(&ErrorBody::new(ErrorCode::TokenExpired, "the token has expired"));
    assert_eq!(todo(&mut machine), "close ended(Refused)");
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn a_moderator_sees_what_they_did() {
    let mut machine = inside(&[]);
    let bob = Participant { media: media(SourceState::On, SourceState::Off), ..somebody(4, "bob") };
    machine.handle_event(at(0), Event::ParticipantJoined { room: room(), participant: bob });
    todo(&mut machine);
    let source = |kind| SourceOf { participant: ParticipantId(4), kind };
    machine.handle_moderated(at(1), &Moderation::Mute { source: source(SourceKind::Microphone) });
    assert_eq!(todo(&mut machine), "~1=4:Back");
    assert_eq!(machine.members().find(ParticipantId(4)).unwrap().media.microphone, SourceState::Muted);
    // What is off stays off.
    machine.handle_moderated(at(1), &Moderation::Mute { source: source(SourceKind::Camera) });
    machine.handle_moderated(at(2), &Moderation::Lock { locked: true });
    machine.handle_moderated(at(2), &Moderation::Lock { locked: true });
    assert_eq!(todo(&mut machine), "locked(true)");
    machine.handle_moderated(at(3), &Moderation::SetRole { participant: ParticipantId(4), role: Role::Moderator });
    assert_eq!(machine.members().find(ParticipantId(4)).unwrap().role, Role::Moderator);
    machine.handle_moderated(at(4), &Moderation::Remove { participant: ParticipantId(4) });
    machine.handle_moderated(at(4), &Moderation::Remove { participant: ParticipantId(4) });
    assert_eq!(todo(&mut machine), "~1=4:Back -1:Removed");
    assert_eq!(machine.members().present().count(), 0);
}

#[test]
fn an_interruption_looks_for_a_new_path_then_for_a_new_connection() {
    let mut machine = inside(&[(4, "bob")]);
    machine.handle_media_path(at(5_000), MediaPath::Disconnected);
    assert_eq!(todo(&mut machine), "reconnecting");
    machine.handle_timeout(at(5_999));
    assert_eq!(todo(&mut machine), "");
    machine.handle_timeout(at(6_000));
    assert_eq!(todo(&mut machine), "restart");
    machine.handle_restart_offer(at(6_010), Some("again".to_owned()));
    assert_eq!(todo(&mut machine), "offer(again)");
    machine.handle_answered(at(6_050), Ok(ReplyResult::RoomAnswer { sdp: "answer".to_owned() }));
    assert_eq!(todo(&mut machine), "answer");
    let mut healed = machine;
    healed.handle_media_path(at(6_100), MediaPath::Connected);
    assert_eq!(todo(&mut healed), "reconnected");
    assert_eq!(healed.next_timeout(), None);

    let mut broken = inside(&[]);
    broken.handle_media_path(at(5_000), MediaPath::Failed);
    assert_eq!(todo(&mut broken), "reconnecting restart");
    broken.handle_restart_offer(at(5_010), Some("again".to_owned()));
    broken.handle_timeout(at(10_000));
    assert_eq!(todo(&mut broken), "offer(again) open");
}

#[test]
fn a_session_that_was_lost_is_taken_up_where_the_server_knows_the_room() {
    let mut machine = inside(&[(4, "bob")]);
    machine.handle_signed_in(at(1_000), true, None);
    assert_eq!(todo(&mut machine), "");
    let known = snapshot(1, &[(4, "bob"), (6, "dave")]);
    machine.handle_signed_in(at(2_000), false, Some(&known));
    assert_eq!(todo(&mut machine), "inside(1) +2=dave subscribe");
    // The server restarted, or knows another participant of this device.
    machine.handle_signed_in(at(3_000), false, Some(&snapshot(9, &[])));
    assert_eq!(todo(&mut machine), "reconnecting open");
    let mut machine = inside(&[]);
    machine.handle_signed_in(at(1_000), false, None);
    assert_eq!(todo(&mut machine), "reconnecting open");
}

#[test]
fn a_moderator_mutes_and_takes_out() {
    let mut machine = inside(&[]);
    machine.set_media(media(SourceState::On, SourceState::On));
    todo(&mut machine);
    let muted = Participant { media: media(SourceState::Muted, SourceState::On), ..somebody(1, "me") };
    machine.handle_event(at(0), Event::ParticipantChanged { room: room(), participant: muted });
    assert_eq!(todo(&mut machine), "muted(Microphone)");
    // The application's own word takes it back.
    machine.set_media(media(SourceState::On, SourceState::On));
    assert_eq!(todo(&mut machine), "media(oo-)");
    machine.handle_event(at(1), Event::RoomLeft { room: room(), reason: LeaveReason::Removed });
    assert_eq!(todo(&mut machine), "close ended(Removed)");
}

#[test]
fn members_come_change_speak_and_go() {
    let rows: [(Event, &str); 9] = [
        (Event::ParticipantJoined { room: room(), participant: somebody(4, "bob") }, "+1=bob"),
        (Event::ParticipantJoined { room: room(), participant: somebody(5, "carol") }, "+2=carol"),
        (Event::DominantSpeaker { room: room(), participant: Some(ParticipantId(5)) }, "speaker(Some(2))"),
        (Event::DominantSpeaker { room: room(), participant: Some(ParticipantId(77)) }, "speaker(None)"),
        (
            Event::ParticipantLeft { room: room(), participant: ParticipantId(4), reason: LeaveReason::Rejoined },
            "~1=4:Lost",
        ),
        (Event::ParticipantJoined { room: room(), participant: somebody(6, "bob") }, "~1=6:Back"),
        (Event::ParticipantLeft { room: room(), participant: ParticipantId(4), reason: LeaveReason::Left }, ""),
        (Event::ParticipantLeft { room: room(), participant: ParticipantId(6), reason: LeaveReason::Left }, "-1:Left"),
        // A new key: nobody gets another's tracks.
        (Event::ParticipantJoined { room: room(), participant: somebody(8, "bob") }, "+3=bob"),
    ];
    let mut machine = inside(&[]);
    for (event, then) in rows {
        let shown = format!("{event:?}");
        machine.handle_event(at(200), event);
        assert_eq!(todo(&mut machine), then, "{shown}");
    }
}

#[test]
fn what_belongs_to_an_earlier_state_changes_nothing() {
    let mut machine = RoomMachine::new(room(), None, 7);
    todo(&mut machine);
    machine.handle_joined(at(0), joined(1, &[]));
    machine.handle_media_path(at(0), MediaPath::Connected);
    machine.handle_answered(at(0), Ok(ReplyResult::Ok));
    machine.handle_restart_offer(at(0), Some("late".to_owned()));
    machine.handle_event(at(0), Event::ParticipantJoined { room: room(), participant: somebody(4, "bob") });
    machine.handle_timeout(at(1_000_000));
    assert_eq!(todo(&mut machine), "");
    assert_eq!(machine.members().present().count(), 0);
}
