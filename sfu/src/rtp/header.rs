//! A view of a received packet's header (RFC 3550, section 5.1) and its extensions (RFC 8285).
//!
//! The header of an SRTP packet is in the clear, its padding is not: [`RtpHeader::parse`] looks at the header alone and works
//! before and after decryption, [`RtpHeader::payload`] takes the padding off and is for decrypted packets.

use crate::rtp::AudioLevel;
use thiserror::Error;

/// Length of the fixed part.
const FIXED: usize = 12;
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// The low four bits are the application's.
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Why bytes are not an RTP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// Shorter than the header says it is.
    #[error("the packet ends within its header")]
    Truncated,
    /// Not version 2.
    #[error("the RTP version is not 2")]
    Version,
}

/// The header of a received packet; all lengths are checked once, in [`RtpHeader::parse`].
#[derive(Clone, Copy, Debug)]
pub struct RtpHeader<'a> {
    packet: &'a [u8],
    extensions: Extensions<'a>,
    len: usize,
}

impl<'a> RtpHeader<'a> {
    /// Looks at the header of `packet`.
    ///
    /// # Errors
    /// Where the version is not 2 or the packet is shorter than its header. Malformed extensions inside their block are no
    /// error: iteration ends at them.
    pub fn parse(packet: &'a [u8]) -> Result<Self, HeaderError> {
        let (first, csrc_end) = match packet {
            [first, ..] if packet.len() >= FIXED => (*first, FIXED + 4 * usize::from(first & 0x0f)),
            _ => return Err(HeaderError::Truncated),
        };
        if first >> 6 != 2 {
            return Err(HeaderError::Version);
        }
        let mut header = Self { packet, extensions: Extensions::EMPTY, len: csrc_end };
        if first & 0x10 == 0 {
            return if csrc_end <= packet.len() { Ok(header) } else { Err(HeaderError::Truncated) };
        }
        let rest = packet.get(csrc_end..).ok_or(HeaderError::Truncated)?;
        let [p0, p1, l0, l1, block @ ..] = rest else { return Err(HeaderError::Truncated) };
        let length = 4 * usize::from(u16::from_be_bytes([*l0, *l1]));
        let block = block.get(..length).ok_or(HeaderError::Truncated)?;
        header.len = csrc_end + 4 + length;
        header.extensions = match u16::from_be_bytes([*p0, *p1]) {
            ONE_BYTE_PROFILE => Extensions { rest: block, two_byte: false },
            profile if profile & 0xfff0 == TWO_BYTE_PROFILE => Extensions { rest: block, two_byte: true },
            // Somebody's own format: skipped as a whole.
            _ => Extensions::EMPTY,
        };
        Ok(header)
    }

    /// Bytes up to the payload, CSRCs and extensions included. The packet is at least as long.
    pub const fn header_len(&self) -> usize {
        self.len
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.byte(1) & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    pub fn payload_type(&self) -> u8 {
        self.byte(1) & 0x7f
    }

    /// The sequence number.
    pub fn seq(&self) -> u16 {
        u16::from_be_bytes([self.byte(2), self.byte(3)])
    }

    /// The timestamp, in ticks of the stream's clock.
    pub fn timestamp(&self) -> u32 {
        self.word(4)
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.word(8)
    }

    /// The contributing sources, at most 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + use<'_, 'a> {
        (0..usize::from(self.byte(0) & 0x0f)).map(|i| self.word(FIXED + 4 * i))
    }

    /// Whether the last byte of the decrypted packet counts padding.
    pub fn has_padding(&self) -> bool {
        self.byte(0) & 0x20 != 0
    }

    /// What follows the header, padding taken off: for decrypted packets. `None` where the padding makes no sense.
    pub fn payload(&self) -> Option<&'a [u8]> {
        let body = self.packet.get(self.len..)?;
        if !self.has_padding() {
            return Some(body);
        }
        let padding = usize::from(*body.last()?);
        if padding == 0 {
            return None;
        }
        body.get(..body.len().checked_sub(padding)?)
    }

    /// The extensions in the order they stand in.
    pub const fn extensions(&self) -> Extensions<'a> {
        self.extensions
    }

    /// The value of the extension that `id` names; `None` also where `id` is.
    pub fn extension(&self, id: Option<u8>) -> Option<&'a [u8]> {
        let id = id?;
        self.extensions.into_iter().find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    /// The transport-wide sequence number under `id`.
    pub fn transport_seq(&self, id: Option<u8>) -> Option<u16> {
        self.extension(id)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// The audio level under `id`.
    pub fn audio_level(&self, id: Option<u8>) -> Option<AudioLevel> {
        AudioLevel::parse(self.extension(id)?)
    }

    fn byte(&self, at: usize) -> u8 {
        self.packet.get(at).copied().unwrap_or_default()
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.byte(at), self.byte(at + 1), self.byte(at + 2), self.byte(at + 3)])
    }
}

