//! Packets on their way to one receiver, side by side, until they leave together.
//!
//! Invariant: memory is allocated at start and never after. Segmentation offload wants equal segments of which only the last
//! may be shorter, so a full arena leaves as one [`Run`] per stretch of that shape.

use std::num::NonZeroUsize;

use crate::prefetch;

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
/// costs nothing. `P` is where a receiver's packets go.
#[derive(Debug)]
pub struct Arenas<P> {
    arenas: Vec<Lendable<P>>,
    free: Vec<usize>,
    lent: Vec<usize>,
}

#[derive(Debug)]
struct Lendable<P> {
    arena: Arena,
    path: Option<P>,
    /// How often it was lent: tells an old lease from the present one.
    times: u64,
}

/// The right to fill an arena, until it is taken back. The default is one that was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    at: usize,
    times: u64,
}

impl<P: Copy> Arenas<P> {
    /// `count` arenas of 64 kB each.
    pub fn new(count: usize) -> Self {
        let count = count.max(1);
        Self {
            arenas: (0..count).map(|_| Lendable { arena: Arena::new(), path: None, times: 0 }).collect(),
            free: (0..count).rev().collect(),
            lent: Vec::with_capacity(count),
        }
    }

    /// Lends one for packets to `path`, or `None` where all are lent: then [`Arenas::take_oldest`] makes room.
    pub fn lend(&mut self, path: P) -> Option<Lease> {
        let at = self.free.pop()?;
        let lendable = &mut self.arenas[at];
        lendable.times += 1;
        lendable.path = Some(path);
        self.lent.push(at);
        Some(Lease { at, times: lendable.times })
    }

    /// Asks for the memory that is lent next.
    pub fn prefetch_free(&self) {
        if let Some(lendable) = self.free.last().and_then(|at| self.arenas.get(*at)) {
            prefetch::value(lendable);
            prefetch::bytes(&lendable.arena.bytes, 256);
        }
    }

    /// The arena of a lease, unless it was taken back.
    pub fn get_mut(&mut self, lease: Lease) -> Option<&mut Arena> {
        let lendable = self.arenas.get_mut(lease.at)?;
        (lendable.times == lease.times && lendable.path.is_some()).then_some(&mut lendable.arena)
    }

    /// Takes back the arena lent longest, after `send` had it and where its packets go; `false` where none is lent.
    pub fn take_oldest(&mut self, send: impl FnMut(P, &Arena)) -> bool {
        if self.lent.is_empty() {
            return false;
        }
        let at = self.lent.remove(0);
        self.take(at, send);
        true
    }

    /// Empties the arena of a lease, after `send` had it; the lease stays good.
    pub fn empty(&mut self, lease: Lease, mut send: impl FnMut(P, &Arena)) {
        let Some(lendable) = self.arenas.get_mut(lease.at).filter(|lendable| lendable.times == lease.times) else {
            return;
        };
        if let Some(path) = lendable.path {
            send(path, &lendable.arena);
            lendable.arena.clear();
        }
    }

    /// How many are lent.
    pub const fn lent_count(&self) -> usize {
        self.lent.len()
    }

    /// What is lent, in the order in which it was, and where its packets go.
    pub fn lent(&self) -> impl Iterator<Item = (P, &Arena)> {
        self.lent.iter().filter_map(|at| {
            let lendable = self.arenas.get(*at)?;
            Some((lendable.path?, &lendable.arena))
        })
    }

    /// Takes back all arenas with what they hold.
    pub fn take_all(&mut self) {
        for place in 0..self.lent.len() {
            self.take(self.lent[place], |_, _| {});
        }
        self.lent.clear();
    }

    fn take(&mut self, at: usize, mut send: impl FnMut(P, &Arena)) {
        let lendable = &mut self.arenas[at];
        if let Some(path) = lendable.path.take() {
            send(path, &lendable.arena);
        }
        lendable.arena.clear();
        self.free.push(at);
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
    fn arenas_go_round_and_old_leases_are_void() {
        let mut arenas = Arenas::new(2);
        let (one, two) = (arenas.lend('a').unwrap(), arenas.lend('b').unwrap());
        assert_eq!(arenas.lend('c'), None);
        arenas.get_mut(one).unwrap().commit(5);
        let mut sent = Vec::new();
        assert!(arenas.take_oldest(|path, arena| sent.push((path, arena.len()))));
        let third = arenas.lend('c').unwrap();
        assert!(arenas.get_mut(one).is_none() && arenas.get_mut(two).is_some());
        assert!(arenas.get_mut(third).unwrap().is_empty());
        arenas.get_mut(two).unwrap().commit(7);
        arenas.empty(two, |path, arena| sent.push((path, arena.len())));
        assert!(arenas.get_mut(two).unwrap().is_empty());
        sent.extend(arenas.lent().map(|(path, arena)| (path, arena.len())));
        arenas.take_all();
        assert_eq!(sent, [('a', 1), ('b', 1), ('b', 0), ('c', 0)]);
        assert!(arenas.get_mut(two).is_none() && arenas.get_mut(Lease::default()).is_none());
        assert!(!arenas.take_oldest(|_, _| panic!()));
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
