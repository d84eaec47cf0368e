//! Every phase against every request from every kind of device, as one table.
//!
//! A cell says what comes of it: `ok` alone (nothing changes for others), `state` or `unknown` (refused), or the events
//! that go out and the phase after, like `ended(c:hung_up) Ended`. Devices: `c` calls, `p` shows the call, `q` was told,
//! `z` said busy, `s` is another device of the callee, `x` a stranger.

use super::*;
use halloo_protocol::{Announce, VideoState};
use std::fmt::Write;

fn endpoint(user: &str, device: &str) -> Endpoint {
    Endpoint { user: UserId::new(user).unwrap(), device: DeviceId::new(device).unwrap() }
}

fn device(name: &str) -> Endpoint {
    match name {
        "c" => endpoint("alice", "c"),
        "x" => endpoint("mallory", "x"),
        other => endpoint("bob", other),
    }
}

fn media(muted: bool) -> MediaState {
    MediaState { audio_muted: muted, video: VideoState::Off }
}

fn id() -> CallId {
    CallId::new("call").unwrap()
}

fn answer() -> Ask {
    Ask::Answer(Answer { call: id(), media: media(false), sdp: "answer".into() })
}

fn announce(peer: &str, role: AnnouncedRole) -> Announce {
    Announce { call: id(), peer: UserId::new(peer).unwrap(), role, media: media(false) }
}

fn ringing(now: Instant) -> Call {
    let offer = Offer { from_name: "Alice".into(), media: media(false), sdp: "offer".into() };
    let mut call = Call::invite(id(), &device("c"), UserId::new("bob").unwrap(), offer, now + Duration::from_secs(45));
    let mut out = Vec::new();
    for name in ["p", "q", "z"] {
        call.ring(now, &DeviceId::new(name).unwrap(), &mut out);
    }
    call.handle(&device("p"), Ask::Ringing, &mut out).unwrap();
    call.handle(&device("z"), Ask::Busy, &mut out).unwrap();
    call
}

fn active(now: Instant) -> Call {
    let mut call = ringing(now);
    call.handle(&device("p"), answer(), &mut Vec::new()).unwrap();
    call
}

fn rebuilding(now: Instant) -> Call {
    let claim = announce("bob", AnnouncedRole::Caller);
    Call::rebuild(&device("c"), claim, now + Duration::from_secs(60), &mut Vec::new())
}

fn ended(now: Instant) -> Call {
    let mut call = active(now);
    call.handle(&device("c"), Ask::HangUp(EndReason::HungUp), &mut Vec::new()).unwrap();
    call
}

fn asks() -> Vec<(&'static str, Ask)> {
    let candidate =
        Candidate { candidate: "candidate:1".into(), sdp_mid: None, sdp_m_line_index: None, username_fragment: None };
    vec![
        ("ringing", Ask::Ringing),
        ("answer", answer()),
        ("candidate", Ask::Candidate(candidate)),
        ("decline", Ask::Decline),
        ("busy", Ask::Busy),
        ("cancel", Ask::Cancel),
        ("hang_up", Ask::HangUp(EndReason::HungUp)),
        ("failed", Ask::HangUp(EndReason::Failed)),
        ("description", Ask::Description { kind: SdpKind::Offer, sdp: "sdp".into() }),
        ("media_state", Ask::Media(media(true))),
    ]
}

fn show(effect: &Effect) -> String {
    let to = &effect.to.device;
    match &effect.event {
        Event::Ended(Ended { reason, .. }) => format!("ended({to}:{})", crate::hub::reason_name(*reason)),
        Event::IncomingCall(_) => format!("incoming({to})"),
        Event::Ringing { device, .. } => format!("ringing({to}:{device})"),
        Event::Answered(answered) => format!("answered({to}:{})", answered.by_device),
        Event::Candidate(_) => format!("candidate({to})"),
        Event::Description(_) => format!("description({to})"),
        Event::MediaState { .. } => format!("media({to})"),
        Event::PeerReach { reach, .. } => format!("reach({to}:{reach:?})"),
        other => format!("{other:?}"),
    }
}

