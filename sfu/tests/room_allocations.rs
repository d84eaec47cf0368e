//! The per-packet path of a room takes nothing from the heap once its tables have grown to their size.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use halloo_sfu::{
    room::{
        Command, Egress, Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot,
        Room, RoomConfig, Rtx, SlotKind, SourceKind,
    },
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader},
};
use halloo_transport::{Bitrate, Mid, PayloadType, Ssrc, Timestamp};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local cell without destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: Some(12),
    video_orientation: None,
};
/// A descriptor of one layer: with its structure (key frame), and of the frames that follow. One target, two templates.
const KEY: [u8; 8] = [0xc0, 0, 0, 0x80, 0x00, 0x3a, 0x40, 0x00];
const DELTA: [u8; 3] = [0xc1, 0, 0];
const PEOPLE: usize = 6;

/// Writes each packet into one buffer, as a shard does.
struct Wire {
    buffer: Vec<u8>,
    packets: usize,
}

impl Egress for Wire {
    fn rtp(&mut self, _: ParticipantId, header: &OutgoingHeader<'_>, payload: &[u8]) {
        header.write_packet(payload, &mut self.buffer).unwrap();
        self.packets += 1;
    }

    fn rtcp(&mut self, _: ParticipantId, _: &[u8]) {}
}

fn config(index: u32) -> ParticipantConfig {
    let section = |mid: &str, kind, pt, ssrc| PublishedSection {
        mid: Mid(mid.into()),
        kind,
        payload_type: PayloadType(pt),
        rtx_payload_type: None,
        nack: true,
        encodings: vec![Encoding { rid: None, ssrc: Some(Ssrc(ssrc)), rtx_ssrc: None }],
    };
    let slot = |i: u32, kind| ReceiveSlot {
        mid: Mid(format!("r{i}")),
        kind,
        ssrc: Ssrc(10_000 + 100 * index + i),
        payload_type: PayloadType(97),
        rtx: Some(Rtx { ssrc: Ssrc(20_000 + 100 * index + i), payload_type: PayloadType(98) }),
    };
    ParticipantConfig {
        published: vec![
            section("0", SourceKind::Microphone, 111, 1_000 + index),
            section("1", SourceKind::Camera, 45, 2_000 + index),
        ],
        slots: (0..3).map(|i| slot(i, SlotKind::Audio)).chain((3..9).map(|i| slot(i, SlotKind::Video))).collect(),
        incoming_extensions: IDS,
        outgoing_extensions: IDS,
        grants: Grants::ALL,
        limits: Limits { start_receive: Bitrate::from_kbps(15_000), ..Limits::default() },
        feedback_ssrc: Ssrc(1),
        cname: "room".into(),
        seed: u64::from(index),
    }
}

/// Writes one packet of a publisher; `number` counts pictures or sounds.
fn packet(out: &mut [u8], ssrc: u32, number: u32, transport_seq: u16) -> &[u8] {
    let video = ssrc >= 2_000;
    let mut descriptor = [0; 8];
    let bytes = if number == 0 { &KEY[..] } else { &DELTA[..] };
    descriptor[..bytes.len()].copy_from_slice(bytes);
    descriptor[1..3].copy_from_slice(&(number as u16).to_be_bytes());
    let timestamp = number * if video { 3_000 } else { 960 };
    let payload_type = PayloadType(if video { 45 } else { 111 });
    let mut header = OutgoingHeader::new(Ssrc(ssrc), payload_type, number as u16, timestamp, &IDS);
    header.marker = video;
    header.transport_seq = Some(transport_seq);
    if video {
        header.dependency_descriptor = Some(&descriptor[..bytes.len()]);
    } else {
        header.audio_level = Some(AudioLevel { level: 40, voice: true });
    }
    let payload = [7; 1_000];
    let layout = header.write_packet(&payload[..if video { 1_000 } else { 80 }], out).unwrap();
    &out[..layout.len]
}

#[test]
fn forwarding_takes_nothing_from_the_heap_in_steady_state() {
    let mut room = Room::new(RoomConfig { loudest: PEOPLE, ..RoomConfig::default() });
    let mut wire = Wire { buffer: vec![0; 2_000], packets: 0 };
    let start = Timestamp::from_millis(1);
    let people: Vec<ParticipantId> = (0..PEOPLE).map(|i| room.join(start, config(i as u32)).unwrap()).collect();
    for id in &people {
        room.command(start, Command::Connected(*id), &mut wire);
    }
    let mut buffer = vec![0; 2_000];
    let mut in_packets = 0;
    for ms in 1..15_000u64 {
        let now = Timestamp::from_millis(ms);
        for (index, id) in people.iter().enumerate() {
            let at = ms + index as u64;
            let period = |every: u64| at.is_multiple_of(every).then_some((at / every) as u32);
            let streams = [(1_000, period(20)), (2_000, period(10))];
            for (base, number) in streams {
                let Some(number) = number else { continue };
                let number = number - 1;
                let transport_seq = (3 * at) as u16 + u16::from(base == 2_000);
                let bytes = packet(&mut buffer, base + index as u32, number, transport_seq);
                let (allocated, sent) = (ALLOCATIONS.get(), wire.packets);
                room.handle_rtp(now, *id, bytes, &mut wire);
                room.forward(now, &mut wire);
                if ms >= 13_000 {
                    assert_eq!(ALLOCATIONS.get() - allocated, 0, "at {ms} ms");
                    in_packets += wire.packets - sent;
                }
            }
        }
        if room.next_timeout().is_some_and(|due| due <= now) {
            room.handle_timeout(now, &mut wire);
        }
        while room.poll_event().is_some() {}
    }
    // Two seconds of five receivers for each of six cameras at 100 packets a second, and sounds beside.
    assert!(in_packets > 2 * 6 * 5 * 100, "{in_packets}");
}
