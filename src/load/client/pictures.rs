//! Which pictures of a slot can be decoded, without decoding: packets in order and without a gap since a key frame.
//!
//! Invariant: a picture counts when all of its packets are there, and those of every picture since the last key frame.

use std::collections::BTreeMap;

/// Packets that wait for one before them; beyond it what is missing is given up.
const MAX_WAITING: usize = 1_024;

/// What matters of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// It is the first packet of a key frame.
    pub starts_key_frame: bool,
    /// It is the last packet of a picture.
    pub ends_picture: bool,
}

/// The pictures of one slot.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// The next packet in order; `None` until there is a key frame.
    next: Option<u64>,
    /// The first packet of the key frame that decoding began at.
    began: u64,
    waiting: BTreeMap<u64, Part>,
}

impl Pictures {
    /// Takes a packet; gives how many pictures became decodable.
    pub(super) fn insert(&mut self, seq: u64, part: Part) -> u32 {
        if self.next.is_some_and(|next| seq < next) {
            return 0;
        }
        self.waiting.insert(seq, part);
        if self.next.is_none() {
            self.seek();
        } else if self.waiting.len() > MAX_WAITING {
            self.give_up();
        }
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
        self.advance()
    }

    /// Whether packets came that cannot be decoded for now.
    pub(super) fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether there was a key frame that all since then follows.
    pub(super) fn is_decoding(&self) -> bool {
        self.next.is_some()
    }

    /// The first packet of the key frame that decoding began at last.
    pub(super) fn began(&self) -> u64 {
        self.began
    }

    /// Gives up what is missing: goes on at a key frame, one that came already or the next. Gives how many pictures became
    /// decodable.
    pub(super) fn give_up(&mut self) -> u32 {
        self.next = None;
        self.seek();
        self.advance()
    }

    /// Goes to the first key frame that waits.
    fn seek(&mut self) {
        let found = self.waiting.iter().find(|(_, part)| part.starts_key_frame).map(|(seq, _)| *seq);
        if let Some(found) = found {
            self.waiting = self.waiting.split_off(&found);
            (self.next, self.began) = (Some(found), found);
        }
    }

    fn advance(&mut self) -> u32 {
        let Some(next) = &mut self.next else { return 0 };
        let mut pictures = 0;
        while let Some(part) = self.waiting.remove(next) {
            *next += 1;
            pictures += u32::from(part.ends_picture);
        }
        pictures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Part = Part { starts_key_frame: true, ends_picture: false };
    const MIDDLE: Part = Part { starts_key_frame: false, ends_picture: false };
    const LAST: Part = Part { starts_key_frame: false, ends_picture: true };

    fn insert(pictures: &mut Pictures, packets: &[(u64, Part)]) -> u32 {
        packets.iter().map(|(seq, part)| pictures.insert(*seq, *part)).sum()
    }

    #[test]
    fn nothing_counts_before_a_whole_key_frame() {
        let mut pictures = Pictures::default();
        assert_eq!(insert(&mut pictures, &[(10, MIDDLE), (11, LAST), (12, KEY), (13, MIDDLE)]), 0);
        assert!(!pictures.is_stuck());
        assert_eq!(insert(&mut pictures, &[(14, LAST), (15, LAST)]), 2);
    }

    #[test]
    fn a_gap_holds_pictures_up_until_it_is_filled() {
        let mut pictures = Pictures::default();
        assert_eq!(insert(&mut pictures, &[(1, KEY), (2, LAST), (4, LAST), (5, LAST)]), 1);
        assert!(pictures.is_stuck());
        assert_eq!(pictures.insert(3, MIDDLE), 2);
        assert_eq!(pictures.insert(3, MIDDLE), 0, "late and known");
    }

    #[test]
    fn what_is_given_up_goes_on_at_the_next_key_frame() {
        let mut pictures = Pictures::default();
        insert(&mut pictures, &[(1, KEY), (2, LAST), (4, LAST)]);
        assert_eq!(pictures.give_up(), 0);
        assert_eq!(insert(&mut pictures, &[(5, LAST), (6, KEY), (7, LAST)]), 1);
        insert(&mut pictures, &[(9, LAST), (10, KEY), (11, LAST)]);
        assert_eq!(pictures.give_up(), 1, "the key frame was there already");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pictures = Pictures::default();
        insert(&mut pictures, &[(1, KEY), (2, LAST)]);
        (4..10_000).for_each(|seq| {
            pictures.insert(seq, LAST);
        });
        assert!(pictures.waiting.len() <= MAX_WAITING);
        assert_eq!(insert(&mut pictures, &[(10_000, KEY), (10_001, LAST)]), 1);
    }
}