/// The extensions of a packet: pairs of id and value. Ends at the first one that does not fit its block.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl Extensions<'_> {
    const EMPTY: Self = Self { rest: &[], two_byte: false };
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let [first, after @ ..] = self.rest else { return None };
            if *first == 0 {
                self.rest = after;
                continue;
            }
            let (id, len, after) = if self.two_byte {
                let [len, after @ ..] = after else { return None };
                (*first, usize::from(*len), after)
            } else {
                // An id of 15 ends the block (RFC 8285, section 4.2).
                if first >> 4 == 15 {
                    self.rest = &[];
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f) + 1, after)
            };
            let Some((value, after)) = after.split_at_checked(len) else {
                self.rest = &[];
                return None;
            };
            self.rest = after;
            // In the one-byte form an id of 0 with a length is padding that carries bytes: skipped.
            if id != 0 {
                return Some((id, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(first: u8, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 45, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7];
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn fields_sources_and_payload_are_where_the_rfc_puts_them() {
        let bytes = packet(0x82, &[0, 0, 0, 1, 0, 0, 0, 2, b'p', b'q']);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!((header.marker(), header.payload_type(), header.seq()), (true, 45, 0x1234));
        assert_eq!((header.timestamp(), header.ssrc(), header.header_len()), (9, 7, 20));
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(header.payload(), Some(&b"pq"[..]));
        assert_eq!(header.extension(Some(1)), None);
    }

    #[test]
    fn one_byte_extensions_are_found_around_padding_and_end_at_fifteen() {
        let bytes = packet(0x90, &[0xbe, 0xde, 0, 2, 0, 0x31, 0xaa, 0xbb, 0x10, 0x85, 0xf0, 0x20]);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(header.transport_seq(Some(3)), Some(0xaabb));
        assert_eq!(header.audio_level(Some(1)), Some(AudioLevel { level: 5, voice: true }));
        assert_eq!(header.extension(Some(2)), None, "behind the end mark");
        assert_eq!(header.payload(), Some(&[][..]));
    }

    #[test]
    fn two_byte_extensions_may_be_empty_and_long() {
        let mut tail = vec![0x10, 0x05, 0, 6, 200, 0, 17, 20];
        tail.extend(0..20);
        let bytes = packet(0x90, &tail);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(header.extension(Some(200)), Some(&[][..]));
        assert_eq!(header.extension(Some(17)).map(<[u8]>::len), Some(20));
    }

    #[test]
    fn an_extension_longer_than_its_block_is_not_read() {
        let bytes = packet(0x90, &[0xbe, 0xde, 0, 1, 0x10, 0x05, 0x2f, 1]);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(header.extensions().collect::<Vec<_>>(), [(1, &[5u8][..])]);
    }

    #[test]
    fn padding_comes_off_and_impossible_padding_is_refused() {
        let good = packet(0xa0, &[1, 2, 3, 0, 0, 3]);
        assert_eq!(RtpHeader::parse(&good).unwrap().payload(), Some(&[1u8, 2, 3][..]));
        let only = packet(0xa0, &[0, 0, 3]);
        assert_eq!(RtpHeader::parse(&only).unwrap().payload(), Some(&[][..]));
        for tail in [&[1u8, 2, 0][..], &[1, 2, 4], &[]] {
            assert_eq!(RtpHeader::parse(&packet(0xa0, tail)).unwrap().payload(), None);
        }
    }

    #[test]
    fn what_ends_within_its_header_or_has_another_version_is_an_error() {
        for bytes in [
            packet(0x80, &[])[..11].to_vec(),
            packet(0x81, &[0, 0, 0]),
            packet(0x90, &[0xbe, 0xde, 0]),
            packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0]),
        ] {
            assert_eq!(RtpHeader::parse(&bytes).unwrap_err(), HeaderError::Truncated);
        }
        assert_eq!(RtpHeader::parse(&packet(0x40, &[])).unwrap_err(), HeaderError::Version);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_their_bounds(bytes in prop::collection::vec(any::<u8>(), 0..80), ext: bool) {
            let mut bytes = bytes;
            if ext && bytes.len() > 16 {
                bytes[0] = 0x90;
                bytes[12..16].copy_from_slice(&[0xbe, 0xde, 0, 3]);
            }
            if let Ok(header) = RtpHeader::parse(&bytes) {
                prop_assert!(header.header_len() <= bytes.len());
                let values: usize = header.extensions().map(|(_, value)| value.len()).sum();
                prop_assert!(values <= bytes.len());
                let _ = (header.payload(), header.csrcs().count());
            }
        }
    }
}
