//! What was decided about the newest frames of a stream: all packets of a frame share one fate, and a frame can be decoded
//! only where those it refers to were forwarded.

/// Frames that are remembered.
const WINDOW: u16 = 512;
const WORDS: usize = WINDOW as usize / 64;

/// A frame's place relative to what was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Newer than all others.
    New,
    /// Decided before: forwarded or not.
    Decided {
        /// Whether it is forwarded.
        forwarded: bool,
    },
    /// Older than the newest, and nothing was decided about it yet.
    Late,
    /// Too old to tell.
    Forgotten,
}

/// Decisions by frame number.
#[derive(Clone, Debug, Default)]
pub(super) struct FrameWindow {
    newest: Option<u16>,
    decided: [u64; WORDS],
    forwarded: [u64; WORDS],
}

impl FrameWindow {
    pub(super) fn place(&self, frame: u16) -> Place {
        let Some(newest) = self.newest else { return Place::New };
        let back = newest.wrapping_sub(frame);
        match back {
            _ if back > u16::MAX / 2 => Place::New,
            _ if back >= WINDOW => Place::Forgotten,
            _ if bit(&self.decided, frame) => Place::Decided { forwarded: bit(&self.forwarded, frame) },
            _ => Place::Late,
        }
    }

    pub(super) fn decide(&mut self, frame: u16, forward: bool) {
        if self.place(frame) == Place::New {
            let ahead = self.newest.map_or(WINDOW, |newest| frame.wrapping_sub(newest));
            if ahead >= WINDOW {
                (self.decided, self.forwarded) = ([0; WORDS], [0; WORDS]);
            } else {
                for skipped in 1..=ahead {
                    let number = frame.wrapping_sub(ahead).wrapping_add(skipped);
                    set(&mut self.decided, number, false);
                    set(&mut self.forwarded, number, false);
                }
            }
            self.newest = Some(frame);
        }
        set(&mut self.decided, frame, true);
        set(&mut self.forwarded, frame, forward);
    }

    /// Whether the frames that `frame` refers to were all forwarded.
    pub(super) fn has_references(&self, frame: u16, diffs: &[u16]) -> bool {
        diffs.iter().all(|diff| self.place(frame.wrapping_sub(*diff)) == Place::Decided { forwarded: true })
    }

    /// Whether a frame that `frame` refers to was left out.
    pub(super) fn lacks_reference(&self, frame: u16, diffs: &[u16]) -> bool {
        diffs.iter().any(|diff| self.place(frame.wrapping_sub(*diff)) == Place::Decided { forwarded: false })
    }
}

fn bit(words: &[u64; WORDS], frame: u16) -> bool {
    words.get(usize::from(frame % WINDOW / 64)).is_some_and(|word| word & (1 << (frame % 64)) != 0)
}

fn set(words: &mut [u64; WORDS], frame: u16, to: bool) {
    if let Some(word) = words.get_mut(usize::from(frame % WINDOW / 64)) {
        *word = (*word & !(1 << (frame % 64))) | (u64::from(to) << (frame % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_hold_across_a_wrap_and_are_forgotten_in_time() {
        let mut window = FrameWindow::default();
        window.decide(65_534, true);
        window.decide(1, false);
        assert_eq!(window.place(65_534), Place::Decided { forwarded: true });
        assert_eq!(window.place(1), Place::Decided { forwarded: false });
        assert_eq!(window.place(0), Place::Late);
        assert_eq!(window.place(2), Place::New);
        assert!(window.has_references(2, &[4]));
        assert!(!window.has_references(2, &[4, 1]));
        assert!(window.lacks_reference(2, &[4, 1]));
        assert!(!window.lacks_reference(2, &[2, 4]), "nothing is known of frame 0");
        window.decide(510, true);
        assert_eq!(window.place(65_534), Place::Forgotten);
        assert_eq!(window.place(2), Place::Late, "the window moved over it");
    }
}
