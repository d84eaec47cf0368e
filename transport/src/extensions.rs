//! RTP header extensions: what this side writes on a packet and reads off one (RFC 8285).
//!
//! Written in the one-byte form, or the two-byte form where an id or a value does not fit it; read in either. A malformed
//! value reads as absent: an extension is a hint, a packet is not dropped for it.

use crate::{
    session::{AudioLevel, ExtensionIds},
    time::Timestamp,
    units::Mid,
};
use bytes::{BufMut, Bytes, BytesMut};
use rtp::header::{EXTENSION_PROFILE_ONE_BYTE, EXTENSION_PROFILE_TWO_BYTE, Extension, Header};

/// Longest mid that is sent or believed (RFC 8285's one-byte form).
const MAX_MID: usize = 16;

/// The values to write on a packet; each goes out only where its id was negotiated.
#[derive(Clone, Debug, Default)]
pub struct OutgoingExtensions<'a> {
    /// Transport-wide sequence number.
    pub transport_seq: Option<u16>,
    /// The media section.
    pub mid: Option<&'a Mid>,
    /// When the packet leaves, written as abs-send-time.
    pub sent_at: Option<Timestamp>,
    /// RFC 6464 level.
    pub audio_level: Option<AudioLevel>,
    /// AV1 dependency descriptor, as it came from the encoder or the publisher.
    pub dependency_descriptor: Option<&'a Bytes>,
}

/// The values found on a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncomingExtensions {
    /// Transport-wide sequence number.
    pub transport_seq: Option<u16>,
    /// The media section.
    pub mid: Option<Mid>,
    /// Absolute send time, 6.18 fixed point seconds.
    pub abs_send_time: Option<u32>,
    /// RFC 6464 level.
    pub audio_level: Option<AudioLevel>,
    /// AV1 dependency descriptor, unread.
    pub dependency_descriptor: Option<Bytes>,
}

/// Seconds in 6.18 fixed point, modulo 64 s.
pub fn abs_send_time(at: Timestamp) -> u32 {
    let nanos = u128::from(at.as_nanos());
    ((nanos << 18) / 1_000_000_000) as u32 & 0x00ff_ffff
}

/// Writes `values` on `header`, replacing the extensions it had.
pub fn write(header: &mut Header, ids: &ExtensionIds, values: &OutgoingExtensions<'_>) {
    let mut block = Block::default();
    if let (Some(id), Some(seq)) = (ids.transport_cc, values.transport_seq) {
        block.put(id, &seq.to_be_bytes());
    }
    if let (Some(id), Some(at)) = (ids.abs_send_time, values.sent_at) {
        block.put(id, &abs_send_time(at).to_be_bytes()[1..]);
    }
    if let (Some(id), Some(level)) = (ids.audio_level, values.audio_level) {
        block.put(id, &[(u8::from(level.voice) << 7) | level.level.min(127)]);
    }
    if let (Some(id), Some(mid)) = (ids.mid, values.mid)
        && mid.0.len() <= MAX_MID
    {
        block.put(id, mid.0.as_bytes());
    }
    if let (Some(id), Some(descriptor)) = (ids.dependency_descriptor, values.dependency_descriptor) {
        block.put(id, descriptor);
    }
    block.finish(header);
}

/// Reads what `ids` name off `header`.
pub fn read(header: &Header, ids: &ExtensionIds) -> IncomingExtensions {
    IncomingExtensions {
        transport_seq: transport_seq(header, ids.transport_cc),
        mid: mid(header, ids.mid),
        abs_send_time: find(header, ids.abs_send_time)
            .and_then(|v| <[u8; 3]>::try_from(v.as_ref()).ok())
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c])),
        audio_level: find(header, ids.audio_level)
            .and_then(|v| v.first().copied())
            .map(|b| AudioLevel { level: b & 0x7f, voice: b & 0x80 != 0 }),
        dependency_descriptor: find(header, ids.dependency_descriptor).cloned(),
    }
}

/// The transport-wide sequence number alone: it is wanted for packets of every stream, known or not.
pub fn transport_seq(header: &Header, id: Option<u8>) -> Option<u16> {
    find(header, id).and_then(|v| <[u8; 2]>::try_from(v.as_ref()).ok()).map(u16::from_be_bytes)
}

/// The mid alone: it decides which stream a packet with a new SSRC belongs to.
pub fn mid(header: &Header, id: Option<u8>) -> Option<Mid> {
    let value = find(header, id)?;
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.len() <= MAX_MID).then(|| Mid(text.to_owned()))
}

fn find(header: &Header, id: Option<u8>) -> Option<&Bytes> {
    let id = id?;
    if !header.extension || id == 0 {
        return None;
    }
    header.extensions.iter().find(|e| e.id == id).map(|e| &e.payload)
}

