//! One receive slot: what is missing of it, what is asked for again, and which of its pictures can be decoded.

use super::pictures::{Part, Pictures};
use crate::load::{figures::Counts, offer::AgreedSlot};
use halloo_sfu::room::SlotKind;
use halloo_transport::{
    RtpTime, SeqNo, Timestamp,
    av1::starts_coded_video_sequence,
    nack::{NackConfig, NackGenerator},
    reception::{Arrival, Reception, Route},
    reports::{LastSenderReport, reception_report},
    units::RtpTimeUnwrapper,
};
use rtcp::reception_report::ReceptionReport;
use std::{collections::BTreeMap, time::Duration};

/// How long retransmissions are waited for before a key frame is asked for.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two requests for a key frame.
const KEY_FRAME_REPEAT: Duration = Duration::from_millis(500);
/// After this, decoding goes on at the next key frame.
const GIVE_UP: Duration = Duration::from_millis(1_000);
/// Packets that are kept until the client's first picture is whole.
const MAX_KEPT: usize = 1_024;
/// The bit of the aggregation header that says that a payload begins in the middle of an OBU.
const CONTINUES: u8 = 0x80;

/// A packet of a slot, decrypted, a retransmission turned back into what it repeats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    /// Sequence number.
    pub seq: u16,
    /// RTP time.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// Its source.
    pub csrc: Option<u32>,
    /// Its payload.
    pub payload: &'a [u8],
    /// How it came.
    pub route: Route,
}

/// What a slot wants to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// These packets again.
    Packets(Vec<SeqNo>),
    /// A key frame.
    KeyFrame,
}

/// A receive slot.
#[derive(Debug)]
pub(super) struct Slot {
    agreed: AgreedSlot,
    reception: Reception,
    times: RtpTimeUnwrapper,
    nack: NackGenerator,
    pictures: Pictures,
    /// Payloads and markers of what came, until the client has seen its first picture.
    kept: Option<BTreeMap<u64, (Vec<u8>, bool)>>,
    /// The first number, and the highest.
    span: Option<(SeqNo, SeqNo)>,
    source: Option<u32>,
    stuck_since: Option<Timestamp>,
    key_frame_asked: Option<Timestamp>,
    last_report: Option<LastSenderReport>,
}

impl Slot {
    /// A slot that nothing came on.
    pub(super) fn new(agreed: AgreedSlot) -> Self {
        Self {
            agreed,
            reception: Reception::new(agreed.kind.clock_rate()),
            times: RtpTimeUnwrapper::new(),
            nack: NackGenerator::new(NackConfig::VIDEO),
            pictures: Pictures::default(),
            kept: (agreed.kind == SlotKind::Video).then(BTreeMap::new),
            span: None,
            source: None,
            stuck_since: None,
            key_frame_asked: None,
            last_report: None,
        }
    }

    /// What the answer said of it.
    pub(super) const fn agreed(&self) -> AgreedSlot {
        self.agreed
    }

    /// Takes a packet; whether it is a new one.
    pub(super) fn on_packet(&mut self, now: Timestamp, packet: &Incoming<'_>, counts: &mut Counts) -> bool {
        let seq = match self.reception.on_packet(packet.seq, packet.route) {
            Arrival::New(seq) => seq,
            Arrival::Restarted(seq) => {
                self.span = None;
                self.nack.restart(seq);
                seq
            }
            Arrival::Duplicate => {
                counts.duplicates += 1;
                return false;
            }
            Arrival::Implausible => return false,
        };
        if packet.route == Route::Direct {
            let ticks = self.times.unwrap(u64::from(packet.timestamp));
            self.reception.on_arrival_time(now, RtpTime::new(ticks, self.agreed.kind.clock_rate()));
        } else {
            counts.repaired += 1;
        }
        self.count_missing(seq, counts);
        if packet.csrc.is_some() && packet.csrc != self.source {
            counts.switches += i64::from(self.source.is_some());
            self.source = packet.csrc;
        }
        match self.agreed.kind {
            SlotKind::Audio => counts.sound_received += 1,
            SlotKind::Video => {
                self.nack.on_packet(now, seq, packet.route == Route::Retransmitted);
                let first = packet.payload.first().is_some_and(|header| header & CONTINUES == 0);
                let part = Part {
                    starts_key_frame: first && starts_coded_video_sequence(packet.payload),
                    ends_picture: packet.marker,
                };
                if let Some(kept) = &mut self.kept {
                    kept.insert(seq.0, (packet.payload.to_vec(), packet.marker));
                    if kept.len() > MAX_KEPT {
                        kept.pop_first();
                    }
                }
                counts.pictures_decodable += i64::from(self.pictures.insert(seq.0, part));
                self.note_progress(now);
            }
        }
        true
    }

