//! AV1 temporal units to RTP payloads and back (RTP Payload Format For AV1, sections 4.3 to 4.5 and 5).
//!
//! Packets of one frame are made nearly equal in size, since equal segments are what batched sending (GSO) wants. The
//! crate's payloader fills packets to the brim, and its depacketizer indexes past short OBUs: hence these.
//!
//! ```text
//!  |Z|Y| W |N|-|-|-|   Z: continues an OBU, Y: its last OBU goes on, W: number of OBUs (0: all have lengths), N: new sequence
//! ```

use super::obu::{self, Obu, leb128_len, obu_type, read_leb128, write_leb128};
use bytes::Bytes;

const Z: u8 = 0b1000_0000;
const Y: u8 = 0b0100_0000;
const N: u8 = 0b0000_1000;
/// W has two bits; a packet that is full with three OBUs is closed, so that the last one needs no length.
const MAX_OBUS: usize = 3;
/// Shorter leftovers go to the next packet: a header byte alone is not worth a fragment.
const MIN_FRAGMENT: usize = 2;

/// The RTP payloads of one temporal unit in the low-overhead format, each at most `max_payload` bytes. Temporal
/// delimiters, tile lists and padding are left out; nothing comes of a unit that holds nothing else.
pub(crate) fn packetize(temporal_unit: &[u8], max_payload: usize) -> Vec<Bytes> {
    let mut elements = Vec::new();
    let mut starts_sequence = false;
    for obu in obu::obus(temporal_unit) {
        match obu.obu_type() {
            obu::TEMPORAL_DELIMITER | obu::TILE_LIST | obu::PADDING => continue,
            obu::SEQUENCE_HEADER => starts_sequence = true,
            _ => {}
        }
        let mut element = Vec::with_capacity(obu.len());
        obu.write_bare(&mut element);
        elements.push(element);
    }
    let mut payloads = fill_evenly(&elements, max_payload.max(8));
    if let Some(first) = payloads.first_mut()
        && starts_sequence
    {
        first[0] |= N;
    }
    payloads.into_iter().map(Bytes::from).collect()
}

/// As few packets as `max` allows, then as small as that number allows.
fn fill_evenly(elements: &[Vec<u8>], max: usize) -> Vec<Vec<u8>> {
    let fullest = fill(elements, max);
    if fullest.len() < 2 {
        return fullest;
    }
    let total: usize = fullest.iter().map(Vec::len).sum();
    let even = total.div_ceil(fullest.len());
    (even..max.min(even + 16))
        .map(|limit| fill(elements, limit))
        .find(|payloads| payloads.len() == fullest.len())
        .unwrap_or(fullest)
}

fn fill(elements: &[Vec<u8>], limit: usize) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut packet = PacketBuilder::default();
    for element in elements {
        let mut rest = element.as_slice();
        while !rest.is_empty() {
            let room = packet.room(limit);
            if packet.parts.len() == MAX_OBUS || room < rest.len().min(MIN_FRAGMENT) {
                payloads.push(std::mem::take(&mut packet).finish(false));
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(room));
            packet.continues |= packet.parts.is_empty() && rest.len() < element.len();
            packet.parts.push(part);
            rest = after;
            if !rest.is_empty() {
                payloads.push(std::mem::take(&mut packet).finish(true));
            }
        }
    }
    if !packet.parts.is_empty() {
        payloads.push(packet.finish(false));
    }
    payloads
}

#[derive(Default)]
struct PacketBuilder<'a> {
    continues: bool,
    parts: Vec<&'a [u8]>,
}

impl PacketBuilder<'_> {
    /// Bytes left for one more OBU; all before it then need a length.
    fn room(&self, limit: usize) -> usize {
        let used: usize = self.parts.iter().map(|part| leb128_len(part.len()) + part.len()).sum();
        limit.saturating_sub(1 + used)
    }

    fn finish(self, goes_on: bool) -> Vec<u8> {
        let count = self.parts.len();
        let mut out = Vec::with_capacity(1 + self.parts.iter().map(|part| part.len() + 2).sum::<usize>());
        out.push(if self.continues { Z } else { 0 } | if goes_on { Y } else { 0 } | (count as u8) << 4);
        for (index, part) in self.parts.iter().enumerate() {
            if index + 1 < count {
                write_leb128(part.len(), &mut out);
            }
            out.extend_from_slice(part);
        }
        out
    }
}

