//! A synthetic subscriber: checks that each slot is one stream, asks for what is missing, and follows what can be decoded.

use super::{super::ReceiveSlot, sender::Stamp};
use crate::{
    av1::{Descriptor, Structure},
    room::{Rtx, SlotKind},
    rtp::RtpHeader,
};
use halloo_transport::{
    Mid, PayloadType, SeqNo, Ssrc, Timestamp,
    nack::{NackConfig, NackGenerator},
    twcc::ArrivalLog,
    units::SeqUnwrapper,
};
use rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use std::collections::{BTreeMap, HashSet};

/// A packet of a slot, after retransmission was undone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::room) struct Packet {
    pub(in crate::room) timestamp: u32,
    pub(in crate::room) marker: bool,
    pub(in crate::room) csrc: u32,
    pub(super) stamp: Option<Stamp>,
    pub(in crate::room) descriptor: Vec<u8>,
    pub(in crate::room) arrived: Timestamp,
}

/// One slot's stream as it arrived.
#[derive(Debug)]
pub(in crate::room) struct Slot {
    pub(in crate::room) config: ReceiveSlot,
    seqs: SeqUnwrapper,
    nack: NackGenerator,
    pub(in crate::room) packets: BTreeMap<u64, Packet>,
    rtx_seen: HashSet<u16>,
    pub(in crate::room) direct: usize,
    last_request: Option<Timestamp>,
}

/// One subscriber.
#[derive(Debug)]
pub(in crate::room) struct Receiver {
    pub(in crate::room) slots: Vec<Slot>,
    arrivals: ArrivalLog,
    pub(in crate::room) bytes: usize,
}

impl Receiver {
    pub(in crate::room) fn new(index: u32, audio: u32, video: u32) -> Self {
        let slot = |i: u32, kind| Slot {
            config: ReceiveSlot {
                mid: Mid(format!("r{i}")),
                kind,
                ssrc: Ssrc(100_000 + 100 * index + i),
                payload_type: PayloadType(if kind == SlotKind::Audio { 96 } else { 97 }),
                rtx: (kind == SlotKind::Video)
                    .then_some(Rtx { ssrc: Ssrc(200_000 + 100 * index + i), payload_type: PayloadType(98) }),
            },
            seqs: SeqUnwrapper::new(),
            nack: NackGenerator::new(NackConfig::VIDEO),
            packets: BTreeMap::new(),
            rtx_seen: HashSet::new(),
            direct: 0,
            last_request: None,
        };
        let slots = (0..audio)
            .map(|i| slot(i, SlotKind::Audio))
            .chain((audio..audio + video).map(|i| slot(i, SlotKind::Video)));
        Self { slots: slots.collect(), arrivals: ArrivalLog::new(), bytes: 0 }
    }

    /// Takes a packet from the network.
    pub(in crate::room) fn on_packet(&mut self, now: Timestamp, bytes: &[u8]) {
        let header = RtpHeader::parse(bytes).unwrap();
        self.bytes += bytes.len();
        self.arrivals.on_packet(now, header.transport_seq(Some(3)).unwrap(), bytes.len());
        let ssrc = Ssrc(header.ssrc());
        let mut payload = header.payload().unwrap();
        let slot = self
            .slots
            .iter_mut()
            .find(|s| s.config.ssrc == ssrc || s.config.rtx.is_some_and(|r| r.ssrc == ssrc))
            .unwrap();
        let retransmitted = slot.config.ssrc != ssrc;
        let mut wire = header.seq();
        if retransmitted {
            assert!(slot.rtx_seen.insert(wire) || slot.rtx_seen.len() > 60_000, "{ssrc:?} sent {wire} twice");
            if payload.is_empty() {
                return; // Padding.
            }
            let (original, rest) = payload.split_first_chunk::<2>().unwrap();
            (wire, payload) = (u16::from_be_bytes(*original), rest);
        }
        let seq = slot.seqs.unwrap(u64::from(wire));
        let packet = Packet {
            timestamp: header.timestamp(),
            marker: header.marker(),
            csrc: header.csrcs().next().unwrap(),
            stamp: Stamp::read(payload),
            descriptor: header.extension(Some(12)).unwrap_or_default().to_vec(),
            arrived: now,
        };
        if !retransmitted {
            slot.direct += 1;
        }
        match slot.packets.get(&seq) {
            Some(known) => {
                assert!(retransmitted || slot.config.rtx.is_some(), "{ssrc:?} sent {wire} twice");
                let again = Packet { arrived: known.arrived, ..packet };
                assert_eq!(*known, again, "a packet differs from its retransmission");
            }
            None => {
                slot.packets.insert(seq, packet);
                slot.nack.on_packet(now, SeqNo(seq), retransmitted);
            }
        }
    }

    /// The highest number that came in a slot.
    pub(in crate::room) fn newest(&self, ssrc: Ssrc) -> Option<u64> {
        let slot = self.slots.iter().find(|s| s.config.ssrc == ssrc)?;
        slot.packets.last_key_value().map(|(seq, _)| *seq)
    }

