//! RTCP that this unit makes, as bytes.

use halloo_transport::{SeqNo, Ssrc, nack};
use rtcp::{
    Packet, payload_feedbacks::picture_loss_indication::PictureLossIndication,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use shared::marshal::Marshal;

/// Pairs of a NACK message, so that it fits a packet.
const MAX_PAIRS: usize = 200;

/// The packets one behind the other; empty where one cannot be written.
pub(super) fn compound(packets: &[Box<dyn Packet>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        let Ok(packet) = packet.marshal() else { return Vec::new() };
        bytes.extend_from_slice(&packet);
    }
    bytes
}

/// The packets of a compound one (RFC 3550, section 6.1), as far as their lengths are right.
pub(super) fn packets_of(compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let [first, _, length @ ..] = rest.first_chunk::<4>()?;
        let len = 4 * (usize::from(u16::from_be_bytes(*length)) + 1);
        let (packet, after) = rest.split_at_checked(len).filter(|_| first >> 6 == 2)?;
        rest = after;
        Some(packet)
    })
}

/// One packet.
pub(super) fn single(packet: &impl Marshal) -> Vec<u8> {
    packet.marshal().map(|bytes| bytes.to_vec()).unwrap_or_default()
}

/// Asks for a key frame (RFC 4585, section 6.3.1).
pub(super) fn picture_loss(sender: Ssrc, media: u32) -> Vec<u8> {
    single(&PictureLossIndication { sender_ssrc: sender.0, media_ssrc: media })
}

/// Asks for packets (RFC 4585, section 6.2.1).
pub(super) fn negative_acknowledgement(sender: Ssrc, media: u32, missing: &[SeqNo]) -> Vec<u8> {
    let mut nacks = nack::pack(missing);
    nacks.truncate(MAX_PAIRS);
    single(&TransportLayerNack { sender_ssrc: sender.0, media_ssrc: media, nacks })
}