/// Whether this payload can be the first of a temporal unit where decoding starts: it starts an OBU, and either says "new
/// sequence" or begins with a sequence header.
pub(crate) fn starts_sequence(payload: &[u8]) -> bool {
    let Some(&aggregation) = payload.first() else { return false };
    if aggregation & Z != 0 {
        return false;
    }
    let first = Elements::new(payload).and_then(|mut elements| elements.next()?);
    aggregation & N != 0 || first.and_then(|e| e.first()).is_some_and(|&h| obu_type(h) == obu::SEQUENCE_HEADER)
}

/// Why payloads do not make a temporal unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DepacketizeError {
    /// A length runs past the end of its packet.
    #[error("an AV1 payload ends in the middle of an OBU's length or content")]
    Truncated,
    /// A packet that continues an OBU follows one that ended it, or the reverse.
    #[error("an AV1 payload's fragments do not join")]
    Fragments,
    /// An OBU's header or inner size is wrong.
    #[error("an OBU in an AV1 payload is malformed")]
    Obu,
}

/// One temporal unit from the payloads of all of its packets, in order and without a gap, in the low-overhead format with a
/// temporal delimiter first.
pub(crate) fn depacketize<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Result<Bytes, DepacketizeError> {
    let mut out = vec![obu::TEMPORAL_DELIMITER << 3 | 0b10, 0];
    // The OBU that the last packet left open.
    let mut open: Option<Vec<u8>> = None;
    for payload in payloads {
        let Some(&aggregation) = payload.first() else { continue };
        if (aggregation & Z != 0) != open.is_some() {
            return Err(DepacketizeError::Fragments);
        }
        let elements: Vec<&[u8]> = Elements::new(payload)
            .ok_or(DepacketizeError::Truncated)?
            .collect::<Option<_>>()
            .ok_or(DepacketizeError::Truncated)?;
        let count = elements.len();
        for (index, element) in elements.into_iter().enumerate() {
            let ends = index + 1 < count || aggregation & Y == 0;
            match (open.take(), ends) {
                (Some(mut start), ends) => {
                    start.extend_from_slice(element);
                    if ends {
                        append(&start, &mut out)?;
                    } else {
                        open = Some(start);
                    }
                }
                (None, true) => append(element, &mut out)?,
                (None, false) => open = Some(element.to_vec()),
            }
        }
    }
    if open.is_some() {
        return Err(DepacketizeError::Fragments);
    }
    Ok(Bytes::from(out))
}

fn append(element: &[u8], out: &mut Vec<u8>) -> Result<(), DepacketizeError> {
    if element.is_empty() {
        return Ok(());
    }
    let (obu, taken) = Obu::parse(element).ok_or(DepacketizeError::Obu)?;
    if taken != element.len() {
        return Err(DepacketizeError::Obu);
    }
    if !matches!(obu.obu_type(), obu::TEMPORAL_DELIMITER | obu::TILE_LIST | obu::PADDING) {
        obu.write_sized(out);
    }
    Ok(())
}

/// The OBU elements of one payload; an item is `None`, once, where the payload is truncated.
struct Elements<'a> {
    rest: &'a [u8],
    /// W, or 0 where every element has a length.
    count: u8,
    index: u8,
}

