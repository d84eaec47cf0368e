//! Offers as real clients write them, and offers that must be refused.

use super::*;
use crate::room::{Grants, Limits, SlotKind, SourceKind};
use halloo_transport::{Bitrate, PayloadType};
use proptest::prelude::*;

/// Chromium 156: `sendEncodings` with `L3T3_KEY`, codecs and extensions trimmed as the web client trims them.
const CHROMIUM_SVC: &str = include_str!("offers/chromium_svc.sdp");
/// The same with three RIDs.
const CHROMIUM_SIMULCAST: &str = include_str!("offers/chromium_simulcast.sdp");
/// The same with every codec that Chromium has, and two slots.
const CHROMIUM_UNTRIMMED: &str = include_str!("offers/chromium_untrimmed.sdp");
/// libwebrtc of milestone 106, through npm's `@roamhq/wrtc`.
const LIBWEBRTC_M106: &str = include_str!("offers/libwebrtc_m106.sdp");
/// As the `webrtc` crate writes it for our engine.
const ENGINE: &str = include_str!("offers/engine.sdp");

fn local() -> LocalTransport {
    LocalTransport {
        ufrag: "sfu1".into(),
        pwd: "0123456789abcdefghijkl".into(),
        fingerprint: std::array::from_fn(|n| n as u8),
        candidates: vec![
            Candidate { address: "192.0.2.7:7882".parse().unwrap(), protocol: Protocol::Udp },
            Candidate { address: "[2001:db8::7]:7882".parse().unwrap(), protocol: Protocol::Udp },
            Candidate { address: "192.0.2.7:7881".parse().unwrap(), protocol: Protocol::TcpPassive },
        ],
    }
}

fn terms() -> Terms {
    let limits = Limits::default();
    Terms { grants: Grants::ALL, limits, start_publish: Some(Bitrate::from_kbps(800)), seed: 7 }
}

fn answer(text: &str) -> Negotiated {
    negotiate(&Offer::parse(text).unwrap(), &local(), &terms(), None).unwrap()
}

fn refused(text: &str) -> OfferError {
    Offer::parse(text).unwrap_err()
}

#[test]
fn real_offers_get_the_answers_on_record() {
    insta::assert_snapshot!("chromium_svc", answer(CHROMIUM_SVC).answer);
    insta::assert_snapshot!("chromium_simulcast", answer(CHROMIUM_SIMULCAST).answer);
    insta::assert_snapshot!("chromium_untrimmed", answer(CHROMIUM_UNTRIMMED).answer);
    insta::assert_snapshot!("libwebrtc_m106", answer(LIBWEBRTC_M106).answer);
    insta::assert_snapshot!("engine", answer(ENGINE).answer);
}

#[test]
fn the_room_is_told_what_was_agreed_on() {
    insta::assert_debug_snapshot!("participant_chromium_simulcast", answer(CHROMIUM_SIMULCAST).participant);
    insta::assert_debug_snapshot!("participant_libwebrtc_m106", answer(LIBWEBRTC_M106).participant);
}

#[test]
fn offers_of_current_chromium_and_their_answers_stay_under_16_kib() {
    for offer in [CHROMIUM_SVC, CHROMIUM_SIMULCAST] {
        assert_eq!(offer.matches("a=sendonly").count(), 3);
        assert_eq!(offer.matches("a=recvonly").count(), 12);
        assert!(offer.len() < 16 * 1024, "{} bytes", offer.len());
        let answer = answer(offer).answer;
        assert!(answer.len() < 16 * 1024, "{} bytes", answer.len());
    }
}

#[test]
fn an_answer_is_a_description_with_the_same_sections_in_the_same_order() {
    for offer in [CHROMIUM_SVC, CHROMIUM_SIMULCAST, CHROMIUM_UNTRIMMED, LIBWEBRTC_M106, ENGINE] {
        let negotiated = answer(offer);
        let (asked, given) = (
            sdp_types::Session::parse(offer.as_bytes()).unwrap(),
            sdp_types::Session::parse(negotiated.answer.as_bytes()).unwrap(),
        );
        let shape = |session: &sdp_types::Session| -> Vec<(String, Option<String>)> {
            let mid = |m: &sdp_types::Media| m.get_first_attribute_value("mid").flatten().map(str::to_owned);
            session.medias.iter().map(|m| (m.media.clone(), mid(m))).collect()
        };
        assert_eq!(shape(&asked), shape(&given));
    }
}

