//! Tests of the room as a whole: what control is told, and who gets what.

use super::{
    simulation::{Link, Meeting, Outbox},
    *,
};
use crate::{
    av1::synthetic::Mode,
    rtp::{ExtensionIds, OutgoingHeader},
};
use halloo_transport::{Mid, PayloadType, Ssrc};
use std::{collections::HashSet, time::Duration};

const CLEAN: Link = Link::CLEAN;

fn meeting(people: usize, mode: Mode) -> Meeting {
    let mut meeting = Meeting::new(1, CLEAN);
    for _ in 0..people {
        meeting.join(mode, 3, 4);
    }
    meeting
}

fn show(meeting: &mut Meeting, by: usize, of: usize, height: u32, pinned: bool) {
    let wish = VideoWish { source: meeting.source(of, SourceKind::Camera), width: height * 16 / 9, height, pinned };
    meeting.command(Command::Show { by: meeting.clients[by].id, wishes: vec![wish], others: (0, 0) });
}

/// The largest picture height that a client's slots got of a source since `from`, by its spatial layers.
fn spatial_layers(meeting: &Meeting, by: usize, of: usize, from: Timestamp) -> usize {
    let csrc = meeting.source(of, SourceKind::Camera).csrc();
    let mut structure = None;
    let mut seen = HashSet::new();
    for slot in &meeting.clients[by].receiver.slots {
        for packet in slot.packets.values().filter(|p| p.csrc == csrc && !p.descriptor.is_empty()) {
            let read = crate::av1::Descriptor::read(&packet.descriptor, &mut structure).unwrap();
            if packet.arrived >= from {
                seen.insert(read.spatial);
            }
        }
    }
    seen.len()
}

fn layers_requested(meeting: &Meeting, of: usize) -> Vec<RequestedLayers> {
    let camera = meeting.source(of, SourceKind::Camera);
    let layers = |event: &Event| match event {
        Event::LayersRequested { source, layers } if *source == camera => Some(*layers),
        _ => None,
    };
    meeting.events.iter().filter_map(layers).collect()
}

#[test]
fn only_the_loudest_are_heard() {
    let mut meeting = meeting(8, Mode::L1T1);
    for client in &mut meeting.clients {
        client.camera = false;
    }
    meeting.run(1_000);
    for talker in [5, 6, 7] {
        meeting.clients[talker].sender.level = 30;
    }
    meeting.run(1_000);
    let from = meeting.now;
    meeting.run(1_000);
    let slots = meeting.clients[0].receiver.slots.iter();
    let heard: HashSet<u32> =
        slots.flat_map(|s| s.packets.values()).filter(|p| p.arrived > from).map(|p| p.csrc).collect();
    let talkers = [5, 6, 7].map(|t| meeting.source(t, SourceKind::Microphone).csrc());
    assert_eq!(heard, talkers.into_iter().collect());
    assert!(meeting.room.dominant_speaker().is_some_and(|id| meeting.clients[5..].iter().any(|c| c.id == id)));
}

#[test]
fn free_slots_follow_who_speaks_and_a_pinned_source_stays() {
    let mut meeting = Meeting::new(3, CLEAN);
    for _ in 0..6 {
        meeting.join(Mode::L1T3, 2, 2);
    }
    let pinned = meeting.source(1, SourceKind::Camera);
    let wishes = vec![VideoWish { source: pinned, width: 640, height: 360, pinned: true }];
    meeting.command(Command::Show { by: meeting.clients[0].id, wishes, others: (320, 180) });
    for talker in [4, 5, 3] {
        meeting.clients.iter_mut().for_each(|c| c.sender.level = 100);
        meeting.clients[talker].sender.level = 30;
        meeting.run(1_500);
        let from = meeting.now;
        meeting.run(500);
        let slots = meeting.clients[0].receiver.slots.iter().filter(|s| s.config.kind == SlotKind::Video);
        let seen: HashSet<u32> =
            slots.flat_map(|s| s.packets.values()).filter(|p| p.arrived > from).map(|p| p.csrc).collect();
        assert_eq!(seen, [pinned.csrc(), meeting.source(talker, SourceKind::Camera).csrc()].into());
    }
}

