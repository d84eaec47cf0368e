//! Sequence numbers of a slot: without a gap where this unit left packets out or changed the source, with the gaps that the
//! source's path made, so that what was lost upstream can still be asked for and filled in.
//!
//! A packet's number is the source's number less how many were left out before it. A packet that comes late is placed by a
//! window of what was left out lately; a late one that is to be left out leaves a number that was promised: an empty packet
//! fills it.

use halloo_transport::SeqNo;

/// Packets back that a late packet can still be placed in.
const WINDOW: u64 = 1_024;
const WORDS: usize = WINDOW as usize / 64;

/// Renumbers the packets of one source after another.
#[derive(Clone, Debug)]
pub struct SequenceRewriter {
    /// The number that the next source starts with.
    next: SeqNo,
    source: Option<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    first: SeqNo,
    highest: SeqNo,
    /// Added to a source's number, before what was left out is taken away.
    offset: u64,
    left_out: u64,
    window: [u64; WORDS],
}

impl SequenceRewriter {
    /// The first packet gets `first`.
    pub const fn new(first: SeqNo) -> Self {
        Self { next: first, source: None }
    }

    /// Goes on with another source, or at another place of the same one, at its packet `first`: that one gets the next number.
    pub fn start(&mut self, first: SeqNo) {
        let offset = self.next.0.wrapping_sub(first.0);
        self.source =
            Some(Source { first, highest: SeqNo(first.0.wrapping_sub(1)), offset, left_out: 0, window: [0; WORDS] });
    }

    /// Stops: whatever comes of the last source is no longer placed.
    pub fn stop(&mut self) {
        self.source = None;
    }

    /// The number of a packet that is forwarded; `None` before the start, or too late to be placed.
    pub fn forward(&mut self, seq: SeqNo) -> Option<SeqNo> {
        let source = self.source.as_mut()?;
        let out = source.place(seq)?;
        self.next = self.next.max(out.next());
        Some(out)
    }

    /// Takes a packet that is left out. A number is given back where one was promised for it: an empty packet fills that gap.
    pub fn leave_out(&mut self, seq: SeqNo) -> Option<SeqNo> {
        let source = self.source.as_mut()?;
        if seq > source.highest {
            source.advance(seq);
            source.set(seq);
            source.left_out += 1;
            return None;
        }
        let out = source.place(seq)?;
        self.next = self.next.max(out.next());
        Some(out)
    }

    /// The number after the highest one given out.
    pub const fn next(&self) -> SeqNo {
        self.next
    }

    /// Makes a number of our own, between two packets of the source: for padding.
    pub fn insert(&mut self) -> SeqNo {
        let out = self.next;
        self.next = out.next();
        if let Some(source) = &mut self.source {
            source.offset = source.offset.wrapping_add(1);
            // Earlier packets would be placed one too far: they are not any more.
            source.first = SeqNo(source.highest.0.wrapping_add(1));
        }
        out
    }
}

impl Source {
    fn place(&mut self, seq: SeqNo) -> Option<SeqNo> {
        if seq < self.first || seq.0 + WINDOW <= self.highest.0 {
            return None;
        }
        if seq > self.highest {
            self.advance(seq);
        }
        let later = self.left_out_in(seq.0 + 1, self.highest.0);
        Some(SeqNo(seq.0.wrapping_add(self.offset).wrapping_sub(self.left_out - later)))
    }

    fn advance(&mut self, seq: SeqNo) {
        let from = self.highest.0.wrapping_add(1);
        if seq.0 - from >= WINDOW {
            self.window = [0; WORDS];
        } else {
            (from..=seq.0).for_each(|s| self.clear(s));
        }
        self.highest = seq;
    }

    fn left_out_in(&self, from: u64, to: u64) -> u64 {
        (from..=to).filter(|s| self.bit(*s)).count() as u64
    }

    fn bit(&self, seq: u64) -> bool {
        self.window.get((seq % WINDOW / 64) as usize).is_some_and(|word| word & (1 << (seq % 64)) != 0)
    }

    fn set(&mut self, seq: SeqNo) {
        if let Some(word) = self.window.get_mut((seq.0 % WINDOW / 64) as usize) {
            *word |= 1 << (seq.0 % 64);
        }
    }

