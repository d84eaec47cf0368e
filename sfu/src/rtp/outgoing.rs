//! A packet on its way out: header, extensions, retransmission prefix, payload and padding written in one pass.
//!
//! Written anew for every receiver, since numbers, ids and extensions are the receiver's own. The one-byte form of extensions
//! is used where everything fits it, else the two-byte form (RFC 8285, section 4; needs `a=extmap-allow-mixed`).

use super::{AudioLevel, ExtensionIds};
use halloo_transport::{PayloadType, Ssrc};
use thiserror::Error;

/// The buffer cannot hold the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the packet does not fit the buffer")]
pub struct BufferTooSmall;

/// Where things are in a written packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketLayout {
    /// Bytes in the clear: SRTP encrypts from here on.
    pub header_len: usize,
    /// Length of the packet.
    pub len: usize,
}

/// Everything of a packet but its payload. An extension goes out where it has both a value and an id.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingHeader<'a> {
    /// The receiver's SSRC of this slot, media or retransmission.
    pub ssrc: Ssrc,
    /// The receiver's payload type.
    pub payload_type: PayloadType,
    /// Sequence number.
    pub seq: u16,
    /// Timestamp, in ticks.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The source's id, written as the only CSRC.
    pub csrc: Option<u32>,
    /// The sequence number that a retransmission repeats: goes in front of the payload (RFC 4588, section 4).
    pub original_seq: Option<u16>,
    /// Bytes of RTP padding behind the payload; 0 for none.
    pub padding: u8,
    /// The ids of the receiver.
    pub ids: &'a ExtensionIds,
    /// The media section, at most 16 bytes.
    pub mid: Option<&'a [u8]>,
    /// Transport-wide sequence number.
    pub transport_seq: Option<u16>,
    /// Send time, 6.18 fixed point seconds in the low 24 bits.
    pub abs_send_time: Option<u32>,
    /// RFC 6464 level.
    pub audio_level: Option<AudioLevel>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<&'a [u8]>,
    /// Video orientation byte.
    pub video_orientation: Option<u8>,
}

impl<'a> OutgoingHeader<'a> {
    /// A header without CSRC, extensions or padding.
    pub const fn new(ssrc: Ssrc, payload_type: PayloadType, seq: u16, timestamp: u32, ids: &'a ExtensionIds) -> Self {
        Self {
            ssrc,
            payload_type,
            seq,
            timestamp,
            marker: false,
            csrc: None,
            original_seq: None,
            padding: 0,
            ids,
            mid: None,
            transport_seq: None,
            abs_send_time: None,
            audio_level: None,
            dependency_descriptor: None,
            video_orientation: None,
        }
    }

    /// Length of the header, CSRC and extensions included.
    pub fn header_len(&self) -> usize {
        let block = self.block();
        12 + if self.csrc.is_some() { 4 } else { 0 } + if block.bytes == 0 { 0 } else { 4 + block.padded() }
    }

    /// Length of the whole packet around a payload of `payload` bytes.
    pub fn packet_len(&self, payload: usize) -> usize {
        self.header_len() + self.prefix_len() + payload + usize::from(self.padding)
    }

    /// Writes the packet to the start of `out`.
    ///
    /// # Errors
    /// Where `out` is shorter than [`OutgoingHeader::packet_len`]; what it holds then is undefined.
    pub fn write_packet(&self, payload: &[u8], out: &mut [u8]) -> Result<PacketLayout, BufferTooSmall> {
        let mut writer = Writer { out, at: 0 };
        let header_len = self.write_header(&mut writer)?;
        if let Some(original) = self.original_seq {
            writer.put(&original.to_be_bytes())?;
        }
        writer.put(payload)?;
        if let Some(zeros) = self.padding.checked_sub(1) {
            writer.zeros(usize::from(zeros))?;
            writer.put(&[self.padding])?;
        }
        Ok(PacketLayout { header_len, len: writer.at })
    }

