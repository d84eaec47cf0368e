//! RTCP that comes in: each packet to the part that it is for. What concerns no stream of ours is ignored.

use super::{DEFAULT_RTT, Event, Priority, Queued, Session};
use crate::{
    reports, rtx,
    time::Timestamp,
    twcc::{self, PacketKind},
    units::Ssrc,
};
use rtcp::{
    compound_packet::CompoundPacket,
    goodbye::Goodbye,
    payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication},
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
};
use std::time::Duration;

/// Sequence numbers of one NACK message that are looked at: more do not fit an honest peer's losses.
const MAX_NACKED: usize = 1_000;

impl Session {
    /// Takes a decrypted compound RTCP packet.
    pub fn handle_rtcp(&mut self, now: Timestamp, packets: &[Box<dyn rtcp::Packet>]) {
        for packet in packets {
            // A compound packet within a compound packet is not RTCP: one level is opened.
            match packet.as_any().downcast_ref::<CompoundPacket>() {
                Some(inner) => inner.0.iter().for_each(|p| self.handle_one(now, p.as_ref())),
                None => self.handle_one(now, packet.as_ref()),
            }
        }
    }

    fn handle_one(&mut self, now: Timestamp, packet: &dyn rtcp::Packet) {
        let any = packet.as_any();
        if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
            self.on_transport_feedback(now, feedback);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            self.on_nack(now, nack);
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.on_sender_report(now, report);
            self.on_report_blocks(now, &report.reports);
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.on_report_blocks(now, &report.reports);
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            self.on_key_frame_request(now, Ssrc(pli.media_ssrc));
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.on_full_intra_request(now, Ssrc(entry.ssrc), entry.sequence_number);
            }
        } else if let Some(goodbye) = any.downcast_ref::<Goodbye>() {
            self.on_goodbye(goodbye);
        }
    }

    fn on_transport_feedback(&mut self, now: Timestamp, feedback: &TransportLayerCc) {
        let before = self.sent_log.newest_arrived_sent_at();
        let results = self.sent_log.on_feedback(&twcc::decode(feedback));
        let newest = self.sent_log.newest_arrived_sent_at();
        if newest > before && !self.rtt_from_reports {
            // Too long by what the peer waited before reporting: the least of them is the best.
            let sample = now.since(newest);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt.min(sample)));
        }
        self.congestion.on_feedback(now, &results, self.rtt);
        self.apply_target(now);
    }

    fn on_nack(&mut self, now: Timestamp, nack: &TransportLayerNack) {
        let rtt = self.rtt.unwrap_or(DEFAULT_RTT);
        let Some(stream) = self.send.iter_mut().find(|s| s.config.ssrc.0 == nack.media_ssrc) else { return };
        stream.stats.nack_count += 1;
        for wire in nack.nacks.iter().flat_map(|pair| pair.into_iter()).take(MAX_NACKED) {
            let Some(media) = stream.resend(now, wire, rtt) else { continue };
            let size = media.payload.len() + super::HEADER_ESTIMATE + rtx::OVERHEAD;
            let queued = Queued { stream: stream.config.ssrc, media, kind: PacketKind::Retransmission };
            if self.pacer.push(Priority::Retransmission, queued, size).is_some() {
                break;
            }
        }
    }

    fn on_sender_report(&mut self, now: Timestamp, report: &SenderReport) {
        let ssrc = Ssrc(report.ssrc);
        let Some(stream) = self.recv.iter_mut().find(|s| s.ssrc == Some(ssrc)) else { return };
        if let Some(rtp_time) = stream.on_sender_report(now, report) {
            self.push_event(Event::SenderReport { ssrc, rtp_time, ntp: reports::from_ntp(report.ntp_time) });
        }
    }

    fn on_report_blocks(&mut self, now: Timestamp, blocks: &[ReceptionReport]) {
        let ntp = self.ntp(now);
        for block in blocks {
            let Some(stream) = self.send.iter_mut().find(|s| s.config.ssrc.0 == block.ssrc) else { continue };
            stream.on_report(block.fraction_lost, reports::total_lost(block));
            if let Some(sample) = reports::round_trip(ntp, block) {
                self.on_round_trip(sample);
            }
        }
    }

    fn on_round_trip(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt.filter(|_| self.rtt_from_reports) {
            Some(rtt) => (rtt * 7 + sample) / 8,
            None => sample,
        });
        self.rtt_from_reports = true;
    }

    fn on_key_frame_request(&mut self, now: Timestamp, ssrc: Ssrc) {
        let rtt = self.rtt;
        let Some(stream) = self.send.iter_mut().find(|s| s.config.ssrc == ssrc) else { return };
        stream.stats.pli_count += 1;
        if stream.key_frames.admit(now, rtt) {
            self.push_event(Event::KeyFrameRequested(ssrc));
        }
    }

    fn on_full_intra_request(&mut self, now: Timestamp, ssrc: Ssrc, number: u8) {
        let Some(stream) = self.send.iter_mut().find(|s| s.config.ssrc == ssrc) else { return };
        if stream.last_fir.replace(number) != Some(number) {
            self.on_key_frame_request(now, ssrc);
        }
    }

    fn on_goodbye(&mut self, goodbye: &Goodbye) {
        for source in &goodbye.sources {
            if self.recv.iter().any(|s| s.ssrc == Some(Ssrc(*source))) {
                self.push_event(Event::Bye(Ssrc(*source)));
            }
        }
    }
}