/// Collects values in one allocation.
#[derive(Default)]
struct Block {
    values: BytesMut,
    parts: Vec<(u8, usize)>,
}

impl Block {
    fn put(&mut self, id: u8, value: &[u8]) {
        if id == 0 || value.is_empty() || value.len() > usize::from(u8::MAX) {
            return;
        }
        self.values.put_slice(value);
        self.parts.push((id, value.len()));
    }

    fn finish(self, header: &mut Header) {
        header.extensions.clear();
        header.extensions_padding = 0;
        header.extension = !self.parts.is_empty();
        if self.parts.is_empty() {
            return;
        }
        let one_byte = self.parts.iter().all(|&(id, len)| (1..=14).contains(&id) && len <= 16);
        header.extension_profile = if one_byte { EXTENSION_PROFILE_ONE_BYTE } else { EXTENSION_PROFILE_TWO_BYTE };
        let mut values = self.values.freeze();
        header.extensions.extend(
            self.parts.into_iter().map(|(id, len)| Extension { id, payload: values.split_to(len.min(values.len())) }),
        );
        header.extensions_padding = (4 - header.get_extension_payload_len() % 4) % 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::marshal::{Marshal, MarshalSize, Unmarshal};

    const IDS: ExtensionIds = ExtensionIds {
        transport_cc: Some(3),
        mid: Some(4),
        abs_send_time: Some(2),
        audio_level: Some(1),
        dependency_descriptor: Some(12),
    };

    fn values<'a>(mid: &'a Mid, descriptor: &'a Bytes) -> OutgoingExtensions<'a> {
        OutgoingExtensions {
            transport_seq: Some(0xabcd),
            mid: Some(mid),
            sent_at: Some(Timestamp::from_millis(1_500)),
            audio_level: Some(AudioLevel { level: 33, voice: true }),
            dependency_descriptor: Some(descriptor),
        }
    }

    fn over_the_wire(header: Header) -> Header {
        let packet = rtp::Packet { header: Header { version: 2, ..header }, payload: Bytes::from_static(b"payload") };
        let mut wire = packet.marshal().unwrap();
        assert_eq!(wire.len(), packet.marshal_size());
        rtp::Packet::unmarshal(&mut wire).unwrap().header
    }

    #[test]
    fn what_is_written_is_read_in_the_one_byte_form() {
        let (mid, descriptor) = (Mid("video-0".to_owned()), Bytes::from_static(&[0x80, 0, 1]));
        let mut header = Header::default();
        write(&mut header, &IDS, &values(&mid, &descriptor));
        assert_eq!(header.extension_profile, EXTENSION_PROFILE_ONE_BYTE);
        let read = read(&over_the_wire(header), &IDS);
        assert_eq!(read.transport_seq, Some(0xabcd));
        assert_eq!(read.mid, Some(mid));
        assert_eq!(read.abs_send_time, Some(3 << 17));
        assert_eq!(read.audio_level, Some(AudioLevel { level: 33, voice: true }));
        assert_eq!(read.dependency_descriptor, Some(descriptor));
    }

    #[test]
    fn a_long_descriptor_or_a_high_id_takes_the_two_byte_form() {
        let (mid, descriptor) = (Mid("0".to_owned()), Bytes::from(vec![7; 92]));
        let mut header = Header::default();
        let ids = ExtensionIds { mid: Some(40), ..IDS };
        write(&mut header, &ids, &values(&mid, &descriptor));
        assert_eq!(header.extension_profile, EXTENSION_PROFILE_TWO_BYTE);
        let read = read(&over_the_wire(header), &ids);
        assert_eq!(read.mid, Some(mid));
        assert_eq!(read.dependency_descriptor, Some(descriptor));
    }

    #[test]
    fn what_was_not_negotiated_is_neither_written_nor_read() {
        let (mid, descriptor) = (Mid("0".to_owned()), Bytes::from_static(&[1]));
        let mut header = Header::default();
        write(&mut header, &ExtensionIds::default(), &values(&mid, &descriptor));
        assert!(!header.extension);
        write(&mut header, &IDS, &values(&mid, &descriptor));
        assert_eq!(read(&header, &ExtensionIds::default()), IncomingExtensions::default());
    }

    #[test]
    fn a_value_of_the_wrong_length_reads_as_absent() {
        let mut header = Header::default();
        let mut block = Block::default();
        block.put(3, &[1, 2, 3]);
        block.put(2, &[1]);
        block.put(4, &[0xff, 0xfe]);
        block.finish(&mut header);
        assert_eq!(read(&header, &IDS), IncomingExtensions::default());
    }
}