    fn write_header(&self, writer: &mut Writer<'_>) -> Result<usize, BufferTooSmall> {
        let block = self.block();
        let flags = 0x80
            | if self.padding > 0 { 0x20 } else { 0 }
            | if block.bytes > 0 { 0x10 } else { 0 }
            | u8::from(self.csrc.is_some());
        let mut fixed = [0; 12];
        fixed[0] = flags;
        fixed[1] = (u8::from(self.marker) << 7) | (self.payload_type.0 & 0x7f);
        fixed[2..4].copy_from_slice(&self.seq.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..].copy_from_slice(&self.ssrc.0.to_be_bytes());
        writer.put(&fixed)?;
        if let Some(csrc) = self.csrc {
            writer.put(&csrc.to_be_bytes())?;
        }
        if block.bytes > 0 {
            let profile: u16 = if block.two_byte { 0x1000 } else { 0xbede };
            writer.put(&profile.to_be_bytes())?;
            writer.put(&((block.padded() / 4) as u16).to_be_bytes())?;
            let mut result = Ok(());
            self.each_extension(|id, value| {
                if result.is_ok() {
                    result = writer.put_extension(block.two_byte, id, value);
                }
            });
            result?;
            writer.zeros(block.padded() - block.bytes)?;
        }
        Ok(writer.at)
    }

    /// How the extensions lie in their block.
    #[inline]
    fn block(&self) -> Block {
        let (mut count, mut bytes, mut two_byte) = (0, 0, false);
        self.each_extension(|id, value| {
            count += 1;
            bytes += value.len();
            two_byte |= id > 14 || value.is_empty() || value.len() > 16;
        });
        Block { bytes: bytes + if two_byte { 2 * count } else { count }, two_byte }
    }

    #[inline]
    fn each_extension(&self, mut take: impl FnMut(u8, &[u8])) {
        let mut put = |id: Option<u8>, value: &[u8]| {
            if let Some(id) = id.filter(|id| *id != 0)
                && value.len() <= 255
            {
                take(id, value);
            }
        };
        if let Some(seq) = self.transport_seq {
            put(self.ids.transport_cc, &seq.to_be_bytes());
        }
        if let Some(time) = self.abs_send_time {
            let [_, bytes @ ..] = time.to_be_bytes();
            put(self.ids.abs_send_time, &bytes);
        }
        if let Some(mid) = self.mid.filter(|mid| (1..=16).contains(&mid.len())) {
            put(self.ids.mid, mid);
        }
        if let Some(level) = self.audio_level {
            put(self.ids.audio_level, &[level.wire()]);
        }
        if let Some(orientation) = self.video_orientation {
            put(self.ids.video_orientation, &[orientation]);
        }
        if let Some(descriptor) = self.dependency_descriptor {
            put(self.ids.dependency_descriptor, descriptor);
        }
    }

    const fn prefix_len(&self) -> usize {
        if self.original_seq.is_some() { 2 } else { 0 }
    }
}

#[derive(Clone, Copy)]
struct Block {
    bytes: usize,
    two_byte: bool,
}

impl Block {
    const fn padded(self) -> usize {
        self.bytes.next_multiple_of(4)
    }
}

