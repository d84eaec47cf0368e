use super::*;
use crate::av1::{obu, packetize::packetize};
use halloo_transport::session::MediaKind;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_000 + millis)
}

fn obu(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    obu::Obu { header: kind << 3, extension: None, payload }.write_sized(out);
}

/// The packets of frame `number`, a key frame where asked, from sequence number `seq` on.
fn frame(seq: &mut u64, number: u64, key: bool) -> Vec<ReceivedPacket> {
    let mut unit = Vec::new();
    if key {
        obu(obu::SEQUENCE_HEADER, &[1; 10], &mut unit);
    }
    obu(6, &[number as u8; 300], &mut unit);
    let payloads = packetize(&unit, 120);
    let last = payloads.len() - 1;
    let packets = payloads.into_iter().enumerate().map(|(i, payload)| ReceivedPacket {
        kind: MediaKind::Video,
        ssrc: Ssrc(1),
        csrcs: vec![],
        mid: None,
        seq: SeqNo(*seq + i as u64),
        rtp_time: RtpTime::new(number * 3_000, 90_000),
        marker: i == last,
        payload,
        arrived_at: at(number * 33),
        retransmitted: false,
        audio_level: None,
    });
    let packets: Vec<_> = packets.collect();
    *seq += packets.len() as u64;
    packets
}

fn frames(buffer: &mut FrameBuffer, now: Timestamp) -> Vec<u64> {
    let mut got = Vec::new();
    while let Some(output) = buffer.poll(now) {
        if let Output::Frame(frame) = output {
            got.push(frame.rtp_time.ticks / 3_000);
        }
    }
    got
}

fn requested(buffer: &FrameBuffer) -> u64 {
    buffer.stats().key_frames_requested
}

#[test]
fn a_frame_is_delivered_with_its_last_packet() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    for number in 0..20 {
        let packets = frame(&mut seq, number, number == 0);
        let last = packets.len() - 1;
        for (i, packet) in packets.into_iter().enumerate() {
            let now = packet.arrived_at;
            buffer.insert(packet);
            assert_eq!(frames(&mut buffer, now), if i == last { vec![number] } else { vec![] });
        }
    }
    assert_eq!(buffer.next_timeout(), None);
}

#[test]
fn nothing_is_delivered_before_a_key_frame_and_one_is_asked_for_at_once() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    frame(&mut seq, 0, false).into_iter().for_each(|p| buffer.insert(p));
    assert!(frames(&mut buffer, at(0)).is_empty());
    assert_eq!(requested(&buffer), 1);
    assert_eq!(buffer.next_timeout(), Some(at(300)));
    assert!(frames(&mut buffer, at(299)).is_empty());
    assert_eq!(requested(&buffer), 1, "not again before the interval");
    frames(&mut buffer, at(300));
    assert_eq!(requested(&buffer), 2);
    frame(&mut seq, 1, true).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(310)), [1]);
    assert_eq!((buffer.next_timeout(), buffer.stats().frames_dropped), (None, 1));
}

#[test]
fn a_first_key_frame_that_is_still_arriving_is_not_asked_for_again() {
    let mut buffer = FrameBuffer::new(FrameBufferConfig::default());
    let mut packets = frame(&mut 10, 0, true);
    let last = packets.pop().unwrap();
    for packet in packets {
        buffer.insert(packet);
        assert!(frames(&mut buffer, at(1)).is_empty());
    }
    buffer.insert(last);
    assert_eq!(frames(&mut buffer, at(20)), [0]);
    assert_eq!(requested(&buffer), 0);
}

#[test]
fn a_late_repair_resumes_without_a_key_frame() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    frame(&mut seq, 0, true).into_iter().for_each(|p| buffer.insert(p));
    let mut broken = frame(&mut seq, 1, false);
    let missing = broken.remove(1);
    broken.into_iter().for_each(|p| buffer.insert(p));
    frame(&mut seq, 2, false).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(70)), [0]);
    assert_eq!(buffer.next_timeout(), Some(at(33) + 150 * MS));
    assert_eq!(requested(&buffer), 0);
    frames(&mut buffer, at(33 + 150));
    assert_eq!(requested(&buffer), 1);
    buffer.insert(missing);
    assert_eq!(frames(&mut buffer, at(400)), [1, 2]);
    assert_eq!(buffer.next_timeout(), None);
}

#[test]
fn a_key_frame_behind_a_gap_is_taken_once_reordering_is_ruled_out() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    frame(&mut seq, 0, true).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(0)), [0]);
    frame(&mut seq, 1, false).into_iter().skip(1).for_each(|p| buffer.insert(p));
    assert!(frames(&mut buffer, at(33)).is_empty());
    frame(&mut seq, 2, true).into_iter().for_each(|p| buffer.insert(p));
    assert!(frames(&mut buffer, at(34)).is_empty());
    assert_eq!(buffer.next_timeout(), Some(at(43)));
    assert_eq!(frames(&mut buffer, at(43)), [2]);
    frame(&mut seq, 3, false).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(99)), [3]);
}

