//! The message: status chunks and deltas, both ways (section 3.1 of the draft).

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

/// A tick of the arrival times, in microseconds.
pub(super) const DELTA_MICROS: i64 = 250;
/// Ticks in a unit of the reference time (64 ms).
const REFERENCE_TICKS: i64 = 256;
/// Largest run length of 13 bits.
const MAX_RUN: usize = 0x1fff;
/// Losses that a message may start with; those before them are not worth a status.
const MAX_LEADING_LOSSES: usize = 1_000;
/// Statuses in a vector chunk of one and of two bits.
const ONE_BIT: usize = 14;
const TWO_BIT: usize = 7;
/// Chunk and delta bytes that a message may hold: it has to fit a packet.
const MAX_BODY: usize = 1_000;

/// A decoded message: for consecutive transport-wide numbers from `base`, the arrival tick (250 us) or nothing. Ticks count
/// from the start of the reference time's current period of 2^24 * 64 ms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The first number, as on the wire.
    pub base: u16,
    /// One entry per number.
    pub ticks: Vec<Option<i64>>,
}

/// RTCP's payload type of feedback on transport, and its format of transport-wide feedback.
const TRANSPORT_FEEDBACK: u8 = 205;
const TRANSPORT_WIDE: u8 = 15;
/// Bytes before the status chunks.
const CHUNKS_AT: usize = 20;
/// Symbols of two bits; those of one bit are the first two of them.
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

impl Arrivals {
    /// Whether this one RTCP packet, with its header, is such a message.
    pub fn are_in(packet: &[u8]) -> bool {
        matches!(packet, [first, TRANSPORT_FEEDBACK, ..] if first & 0x1f == TRANSPORT_WIDE)
    }

    /// Reads one RTCP packet, with its header, into this value, whose memory is used again: a forwarder gets a message from
    /// each receiver ten times a second and more. Tells the same as [`decode`] of what `rtc-rtcp` reads; whether the packet
    /// was well-formed. Where it was not, nothing is told.
    pub fn read(&mut self, packet: &[u8]) -> bool {
        self.ticks.clear();
        let whole = self.try_read(packet).is_some();
        if !whole {
            self.ticks.clear();
        }
        whole
    }

    fn try_read(&mut self, packet: &[u8]) -> Option<()> {
        let (head, body) = packet.split_first_chunk::<CHUNKS_AT>()?;
        let [first, kind, length @ ..] = head.first_chunk::<4>()?;
        let len = 4 * (usize::from(u16::from_be_bytes(*length)) + 1);
        if *kind != TRANSPORT_FEEDBACK || first & 0x1f != TRANSPORT_WIDE || len < CHUNKS_AT {
            return None;
        }
        let body = body.get(..len - CHUNKS_AT)?;
        let [.., base0, base1, count0, count1, r0, r1, r2, _] = *head;
        self.base = u16::from_be_bytes([base0, base1]);
        let count = usize::from(u16::from_be_bytes([count0, count1]));
        let mut tick = i64::from(u32::from_be_bytes([0, r0, r1, r2])) * REFERENCE_TICKS;
        let mut deltas = body.get(2 * chunk_count(body, count)?..)?;
        let mut chunks = body.chunks_exact(2);
        while self.ticks.len() < count {
            let chunk = u16::from_be_bytes(*chunks.next()?.first_chunk()?);
            let statuses = statuses(chunk).min(count - self.ticks.len());
            for i in 0..statuses {
                let delta = match symbol(chunk, i) {
                    SMALL_DELTA => {
                        let (delta, rest) = deltas.split_first()?;
                        deltas = rest;
                        Some(i64::from(*delta))
                    }
                    LARGE_DELTA => {
                        let (delta, rest) = deltas.split_first_chunk()?;
                        deltas = rest;
                        Some(i64::from(i16::from_be_bytes(*delta)))
                    }
                    _ => None,
                };
                self.ticks.push(delta.map(|delta| {
                    tick += delta;
                    tick
                }));
            }
        }
        Some(())
    }
}

/// How many chunks hold `count` statuses.
fn chunk_count(body: &[u8], count: usize) -> Option<usize> {
    let (mut told, mut chunks) = (0, 0);
    let mut rest = body.chunks_exact(2);
    while told < count {
        told += statuses(u16::from_be_bytes(*rest.next()?.first_chunk()?));
        chunks += 1;
    }
    Some(chunks)
}

