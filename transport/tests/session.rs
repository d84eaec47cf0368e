//! One session at its interface: what goes on the wire, what is taken off it, and what hostile input does (nothing).

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod support;

use bytes::Bytes;
use halloo_transport::{
    Bitrate, Event, Mid, PayloadType, RecvStream, RtpTime, SendStream, Session, SessionConfig, Ssrc, Timestamp,
    Transmit, extensions,
    session::{AudioLevel, ExtensionIds, MAX_PAYLOAD, MediaKind, MediaUnit, Rtx, SendError},
};
use proptest::prelude::*;
use rtcp::{
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack},
};
use rtp::header::Header;
use shared::marshal::{Marshal, Unmarshal};
use std::time::Duration;
use support::pair::IDS;

const AT: fn(u64) -> Timestamp = Timestamp::from_millis;
const VIDEO: Ssrc = Ssrc(2);

fn session(seed: u64) -> Session {
    Session::new(SessionConfig {
        feedback_ssrc: Ssrc(1),
        cname: "name".to_owned(),
        start_bitrate: Bitrate::from_kbps(500),
        min_bitrate: Bitrate::from_kbps(50),
        max_bitrate: Bitrate::from_kbps(2_000),
        seed,
        ntp_at_zero: Duration::from_secs(3_900_000_000),
    })
}

fn video(mid: &str, rtx: Option<Rtx>) -> SendStream {
    SendStream {
        kind: MediaKind::Video,
        ssrc: VIDEO,
        payload_type: PayloadType(45),
        clock_rate: 90_000,
        mid: Some(Mid(mid.to_owned())),
        rtx,
        extensions: IDS,
    }
}

const RTX: Rtx = Rtx { ssrc: Some(Ssrc(3)), payload_type: PayloadType(46) };

fn unit(packets: usize, size: usize) -> MediaUnit {
    MediaUnit {
        rtp_time: RtpTime::new(1 << 33, 90_000),
        captured_at: AT(0),
        payloads: vec![Bytes::from(vec![9; size]); packets],
        marker: true,
        key_frame: false,
        audio_level: Some(AudioLevel { level: 1, voice: true }),
        dependency_descriptors: Vec::new(),
    }
}

/// Everything that leaves up to `until`, with the time.
fn drive(session: &mut Session, from: Timestamp, until: Timestamp) -> Vec<(Timestamp, Transmit)> {
    let mut left = Vec::new();
    let mut now = from;
    loop {
        session.handle_timeout(now);
        left.extend(std::iter::from_fn(|| session.poll_transmit(now)).map(|t| (now, t)));
        match session.next_timeout() {
            Some(next) if next <= until => now = next.max(now),
            _ => return left,
        }
    }
}

fn rtp_of(left: Vec<(Timestamp, Transmit)>) -> Vec<rtp::Packet> {
    left.into_iter()
        .filter_map(|(_, t)| match t {
            Transmit::Rtp(packet) => Some(packet),
            Transmit::Rtcp(_) => None,
        })
        .collect()
}

fn nack(seq: u16) -> Vec<Box<dyn rtcp::Packet>> {
    vec![Box::new(TransportLayerNack { sender_ssrc: 9, media_ssrc: VIDEO.0, nacks: vec![NackPair::new(seq)] })]
}

#[test]
fn the_largest_payload_fits_a_small_path_with_every_extension_and_as_retransmission() {
    let mut session = session(1);
    session.add_send_stream(video("0123456789abcdef", Some(RTX)));
    session.send(AT(0), VIDEO, unit(1, MAX_PAYLOAD)).unwrap();
    let first = rtp_of(drive(&mut session, AT(0), AT(10)));
    session.handle_rtcp(AT(50), &nack(first[0].header.sequence_number));
    let again = rtp_of(drive(&mut session, AT(50), AT(60)));
    assert_eq!(again[0].header.ssrc, 3);
    for packet in [&first[0], &again[0]] {
        let wire = packet.marshal().unwrap().len();
        // A dependency descriptor of a single-layer stream fits as well.
        assert!(wire + 16 + 16 + 8 + 40 <= 1_280, "{wire}");
    }
}