impl<'a> Elements<'a> {
    fn new(payload: &'a [u8]) -> Option<Self> {
        let (&aggregation, rest) = payload.split_first()?;
        Some(Self { rest, count: aggregation >> 4 & 0b11, index: 0 })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let done = if self.count == 0 { self.rest.is_empty() } else { self.index == self.count };
        if done {
            // With W given, bytes past the last element cannot exist: the last takes all of them.
            return None;
        }
        self.index = self.index.saturating_add(1);
        let rest = std::mem::take(&mut self.rest);
        if self.count != 0 && self.index == self.count {
            return Some(if rest.is_empty() { None } else { Some(rest) });
        }
        let element = read_leb128(rest).and_then(|(size, read)| {
            let end = read.checked_add(size)?;
            Some((rest.get(read..end)?, rest.get(end..)?))
        });
        match element {
            Some((element, rest)) => {
                self.rest = rest;
                Some(Some(element))
            }
            None => {
                self.index = self.count;
                Some(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: u8 = 6;
    const METADATA: u8 = 5;

    fn obu(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Obu { header: kind << 3, extension: None, payload }.write_sized(&mut out);
        out
    }

    fn round_trip(unit: &[u8], max: usize) -> Vec<u8> {
        let payloads = packetize(unit, max);
        assert!(payloads.iter().all(|p| p.len() <= max));
        depacketize(payloads.iter().map(|p| &p[..])).unwrap().to_vec()
    }

    proptest! {
        #[test]
        fn any_unit_comes_back(
            sizes in proptest::collection::vec(0_usize..5_000, 1..7),
            max in 8_usize..1_200,
            extension in proptest::option::of(0_u8..=255),
        ) {
            let mut unit = obu(obu::TEMPORAL_DELIMITER, &[]);
            for (i, size) in sizes.iter().enumerate() {
                let header = FRAME << 3 | if extension.is_some() { 0b100 } else { 0 };
                Obu { header, extension, payload: &vec![i as u8; *size] }.write_sized(&mut unit);
            }
            prop_assert_eq!(round_trip(&unit, max), unit);
        }

        #[test]
        fn hostile_payloads_are_refused_or_read_but_never_panic(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)
        ) {
            for payload in &payloads {
                let _ = starts_sequence(payload);
            }
            let _ = depacketize(payloads.iter().map(|p| &p[..]));
        }

        #[test]
        fn packets_of_a_frame_are_nearly_equal(size in 1_200_usize..40_000) {
            let payloads = packetize(&obu(FRAME, &vec![7; size]), 1_140);
            let count = payloads.len();
            prop_assert_eq!(count, (size + 1).div_ceil(1_139));
            let lengths: Vec<usize> = payloads.iter().map(Bytes::len).collect();
            prop_assert!(lengths[..count - 1].iter().all(|length| *length == lengths[0]), "{:?}", lengths);
            // What rounding up gives to each of the others is missing in the last.
            prop_assert!((lengths[0] - count..=lengths[0]).contains(&lengths[count - 1]), "{:?}", lengths);
        }
    }

    #[test]
    fn a_key_frame_says_new_sequence_on_its_first_packet_alone() {
        let mut unit = obu(obu::TEMPORAL_DELIMITER, &[]);
        unit.extend(obu(obu::SEQUENCE_HEADER, &[1; 10]));
        unit.extend(obu(FRAME, &[2; 3_000]));
        let payloads = packetize(&unit, 1_140);
        assert_eq!(payloads.iter().map(|p| p[0] & N != 0).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(payloads.iter().map(|p| starts_sequence(p)).collect::<Vec<_>>(), [true, false, false]);
        assert!(!starts_sequence(&packetize(&obu(FRAME, &[2; 30]), 1_140)[0]));
    }

    #[test]
    fn lengths_are_left_out_of_the_last_obu_only() {
        let mut unit = obu(METADATA, &[9; 4]);
        unit.extend(obu(FRAME, &[8; 6]));
        let payloads = packetize(&unit, 100);
        assert_eq!(payloads.len(), 1);
        assert_eq!(payloads[0][..2], [2 << 4, 5]);
        assert_eq!(payloads[0].len(), 1 + 1 + 5 + 7);
    }

    #[test]
    fn a_packet_with_lengths_for_all_is_read() {
        let payload = [0, 2, FRAME << 3, 1, 3, METADATA << 3, 2, 3];
        let unit = depacketize([&payload[..]].into_iter()).unwrap();
        assert_eq!(
            obu::obus(&unit).map(|o| o.obu_type()).collect::<Vec<_>>(),
            [obu::TEMPORAL_DELIMITER, FRAME, METADATA]
        );
    }

    #[test]
    fn fragments_that_do_not_join_are_refused() {
        let payloads = packetize(&obu(FRAME, &[5; 100]), 40);
        assert!(payloads.len() >= 3);
        let without =
            |skip: usize| depacketize(payloads.iter().enumerate().filter(|(i, _)| *i != skip).map(|(_, p)| &p[..]));
        assert_eq!(without(0), Err(DepacketizeError::Fragments));
        assert_eq!(without(payloads.len() - 1), Err(DepacketizeError::Fragments));
    }

    #[test]
    fn lengths_past_the_end_are_refused() {
        for payload in [&[0_u8, 200, 1][..], &[0x20, 5, 1], &[0x10], &[0, 0x80, 0x80]] {
            assert_eq!(depacketize([payload].into_iter()), Err(DepacketizeError::Truncated), "{payload:?}");
        }
    }
}