    fn clear(&mut self, seq: u64) {
        if let Some(word) = self.window.get_mut((seq % WINDOW / 64) as usize) {
            *word &= !(1 << (seq % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rewriter() -> SequenceRewriter {
        SequenceRewriter::new(SeqNo(65_530))
    }

    #[test]
    fn a_switch_leaves_no_gap_and_a_loss_stays_one() {
        let mut seqs = rewriter();
        seqs.start(SeqNo(1_000));
        assert_eq!(seqs.forward(SeqNo(1_000)), Some(SeqNo(65_530)));
        assert_eq!(seqs.forward(SeqNo(1_003)), Some(SeqNo(65_533)));
        seqs.start(SeqNo(70_000));
        assert_eq!(seqs.forward(SeqNo(70_000)), Some(SeqNo(65_534)));
        assert_eq!(seqs.forward(SeqNo(69_999)), None, "from before the switch");
    }

    #[test]
    fn what_is_left_out_leaves_no_gap_and_late_packets_find_their_place() {
        let mut seqs = rewriter();
        seqs.start(SeqNo(10));
        assert_eq!(seqs.forward(SeqNo(10)), Some(SeqNo(65_530)));
        assert_eq!(seqs.leave_out(SeqNo(11)), None);
        assert_eq!(seqs.leave_out(SeqNo(14)), None);
        assert_eq!(seqs.forward(SeqNo(15)), Some(SeqNo(65_533)));
        assert_eq!(seqs.forward(SeqNo(12)), Some(SeqNo(65_531)));
        assert_eq!(seqs.leave_out(SeqNo(13)), Some(SeqNo(65_532)), "promised");
    }

    #[test]
    fn a_number_that_was_filled_is_not_given_to_the_next_source() {
        let mut seqs = rewriter();
        seqs.start(SeqNo(10));
        seqs.forward(SeqNo(10));
        assert_eq!(seqs.leave_out(SeqNo(12)), None);
        assert_eq!(seqs.leave_out(SeqNo(11)), Some(SeqNo(65_531)));
        seqs.start(SeqNo(500));
        assert_eq!(seqs.forward(SeqNo(500)), Some(SeqNo(65_532)));
    }

    #[test]
    fn a_number_of_our_own_shifts_what_follows() {
        let mut seqs = rewriter();
        seqs.start(SeqNo(10));
        seqs.forward(SeqNo(10));
        assert_eq!(seqs.insert(), SeqNo(65_531));
        assert_eq!(seqs.forward(SeqNo(11)), Some(SeqNo(65_532)));
    }

    proptest! {
        /// However packets are reordered, lost and left out: no number twice, order kept, and as many gaps as losses.
        #[test]
        fn numbers_are_unique_ordered_and_as_dense_as_the_source(
            first in 0u64..200_000,
            packets in prop::collection::vec((any::<bool>(), prop::bool::weighted(0.1), 0u64..12), 1..300),
        ) {
            let mut arrivals: Vec<(u64, u64, bool)> = packets.iter().enumerate()
                .filter(|(i, (_, lost, _))| *i == 0 || !lost)
                .map(|(i, (out, _, delay))| (if i == 0 { 0 } else { i as u64 + delay }, first + i as u64, *out && i > 0))
                .collect();
            arrivals.sort();
            let mut seqs = rewriter();
            seqs.start(SeqNo(first));
            let mut placed = BTreeMap::new();
            let mut skipped = 0u64;
            let mut highest = first;
            for (_, seq, out) in arrivals {
                highest = highest.max(seq);
                let number = if out { seqs.leave_out(SeqNo(seq)) } else { Some(seqs.forward(SeqNo(seq)).unwrap()) };
                match number {
                    Some(number) => prop_assert!(placed.insert(seq, number).is_none()),
                    None => skipped += 1,
                }
            }
            let numbers: Vec<SeqNo> = placed.values().copied().collect();
            prop_assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{:?}", placed);
            let end = 65_530 + (highest - first + 1) - skipped;
            prop_assert!(numbers.iter().all(|n| (65_530..end).contains(&n.0)));
        }
    }
}