#[test]
fn mid_is_sent_until_the_peer_reports_on_the_stream() {
    let mut session = session(1);
    session.add_send_stream(video("1", None));
    let mut with_mid = Vec::new();
    for i in 0..30 {
        session.send(AT(i * 20), VIDEO, unit(1, 100)).unwrap();
        let packets = rtp_of(drive(&mut session, AT(i * 20), AT(i * 20 + 19)));
        with_mid.extend(packets.iter().map(|p| extensions::mid(&p.header, IDS.mid).is_some()));
        if i == 20 {
            let block = ReceptionReport { ssrc: VIDEO.0, ..Default::default() };
            let report = ReceiverReport { reports: vec![block], ..Default::default() };
            session.handle_rtcp(AT(i * 20 + 19), &[Box::new(report)]);
        }
    }
    assert_eq!(with_mid.iter().position(|m| !m), Some(21));
    assert!(with_mid[21..].iter().all(|m| !m));
}

#[test]
fn without_a_retransmission_stream_the_packet_itself_is_sent_again() {
    let mut session = session(2);
    session.add_send_stream(video("1", None));
    session.send(AT(0), VIDEO, unit(3, 200)).unwrap();
    let sent = rtp_of(drive(&mut session, AT(0), AT(40)));
    session.handle_rtcp(AT(100), &nack(sent[1].header.sequence_number));
    let again = rtp_of(drive(&mut session, AT(100), AT(120)));
    assert_eq!(again.len(), 1);
    let (a, b) = (&again[0], &sent[1]);
    assert_eq!((a.header.ssrc, a.header.sequence_number, &a.payload), (2, b.header.sequence_number, &b.payload));
    let number = |p: &rtp::Packet| extensions::transport_seq(&p.header, IDS.transport_cc).unwrap();
    assert_eq!(number(a), number(&sent[2]).wrapping_add(1), "each departure has its own number");
}

#[test]
fn each_packet_has_its_descriptor_and_so_has_its_repetition() {
    let mut session = session(5);
    session.add_send_stream(video("1", Some(RTX)));
    // The first is as long as three spatial layers' structure: the two-byte form.
    let descriptors =
        vec![Bytes::from(vec![0x80; 92]), Bytes::from_static(&[0, 0, 1]), Bytes::from_static(&[0x40, 0, 1])];
    session.send(AT(0), VIDEO, MediaUnit { dependency_descriptors: descriptors.clone(), ..unit(3, 200) }).unwrap();
    let sent = rtp_of(drive(&mut session, AT(0), AT(40)));
    let numbers = sent.iter().map(|packet| packet.header.sequence_number);
    let again: Vec<rtp::Packet> = numbers
        .flat_map(|number| {
            session.handle_rtcp(AT(100), &nack(number));
            rtp_of(drive(&mut session, AT(100), AT(120)))
        })
        .collect();
    for packets in [&sent, &again] {
        let found: Vec<Bytes> = packets
            .iter()
            .map(|packet| {
                let mut wire = packet.marshal().unwrap();
                let header = rtp::Packet::unmarshal(&mut wire).unwrap().header;
                extensions::read(&header, &IDS).dependency_descriptor.unwrap()
            })
            .collect();
        assert_eq!(found, descriptors);
    }
    assert!(again.iter().all(|packet| packet.header.ssrc == 3));
}

