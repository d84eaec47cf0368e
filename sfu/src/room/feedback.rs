//! RTCP that comes in: what a participant says of what it sends and of what it receives (RFC 3550, section 6; RFC 4585).
//!
//! Nothing of it is passed on. Requests for packets are answered from our histories; requests for key frames are merged; what
//! concerns no stream of ours, and what is malformed, is ignored.

use super::{
    Room,
    config::{ParticipantId, SlotKind},
    interface::Egress,
    messages,
    subscriber::Subscriber,
};
use halloo_transport::{
    Timestamp, reports,
    twcc::{Arrivals, PacketResult},
};
use rtcp::{
    payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use std::time::Duration;

/// Numbers of one NACK message that are looked at: more do not fit an honest receiver's losses.
const MAX_NACKED: usize = 1_000;
/// Packets of one compound that are looked at.
const MAX_PACKETS: usize = 100;

/// Memory for transport-wide feedback, used again for each message.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    arrivals: Arrivals,
    results: Vec<PacketResult>,
}

impl Room {
    /// Takes a decrypted RTCP packet.
    pub fn handle_rtcp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        self.forward(now, egress);
        let Some(index) = self.index_of(from) else { return };
        for packet in messages::packets_of(packet).take(MAX_PACKETS) {
            if Arrivals::are_in(packet) {
                self.on_transport_feedback(now, index, packet);
                continue;
            }
            let mut bytes = packet;
            let Ok(packets) = rtcp::packet::unmarshal(&mut bytes) else { continue };
            packets.iter().for_each(|packet| self.handle_one(now, index, packet.as_ref(), egress));
        }
        let Self { publishers, subscribers, due, .. } = self;
        due.touch(index);
        if let Some(Some(subscriber)) = subscribers.get_mut(index) {
            subscriber.drain(now, publishers, egress);
            // Less than was counted on, or a probe that found much more: not to be put off to the next look.
            if subscriber.is_allocation_stale(now) {
                let starting = subscriber.is_starting(now);
                self.allocate_for(now, index);
                if starting {
                    self.request_key_frames_for(now, index, egress);
                }
            }
        }
    }

    fn handle_one(&mut self, now: Timestamp, index: usize, packet: &dyn rtcp::Packet, egress: &mut impl Egress) {
        let ntp = self.ntp(now);
        let Self { publishers, subscribers, .. } = self;
        let Some(Some(subscriber)) = subscribers.get_mut(index) else { return };
        let any = packet.as_any();
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let Some(slot) = slot_of(subscriber, nack.media_ssrc) else { return };
            for wire in nack.nacks.iter().flat_map(|pair| pair.into_iter()).take(MAX_NACKED) {
                subscriber.retransmit(now, slot, wire, publishers);
            }
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            report.reports.iter().for_each(|block| on_block(ntp, subscriber, block));
            self.on_sender_report(now, index, report);
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            report.reports.iter().for_each(|block| on_block(ntp, subscriber, block));
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            if let Some(slot) = slot_of(subscriber, pli.media_ssrc) {
                self.on_key_frame_request(now, index, slot, egress);
            }
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.on_full_intra_request(now, index, entry.ssrc, entry.sequence_number, egress);
            }
        }
    }

    /// Our wall clock, as NTP's 32.32 fixed point.
    pub(super) fn ntp(&self, now: Timestamp) -> u64 {
        reports::to_ntp(self.config.ntp_at_zero + now.since(Timestamp::ZERO))
    }

    /// Our wall clock, nanoseconds since 1900.
    pub(super) fn wall_clock(&self, now: Timestamp) -> i128 {
        (self.config.ntp_at_zero + now.since(Timestamp::ZERO)).as_nanos() as i128
    }

    fn on_transport_feedback(&mut self, now: Timestamp, index: usize, packet: &[u8]) {
        let Self { subscribers, feedback: Feedback { arrivals, results }, .. } = self;
        let Some(Some(subscriber)) = subscribers.get_mut(index) else { return };
        if !arrivals.read(packet) {
            return;
        }
        let before = subscriber.sent_log.newest_arrived_sent_at();
        subscriber.sent_log.settle_by(arrivals, results);
        let newest = subscriber.sent_log.newest_arrived_sent_at();
        if newest > before && subscriber.rtt.is_none() {
            // Too long by what the receiver waited; reports will tell better.
            subscriber.rtt = Some(now.since(newest));
        }
        subscriber.congestion.on_feedback(now, results, subscriber.rtt);
    }

    fn on_sender_report(&mut self, now: Timestamp, index: usize, report: &SenderReport) {
        let ours = self.wall_clock(now);
        let Some(Some(publisher)) = self.publishers.get_mut(index) else { return };
        let theirs = reports::from_ntp(report.ntp_time).as_nanos() as i128;
        let Some(stream) = publisher.stream_mut(report.ssrc) else { return };
        stream.on_sender_report(now, theirs, report.rtp_time, reports::ntp_middle(report.ntp_time));
        publisher.on_clock(ours, theirs);
    }

    fn on_full_intra_request(&mut self, now: Timestamp, index: usize, ssrc: u32, number: u8, egress: &mut impl Egress) {
        let Some(Some(subscriber)) = self.subscribers.get_mut(index) else { return };
        let Some(slot) = slot_of(subscriber, ssrc) else { return };
        let Some(state) = subscriber.slots.get_mut(usize::from(slot)) else { return };
        // Repeated with the same number it is the same request (RFC 5104, section 4.3.1.2).
        if state.last_fir.replace(number) != Some(number) {
            self.on_key_frame_request(now, index, slot, egress);
        }
    }

    fn on_key_frame_request(&mut self, now: Timestamp, index: usize, slot: u8, egress: &mut impl Egress) {
        let Some(Some(subscriber)) = self.subscribers.get(index) else { return };
        let Some(slot) = subscriber.slots.get(usize::from(slot)).filter(|s| s.config.kind == SlotKind::Video) else {
            return;
        };
        let (Some(source), Some(encoding)) = (slot.showing, slot.stream.selected().encoding()) else { return };
        self.ask_for_key_frame(now, source, usize::from(encoding), egress);
    }

    /// Asks a publisher for a key frame, unless that was done just now.
    pub(super) fn ask_for_key_frame(
        &mut self,
        now: Timestamp,
        source: super::SourceId,
        encoding: usize,
        egress: &mut impl Egress,
    ) {
        let id = source.participant();
        let rtt = self.subscribers.get(id.index()).and_then(Option::as_ref).and_then(|s| s.rtt);
        let Some(feedback_ssrc) = self.publishers.get(id.index()).and_then(Option::as_ref).map(|p| p.feedback_ssrc)
        else {
            return;
        };
        let Some(stream) = self.section_mut(source).and_then(|s| s.streams.get_mut(encoding)) else { return };
        let Some(ssrc) = stream.ssrc else { return };
        if stream.admit_key_frame_request(now, rtt) {
            egress.rtcp(id, &messages::picture_loss(feedback_ssrc, ssrc));
        }
    }
}

fn slot_of(subscriber: &Subscriber, ssrc: u32) -> Option<u8> {
    subscriber.slots.iter().position(|s| s.config.ssrc.0 == ssrc).map(|slot| slot as u8)
}

fn on_block(ntp: u64, subscriber: &mut Subscriber, block: &ReceptionReport) {
    let ours = subscriber.slots.iter().any(|s| s.config.ssrc.0 == block.ssrc);
    let Some(sample) = reports::round_trip(ntp, block).filter(|_| ours) else { return };
    let sample = sample.max(Duration::from_micros(100));
    subscriber.rtt = Some(subscriber.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
}
