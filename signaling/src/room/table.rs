//! Who may ask what of a room, and what everybody hears of it, as tables.
//!
//! Devices: `m` is a moderator (number 1), `p` (2) and `q` (3) take part, `q` may publish a microphone only and not receive,
//! `x` is not in the room. A cell lists what goes out: `m:joined(4)` an event, `>leave(2)` an order to the media plane,
//! `gone:p` a seat given up; or the code of the refusal.

use super::*;
use halloo_protocol::{DeviceId, SourceOf, UserId};

fn device(name: &str) -> Endpoint {
    Endpoint { user: UserId::new(name).unwrap(), device: DeviceId::new(name).unwrap() }
}

fn member(name: &str, number: u32) -> Member {
    let all = name != "q";
    let publish = if all { SourceKind::ALL.to_vec() } else { vec![SourceKind::Microphone] };
    Member {
        who: device(name),
        participant: ParticipantId(number),
        display_name: name.to_uppercase(),
        grants: RoomGrants { publish, subscribe: all, moderate: name == "m" },
        media: RoomMedia { microphone: SourceState::On, ..RoomMedia::default() },
        lost: false,
    }
}

fn room() -> Room {
    let limits = RoomLimits { max_participants: 4, max_publish_kbps: 1_000, max_height: 720 };
    let mut room = Room::new(RoomId::new("r").unwrap(), limits);
    for (number, name) in (1..).zip(["m", "p", "q"]) {
        room.handle_joined(member(name, number), &mut Vec::new());
    }
    room
}