fn phase(call: &Call) -> &'static str {
    match call.phase() {
        Phase::Ringing(_) => "Ringing",
        Phase::Active => "Active",
        Phase::Rebuilding(_) => "Rebuilding",
        Phase::Ended(_) => "Ended",
    }
}

/// One cell of the table, after checking what holds for every cell: asking twice changes nothing more.
fn cell(mut call: Call, who: &str, ask: &Ask) -> String {
    let before = phase(&call);
    let mut out = Vec::new();
    match call.handle(&device(who), ask.clone(), &mut out) {
        Ok(()) => {
            let after = phase(&call);
            let mut text = if out.is_empty() && before == after { "ok".to_owned() } else { String::new() };
            for effect in &out {
                assert_ne!(effect.to, device(who), "whoever asks gets a reply, not an event");
                write!(text, "{} ", show(effect)).unwrap();
            }
            if before != after {
                text.push_str(after);
            }
            let mut again = Vec::new();
            let second = call.handle(&device(who), ask.clone(), &mut again);
            let passes_through = matches!(ask, Ask::Candidate(_) | Ask::Description { .. });
            assert!(second.is_ok(), "{who} {ask:?} twice in {before}: {second:?}");
            assert!(again.is_empty() || passes_through, "{who} {ask:?} twice in {before}: {again:?}");
            assert_eq!(phase(&call), after);
            text.trim_end().to_owned()
        }
        Err(refusal) => {
            assert!(out.is_empty() && phase(&call) == before, "a refusal changes nothing");
            assert!(!refusal.message.is_empty());
            if refusal.code == ErrorCode::CallState { "state".into() } else { "unknown".into() }
        }
    }
}

/// A row: the device that asks, then a cell for each of [`asks`].
type Row = (&'static str, [&'static str; 10]);

fn check(make: fn(Instant) -> Call, rows: &[Row]) {
    let now = Instant::now();
    for (who, cells) in rows {
        for ((name, ask), expected) in asks().iter().zip(cells) {
            let found = cell(make(now), who, ask);
            assert_eq!(&found, expected, "{who} asks {name} while {}", phase(&make(now)));
        }
    }
}

const DECLINED: &str = "ended(c:declined) ended(q:declined_elsewhere) Ended";
const S: &str = "state";
const U: &str = "unknown";

#[test]
fn ringing_table() {
    let cancelled = "ended(p:cancelled) ended(q:cancelled) Ended";
    let failed = "ended(p:failed) ended(q:failed) Ended";
    check(
        ringing,
        &[
            //     ringing answer candidate                   decline busy cancel     hang_up    failed  description media
            ("c", [S, S, "candidate(p) candidate(q)", S, S, cancelled, cancelled, failed, S, "ok"]),
            (
                "p",
                [
                    "ok",
                    "ended(q:answered_elsewhere) answered(c:p) Active",
                    S,
                    DECLINED,
                    "ok",
                    S,
                    DECLINED,
                    "ended(c:failed) ended(q:declined_elsewhere) Ended",
                    S,
                    S,
                ],
            ),
            (
                "q",
                [
                    "ringing(c:q)",
                    "ended(p:answered_elsewhere) answered(c:q) Active",
                    S,
                    "ended(c:declined) ended(p:declined_elsewhere) Ended",
                    "ok",
                    S,
                    "ended(c:declined) ended(p:declined_elsewhere) Ended",
                    "ended(c:failed) ended(p:declined_elsewhere) Ended",
                    S,
                    S,
                ],
            ),
            (
                "z",
                [
                    S,
                    S,
                    S,
                    "ended(c:declined) ended(p:declined_elsewhere) ended(q:declined_elsewhere) Ended",
                    "ok",
                    S,
                    "ok",
                    "ok",
                    S,
                    S,
                ],
            ),
            ("s", [U; 10]),
            ("x", [U; 10]),
        ],
    );
}

