//! A synthetic publisher: pictures of a scalability mode, sound with levels, answers to PLI and NACK.

use super::super::{Encoding, PublishedSection, SourceKind};
use crate::{
    av1::synthetic::{self, Frame, Mode},
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader},
};
use halloo_transport::{Mid, PayloadType, Ssrc, Timestamp, random::Random};
use std::collections::HashMap;

pub(in crate::room) const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: Some(2),
    audio_level: Some(1),
    dependency_descriptor: Some(12),
    video_orientation: None,
};
const OPUS: u8 = 111;
const AV1: u8 = 45;
const RTX: u8 = 46;
/// Bytes in front of a payload that say what it is: source, number in the stream, frame, whether a key picture.
pub(super) const STAMP: usize = 12;

/// What a payload says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) ssrc: u32,
    pub(super) seq: u64,
}

impl Stamp {
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (ssrc, rest) = payload.split_first_chunk::<4>()?;
        let (seq, _) = rest.split_first_chunk::<8>()?;
        Some(Self { ssrc: u32::from_be_bytes(*ssrc), seq: u64::from_be_bytes(*seq) })
    }

    fn write(self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.ssrc.to_be_bytes());
        out[4..STAMP].copy_from_slice(&self.seq.to_be_bytes());
    }
}

/// One publisher's state.
#[derive(Debug)]
pub(in crate::room) struct Sender {
    pub(super) video_ssrc: u32,
    pub(super) audio_ssrc: u32,
    mode: Mode,
    random: Random,
    video_seq: u64,
    audio_seq: u64,
    rtx_seq: u16,
    transport_seq: u16,
    video_base: u32,
    audio_base: u32,
    since_key: usize,
    number: u16,
    pub(in crate::room) key_wanted: bool,
    pub(in crate::room) key_requests: usize,
    /// Packets that were asked for again.
    pub(in crate::room) nacked: usize,
    /// -dBov of what is said.
    pub(in crate::room) level: u8,
    /// Bytes of a picture of each spatial layer.
    pub(in crate::room) picture_bytes: usize,
    /// How much larger a key picture is.
    pub(in crate::room) key_factor: usize,
    sent: HashMap<u16, Vec<u8>>,
}

impl Sender {
    pub(in crate::room) fn new(index: u32, mode: Mode, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let number = |random: &mut Random| random.next_u64();
        Self {
            video_ssrc: 1_000 + index,
            audio_ssrc: 2_000 + index,
            mode,
            video_seq: 65_536 + number(&mut random) % 65_536,
            audio_seq: 65_536 + number(&mut random) % 65_536,
            rtx_seq: number(&mut random) as u16,
            transport_seq: number(&mut random) as u16,
            video_base: number(&mut random) as u32,
            audio_base: number(&mut random) as u32,
            since_key: 0,
            number: number(&mut random) as u16,
            key_wanted: false,
            key_requests: 0,
            nacked: 0,
            level: 100,
            picture_bytes: 1_500,
            key_factor: 3,
            random,
            sent: HashMap::new(),
        }
    }

    pub(in crate::room) fn sections(&self) -> Vec<PublishedSection> {
        let section = |mid: &str, kind, pt, ssrc, rtx: Option<u32>| PublishedSection {
            mid: Mid(mid.into()),
            kind,
            payload_type: PayloadType(pt),
            rtx_payload_type: rtx.map(|_| PayloadType(RTX)),
            nack: rtx.is_some(),
            encodings: vec![Encoding { rid: None, ssrc: Some(Ssrc(ssrc)), rtx_ssrc: rtx.map(Ssrc) }],
        };
        vec![
            section("0", SourceKind::Microphone, OPUS, self.audio_ssrc, None),
            section("1", SourceKind::Camera, AV1, self.video_ssrc, Some(self.video_ssrc + 8_000)),
        ]
    }