#[test]
fn the_first_sent_sections_are_microphone_camera_and_screen() {
    let participant = answer(CHROMIUM_SVC).participant;
    let kinds: Vec<_> = participant.published.iter().map(|section| (section.mid.0.as_str(), section.kind)).collect();
    assert_eq!(kinds, [("0", SourceKind::Microphone), ("1", SourceKind::Camera), ("2", SourceKind::Screen)]);
    let slots = |kind| participant.slots.iter().filter(|slot| slot.kind == kind).count();
    assert_eq!((slots(SlotKind::Audio), slots(SlotKind::Video)), (3, 9));
}

#[test]
fn a_stream_named_after_a_source_says_what_it_is_whatever_the_order() {
    let text = CHROMIUM_SVC.replacen("a=msid:- ", "a=msid:microphone ", 1).replacen("a=msid:- ", "a=msid:screen ", 1);
    let kinds: Vec<_> = answer(&text).participant.published.iter().map(|section| section.kind).collect();
    assert_eq!(kinds, [SourceKind::Microphone, SourceKind::Screen, SourceKind::Camera]);
}

#[test]
fn every_ssrc_of_a_session_is_distinct() {
    let offer = Offer::parse(CHROMIUM_SVC).unwrap();
    for seed in 0..200 {
        let terms = Terms { seed, ..terms() };
        let participant = negotiate(&offer, &local(), &terms, None).unwrap().participant;
        let declared = participant.published.iter().flat_map(|s| &s.encodings).flat_map(|e| [e.ssrc, e.rtx_ssrc]);
        let slots = participant.slots.iter().flat_map(|s| [Some(s.ssrc), s.rtx.map(|rtx| rtx.ssrc)]);
        let mut all: Vec<_> = declared.chain(slots).chain([Some(participant.feedback_ssrc)]).flatten().collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}

#[test]
fn a_later_offer_adds_slots_and_keeps_the_old_ones() {
    let first = answer(CHROMIUM_SVC);
    let section = CHROMIUM_SVC.rsplit("m=video").next().unwrap().replace("a=mid:14", "a=mid:15");
    let longer = format!("{CHROMIUM_SVC}m=video{section}").replace(" 13 14\r\n", " 13 14 15\r\n");
    let offer = Offer::parse(&longer).unwrap();
    let second = negotiate(&offer, &local(), &terms(), Some(&first.agreed)).unwrap();
    assert_eq!(second.participant.slots.len(), 13);
    assert_eq!(second.participant.slots[..12], first.participant.slots[..]);
    assert_eq!(
        (&second.participant.cname, second.participant.feedback_ssrc),
        (&first.participant.cname, first.participant.feedback_ssrc)
    );
    let version =
        |negotiated: &Negotiated| negotiated.answer.lines().nth(1).unwrap().split(' ').nth(2).unwrap().to_owned();
    assert_eq!((version(&first), version(&second)), ("1".to_owned(), "2".to_owned()));
    let error = negotiate(&Offer::parse(CHROMIUM_SVC).unwrap(), &local(), &terms(), Some(&second.agreed)).unwrap_err();
    assert!(matches!(error, OfferError::SectionsChanged { index: 15, .. }), "{error}");
}

#[test]
fn slots_above_the_limit_and_unknown_media_are_rejected_each_for_itself() {
    let section = CHROMIUM_SVC.rsplit("m=video").next().unwrap();
    let mut text = CHROMIUM_SVC.to_owned();
    let mut group = String::new();
    for mid in 15..40 {
        text.push_str(&format!("m=video{}", section.replace("a=mid:14", &format!("a=mid:{mid}"))));
        group.push_str(&format!(" {mid}"));
    }
    text.push_str(
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\na=sctp-port:5000\r\n",
    );
    let text = text.replace(" 13 14\r\n", &format!(" 13 14{group} d\r\n"));
    let negotiated = answer(&text);
    let video = negotiated.participant.slots.iter().filter(|slot| slot.kind == SlotKind::Video).count();
    assert_eq!(video, MAX_VIDEO_SLOTS);
    assert_eq!(negotiated.answer.matches("m=video 0 ").count(), 34 - MAX_VIDEO_SLOTS);
    assert!(negotiated.answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    let bundle = negotiated.answer.lines().find(|line| line.starts_with("a=group:BUNDLE")).unwrap();
    assert!(bundle.ends_with(" 29 30"), "{bundle}");
}

#[test]
fn opus_is_answered_without_redundancy_and_av1_with_retransmission() {
    let answer = answer(CHROMIUM_UNTRIMMED);
    assert!(answer.answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
    assert!(answer.answer.contains("m=video 9 UDP/TLS/RTP/SAVPF 45 46\r\n"));
    let camera = &answer.participant.published[1];
    assert_eq!((camera.payload_type, camera.rtx_payload_type), (PayloadType(45), Some(PayloadType(46))));
}

#[test]
fn restriction_ids_are_taken_from_publishers_and_not_sent_to_slots() {
    let participant = answer(CHROMIUM_SIMULCAST).participant;
    let rids: Vec<_> = participant.published[1].encodings.iter().map(|e| e.rid.clone().unwrap().0).collect();
    assert_eq!(rids, ["q", "h", "f"]);
    assert!(participant.incoming_extensions.rid.is_some() && participant.incoming_extensions.repaired_rid.is_some());
    assert_eq!((participant.outgoing_extensions.rid, participant.outgoing_extensions.repaired_rid), (None, None));
    assert!(participant.outgoing_extensions.dependency_descriptor.is_some());
}

/// One change to a good offer, and what is said of it.
#[test]
fn each_fault_of_an_offer_is_named() {
    let change = |from: &str, to: &str| {
        assert!(CHROMIUM_SIMULCAST.contains(from), "{from:?} is not in the offer");
        refused(&CHROMIUM_SIMULCAST.replace(from, to))
    };
    let without = |name: &str| {
        let lines = CHROMIUM_SIMULCAST.lines().filter(|line| !line.starts_with(name));
        refused(&lines.map(|line| format!("{line}\r\n")).collect::<String>())
    };
    let mid = |text: &str| halloo_transport::Mid(text.to_owned());
    assert!(matches!(refused(""), OfferError::Grammar(_)));
    assert!(matches!(refused("hello"), OfferError::Grammar(_)));
    assert!(matches!(refused(&"v".repeat(50_000)), OfferError::TooLong { len: 50_000, .. }));
    assert_eq!(without("a=fingerprint"), OfferError::NoFingerprint);
    assert_eq!(without("a=group"), OfferError::NotBundled(mid("0")));
    assert_eq!(without("a=rtcp-mux"), OfferError::NoRtcpMux(mid("0")));
    assert_eq!(without("a=mid"), OfferError::NoMid(0));
    assert_eq!(without("a=ice-ufrag"), OfferError::IceCredentials { what: "ice-ufrag" });
    assert_eq!(without("a=ice-pwd"), OfferError::IceCredentials { what: "ice-pwd" });
    assert_eq!(change("a=setup:actpass", "a=setup:passive"), OfferError::SetupRole("passive".into()));
    assert_eq!(change("a=setup:actpass", "a=setup:holdconn"), OfferError::SetupRole("holdconn".into()));
    assert_eq!(change("a=mid:3\r\n", "a=mid:2\r\n"), OfferError::DuplicateMid(mid("2")));
    assert_eq!(change("a=mid:3\r\n", "a=mid:a b\r\n"), OfferError::BadMid("a b".into()));
    assert_eq!(change("a=mid:3\r\n", "a=mid:seventeen-letters\r\n"), OfferError::BadMid("seventeen-letters".into()));
    assert_eq!(change("BUNDLE 0 1 2", "BUNDLE 0 1"), OfferError::NotBundled(mid("2")));
    assert_eq!(change("fingerprint:sha-256", "fingerprint:sha-512"), OfferError::FingerprintHash("sha-512".into()));
    assert!(matches!(
        change("fingerprint:sha-256 ", "fingerprint:sha-256 AB:"),
        OfferError::BadAttribute { name: "fingerprint", .. }
    ));
    assert!(matches!(change("UDP/TLS/RTP/SAVPF", "RTP/AVP"), OfferError::Protocol { .. }));
    assert_eq!(
        change("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^20|1:4\r\n"),
        OfferError::SdesKeys(mid("0"))
    );
    assert!(matches!(change("extmap:14 urn:3gpp", "extmap:15 urn:3gpp"), OfferError::Extension { id: 15, .. }));
    assert!(matches!(change("extmap:14 urn:3gpp", "extmap:4 urn:3gpp"), OfferError::Extension { id: 4, .. }));
    assert!(matches!(change("a=rid:h send", "a=rid:x send"), OfferError::BadAttribute { name: "simulcast", .. }));
    assert!(matches!(change("send q;h;f", "send q;q;f"), OfferError::BadAttribute { name: "simulcast", .. }));
}

#[test]
fn an_offer_with_unknown_codecs_only_is_refused_and_one_with_some_is_answered() {
    let video_unknown = CHROMIUM_SVC.replace("AV1/90000", "H265/90000");
    let negotiated = answer(&video_unknown);
    assert_eq!(negotiated.answer.matches("m=video 0 ").count(), 11);
    assert_eq!(negotiated.participant.published.len(), 1);
    let error = refused(&video_unknown.replace("opus/48000/2", "speex/16000"));
    assert!(
        matches!(&error, OfferError::NothingUsable(list) if list.contains("H265") && list.contains("speex")),
        "{error}"
    );
    assert!(error.to_string().contains("AV1"));
}

#[test]
fn five_hundred_sections_are_too_many() {
    let short = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:x\r\n".repeat(500);
    let error = refused(&format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{short}"));
    assert_eq!(error, OfferError::TooManySections { count: 500, max: MAX_SECTIONS });
}

#[test]
fn transports_of_a_bundle_must_agree() {
    let other = |name: &str, value: &str| {
        let line = format!("a={name}:{value}\r\n");
        let start = CHROMIUM_SVC.rfind(&format!("a={name}:")).unwrap();
        let end = start + CHROMIUM_SVC[start..].find("\r\n").unwrap() + 2;
        refused(&format!("{}{line}{}", &CHROMIUM_SVC[..start], &CHROMIUM_SVC[end..]))
    };
    let expect = |what| OfferError::TransportMismatch { mid: "14".into(), what };
    assert_eq!(other("ice-ufrag", "else"), expect("ice-ufrag"));
    assert_eq!(other("ice-pwd", "else"), expect("ice-pwd"));
    let print = ["AA"; 32].join(":");
    assert_eq!(other("fingerprint", &format!("sha-256 {print}")), expect("fingerprint"));
}

#[test]
fn sources_are_numbered_as_the_protocol_says() {
    use crate::room::{ParticipantId, SourceId};
    use halloo_protocol as wire;
    let pairs = [
        (SourceKind::Microphone, wire::SourceKind::Microphone),
        (SourceKind::Camera, wire::SourceKind::Camera),
        (SourceKind::Screen, wire::SourceKind::Screen),
    ];
    for number in [1, 77, (1 << 30) - 1] {
        for (kind, named) in pairs {
            let told = wire::SourceOf { participant: wire::ParticipantId(number), kind: named };
            assert_eq!(SourceId::new(ParticipantId::from_get(number), kind).csrc(), told.csrc());
        }
    }
}

/// Good offers with lines taken out, doubled, swapped or cut.
fn mutated() -> impl Strategy<Value = String> {
    let offers =
        prop::sample::select(vec![CHROMIUM_SVC, CHROMIUM_SIMULCAST, CHROMIUM_UNTRIMMED, LIBWEBRTC_M106, ENGINE]);
    let edit = (0u8..5, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (offers, prop::collection::vec(edit, 0..8)).prop_map(|(offer, edits)| {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (what, a, b) in edits {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            match what {
                0 => lines[a].clear(),
                1 => {
                    let line = lines[a].clone();
                    lines.insert(b, line);
                }
                2 => lines.swap(a, b),
                3 => {
                    let cut = lines[a].char_indices().nth(b % 40).map_or(0, |(at, _)| at);
                    lines[a].truncate(cut);
                }
                _ => lines[a].push_str(" 99999999999999999999;=,:~"),
            }
        }
        lines.join("\r\n")
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,300}") {
        let _ = Offer::parse(&text);
    }

    #[test]
    fn whatever_is_taken_can_be_answered(text in mutated()) {
        if let Ok(offer) = Offer::parse(&text) {
            let negotiated = negotiate(&offer, &local(), &terms(), None).unwrap();
            let answer = sdp_types::Session::parse(negotiated.answer.as_bytes()).unwrap();
            prop_assert_eq!(answer.medias.len(), offer.sections.len());
        }
    }
}