#[test]
fn a_publisher_whom_nobody_shows_large_may_stop_its_top_layer_within_two_seconds() {
    let mut meeting = meeting(3, Mode::L3T3);
    show(&mut meeting, 1, 0, 720, false);
    show(&mut meeting, 2, 0, 180, false);
    meeting.run(4_000);
    assert_eq!(layers_requested(&meeting, 0).last(), Some(&RequestedLayers { encodings: 1, spatial: 3 }));
    let now = meeting.now;
    assert_eq!(spatial_layers(&meeting, 2, 0, now - Duration::from_millis(500)), 1);
    show(&mut meeting, 1, 0, 180, false);
    meeting.run(1_900);
    assert_eq!(layers_requested(&meeting, 0).last(), Some(&RequestedLayers { encodings: 1, spatial: 1 }));
    show(&mut meeting, 2, 0, 720, true);
    meeting.run(300);
    assert_eq!(layers_requested(&meeting, 0).last(), Some(&RequestedLayers { encodings: 1, spatial: 3 }));
    let from = meeting.now;
    meeting.run(700);
    assert_eq!(spatial_layers(&meeting, 2, 0, from), 3);
    show(&mut meeting, 1, 2, 180, false);
    show(&mut meeting, 2, 1, 180, false);
    meeting.run(1_900);
    assert_eq!(layers_requested(&meeting, 0).last(), Some(&RequestedLayers { encodings: 0, spatial: 0 }));
}

#[test]
fn many_who_want_a_key_frame_ask_the_publisher_once() {
    let mut meeting = meeting(1, Mode::L1T3);
    meeting.run(1_000);
    let before = meeting.clients[0].sender.key_requests;
    for _ in 0..20 {
        let index = meeting.join(Mode::L1T1, 1, 1);
        meeting.clients[index].camera = false;
    }
    meeting.run(140);
    assert_eq!(meeting.clients[0].sender.key_requests, before + 1);
    let shown = |c: &simulation::Client| c.receiver.slots.iter().any(|s| s.packets.len() > 3);
    assert!(meeting.clients[1..].iter().all(shown));
}

#[test]
fn a_key_frame_whose_first_packet_is_late_goes_out_once() {
    let mut meeting = meeting(2, Mode::L1T3);
    meeting.run(500);
    meeting.clients[0].camera = false;
    meeting.run(50);
    let (from, to, now) = (meeting.clients[0].id, meeting.clients[1].id, meeting.now);
    meeting.command(Command::Connected(to));
    meeting.clients[0].sender.key_wanted = true;
    let packets = meeting.clients[0].sender.picture(now);
    let mut out = Outbox::default();
    for index in [3, 0, 1, 2] {
        meeting.room.handle_rtp(now, from, &packets[index], &mut out);
    }
    for ms in 0..100 {
        meeting.room.handle_timeout(now + Duration::from_millis(ms), &mut out);
    }
    let header = |packet: &[u8]| {
        let header = crate::rtp::RtpHeader::parse(packet).unwrap();
        (header.payload_type(), header.ssrc(), header.seq())
    };
    let sent: Vec<_> = out.rtp.iter().filter(|(id, _)| *id == to).map(|(_, packet)| header(packet)).collect();
    let video: Vec<_> = sent.into_iter().filter(|(payload_type, ..)| *payload_type == 97).collect();
    assert_eq!(video.iter().collect::<HashSet<_>>().len(), 4, "{video:?}");
    assert_eq!(video.len(), 4, "{video:?}");
}

#[test]
fn a_muted_source_gives_its_slot_up_and_starts_again_at_a_key_frame() {
    let mut meeting = meeting(2, Mode::L1T3);
    meeting.run(1_000);
    let camera = meeting.source(0, SourceKind::Camera);
    meeting.command(Command::Mute { source: camera, muted: true });
    let from = meeting.now + Duration::from_millis(20);
    meeting.run(1_000);
    let slots = |meeting: &Meeting, from: Timestamp| {
        let slots = meeting.clients[1].receiver.slots.iter();
        slots.flat_map(|s| s.packets.values()).filter(|p| p.csrc == camera.csrc() && p.arrived > from).count()
    };
    assert_eq!(slots(&meeting, from), 0);
    meeting.command(Command::Mute { source: camera, muted: false });
    meeting.run(500);
    assert!(slots(&meeting, from) > 10);
    let until = meeting.now;
    for slot in &meeting.clients[1].receiver.slots {
        let decoded = slot.check(until);
        assert_eq!((decoded.broken, decoded.lost), (0, 0));
    }
    meeting.check_sent();
}

#[test]
fn who_leaves_is_gone_from_slots_and_its_place_is_another_person() {
    let mut meeting = meeting(3, Mode::L1T1);
    meeting.run(500);
    let (old, camera) = (meeting.clients[2].id, meeting.source(2, SourceKind::Camera));
    meeting.leave(2);
    meeting.run(10);
    assert!(meeting.events.contains(&Event::SourceStopped(camera)));
    let index = meeting.join(Mode::L1T1, 1, 1);
    assert_ne!(meeting.clients[index].id, old);
    let mut out = Outbox::default();
    meeting.room.handle_rtp(meeting.now, old, &[0x80; 40], &mut out);
    meeting.room.leave(meeting.now, old, &mut out);
    assert_eq!(meeting.room.len(), 3, "an id of somebody who left names nobody");
}