#[test]
fn padding_packets_fill_gaps_and_mean_nothing() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    for number in 0..3 {
        let packets = frame(&mut seq, number, number == 0);
        let mut padding = packets[0].clone();
        padding.payload = Bytes::new();
        padding.marker = false;
        padding.seq = SeqNo(seq);
        seq += 1;
        packets.into_iter().for_each(|p| buffer.insert(p));
        buffer.insert(padding);
        assert_eq!(frames(&mut buffer, at(number * 33)), [number]);
    }
}

#[test]
fn a_unit_without_marker_ends_where_the_next_begins() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    for number in 0..3 {
        for mut packet in frame(&mut seq, number, number == 0) {
            packet.marker = false;
            buffer.insert(packet);
        }
    }
    assert_eq!(frames(&mut buffer, at(99)), [0, 1]);
}

#[test]
fn a_new_ssrc_starts_over_with_its_key_frame() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 40_000);
    frame(&mut seq, 0, true).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(0)), [0]);
    let mut seq = 5;
    for (number, key) in [(7, true), (8, false)] {
        for mut packet in frame(&mut seq, number, key) {
            packet.ssrc = Ssrc(2);
            buffer.insert(packet);
        }
    }
    assert_eq!(frames(&mut buffer, at(1)), [7, 8]);
}

#[test]
fn a_decode_error_leads_to_a_request_and_the_next_key_frame() {
    let (mut buffer, mut seq) = (FrameBuffer::new(FrameBufferConfig::default()), 100);
    frame(&mut seq, 0, true).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(0)), [0]);
    buffer.handle_decode_error();
    frame(&mut seq, 1, false).into_iter().for_each(|p| buffer.insert(p));
    assert!(frames(&mut buffer, at(33)).is_empty());
    assert_eq!(requested(&buffer), 1);
    frame(&mut seq, 2, true).into_iter().for_each(|p| buffer.insert(p));
    assert_eq!(frames(&mut buffer, at(66)), [2]);
}

proptest! {
    #[test]
    fn frames_come_in_order_and_decodable_whatever_is_lost_doubled_or_reordered(
        fate in proptest::collection::vec((0_u8..20, 0_usize..6), 200),
        keys in proptest::collection::vec(0_u8..8, 50),
    ) {
        let (mut seq, mut packets) = (65_000, Vec::new());
        for (number, key) in keys.iter().enumerate() {
            packets.extend(frame(&mut seq, number as u64, *key == 0 || number == 0));
        }
        let mut order: Vec<(usize, usize)> = Vec::new();
        for i in 0..packets.len() {
            let (luck, delay) = fate[i % fate.len()];
            if luck > 1 { order.push((i + delay, i)); }
            if luck == 19 { order.push((i + delay + 3, i)); }
        }
        order.sort_unstable();
        let mut buffer = FrameBuffer::new(FrameBufferConfig::default());
        let mut got = Vec::new();
        for (_, i) in order {
            let packet = packets[i].clone();
            let now = packet.arrived_at;
            buffer.insert(packet);
            got.extend(frames(&mut buffer, now));
        }
        got.extend(frames(&mut buffer, at(100_000)));
        for pair in got.windows(2) {
            prop_assert!(pair[0] < pair[1]);
            prop_assert!(pair[1] == pair[0] + 1 || keys[pair[1] as usize] == 0, "{:?} is no successor", pair);
        }
    }

    #[test]
    fn hostile_packets_neither_panic_nor_pile_up(
        packets in proptest::collection::vec(
            (0_u64..200_000, 0_u64..20, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..12)), 0..400)
    ) {
        let mut buffer = FrameBuffer::new(FrameBufferConfig { max_packets: 50, ..Default::default() });
        for (i, (seq, time, marker, payload)) in packets.into_iter().enumerate() {
            let mut packet = frame(&mut 0, time, false).remove(0);
            (packet.seq, packet.marker, packet.payload) = (SeqNo(seq), marker, payload.into());
            packet.arrived_at = at(i as u64);
            buffer.insert(packet);
            let outputs = std::iter::from_fn(|| buffer.poll(at(i as u64))).take(1_000).count();
            prop_assert!(outputs < 100);
            prop_assert!(buffer.packets.len() <= 50);
            prop_assert!(buffer.next_timeout().is_none_or(|t| t > at(i as u64)), "a timeout must make progress");
        }
    }
}
