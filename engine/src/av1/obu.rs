//! Open bitstream units: the few header fields that RTP and the frame buffer need (AV1 specification, sections 4.10.5 and 5.3).
//!
//! Nothing here panics, whatever the bytes are.

/// `OBU_SEQUENCE_HEADER`
pub(crate) const SEQUENCE_HEADER: u8 = 1;
/// `OBU_TEMPORAL_DELIMITER`
pub(crate) const TEMPORAL_DELIMITER: u8 = 2;
/// `OBU_TILE_LIST`
pub(crate) const TILE_LIST: u8 = 8;
/// `OBU_PADDING`
pub(crate) const PADDING: u8 = 15;

const EXTENSION_FLAG: u8 = 0b100;
const HAS_SIZE_FIELD: u8 = 0b10;

/// An OBU's type, from the first byte of its header.
pub(crate) fn obu_type(header: u8) -> u8 {
    header >> 3 & 0b1111
}

/// An OBU split into its header and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Obu<'a> {
    /// The header's first byte, with `obu_has_size_field` cleared.
    pub(crate) header: u8,
    /// The header's extension byte: temporal and spatial layer.
    pub(crate) extension: Option<u8>,
    /// What follows the header and the size field.
    pub(crate) payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The first OBU in `data`, and how many bytes it takes. Without a size field it takes all of them.
    pub(crate) fn parse(data: &'a [u8]) -> Option<(Self, usize)> {
        let header = *data.first()?;
        let extension = if header & EXTENSION_FLAG != 0 { Some(*data.get(1)?) } else { None };
        let at = 1 + usize::from(extension.is_some());
        let (size, at) = if header & HAS_SIZE_FIELD != 0 {
            let (size, read) = read_leb128(data.get(at..)?)?;
            (size, at + read)
        } else {
            (data.len() - at, at)
        };
        let end = at.checked_add(size)?;
        let payload = data.get(at..end)?;
        Some((Self { header: header & !HAS_SIZE_FIELD, extension, payload }, end))
    }

    /// Its type.
    pub(crate) fn obu_type(&self) -> u8 {
        obu_type(self.header)
    }

    /// Bytes of the OBU without a size field.
    pub(crate) fn len(&self) -> usize {
        1 + usize::from(self.extension.is_some()) + self.payload.len()
    }

    /// Appends it without a size field, as RTP carries it.
    pub(crate) fn write_bare(&self, out: &mut Vec<u8>) {
        out.push(self.header);
        out.extend(self.extension);
        out.extend_from_slice(self.payload);
    }

    /// Appends it with a size field, as decoders take it.
    pub(crate) fn write_sized(&self, out: &mut Vec<u8>) {
        out.push(self.header | HAS_SIZE_FIELD);
        out.extend(self.extension);
        write_leb128(self.payload.len(), out);
        out.extend_from_slice(self.payload);
    }
}

/// The OBUs of a low-overhead bitstream; ends early where the bytes make no sense.
pub(crate) fn obus(mut data: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    std::iter::from_fn(move || {
        let (obu, taken) = Obu::parse(data)?;
        data = data.get(taken..)?;
        Some(obu)
    })
}

/// A value and how many bytes it took. Values above 32 bits are refused, as the specification demands.
pub(crate) fn read_leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, &byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((value as usize, index + 1));
        }
    }
    None
}

/// Appends `value` in as few bytes as it takes.
pub(crate) fn write_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`write_leb128`] takes.
pub(crate) fn leb128_len(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leb128_round_trips(value in 0_usize..=u32::MAX as usize) {
            let mut out = Vec::new();
            write_leb128(value, &mut out);
            prop_assert_eq!(out.len(), leb128_len(value));
            prop_assert_eq!(read_leb128(&out), Some((value, out.len())));
        }

        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(obus(&data).count() <= data.len());
        }
    }

    #[test]
    fn an_endless_or_too_large_number_is_refused() {
        assert_eq!(read_leb128(&[0x80; 9]), None);
        assert_eq!(read_leb128(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), None);
        assert_eq!(read_leb128(&[]), None);
    }
}