fn show(effects: &[Effect]) -> String {
    let cells = effects.iter().map(|effect| match effect {
        Effect::Gone(who) => format!("gone:{}", who.user),
        Effect::Media(MediaCommand::Leave { participant }) => format!(">leave({participant})"),
        Effect::Media(MediaCommand::Source { participant, kind, state }) => {
            format!(">{kind:?}({participant},{state:?})").to_lowercase()
        }
        Effect::Media(MediaCommand::Show { participant, show, .. }) => format!(">show({participant},{})", show.len()),
        Effect::Event { to, event } => {
            let what = match event {
                Event::ParticipantJoined { participant, .. } => format!("joined({})", participant.participant),
                Event::ParticipantLeft { participant, reason, .. } => format!("left({participant},{reason:?})"),
                Event::ParticipantChanged { participant: p, .. } => {
                    let lost = if p.reach == PeerReach::Lost { ",lost" } else { "" };
                    format!("changed({},{:?},{:?}{lost})", p.participant, p.role, p.media.microphone)
                }
                Event::RoomChanged { state, .. } => format!("locked({})", state.locked),
                Event::RoomLeft { reason, .. } => format!("out({reason:?})"),
                Event::RejoinRoom { .. } => "rejoin".to_owned(),
                Event::DominantSpeaker { participant: Some(speaker), .. } => format!("speaks({speaker})"),
                Event::DominantSpeaker { .. } => "speaks(-)".to_owned(),
                Event::SlotsChanged(slots) => format!("slots({})", slots.slots.len()),
                Event::LayersWanted(layers) => format!("layers({}x{})", layers.encodings, layers.spatial),
                Event::PublishingPoliced { .. } => "policed".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{}:{}", to.user, what.to_lowercase())
        }
    });
    cells.collect::<Vec<_>>().join(" ")
}

/// What comes of an ask in a fresh room, and the asks before it.
fn cell(before: &[(&str, Ask)], who: &str, ask: Ask) -> String {
    let mut room = room();
    for (who, ask) in before {
        room.handle(&device(who), ask.clone(), &mut Vec::new()).unwrap();
    }
    let mut out = Vec::new();
    match room.handle(&device(who), ask, &mut out) {
        Ok(()) => show(&out),
        Err(refusal) => {
            assert!(out.is_empty(), "a refusal changes nothing");
            format!("{:?}", refusal.code)
        }
    }
}

fn moderate(action: Moderation) -> Ask {
    Ask::Moderate(action)
}

fn mute(number: u32) -> Ask {
    moderate(Moderation::Mute { source: SourceOf { participant: ParticipantId(number), kind: SourceKind::Microphone } })
}

fn remove(number: u32) -> Ask {
    moderate(Moderation::Remove { participant: ParticipantId(number) })
}

fn role(number: u32, role: Role) -> Ask {
    moderate(Moderation::SetRole { participant: ParticipantId(number), role })
}

fn media(microphone: SourceState, camera: SourceState) -> Ask {
    Ask::Media(RoomMedia { microphone, camera, ..RoomMedia::default() })
}

#[test]
fn everybody_hears_of_each_change_once_except_who_asked_for_it() {
    let subscribe = Ask::Subscribe { show: Vec::new(), others: None };
    let lock = |locked| moderate(Moderation::Lock { locked });
    for (who, ask, expected) in [
        ("p", Ask::Leave, "m:left(2,left) q:left(2,left) >leave(2) gone:p"),
        ("x", Ask::Leave, ""),
        (
            "p",
            media(SourceState::Muted, SourceState::Off),
            ">microphone(2,muted) m:changed(2,participant,muted) q:changed(2,participant,muted)",
        ),
        (
            "p",
            media(SourceState::On, SourceState::On),
            ">camera(2,on) m:changed(2,participant,on) q:changed(2,participant,on)",
        ),
        ("p", media(SourceState::On, SourceState::Off), ""),
        ("q", media(SourceState::On, SourceState::On), "GrantMissing"),
        (
            "q",
            media(SourceState::Off, SourceState::Off),
            ">microphone(3,off) m:changed(3,participant,off) p:changed(3,participant,off)",
        ),
        ("x", media(SourceState::On, SourceState::Off), "RoomUnknown"),
        ("p", subscribe.clone(), ">show(2,0)"),
        ("q", subscribe.clone(), "GrantMissing"),
        ("x", subscribe, "RoomUnknown"),
        ("m", mute(2), ">microphone(2,muted) p:changed(2,participant,muted) q:changed(2,participant,muted)"),
        ("m", mute(9), "ParticipantUnknown"),
        ("p", mute(3), "GrantMissing"),
        ("x", mute(2), "RoomUnknown"),
        ("m", remove(2), "q:left(2,removed) p:out(removed) >leave(2) gone:p"),
        ("m", remove(1), "p:left(1,removed) q:left(1,removed) >leave(1) gone:m"),
        ("m", remove(9), "ParticipantUnknown"),
        ("q", remove(1), "GrantMissing"),
        ("m", lock(true), "p:locked(true) q:locked(true)"),
        ("m", lock(false), ""),
        ("p", lock(true), "GrantMissing"),
        ("m", role(3, Role::Moderator), "p:changed(3,moderator,on) q:changed(3,moderator,on)"),
        ("m", role(3, Role::Participant), ""),
        ("p", role(2, Role::Moderator), "GrantMissing"),
        (
            "m",
            moderate(Moderation::Close),
            ">leave(1) gone:m p:out(closed) >leave(2) gone:p q:out(closed) >leave(3) gone:q",
        ),
        ("p", moderate(Moderation::Close), "GrantMissing"),
    ] {
        assert_eq!(cell(&[], who, ask.clone()), expected, "{who} asks {ask:?}");
    }
}

#[test]
fn a_role_given_by_a_moderator_counts_until_it_is_taken() {
    let promoted = [("m", role(2, Role::Moderator))];
    assert_eq!(
        cell(&promoted, "p", mute(3)),
        ">microphone(3,muted) m:changed(3,participant,muted) q:changed(3,participant,muted)"
    );
    let demoted = [("m", role(2, Role::Moderator)), ("p", role(1, Role::Participant))];
    assert_eq!(cell(&demoted, "m", mute(3)), "GrantMissing");
}

#[test]
fn a_muted_participant_may_unmute_and_muting_twice_says_nothing() {
    let muted = [("m", mute(2))];
    assert_eq!(cell(&muted, "m", mute(2)), "");
    assert_eq!(
        cell(&muted, "p", media(SourceState::On, SourceState::Off)),
        ">microphone(2,on) m:changed(2,participant,on) q:changed(2,participant,on)"
    );
}

#[test]
fn a_locked_or_full_room_takes_nobody_new_but_lets_its_own_in_again() {
    let may = |room: &Room, name: &str, entering: usize| {
        let grants = member(name, 9).grants;
        room.may_enter(&device(name), &grants, RoomCapacity { entering }).map_err(|refusal| refusal.code)
    };
    let mut room = room();
    assert_eq!(may(&room, "x", 0), Ok(()));
    assert_eq!(may(&room, "x", 1), Err(ErrorCode::RoomFull));
    assert_eq!(may(&room, "p", 1), Ok(()));
    room.handle(&device("m"), moderate(Moderation::Lock { locked: true }), &mut Vec::new()).unwrap();
    assert_eq!(may(&room, "x", 0), Err(ErrorCode::RoomLocked));
    assert_eq!(may(&room, "p", 0), Ok(()));
}

#[test]
fn a_device_that_joins_again_is_another_participant_with_the_role_it_was_given() {
    let mut room = room();
    room.handle(&device("m"), role(2, Role::Moderator), &mut Vec::new()).unwrap();
    let mut out = Vec::new();
    room.handle_joined(member("p", 4), &mut out);
    assert_eq!(show(&out), "m:left(2,rejoined) q:left(2,rejoined) >leave(2) m:joined(4) q:joined(4)");
    let snapshot = room.snapshot(&device("p")).unwrap();
    assert_eq!((snapshot.you, snapshot.grants.moderate, snapshot.participants.len()), (ParticipantId(4), true, 3));
    assert_eq!(room.snapshot(&device("x")), None);
}

#[test]
fn what_happens_in_the_media_reaches_whom_it_concerns() {
    let number = ParticipantId(2);
    for (event, expected) in [
        (MediaEvent::Slots { participant: number, slots: Vec::new() }, "p:slots(0)"),
        (MediaEvent::Slots { participant: ParticipantId(9), slots: Vec::new() }, ""),
        (MediaEvent::DominantSpeaker(Some(number)), "m:speaks(2) p:speaks(2) q:speaks(2)"),
        (MediaEvent::DominantSpeaker(None), ""),
        (MediaEvent::DominantSpeaker(Some(ParticipantId(9))), ""),
        (
            MediaEvent::LayersWanted { participant: number, kind: SourceKind::Camera, encodings: 2, spatial: 1 },
            "p:layers(2x1)",
        ),
        (MediaEvent::Policed { participant: number, kind: SourceKind::Camera }, "p:policed"),
        (MediaEvent::Lost { participant: number }, "p:rejoin m:left(2,lost) q:left(2,lost) gone:p"),
        (MediaEvent::RoomFailed, "m:rejoin gone:m p:rejoin gone:p q:rejoin gone:q"),
    ] {
        let mut out = Vec::new();
        room().handle_media(event.clone(), &mut out);
        assert_eq!(show(&out), expected, "{event:?}");
    }
}

#[test]
fn who_leaves_after_the_media_connection_closed_is_not_waited_for() {
    let mut room = room();
    let leave = |room: &mut Room| {
        let mut out = Vec::new();
        room.handle(&device("p"), Ask::Leave, &mut out).unwrap();
        show(&out)
    };
    let lost = |participant| MediaEvent::Lost { participant: ParticipantId(participant) };
    room.handle_media(lost(2), &mut Vec::new());
    assert_eq!(leave(&mut room), "m:left(2,left) q:left(2,left)");
    assert_eq!(leave(&mut room), "", "once");
    room.handle_joined(member("p", 4), &mut Vec::new());
    room.handle_media(lost(4), &mut Vec::new());
    room.handle_joined(member("p", 5), &mut Vec::new());
    assert_eq!(leave(&mut room), "m:left(5,left) q:left(5,left) >leave(5) gone:p", "who came back leaves as anybody");
}

#[test]
fn a_broken_connection_is_told_to_the_others_once() {
    let mut room = room();
    let mut reach = |reach| {
        let mut out = Vec::new();
        room.handle_reach(&device("p"), reach, &mut out);
        show(&out)
    };
    assert_eq!(reach(PeerReach::Lost), "m:changed(2,participant,on,lost) q:changed(2,participant,on,lost)");
    assert_eq!(reach(PeerReach::Lost), "");
    assert_eq!(reach(PeerReach::Back), "m:changed(2,participant,on) q:changed(2,participant,on)");
}

#[test]
fn the_dominant_speaker_who_leaves_speaks_no_longer() {
    let mut room = room();
    room.handle_media(MediaEvent::DominantSpeaker(Some(ParticipantId(2))), &mut Vec::new());
    assert_eq!(room.snapshot(&device("m")).unwrap().dominant_speaker, Some(ParticipantId(2)));
    room.handle_gone(&device("p"), LeaveReason::Lost, &mut Vec::new());
    assert_eq!(room.snapshot(&device("m")).unwrap().dominant_speaker, None);
}
