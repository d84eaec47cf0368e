//! The retransmission payload format: wrapping and unwrapping (RFC 4588, sections 4 and 8).
//!
//! A retransmission has its own SSRC, payload type and sequence numbers; its payload is the original's, behind two bytes that
//! carry the original's sequence number.

use crate::units::{PayloadType, SeqNo, Ssrc};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rtp::header::Header;

/// Bytes that wrapping adds to a payload.
pub const OVERHEAD: usize = 2;

/// Numbers the retransmissions of one media stream.
#[derive(Clone, Debug)]
pub struct RtxSender {
    ssrc: Ssrc,
    payload_type: PayloadType,
    next: SeqNo,
}

impl RtxSender {
    /// Starts at `first`.
    pub const fn new(ssrc: Ssrc, payload_type: PayloadType, first: SeqNo) -> Self {
        Self { ssrc, payload_type, next: first }
    }

    /// The retransmission stream's SSRC.
    pub const fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// Wraps a packet: `header` becomes the retransmission's, the result is its payload.
    pub fn wrap(&mut self, header: &mut Header, original: u16, payload: &Bytes) -> Bytes {
        header.ssrc = self.ssrc.0;
        header.payload_type = self.payload_type.0;
        header.sequence_number = self.next.wire();
        self.next = self.next.next();
        let mut wrapped = BytesMut::with_capacity(OVERHEAD + payload.len());
        wrapped.put_u16(original);
        wrapped.put_slice(payload);
        wrapped.freeze()
    }
}

/// Takes the retransmission off `packet`, which then is the media packet it repeats; `None` for padding, which repeats nothing.
pub fn unwrap(packet: rtp::Packet, media_ssrc: Ssrc, media_payload_type: PayloadType) -> Option<rtp::Packet> {
    let rtp::Packet { mut header, mut payload } = packet;
    // A packet that is only padding may come as an empty payload or as an original number and nothing behind it.
    if payload.len() <= OVERHEAD {
        return None;
    }
    header.sequence_number = payload.get_u16();
    header.ssrc = media_ssrc.0;
    header.payload_type = media_payload_type.0;
    Some(rtp::Packet { header, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrapped_unwraps_to_the_original() {
        let media = Header { ssrc: 1, payload_type: 45, sequence_number: 65_535, timestamp: 7, ..Header::default() };
        let payload = Bytes::from_static(b"obu");
        let mut rtx = RtxSender::new(Ssrc(2), PayloadType(46), SeqNo(10));
        let mut header = media.clone();
        let wrapped = rtx.wrap(&mut header, media.sequence_number, &payload);
        assert_eq!((header.ssrc, header.payload_type, header.sequence_number), (2, 46, 10));
        assert_eq!(wrapped.len(), payload.len() + OVERHEAD);
        let packet = rtp::Packet { header, payload: wrapped };
        let back = unwrap(packet, Ssrc(1), PayloadType(45)).unwrap();
        assert_eq!(back, rtp::Packet { header: media, payload });
    }

    #[test]
    fn padding_repeats_nothing() {
        for payload in [&b""[..], b"1", b"12"] {
            let packet = rtp::Packet { header: Header::default(), payload: Bytes::copy_from_slice(payload) };
            assert!(unwrap(packet, Ssrc(1), PayloadType(45)).is_none());
        }
    }
}