#[test]
fn nothing_is_sent_before_the_transport_is_up_and_a_full_room_refuses() {
    let mut room = Room::new(RoomConfig { max_participants: 1, ..RoomConfig::default() });
    let mut out = Outbox::default();
    let config = ParticipantConfig {
        published: vec![],
        slots: vec![],
        incoming_extensions: simulation::IDS,
        outgoing_extensions: simulation::IDS,
        grants: Grants::ALL,
        limits: Limits::default(),
        feedback_ssrc: halloo_transport::Ssrc(1),
        cname: String::new(),
        seed: 0,
    };
    let id = room.join(Timestamp::ZERO, config.clone()).unwrap();
    assert_eq!(room.join(Timestamp::ZERO, config.clone()), Err(JoinError::Full));
    for ms in 0..3_000 {
        room.handle_timeout(Timestamp::from_millis(ms), &mut out);
    }
    assert!(out.rtp.is_empty() && out.rtcp.is_empty());
    room.command(Timestamp::from_millis(3_000), Command::Connected(id), &mut out);
    for ms in 3_000..6_000 {
        room.handle_timeout(Timestamp::from_millis(ms), &mut out);
    }
    assert!((2..=5).contains(&out.rtcp.len()), "{} reports", out.rtcp.len());
    room.leave(Timestamp::from_millis(6_000), id, &mut out);
    assert_eq!(room.next_timeout(), None);
    assert!(room.join(Timestamp::from_millis(6_000), config).is_ok());
}

#[test]
fn hostile_bytes_change_nothing() {
    use halloo_transport::random::Random;
    let mut meeting = meeting(3, Mode::L3T3);
    meeting.run(500);
    let mut random = Random::new(9);
    let from = meeting.clients[0].id;
    let mut out = Outbox::default();
    for _ in 0..20_000 {
        let len = (random.next_u64() % 200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = 0x80 | (*first & 0x3f);
        }
        // Every second one names a real stream.
        if len > 12 && random.next_f64() < 0.5 {
            bytes[8..12].copy_from_slice(&1_000u32.to_be_bytes());
        }
        meeting.room.handle_rtp(meeting.now, from, &bytes, &mut out);
        meeting.room.handle_rtcp(meeting.now, from, &bytes, &mut out);
    }
    assert!(meeting.room.history_bytes() < 4 << 20);
    let from = meeting.now;
    meeting.run(2_000);
    assert!(spatial_layers(&meeting, 2, 1, from) > 0, "others go on");
}

#[test]
fn a_pictures_packets_wait_a_moment_for_its_last_and_sound_does_not() {
    let ids = ExtensionIds { transport_cc: Some(3), ..ExtensionIds::default() };
    let section = |mid: &str, kind, payload_type, ssrc| PublishedSection {
        mid: Mid(mid.into()),
        kind,
        payload_type: PayloadType(payload_type),
        rtx_payload_type: None,
        nack: false,
        encodings: vec![Encoding { ssrc: Some(Ssrc(ssrc)), ..Encoding::default() }],
    };
    let config = ParticipantConfig {
        published: vec![section("0", SourceKind::Microphone, 111, 1), section("1", SourceKind::Camera, 45, 2)],
        slots: vec![],
        incoming_extensions: ids,
        outgoing_extensions: ids,
        grants: Grants::ALL,
        limits: Limits::default(),
        feedback_ssrc: Ssrc(9),
        cname: "c".into(),
        seed: 1,
    };
    let mut room = Room::new(RoomConfig::default());
    let id = room.join(Timestamp::ZERO, config).unwrap();
    let packet = |ssrc, payload_type, seq, marker| {
        let header =
            OutgoingHeader { marker, ..OutgoingHeader::new(Ssrc(ssrc), PayloadType(payload_type), seq, 7, &ids) };
        let mut bytes = vec![0; 100];
        let layout = header.write_packet(b"picture", &mut bytes).unwrap();
        bytes.truncate(layout.len);
        bytes
    };
    let mut out = Outbox::default();
    let micros = |micros| Timestamp::from_millis(10) + Duration::from_micros(micros);
    room.handle_rtp(micros(0), id, &packet(2, 45, 1, false), &mut out);
    room.handle_rtp(micros(100), id, &packet(2, 45, 2, false), &mut out);
    assert_eq!(room.lingers_until(), Some(micros(500)), "counts from the first packet");
    room.handle_rtp(micros(200), id, &packet(2, 45, 3, true), &mut out);
    assert_eq!(room.lingers_until(), None, "it is whole");
    room.forward(micros(200), &mut out);
    room.handle_rtp(micros(900), id, &packet(1, 111, 1, false), &mut out);
    assert_eq!(room.lingers_until(), None, "sound");
    room.handle_rtp(micros(950), id, &packet(2, 45, 4, false), &mut out);
    room.forward(micros(1_400), &mut out);
    assert_eq!(room.lingers_until(), None, "nothing waits any more");
}