#[test]
fn a_refused_unit_takes_no_sequence_numbers() {
    let mut session = session(3);
    session.add_send_stream(video("1", None));
    let mut refused = 0;
    for _ in 0..20 {
        match session.send(AT(0), VIDEO, unit(20, 1_000)) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SendError::QueueFull(VIDEO));
                refused += 1;
            }
        }
    }
    assert!(refused > 10);
    assert_eq!(session.send(AT(0), Ssrc(77), unit(1, 10)), Err(SendError::UnknownStream(Ssrc(77))));
    let sent = rtp_of(drive(&mut session, AT(0), AT(5_000)));
    assert_eq!(sent.len(), 20 * (20 - refused));
    assert!(sent.windows(2).all(|w| w[1].header.sequence_number == w[0].header.sequence_number.wrapping_add(1)));
}

fn receiver() -> Session {
    let mut session = session(4);
    for (mid, pt) in [("a", 45), ("b", 45)] {
        session.add_recv_stream(RecvStream {
            kind: MediaKind::Video,
            ssrc: None,
            payload_type: PayloadType(pt),
            clock_rate: 90_000,
            mid: Some(Mid(mid.to_owned())),
            rtx: Some(Rtx { ssrc: None, payload_type: PayloadType(46) }),
            nack: true,
            extensions: IDS,
        });
    }
    session
}

fn packet(ssrc: u32, seq: u16, mid: Option<&str>) -> rtp::Packet {
    let mut header = Header { version: 2, payload_type: 45, ssrc, sequence_number: seq, ..Header::default() };
    let mid = mid.map(|m| Mid(m.to_owned()));
    extensions::write(&mut header, &IDS, &extensions::OutgoingExtensions { mid: mid.as_ref(), ..Default::default() });
    rtp::Packet { header, payload: Bytes::from_static(b"media") }
}

