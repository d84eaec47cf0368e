//! Packets on their way to one receiver, side by side, until the end of a batch.
//!
//! Invariant: memory is allocated at start and never after. Segmentation offload wants equal segments of which only the last
//! may be shorter, so a full arena leaves as one [`Run`] per stretch of that shape.

use std::num::NonZeroUsize;

/// Bytes of one arena: the most that one UDP send can carry.
const ARENA: usize = 65_507;
/// Most packets of one arena.
const MAX_PACKETS: usize = 256;
/// Bytes that [`Arena::room`] gives: more than any Ethernet frame holds.
pub const SEGMENT_ROOM: usize = 1_600;

/// Packets for one receiver.
#[derive(Debug)]
pub struct Arena {
    bytes: Box<[u8]>,
    used: usize,
    /// Length of each packet.
    packets: Vec<u16>,
    /// Length of the segments of the stretch that the next packet may still join.
    open: Option<NonZeroUsize>,
}

/// A stretch of packets that one send can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The packets, one behind the other.
    pub bytes: &'a [u8],
    /// Length of each packet but the last, which may be shorter.
    pub segment: usize,
}

impl Arena {
    fn new() -> Self {
        Self { bytes: vec![0; ARENA].into_boxed_slice(), used: 0, packets: Vec::with_capacity(MAX_PACKETS), open: None }
    }

    /// Room for the next packet, [`SEGMENT_ROOM`] bytes, or `None` where the arena is full and has to be sent first.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        if self.packets.len() == MAX_PACKETS {
            return None;
        }
        self.bytes.get_mut(self.used..self.used + SEGMENT_ROOM)
    }

    /// Keeps the first `len` bytes of what [`Arena::room`] gave as a packet.
    pub fn commit(&mut self, len: usize) {
        debug_assert!((1..=SEGMENT_ROOM).contains(&len));
        self.open = match self.open {
            Some(segment) if len == segment.get() => Some(segment),
            // A shorter one ends the stretch, a longer one begins another.
            Some(segment) if len < segment.get() => None,
            _ => NonZeroUsize::new(len),
        };
        self.used += len;
        self.packets.push(len as u16);
    }

    /// The length that the next packet needs to have to let the stretch go on after it, if there is one.
    pub const fn open_segment(&self) -> Option<usize> {
        match self.open {
            Some(segment) => Some(segment.get()),
            None => None,
        }
    }

    /// Whether it holds no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// The packets in order, cut into stretches of at most `max_segments`.
    pub fn runs(&self, max_segments: usize) -> Runs<'_> {
        Runs { bytes: &self.bytes[..self.used], packets: &self.packets, max_segments: max_segments.max(1) }
    }

    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.used = 0;
        self.packets.clear();
        self.open = None;
    }
}

/// Iterator over the [`Run`]s of an arena.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    bytes: &'a [u8],
    packets: &'a [u16],
    max_segments: usize,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let segment = *self.packets.first()?;
        let equal = self.packets.iter().take(self.max_segments).take_while(|len| **len == segment).count();
        let shorter = equal < self.max_segments && self.packets.get(equal).is_some_and(|len| *len < segment);
        let count = equal + usize::from(shorter);
        let len = self.packets[..count].iter().map(|len| usize::from(*len)).sum();
        let (bytes, rest) = self.bytes.split_at(len);
        (self.bytes, self.packets) = (rest, &self.packets[count..]);
        Some(Run { bytes, segment: usize::from(segment) })
    }
}

/// The arenas of one thread: lent to receivers that get something in a batch, back at its end. So a receiver that is idle
/// costs nothing.
#[derive(Debug)]
pub struct Arenas {
    arenas: Vec<Arena>,
    free: Vec<usize>,
    lent: Vec<usize>,
}