    /// The packets of the picture at `now`: all layers of one temporal unit.
    pub(in crate::room) fn picture(&mut self, now: Timestamp) -> Vec<Vec<u8>> {
        if std::mem::take(&mut self.key_wanted) {
            self.since_key = 0;
        }
        let timestamp = self.video_base.wrapping_add((now.as_micros() * 9 / 100) as u32);
        let mut packets = Vec::new();
        for spatial in 0..self.mode.spatial() {
            let size = (self.picture_bytes << spatial)
                * if self.since_key < self.mode.spatial() { self.key_factor } else { 1 };
            let count = (size / 1_000).max(1) + (self.random.next_u64() % 2) as usize;
            for i in 0..count {
                let (first, last) = (i == 0, i + 1 == count);
                let frame = Frame { mode: self.mode, index: self.since_key, first, last, number: self.number };
                let descriptor = synthetic::descriptor(&frame);
                let marker = last && spatial + 1 == self.mode.spatial();
                let mut payload = vec![0; STAMP + size / count];
                Stamp { ssrc: self.video_ssrc, seq: self.video_seq }.write(&mut payload);
                let mut header = OutgoingHeader::new(
                    Ssrc(self.video_ssrc),
                    PayloadType(AV1),
                    self.video_seq as u16,
                    timestamp,
                    &IDS,
                );
                (header.marker, header.dependency_descriptor) = (marker, Some(&descriptor[..]));
                header.transport_seq = Some(self.transport_seq);
                let packet = write(&header, &payload);
                header.ssrc = Ssrc(self.video_ssrc + 8_000);
                header.payload_type = PayloadType(RTX);
                header.original_seq = Some(self.video_seq as u16);
                self.sent.insert(self.video_seq as u16, write(&header, &payload));
                packets.push(packet);
                self.video_seq += 1;
                self.transport_seq = self.transport_seq.wrapping_add(1);
            }
            self.since_key += 1;
            self.number = self.number.wrapping_add(1);
        }
        packets
    }

    /// The packet of 20 ms of sound at `now`.
    pub(in crate::room) fn sound(&mut self, now: Timestamp) -> Vec<u8> {
        let timestamp = self.audio_base.wrapping_add((now.as_micros() * 48 / 1_000) as u32);
        let mut payload = vec![0; STAMP + 60];
        Stamp { ssrc: self.audio_ssrc, seq: self.audio_seq }.write(&mut payload);
        let mut header =
            OutgoingHeader::new(Ssrc(self.audio_ssrc), PayloadType(OPUS), self.audio_seq as u16, timestamp, &IDS);
        let jitter = (self.random.next_u64() % 6) as u8;
        header.audio_level = Some(AudioLevel { level: self.level + jitter, voice: self.level < 60 });
        header.transport_seq = Some(self.transport_seq);
        self.transport_seq = self.transport_seq.wrapping_add(1);
        self.audio_seq += 1;
        write(&header, &payload)
    }

    /// Takes RTCP from the room; gives the retransmissions it asks for.
    pub(in crate::room) fn on_rtcp(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        use rtcp::{
            payload_feedbacks::picture_loss_indication::PictureLossIndication,
            transport_feedbacks::transport_layer_nack::TransportLayerNack,
        };
        let mut again = Vec::new();
        let mut bytes = bytes;
        for packet in rtcp::packet::unmarshal(&mut bytes).unwrap() {
            if packet.as_any().downcast_ref::<PictureLossIndication>().is_some_and(|p| p.media_ssrc == self.video_ssrc)
            {
                self.key_wanted = true;
                self.key_requests += 1;
            } else if let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() {
                for wire in nack.nacks.iter().flat_map(|pair| pair.into_iter()) {
                    self.nacked += 1;
                    let Some(packet) = self.sent.get_mut(&wire) else { continue };
                    packet[2..4].copy_from_slice(&self.rtx_seq.to_be_bytes());
                    self.rtx_seq = self.rtx_seq.wrapping_add(1);
                    again.push(packet.clone());
                }
            }
        }
        again
    }
}

fn write(header: &OutgoingHeader<'_>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4_000];
    let layout = header.write_packet(payload, &mut out).unwrap();
    out.truncate(layout.len);
    out
}