    /// The payloads of the key frame that decoding began at.
    pub(super) fn first_picture(&mut self) -> Vec<Vec<u8>> {
        let mut kept = self.kept.take().unwrap_or_default();
        let (mut payloads, mut next) = (Vec::new(), self.pictures.began());
        while let Some((payload, marker)) = kept.remove(&next) {
            payloads.push(payload);
            next += 1;
            if marker {
                break;
            }
        }
        payloads
    }

    /// Keeps no payloads any more.
    pub(super) fn keep_nothing(&mut self) {
        self.kept = None;
    }

    fn count_missing(&mut self, seq: SeqNo, counts: &mut Counts) {
        let Some((first, highest)) = &mut self.span else {
            self.span = Some((seq, seq));
            return;
        };
        if seq > *highest {
            counts.lost += (seq.0 - highest.0 - 1) as i64;
            *highest = seq;
        } else if seq > *first {
            counts.lost -= 1;
        }
    }

    fn note_progress(&mut self, now: Timestamp) {
        if self.pictures.is_stuck() {
            self.stuck_since.get_or_insert(now);
        } else {
            self.stuck_since = None;
            self.key_frame_asked = None;
        }
    }

    /// Takes the time of a sender report.
    pub(super) fn on_sender_report(&mut self, now: Timestamp, ntp_middle: u32) {
        self.last_report = Some(LastSenderReport { ntp_middle, arrived_at: now });
    }

    /// What is wanted now. To be called again until there is nothing.
    pub(super) fn poll(&mut self, now: Timestamp, counts: &mut Counts) -> Option<Wanted> {
        if self.agreed.kind == SlotKind::Audio {
            return None;
        }
        let missing = self.nack.poll(now, None);
        if !missing.is_empty() {
            counts.nacked += missing.len() as i64;
            return Some(Wanted::Packets(missing));
        }
        let since = self.stuck_since?;
        if self.pictures.is_decoding() && now.since(since) >= GIVE_UP {
            counts.breaks += 1;
            counts.pictures_decodable += i64::from(self.pictures.give_up());
            self.note_progress(now);
        }
        if self.stuck_since.is_some() && self.key_frame_due(since) <= now {
            self.key_frame_asked = Some(now);
            counts.key_frames_asked += 1;
            return Some(Wanted::KeyFrame);
        }
        None
    }

    fn key_frame_due(&self, stuck_since: Timestamp) -> Timestamp {
        self.key_frame_asked.map_or(stuck_since + PATIENCE, |asked| asked + KEY_FRAME_REPEAT)
    }