#[test]
fn active_table() {
    let by_c = "ended(p:hung_up) Ended";
    let by_p = "ended(c:hung_up) Ended";
    check(
        active,
        &[
            //     ringing answer candidate       decline busy cancel hang_up failed              description       media
            ("c", [S, S, "candidate(p)", S, S, by_c, by_c, "ended(p:failed) Ended", "description(p)", "media(p)"]),
            (
                "p",
                ["ok", "ok", "candidate(c)", by_p, S, S, by_p, "ended(c:failed) Ended", "description(c)", "media(c)"],
            ),
            ("q", [S, S, S, "ok", "ok", S, "ok", "ok", S, S]),
            ("z", [S, S, S, "ok", "ok", S, "ok", "ok", S, S]),
            ("s", [S, S, S, "ok", "ok", S, "ok", "ok", S, S]),
            ("x", [U; 10]),
        ],
    );
}

#[test]
fn rebuilding_table() {
    let heard = "ended(c:hung_up) Ended";
    check(
        rebuilding,
        &[
            //     ringing answer candidate decline busy cancel hang_up failed description media
            ("c", [S, S, "ok", S, S, "Ended", "Ended", "Ended", "ok", "ok"]),
            ("p", [S, S, S, S, S, S, heard, "ended(c:failed) Ended", S, S]),
            ("x", [U; 10]),
        ],
    );
}

#[test]
fn ended_table() {
    let row = [S, S, S, "ok", "ok", "ok", "ok", "ok", S, S];
    check(ended, &[("c", row), ("p", row), ("q", row), ("s", row), ("x", [U; 10])]);
}

/// What devices do to a call without asking, in each phase: lost, back, signed out, expired.
#[test]
fn connection_table() {
    let now = Instant::now();
    let phases: [fn(Instant) -> Call; 4] = [ringing, active, rebuilding, ended];
    let mut found = Vec::new();
    for make in phases {
        for who in ["c", "p", "s", "x"] {
            let mut cells = Vec::new();
            let mut out = Vec::new();
            let mut call = make(now);
            call.handle_lost(&device(who), &mut out);
            call.handle_lost(&device(who), &mut out);
            call.handle_back(&device(who), &mut out);
            cells.push(out.iter().map(show).collect::<Vec<_>>().join(" "));
            for why in [Departure::SignedOut, Departure::Expired] {
                let mut out = Vec::new();
                let mut call = make(now);
                call.handle_gone(&device(who), why, &mut out);
                cells.push(format!("{} {}", out.iter().map(show).collect::<Vec<_>>().join(" "), phase(&call)));
            }
            found.push(format!("{} {who}: {}", phase(&make(now)), cells.join(" | ")));
        }
    }
    assert_eq!(
        found,
        [
            "Ringing c:  | ended(p:cancelled) ended(q:cancelled) Ended | ended(p:peer_lost) ended(q:peer_lost) Ended",
            "Ringing p:  |  Ringing |  Ringing",
            "Ringing s:  |  Ringing |  Ringing",
            "Ringing x:  |  Ringing |  Ringing",
            "Active c: reach(p:Lost) reach(p:Back) | ended(p:hung_up) Ended | ended(p:peer_lost) Ended",
            "Active p: reach(c:Lost) reach(c:Back) | ended(c:hung_up) Ended | ended(c:peer_lost) Ended",
            "Active s:  |  Active |  Active",
            "Active x:  |  Active |  Active",
            "Rebuilding c:  |  Ended |  Ended",
            "Rebuilding p:  |  Rebuilding |  Rebuilding",
            "Rebuilding s:  |  Rebuilding |  Rebuilding",
            "Rebuilding x:  |  Rebuilding |  Rebuilding",
            "Ended c:  |  Ended |  Ended",
            "Ended p:  |  Ended |  Ended",
            "Ended s:  |  Ended |  Ended",
            "Ended x:  |  Ended |  Ended",
        ]
    );
}