/// How many statuses a chunk holds (sections 3.1.3 and 3.1.4).
const fn statuses(chunk: u16) -> usize {
    match chunk >> 14 {
        0b11 => TWO_BIT,
        0b10 => ONE_BIT,
        _ => (chunk & 0x1fff) as usize,
    }
}

/// The symbol of one of them.
const fn symbol(chunk: u16, index: usize) -> u8 {
    match chunk >> 14 {
        0b11 => (chunk >> (2 * (TWO_BIT - 1 - index)) & 0b11) as u8,
        0b10 => (chunk >> (ONE_BIT - 1 - index) & 1) as u8,
        _ => (chunk >> 13 & 0b11) as u8,
    }
}

/// Builds messages for consecutive numbers from `base` with arrival ticks of 250 us. A delta that does not fit 16 bits or a
/// message that grows too long starts the next message.
pub fn encode(
    base: u16,
    ticks: &[Option<i64>],
    fb_pkt_count: &mut u8,
    sender: u32,
    media: u32,
) -> Vec<TransportLayerCc> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(first) = ticks[at..].iter().position(Option::is_some).map(|i| at + i) {
        // Leading losses belong to the message, unless there are absurdly many.
        let start = at.max(first.saturating_sub(MAX_LEADING_LOSSES));
        let Some(first_tick) = ticks[first] else { break };
        let reference = first_tick.div_euclid(REFERENCE_TICKS);
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        let (mut last, mut body, mut end) = (reference * REFERENCE_TICKS, 0, start);
        for tick in &ticks[start..] {
            let Some(tick) = tick else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                end += 1;
                continue;
            };
            let delta = tick - last;
            let symbol = match delta {
                0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
                -32_768..=32_767 => SymbolTypeTcc::PacketReceivedLargeDelta,
                _ => break,
            };
            let size = if symbol == SymbolTypeTcc::PacketReceivedSmallDelta { 1 } else { 2 };
            // Two bits a status is the worst a chunk can cost.
            if body + size + symbols.len().div_ceil(TWO_BIT) * 2 > MAX_BODY {
                break;
            }
            body += size;
            symbols.push(symbol);
            deltas.push(RecvDelta { type_tcc_packet: symbol, delta: delta * DELTA_MICROS });
            last = *tick;
            end += 1;
        }
        // Losses at the end are the next message's beginning, so that each message ends with an arrival.
        while symbols.last() == Some(&SymbolTypeTcc::PacketNotReceived) {
            symbols.pop();
            end -= 1;
        }
        if deltas.is_empty() {
            break;
        }
        messages.push(TransportLayerCc {
            sender_ssrc: sender,
            media_ssrc: media,
            base_sequence_number: base.wrapping_add(start as u16),
            packet_status_count: symbols.len() as u16,
            reference_time: (reference & 0xff_ffff) as u32,
            fb_pkt_count: *fb_pkt_count,
            packet_chunks: chunks(&symbols),
            recv_deltas: deltas,
        });
        *fb_pkt_count = fb_pkt_count.wrapping_add(1);
        at = end;
    }
    messages
}

fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::new();
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take(MAX_RUN).take_while(|s| **s == first).count();
        let one_bit = symbols.iter().take(ONE_BIT).all(|s| *s != SymbolTypeTcc::PacketReceivedLargeDelta);
        let vector = if one_bit { ONE_BIT } else { TWO_BIT };
        let taken = if run >= vector || run == symbols.len() { run } else { vector.min(symbols.len()) };
        chunks.push(if taken == run {
            PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: first,
                run_length: run as u16,
            })
        } else {
            PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: if one_bit { SymbolSizeTypeTcc::OneBit } else { SymbolSizeTypeTcc::TwoBit },
                symbol_list: symbols[..taken].to_vec(),
            })
        });
        symbols = &symbols[taken..];
    }
    chunks
}