    /// RTCP for the room: what is missing, key frames, transport feedback.
    pub(in crate::room) fn feedback(&mut self, now: Timestamp) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> =
            self.arrivals.poll(now, Ssrc(1), Ssrc(2)).iter().map(super::super::messages::single).collect();
        for slot in self.slots.iter_mut().filter(|s| s.config.rtx.is_some()) {
            let missing = slot.nack.poll(now, None);
            if !missing.is_empty() {
                let nacks = halloo_transport::nack::pack(&missing);
                let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: slot.config.ssrc.0, nacks };
                out.push(super::super::messages::single(&nack));
            }
            let waits = slot.last_request.is_some_and(|at| now.since(at).as_millis() < 300);
            if !waits && slot.is_stuck(now) {
                slot.last_request = Some(now);
                let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: slot.config.ssrc.0 };
                out.push(super::super::messages::single(&pli));
            }
        }
        out
    }
}

/// What became of a slot's pictures.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::room) struct Decoded {
    pub(in crate::room) frames: usize,
    pub(in crate::room) key_frames: usize,
    /// Frames that refer to something that was not received although nothing was lost.
    pub(in crate::room) broken: usize,
    /// Frames that could not be decoded since packets were lost for good.
    pub(in crate::room) lost: usize,
    pub(in crate::room) sources: usize,
    /// When each frame was complete, and whose it is.
    pub(in crate::room) times: Vec<(Timestamp, u32)>,
}

impl Slot {
    /// Packets have been missing for long: the decoder is stuck.
    fn is_stuck(&self, now: Timestamp) -> bool {
        let recent = self.packets.iter().rev().take(200);
        let mut next = None;
        for (seq, packet) in recent {
            if next.is_some_and(|next| next != seq + 1) && now.since(packet.arrived).as_millis() > 500 {
                return true;
            }
            if packet.descriptor.len() > 10 {
                return false;
            }
            next = Some(*seq);
        }
        false
    }

    /// How many packets came between two times, and how many are missing among them.
    pub(in crate::room) fn received_and_missing(&self, from: Timestamp, until: Timestamp) -> (usize, usize) {
        let mut inside = self.packets.iter().filter(|(_, p)| (from..until).contains(&p.arrived)).map(|(seq, _)| *seq);
        let Some(first) = inside.next() else { return (0, 0) };
        let (count, last) = inside.fold((1, first), |(count, _), seq| (count + 1, seq));
        (count, (last - first + 1) as usize - count)
    }

    /// Checks the order of timestamps and sources, and that what arrived can be decoded. Only packets before `until` count:
    /// later ones may still be on their way.
    pub(in crate::room) fn check(&self, until: Timestamp) -> Decoded {
        let mut decoded = Decoded::default();
        let mut last: Option<(u64, &Packet)> = None;
        let mut structure: Option<Structure> = None;
        let (mut complete, mut current): (HashSet<u16>, Option<(u16, bool)>) = (HashSet::new(), None);
        let mut gap = false;
        for (seq, packet) in self.packets.iter().filter(|(_, p)| p.arrived < until) {
            let contiguous = last.is_none_or(|(s, _)| s + 1 == *seq);
            gap |= !contiguous;
            if let Some((_, last)) = last {
                let ahead = packet.timestamp.wrapping_sub(last.timestamp) as i32;
                assert!(ahead >= 0, "time went back by {} at {seq}", -ahead);
                if last.csrc != packet.csrc {
                    assert!(ahead > 0, "two sources at one time");
                    decoded.sources += 1;
                }
            } else {
                decoded.sources += 1;
            }
            let changed = last.is_none_or(|(_, last)| last.csrc != packet.csrc);
            let first = last.is_none();
            last = Some((*seq, packet));
            if let (SlotKind::Video, false) = (self.config.kind, packet.descriptor.is_empty()) {
                let read = Descriptor::read(&packet.descriptor, &mut structure);
                // The very first packet may have been lost.
                gap |= first && !read.is_ok_and(|read| read.starts_key_frame());
                let Ok(read) = read else {
                    assert!(gap, "a structure is missing at {seq}");
                    continue;
                };
                if changed && contiguous && !gap {
                    assert!(read.starts_key_frame(), "a source starts without key frame at {seq}");
                }
                if read.starts_key_frame() {
                    (gap, current) = (false, None);
                    complete.clear();
                    decoded.key_frames += 1;
                }
                if read.start_of_frame {
                    current = Some((read.frame_number, true));
                }
                let whole = current.is_some_and(|(number, whole)| number == read.frame_number && whole && contiguous)
                    || read.start_of_frame;
                current = Some((read.frame_number, whole));
                if read.end_of_frame {
                    let refers = |diff: &u16| complete.contains(&read.frame_number.wrapping_sub(*diff));
                    if whole && read.diffs().iter().all(refers) {
                        complete.insert(read.frame_number);
                        decoded.frames += 1;
                        decoded.times.push((packet.arrived, packet.csrc));
                    } else if gap {
                        decoded.lost += 1;
                    } else {
                        decoded.broken += 1;
                    }
                }
            }
        }
        decoded
    }
}