#[test]
fn announce_table() {
    let now = Instant::now();
    let run = |mut call: Call, who: &str, peer: &str, role| {
        let mut out = Vec::new();
        let outcome = call.handle_announce(&device(who), &announce(peer, role), &mut out);
        let events = out.iter().map(show).collect::<Vec<_>>().join(" ");
        match outcome {
            Ok(()) => format!("{events} {}", phase(&call)).trim_start().to_owned(),
            Err(refusal) => format!("{:?}", refusal.code),
        }
    };
    use AnnouncedRole::{Callee, Caller};
    assert_eq!(run(ringing(now), "c", "bob", Caller), "CallState");
    assert_eq!(run(active(now), "c", "bob", Caller), "Active");
    assert_eq!(run(active(now), "p", "alice", Callee), "Active");
    assert_eq!(run(active(now), "q", "alice", Callee), "CallState");
    assert_eq!(run(active(now), "c", "bob", Callee), "CallUnknown");
    assert_eq!(run(active(now), "x", "bob", Caller), "CallUnknown");
    assert_eq!(run(rebuilding(now), "c", "bob", Caller), "Rebuilding");
    assert_eq!(run(rebuilding(now), "p", "alice", Callee), "reach(c:Back) media(c) media(p) Active");
    assert_eq!(run(rebuilding(now), "p", "alice", Caller), "CallUnknown");
    assert_eq!(run(rebuilding(now), "x", "alice", Callee), "CallUnknown");
    assert_eq!(run(ended(now), "p", "alice", Callee), "ended(p:hung_up) Ended");
}

#[test]
fn a_call_is_busy_once_no_device_rings_any_more() {
    let mut call = ringing(Instant::now());
    let mut out = Vec::new();
    call.handle(&device("p"), Ask::Busy, &mut out).unwrap();
    assert!(out.is_empty());
    call.handle_gone(&device("q"), Departure::Expired, &mut out);
    assert_eq!(out.iter().map(show).collect::<Vec<_>>(), ["ended(c:busy)"]);
}

#[test]
fn the_answering_device_learns_what_changed_while_it_rang() {
    let mut call = ringing(Instant::now());
    let mut out = Vec::new();
    call.handle(&device("c"), Ask::Media(media(true)), &mut out).unwrap();
    call.handle_lost(&device("c"), &mut out);
    assert!(out.is_empty());
    call.handle(&device("p"), answer(), &mut out).unwrap();
    let shown: Vec<_> = out.iter().map(show).collect();
    assert_eq!(shown, ["ended(q:answered_elsewhere)", "media(p)", "reach(p:Lost)", "answered(c:p)"]);
}

#[test]
fn stored_candidates_are_bounded_and_reach_a_late_device() {
    let now = Instant::now();
    let mut call = ringing(now);
    let (_, candidate) = asks().remove(2);
    for _ in 0..ringing::MAX_STORED_CANDIDATES + 20 {
        call.handle(&device("c"), candidate.clone(), &mut Vec::new()).unwrap();
    }
    let mut out = Vec::new();
    call.ring(now, &device("s").device, &mut out);
    assert_eq!(out.len(), 1 + ringing::MAX_STORED_CANDIDATES);
    assert_eq!(show(&out[0]), "incoming(s)");
}

#[test]
fn timeouts_end_what_waits_and_nothing_else() {
    let now = Instant::now();
    let late = now + Duration::from_secs(90);
    let run = |mut call: Call, at| {
        let mut out = Vec::new();
        call.handle_timeout(at, &mut out);
        out.iter().map(show).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(run(ringing(now), late), "ended(c:no_answer) ended(p:no_answer) ended(q:no_answer)");
    assert_eq!(run(ringing(now), now + Duration::from_secs(44)), "");
    assert_eq!(run(rebuilding(now), late), "ended(c:peer_lost)");
    assert_eq!(run(active(now), late), "");
    assert_eq!(run(ended(now), late), "");
}