fn media(session: &mut Session) -> Vec<(u32, Option<Mid>)> {
    std::iter::from_fn(|| session.poll_event())
        .filter_map(|e| match e {
            Event::Media(p) => Some((p.ssrc.0, p.mid)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_undeclared_ssrc_finds_its_stream_by_mid_and_no_stream_is_made_for_a_third() {
    let mut session = receiver();
    session.handle_rtp(AT(0), packet(20, 1, Some("b")));
    session.handle_rtp(AT(1), packet(10, 1, Some("a")));
    session.handle_rtp(AT(2), packet(20, 2, None));
    session.handle_rtp(AT(3), packet(30, 1, None));
    session.handle_rtp(AT(4), packet(31, 1, Some("a")));
    let (a, b) = (Some(Mid("a".to_owned())), Some(Mid("b".to_owned())));
    assert_eq!(media(&mut session), [(20, b.clone()), (10, a.clone()), (20, b)]);
    assert_eq!(session.stats(AT(5)).packets_discarded, 2);

    // A learned SSRC that fell silent gives way.
    session.handle_rtp(AT(1_500), packet(31, 1, Some("a")));
    assert_eq!(media(&mut session), [(31, a)]);
}

#[test]
fn a_media_packet_that_only_pads_has_an_empty_payload() {
    let mut session = receiver();
    let padding = rtp::Packet { payload: Bytes::new(), ..packet(10, 1, Some("a")) };
    session.handle_rtp(AT(0), padding);
    assert!(matches!(session.poll_event(), Some(Event::TargetBitrate(_))));
    assert!(matches!(session.poll_event(), Some(Event::Media(p)) if p.payload.is_empty()));
}

#[derive(Clone, Debug)]
enum Input {
    Rtp { ssrc: u32, payload_type: u8, seq: u16, timestamp: u32, extension: Vec<(u8, Vec<u8>)>, payload: Vec<u8> },
    RtcpBytes(Vec<u8>),
    RtcpBody { count: u8, kind: u8, body: Vec<u32> },
    Send { packets: usize, size: usize },
    Wait(u64),
    KeyFrame(u32),
    PathChange,
}

fn inputs() -> impl Strategy<Value = Input> {
    let extension = prop::collection::vec((1u8..15, prop::collection::vec(any::<u8>(), 1..17)), 0..4);
    prop_oneof![
        6 => (1u32..6, prop_oneof![Just(45u8), Just(46), Just(111), 0u8..128], any::<u16>(), any::<u32>(), extension,
            prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(ssrc, payload_type, seq, timestamp, extension, payload)| {
                Input::Rtp { ssrc, payload_type, seq, timestamp, extension, payload }
            }),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Input::RtcpBytes),
        6 => (0u8..32, 200u8..208, prop::collection::vec(prop_oneof![0u32..6, any::<u32>()], 0..40))
            .prop_map(|(count, kind, body)| Input::RtcpBody { count, kind, body }),
        2 => (1usize..30, 1usize..1_140).prop_map(|(packets, size)| Input::Send { packets, size }),
        4 => (0u64..500).prop_map(Input::Wait),
        1 => (0u32..6).prop_map(Input::KeyFrame),
        1 => Just(Input::PathChange),
    ]
}

fn rtcp_packet(count: u8, kind: u8, body: &[u32]) -> Vec<u8> {
    let mut wire = vec![0x80 | count, kind];
    wire.extend((body.len() as u16).to_be_bytes());
    wire.extend(body.iter().flat_map(|w| w.to_be_bytes()));
    wire
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_comes_in_nothing_panics_and_time_moves_on(script in prop::collection::vec(inputs(), 1..150)) {
        let mut session = receiver();
        session.add_send_stream(video("c", Some(RTX)));
        let mut now = AT(1_000);
        for input in script {
            match input {
                Input::Rtp { ssrc, payload_type, seq, timestamp, extension, payload } => {
                    let mut header =
                        Header { version: 2, ssrc, payload_type, sequence_number: seq, timestamp, ..Header::default() };
                    for (id, value) in extension {
                        let _ = header.set_extension(id, value.into());
                    }
                    session.handle_rtp(now, rtp::Packet { header, payload: payload.into() });
                }
                Input::RtcpBytes(bytes) => {
                    if let Ok(packets) = rtcp::packet::unmarshal(&mut Bytes::from(bytes)) {
                        session.handle_rtcp(now, &packets);
                    }
                }
                Input::RtcpBody { count, kind, body } => {
                    let mut wire = Bytes::from(rtcp_packet(count, kind, &body));
                    if let Ok(packets) = rtcp::packet::unmarshal(&mut wire) {
                        session.handle_rtcp(now, &packets);
                    }
                }
                Input::Send { packets, size } => {
                    let _ = session.send(now, VIDEO, unit(packets, size));
                }
                Input::Wait(ms) => {
                    let until = now + Duration::from_millis(ms);
                    let left = drive(&mut session, now, until);
                    prop_assert!(left.len() < 20_000);
                    for (_, transmit) in left {
                        match transmit {
                            Transmit::Rtp(packet) => {
                                let mut wire = packet.marshal().unwrap();
                                rtp::Packet::unmarshal(&mut wire).unwrap();
                            }
                            Transmit::Rtcp(packets) => {
                                let wire = rtcp::packet::marshal(&packets).unwrap();
                                prop_assert!(wire.len() <= 1_300, "{}", wire.len());
                            }
                        }
                    }
                    now = until;
                }
                Input::KeyFrame(ssrc) => session.request_key_frame(now, Ssrc(ssrc)),
                Input::PathChange => session.handle_path_change(now),
            }
            while session.poll_event().is_some() {}
            let target = session.target_bitrate();
            prop_assert!((Bitrate::from_kbps(50)..=Bitrate::from_kbps(2_000)).contains(&target));
        }
    }
}

#[test]
fn extension_ids_that_were_not_negotiated_leave_packets_plain() {
    let mut session = session(5);
    session.add_send_stream(SendStream { extensions: ExtensionIds::default(), ..video("1", None) });
    session.send(AT(0), VIDEO, unit(1, 10)).unwrap();
    let sent = rtp_of(drive(&mut session, AT(0), AT(1)));
    assert!(!sent[0].header.extension);
}