struct Writer<'b> {
    out: &'b mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn room(&mut self, len: usize) -> Result<&mut [u8], BufferTooSmall> {
        let room = self.out.get_mut(self.at..self.at + len).ok_or(BufferTooSmall)?;
        self.at += len;
        Ok(room)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BufferTooSmall> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn zeros(&mut self, len: usize) -> Result<(), BufferTooSmall> {
        self.room(len)?.fill(0);
        Ok(())
    }

    fn put_extension(&mut self, two_byte: bool, id: u8, value: &[u8]) -> Result<(), BufferTooSmall> {
        // Lengths were checked where the form was chosen.
        if two_byte {
            self.put(&[id, value.len() as u8])?;
        } else {
            self.put(&[(id << 4) | (value.len() as u8).wrapping_sub(1)])?;
        }
        self.put(value)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::RtpHeader, *};
    use proptest::prelude::*;

    const IDS: ExtensionIds = ExtensionIds {
        mid: Some(4),
        rid: None,
        repaired_rid: None,
        transport_cc: Some(3),
        abs_send_time: Some(2),
        audio_level: Some(1),
        dependency_descriptor: Some(12),
        video_orientation: Some(13),
    };

    fn header() -> OutgoingHeader<'static> {
        OutgoingHeader {
            marker: true,
            csrc: Some(77),
            mid: Some(b"5"),
            transport_seq: Some(0x1234),
            abs_send_time: Some(0xabcdef),
            audio_level: Some(AudioLevel { level: 30, voice: true }),
            ..OutgoingHeader::new(Ssrc(9), PayloadType(45), 65_535, 1 << 31, &IDS)
        }
    }

    fn written(header: &OutgoingHeader<'_>, payload: &[u8]) -> (Vec<u8>, PacketLayout) {
        let mut out = vec![0xff; 1_500];
        let layout = header.write_packet(payload, &mut out).unwrap();
        assert_eq!((layout.header_len, layout.len), (header.header_len(), header.packet_len(payload.len())));
        out.truncate(layout.len);
        (out, layout)
    }

    #[test]
    fn what_is_written_reads_back() {
        let (bytes, layout) = written(&header(), b"payload");
        let read = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(read.header_len(), layout.header_len);
        assert_eq!((read.ssrc(), read.payload_type(), read.seq()), (9, 45, 65_535));
        assert_eq!((read.timestamp(), read.marker()), (1 << 31, true));
        assert_eq!(read.csrcs().collect::<Vec<_>>(), [77]);
        assert_eq!(read.transport_seq(Some(3)), Some(0x1234));
        assert_eq!(read.extension(Some(2)), Some(&[0xab, 0xcd, 0xef][..]));
        assert_eq!(read.extension(Some(4)), Some(&b"5"[..]));
        assert_eq!(read.audio_level(Some(1)), Some(AudioLevel { level: 30, voice: true }));
        assert_eq!(read.payload(), Some(&b"payload"[..]));
    }

    #[test]
    fn a_long_descriptor_takes_the_two_byte_form() {
        let descriptor = [7u8; 92];
        let (bytes, _) = written(&OutgoingHeader { dependency_descriptor: Some(&descriptor), ..header() }, b"x");
        assert_eq!(bytes[16..18], [0x10, 0x00]);
        let read = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(read.extension(Some(12)), Some(&descriptor[..]));
        assert_eq!(read.extension(Some(4)), Some(&b"5"[..]));
        assert_eq!(read.payload(), Some(&b"x"[..]));
    }

    #[test]
    fn a_retransmission_carries_its_original_number_and_padding_counts_itself() {
        let (bytes, layout) = written(&OutgoingHeader { original_seq: Some(7), padding: 5, ..header() }, b"media");
        assert_eq!(bytes[layout.header_len..], *b"\x00\x07media\x00\x00\x00\x00\x05");
        assert_eq!(RtpHeader::parse(&bytes).unwrap().payload(), Some(&b"\x00\x07media"[..]));
    }

    #[test]
    fn nothing_negotiated_means_no_extension_block() {
        let (bytes, layout) = written(&OutgoingHeader { ids: &ExtensionIds::default(), ..header() }, b"");
        assert_eq!((bytes[0], layout.header_len), (0x81, 16));
    }

    proptest! {
        #[test]
        fn a_buffer_that_is_too_small_is_an_error(len in 0usize..80, descriptor in prop::collection::vec(any::<u8>(), 0..40)) {
            let header = OutgoingHeader { dependency_descriptor: Some(&descriptor), padding: 3, ..header() };
            let mut out = vec![0; len];
            prop_assert_eq!(header.write_packet(b"abc", &mut out).is_ok(), header.packet_len(3) <= len);
        }
    }
}