/// Reads a message. Never trusts its counts: what does not add up is left out.
pub fn decode(message: &TransportLayerCc) -> Arrivals {
    let count = usize::from(message.packet_status_count);
    let mut deltas = message.recv_deltas.iter();
    let mut tick = i64::from(message.reference_time & 0xff_ffff) * REFERENCE_TICKS;
    let mut ticks = Vec::with_capacity(count.min(1_024));
    let mut take = |symbol: SymbolTypeTcc, ticks: &mut Vec<Option<i64>>| {
        if ticks.len() >= count {
            return;
        }
        let received =
            matches!(symbol, SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta);
        ticks.push(if received {
            deltas.next().map(|d| {
                tick += d.delta / DELTA_MICROS;
                tick
            })
        } else {
            None
        });
    };
    for chunk in &message.packet_chunks {
        if ticks.len() >= count {
            break;
        }
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                for _ in 0..run.run_length.min(message.packet_status_count) {
                    take(run.packet_status_symbol, &mut ticks);
                }
            }
            PacketStatusChunk::StatusVectorChunk(vector) => {
                vector.symbol_list.iter().for_each(|s| take(*s, &mut ticks));
            }
        }
    }
    Arrivals { base: message.base_sequence_number, ticks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::marshal::{Marshal, Unmarshal};

    fn over_the_wire(base: u16, ticks: &[Option<i64>]) -> Vec<Arrivals> {
        let mut count = 250;
        encode(base, ticks, &mut count, 1, 2)
            .iter()
            .map(|message| {
                let mut wire = message.marshal().unwrap();
                assert!(wire.len() <= 1_100, "{}", wire.len());
                decode(&TransportLayerCc::unmarshal(&mut wire).unwrap())
            })
            .collect()
    }

    #[test]
    fn nothing_received_makes_no_message() {
        assert!(over_the_wire(0, &[]).is_empty());
        assert!(over_the_wire(0, &[None; 30]).is_empty());
    }

    #[test]
    fn a_delta_that_overflows_starts_the_next_message() {
        let got = over_the_wire(65_535, &[Some(1_000), Some(1_000 + 40_000), None, Some(1_000 + 40_300)]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], Arrivals { base: 65_535, ticks: vec![Some(1_000)] });
        assert_eq!(got[1], Arrivals { base: 0, ticks: vec![Some(41_000), None, Some(41_300)] });
    }

    #[test]
    fn a_message_whose_counts_do_not_add_up_is_read_as_far_as_it_goes() {
        let run = RunLengthChunk {
            packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
            run_length: 100,
            ..Default::default()
        };
        let message = TransportLayerCc {
            packet_status_count: 3,
            packet_chunks: vec![PacketStatusChunk::RunLengthChunk(run)],
            recv_deltas: vec![RecvDelta { delta: 250, ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(decode(&message).ticks, [Some(1), None, None]);
    }

    proptest! {
        #[test]
        fn what_rtc_rtcp_reads_is_read_alike(
            base: u16,
            steps in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![0i64..200, -300i64..2_000]), 1..200),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            cut: prop::sample::Index,
            cuts: bool,
        ) {
            let mut tick = 1 << 20;
            let ticks: Vec<_> = steps.iter().map(|s| s.map(|d| { tick += d; tick })).collect();
            for message in encode(base, &ticks, &mut 0, 1, 2) {
                let mut wire = message.marshal().unwrap().to_vec();
                for (at, value) in &changes {
                    let at = at.index(wire.len());
                    wire[at] = *value;
                }
                if cuts {
                    wire.truncate(cut.index(wire.len()));
                }
                let mut own = Arrivals::default();
                let read = Arrivals::are_in(&wire) && own.read(&wire);
                match TransportLayerCc::unmarshal(&mut &wire[..]) {
                    Ok(theirs) if read => prop_assert_eq!(&own, &decode(&theirs)),
                    // They read a delta of two bytes of which one is there as one of a single byte.
                    Ok(_) => prop_assert!(!changes.is_empty() || cuts),
                    Err(_) => prop_assert!(changes.len() + usize::from(cuts) > 0),
                }
                if changes.is_empty() && !cuts {
                    prop_assert!(read);
                }
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(
            base: u16,
            start in 0i64..1 << 31,
            steps in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![0i64..200, -300i64..2_000, 0i64..50_000]), 1..3_000),
        ) {
            let mut tick = start + 100_000;
            let ticks: Vec<Option<i64>> = steps
                .iter()
                .map(|s| s.map(|d| { tick = (tick + d).max(0); tick }))
                .collect();
            let mut seen = vec![None; ticks.len()];
            for message in over_the_wire(base, &ticks) {
                for (i, tick) in message.ticks.iter().enumerate() {
                    let at = usize::from(message.base.wrapping_add(i as u16).wrapping_sub(base));
                    prop_assert!(seen[at].is_none());
                    seen[at] = *tick;
                }
            }
            let period = REFERENCE_TICKS << 24;
            let last = ticks.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
            for (want, got) in ticks[..last].iter().zip(&seen) {
                prop_assert_eq!(want.map(|t| t % period), got.map(|t| t % period));
            }
        }
    }
}