    /// When [`Slot::poll`] is next worth calling.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let stuck = self.stuck_since.map(|since| {
            let give_up = if self.pictures.is_decoding() { since + GIVE_UP } else { Timestamp::MAX };
            self.key_frame_due(since).min(give_up)
        });
        [self.nack.next_timeout(), stuck].into_iter().flatten().min()
    }

    /// The block of a receiver report, where something was received.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<ReceptionReport> {
        let block = self.reception.report()?;
        Some(reception_report(now, self.agreed.ssrc, &block, self.last_report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_transport::Ssrc;

    const KEY: u8 = 0x18;
    const DELTA: u8 = 0x10;

    fn slot() -> Slot {
        Slot::new(AgreedSlot { kind: SlotKind::Video, ssrc: Ssrc(7), rtx: Some(Ssrc(8)) })
    }

    fn packet<'a>(seq: u16, payload: &'a [u8]) -> Incoming<'a> {
        let timestamp = u32::from(seq) * 3_000;
        Incoming { seq, timestamp, marker: true, csrc: Some(5), payload, route: Route::Direct }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000 + millis)
    }

    #[test]
    fn a_missing_packet_is_asked_for_and_repaired() {
        let (mut slot, mut counts) = (slot(), Counts::default());
        slot.on_packet(at(0), &packet(1, &[KEY]), &mut counts);
        slot.on_packet(at(33), &packet(3, &[DELTA]), &mut counts);
        assert_eq!((counts.lost, counts.pictures_decodable), (1, 1));
        let due = slot.next_timeout().unwrap();
        assert!(due <= at(50));
        assert!(matches!(slot.poll(due, &mut counts), Some(Wanted::Packets(missing)) if missing.len() == 1));
        let again = Incoming { route: Route::Retransmitted, ..packet(2, &[DELTA]) };
        assert!(slot.on_packet(at(60), &again, &mut counts));
        assert!(!slot.on_packet(at(61), &again, &mut counts));
        assert_eq!((counts.lost, counts.repaired, counts.duplicates, counts.pictures_decodable), (0, 1, 1, 3));
        assert_eq!(slot.next_timeout(), None);
    }

    #[test]
    fn what_is_not_repaired_needs_a_key_frame_and_counts_as_a_break() {
        let (mut slot, mut counts) = (slot(), Counts::default());
        slot.on_packet(at(0), &packet(1, &[KEY]), &mut counts);
        slot.on_packet(at(0), &packet(3, &[DELTA]), &mut counts);
        let (mut asked, mut now) = (Vec::new(), at(0));
        while now < at(1_200) {
            now = slot.next_timeout().unwrap().max(now + Duration::from_millis(1));
            while let Some(wanted) = slot.poll(now, &mut counts) {
                if wanted == Wanted::KeyFrame {
                    asked.push(now.since(at(0)).as_millis());
                }
            }
        }
        assert_eq!(asked[..2], [300, 800]);
        assert_eq!((counts.breaks, counts.lost), (1, 1));
        slot.on_packet(at(1_300), &packet(4, &[KEY]), &mut counts);
        assert_eq!(counts.pictures_decodable, 2);
    }

    #[test]
    fn a_slot_without_a_key_frame_asks_for_one() {
        let (mut slot, mut counts) = (slot(), Counts::default());
        slot.on_packet(at(0), &packet(1, &[DELTA]), &mut counts);
        assert_eq!(slot.poll(at(299), &mut counts), None);
        assert_eq!(slot.poll(at(300), &mut counts), Some(Wanted::KeyFrame));
        assert_eq!(slot.poll(at(300), &mut counts), None);
        assert_eq!((counts.breaks, counts.pictures_decodable), (0, 0));
    }

    #[test]
    fn the_first_picture_has_all_its_packets_in_order() {
        let (mut slot, mut counts) = (slot(), Counts::default());
        let parts = [(1, [DELTA, 9], true), (2, [KEY, 1], false), (4, [DELTA, 3], true), (3, [CONTINUES, 2], false)];
        for (seq, payload, marker) in parts {
            assert_eq!(counts.pictures_decodable, 0);
            slot.on_packet(at(0), &Incoming { marker, ..packet(seq, &payload) }, &mut counts);
        }
        assert_eq!(counts.pictures_decodable, 1);
        assert_eq!(slot.first_picture(), [vec![KEY, 1], vec![CONTINUES, 2], vec![DELTA, 3]]);
    }

    #[test]
    fn another_source_on_the_slot_is_a_switch() {
        let (mut slot, mut counts) = (slot(), Counts::default());
        slot.on_packet(at(0), &packet(1, &[KEY]), &mut counts);
        slot.on_packet(at(0), &Incoming { csrc: Some(9), ..packet(2, &[KEY]) }, &mut counts);
        assert_eq!(counts.switches, 1);
    }
}