impl Arenas {
    /// `count` arenas of 64 kB each.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            arenas: (0..count).map(|_| Arena::new()).collect(),
            free: (0..count).rev().collect(),
            lent: Vec::with_capacity(count),
        }
    }

    /// Lends one, or `None` where all are lent: then [`Arenas::oldest`] has to be sent and given back.
    pub fn lend(&mut self) -> Option<usize> {
        let at = self.free.pop()?;
        self.lent.push(at);
        Some(at)
    }

    /// The one that has been lent longest.
    pub fn oldest(&self) -> Option<usize> {
        self.lent.first().copied()
    }

    /// Takes one back, emptied.
    pub fn give_back(&mut self, at: usize) {
        if let Some(place) = self.lent.iter().position(|lent| *lent == at) {
            self.lent.remove(place);
            self.arenas[at].clear();
            self.free.push(at);
        }
    }

    /// An arena that was lent.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Arena> {
        self.arenas.get_mut(at)
    }

    /// Whether all have been given back.
    pub fn is_idle(&self) -> bool {
        self.lent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(lengths: &[usize]) -> Arena {
        let mut arena = Arena::new();
        for (n, len) in lengths.iter().enumerate() {
            arena.room().unwrap()[..*len].fill(n as u8);
            arena.commit(*len);
        }
        arena
    }

    fn shapes(arena: &Arena, max: usize) -> Vec<(usize, usize)> {
        arena.runs(max).map(|run| (run.bytes.len(), run.segment)).collect()
    }

    #[test]
    fn a_frame_whose_last_packet_is_shorter_is_one_run() {
        assert_eq!(shapes(&fill(&[1_100, 1_100, 1_100, 300]), 64), [(3_600, 1_100)]);
    }

    #[test]
    fn a_longer_packet_begins_a_run_and_a_shorter_one_ends_it() {
        let arena = fill(&[90, 1_100, 1_100, 600, 600, 1_100]);
        assert_eq!(shapes(&arena, 64), [(90, 90), (2_800, 1_100), (600, 600), (1_100, 1_100)]);
    }

    #[test]
    fn runs_keep_to_the_kernels_limit() {
        assert_eq!(shapes(&fill(&[100; 7]), 3), [(300, 100), (300, 100), (100, 100)]);
        assert_eq!(shapes(&fill(&[100, 100, 50]), 2), [(200, 100), (50, 50)]);
        assert_eq!(shapes(&fill(&[100, 100]), 1), [(100, 100), (100, 100)]);
    }

    #[test]
    fn a_full_arena_says_so() {
        let mut arena = Arena::new();
        while arena.room().is_some() {
            arena.commit(1_200);
        }
        assert_eq!(arena.len(), 54);
        arena.clear();
        assert!(arena.is_empty() && arena.room().is_some());
    }

    #[test]
    fn arenas_go_round() {
        let mut arenas = Arenas::new(2);
        let (one, two) = (arenas.lend().unwrap(), arenas.lend().unwrap());
        assert_eq!(arenas.lend(), None);
        assert_eq!(arenas.oldest(), Some(one));
        arenas.give_back(one);
        arenas.give_back(one);
        assert_eq!(arenas.lend(), Some(one));
        assert_eq!(arenas.oldest(), Some(two));
        assert_eq!(arenas.lend(), None);
    }

    proptest! {
        #[test]
        fn runs_hold_every_packet_once_and_in_order(
            lengths in prop::collection::vec(prop_oneof![Just(900usize), 1usize..40, Just(30)], 0..60),
            max in 1usize..20,
        ) {
            let arena = fill(&lengths);
            let mut cut = Vec::new();
            for run in arena.runs(max) {
                prop_assert!(run.bytes.len().div_ceil(run.segment) <= max);
                cut.extend(run.bytes.chunks(run.segment).map(<[u8]>::to_vec));
            }
            let whole: Vec<_> = lengths.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
            prop_assert_eq!(cut, whole);
        }

        #[test]
        fn the_open_segment_is_what_the_next_packet_can_join(lengths in prop::collection::vec(1usize..5, 1..20)) {
            let arena = fill(&lengths);
            if let Some(segment) = arena.open_segment() {
                let last = arena.runs(64).last().unwrap();
                prop_assert_eq!(last.segment, segment);
                prop_assert_eq!(last.bytes.len() % segment, 0);
            }
        }
    }
}
