//! What a client reads of RTCP: requests for packets and key frames, and the times of sender reports (RFC 3550, section 6.4.1;
//! RFC 4585, sections 6.2.1 and 6.3.1; RFC 5104, section 4.3.1). The rest is skipped.

use halloo_transport::Ssrc;

/// What the server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Feedback {
    /// Send this packet of that stream again.
    Again(Ssrc, u16),
    /// Send a key frame.
    KeyFrame(Ssrc),
    /// A sender report of this stream, with the middle of its NTP time.
    SenderReport(Ssrc, u32),
}

/// Reads a decrypted compound packet; ends at what is malformed.
pub(super) fn read(mut packet: &[u8], mut found: impl FnMut(Feedback)) {
    while let [first, kind, high, low, ..] = *packet {
        let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((one, rest)) = packet.split_at_checked(len) else { return };
        packet = rest;
        let word = |at: usize| Some(u32::from_be_bytes(one.get(4 * at..4 * at + 4)?.try_into().ok()?));
        match (kind, first & 0x1f) {
            (200, _) => {
                if let (Some(ssrc), Some(seconds), Some(fraction)) = (word(1), word(2), word(3)) {
                    found(Feedback::SenderReport(Ssrc(ssrc), seconds << 16 | fraction >> 16));
                }
            }
            (205, 1) => {
                let Some(ssrc) = word(2) else { continue };
                for pair in (3..).map_while(&word) {
                    let (first, mask) = ((pair >> 16) as u16, pair as u16);
                    found(Feedback::Again(Ssrc(ssrc), first));
                    for bit in (0..16).filter(|bit| mask & (1 << bit) != 0) {
                        found(Feedback::Again(Ssrc(ssrc), first.wrapping_add(bit + 1)));
                    }
                }
            }
            (206, 1) => word(2).into_iter().for_each(|ssrc| found(Feedback::KeyFrame(Ssrc(ssrc)))),
            // Each request has the SSRC and a word with its number.
            (206, 4) => (3..).step_by(2).map_while(&word).for_each(|ssrc| found(Feedback::KeyFrame(Ssrc(ssrc)))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtcp::{
        payload_feedbacks::{
            full_intra_request::{FirEntry, FullIntraRequest},
            picture_loss_indication::PictureLossIndication,
        },
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack},
    };

    fn all(packet: &[u8]) -> Vec<Feedback> {
        let mut found = Vec::new();
        read(packet, |feedback| found.push(feedback));
        found
    }

    #[test]
    fn what_matters_is_found_in_a_compound_packet() {
        let report = SenderReport { ssrc: 5, ntp_time: 0x0001_0002_0003_0004, ..SenderReport::default() };
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: 2,
            nacks: vec![NackPair { packet_id: 65_535, lost_packets: 0b101 }],
        };
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: 3 };
        let fir = FullIntraRequest {
            sender_ssrc: 1,
            media_ssrc: 0,
            fir: vec![FirEntry { ssrc: 8, sequence_number: 1 }, FirEntry { ssrc: 9, sequence_number: 2 }],
        };
        let packets: Vec<Box<dyn rtcp::Packet>> = vec![Box::new(report), Box::new(nack), Box::new(pli), Box::new(fir)];
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| packet.marshal().unwrap()).collect();
        let expected = [
            Feedback::SenderReport(Ssrc(5), 0x0002_0003),
            Feedback::Again(Ssrc(2), 65_535),
            Feedback::Again(Ssrc(2), 0),
            Feedback::Again(Ssrc(2), 2),
            Feedback::KeyFrame(Ssrc(3)),
            Feedback::KeyFrame(Ssrc(8)),
            Feedback::KeyFrame(Ssrc(9)),
        ];
        assert_eq!(all(&bytes), expected);
        assert_eq!(all(&bytes[..bytes.len() - 1]).len(), 5, "the last is cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            all(&bytes);
        }
    }
}
