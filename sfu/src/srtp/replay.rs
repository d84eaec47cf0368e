//! Which packet numbers of a stream were seen (RFC 3711, 3.3.1 and 3.3.2).
//!
//! The window is a ring of bits addressed by the number itself, so that advancing clears only the words it enters.

use super::SrtpError;

const WORDS: usize = 8;
/// Numbers this far below the highest, and further, are refused as too old.
pub(super) const WINDOW: u64 = 64 * (WORDS as u64 - 1);
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// Highest number of a stream and which of those just below it were seen.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplayWindow {
    highest: Option<u64>,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// The 48-bit index of a packet with sequence number `seq`: the one nearest to the highest seen (RFC 3711, appendix A).
    /// Before the first packet the rollover counter is zero.
    pub(super) fn estimate(&self, seq: u16) -> Result<u64, SrtpError> {
        let Some(highest) = self.highest else { return Ok(u64::from(seq)) };
        let (rollover, newest) = (highest >> 16, highest as u16);
        let rollover = if newest < 0x8000 && i32::from(seq) - i32::from(newest) > 0x8000 {
            // From before the counter's last step; before its first there was nothing.
            rollover.checked_sub(1).ok_or(SrtpError::Replayed)?
        } else if newest >= 0x8000 && u32::from(newest) - 0x8000 > u32::from(seq) {
            rollover + 1
        } else {
            rollover
        };
        let index = rollover << 16 | u64::from(seq);
        if index > MAX_RTP_INDEX { Err(SrtpError::KeyExhausted) } else { Ok(index) }
    }

    /// Whether `index` is new. Changes nothing.
    pub(super) fn is_new(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return true };
        if index > highest {
            return true;
        }
        highest - index < WINDOW && self.seen[Self::word(index)] & Self::bit(index) == 0
    }

    /// Records `index`, which [`ReplayWindow::is_new`] said is new and which has been authenticated.
    pub(super) fn record(&mut self, index: u64) {
        let highest = self.highest.unwrap_or(index);
        if index > highest {
            let entered = (index / 64 - highest / 64).min(WORDS as u64);
            for step in 1..=entered {
                self.seen[((highest / 64 + step) % WORDS as u64) as usize] = 0;
            }
        }
        self.highest = Some(highest.max(index));
        self.seen[Self::word(index)] |= Self::bit(index);
    }

    const fn word(index: u64) -> usize {
        (index / 64 % WORDS as u64) as usize
    }

    const fn bit(index: u64) -> u64 {
        1 << (index % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rollover_counter_steps_forward_and_back_around_a_wrap() {
        let mut window = ReplayWindow::default();
        for (seq, index) in [
            (64_000, 64_000),
            (65_535, 65_535),
            (2, 0x1_0002),
            (65_534, 65_534),
            (30_000, 0x1_7530),
            (62_000, 0x1_f230),
            (65_000, 0x1_fde8),
        ] {
            assert_eq!(window.estimate(seq), Ok(index), "{seq}");
            if window.is_new(index) {
                window.record(index);
            }
        }
    }

    #[test]
    fn a_number_from_before_the_first_rollover_is_refused() {
        let mut window = ReplayWindow::default();
        window.record(3);
        assert_eq!(window.estimate(65_530), Err(SrtpError::Replayed));
    }

    proptest! {
        #[test]
        fn window_agrees_with_a_set_of_everything_seen(numbers in prop::collection::vec(0u64..3_000, 1..400)) {
            let mut window = ReplayWindow::default();
            let mut seen = HashSet::new();
            let mut highest = 0;
            for index in numbers {
                let old = !seen.is_empty() && index + WINDOW <= highest;
                prop_assert_eq!(window.is_new(index), !seen.contains(&index) && !old);
                if window.is_new(index) {
                    window.record(index);
                    seen.insert(index);
                    highest = highest.max(index);
                }
            }
        }

        #[test]
        fn estimate_finds_any_index_near_the_highest(highest in 0u64..(1 << 40), offset in -32_000i64..32_000) {
            let mut window = ReplayWindow::default();
            window.record(highest);
            let Some(index) = highest.checked_add_signed(offset) else { return Ok(()) };
            prop_assert_eq!(window.estimate(index as u16), Ok(index));
        }
    }
}
