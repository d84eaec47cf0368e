//! State per SSRC: a few dozen at most, found by a scan over packed SSRCs with the last hit tried first.

use crate::prefetch;

use super::{MAX_STREAMS, SrtpError, replay::ReplayWindow};

/// Replay windows by SSRC, bounded by [`MAX_STREAMS`].
#[derive(Debug, Default)]
pub(super) struct Streams {
    ssrcs: Vec<u32>,
    windows: Vec<ReplayWindow>,
    last: usize,
}

/// Where a stream's window is, or that it has none yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Known(usize),
    New,
}

impl Streams {
    /// Asks for what is looked at next, most likely.
    pub(super) fn prefetch(&self) {
        self.ssrcs.first().into_iter().for_each(prefetch::value);
        self.windows.get(self.last).into_iter().for_each(prefetch::value);
    }

    /// Where `ssrc` is.
    ///
    /// # Errors
    /// [`SrtpError::TooManyStreams`] where it is new and the table is full.
    pub(super) fn find(&mut self, ssrc: u32) -> Result<Slot, SrtpError> {
        if self.ssrcs.get(self.last) == Some(&ssrc) {
            return Ok(Slot::Known(self.last));
        }
        match self.ssrcs.iter().position(|known| *known == ssrc) {
            Some(at) => {
                self.last = at;
                Ok(Slot::Known(at))
            }
            None if self.ssrcs.len() < MAX_STREAMS => Ok(Slot::New),
            None => Err(SrtpError::TooManyStreams),
        }
    }

    /// The index that `seq` means on a stream.
    ///
    /// # Errors
    /// [`SrtpError::Replayed`] or [`SrtpError::KeyExhausted`].
    pub(super) fn estimate(&self, slot: Slot, seq: u16) -> Result<u64, SrtpError> {
        match slot {
            Slot::Known(at) => self.windows[at].estimate(seq),
            Slot::New => Ok(u64::from(seq)),
        }
    }

    /// Whether a stream has not seen `index`.
    pub(super) fn is_new(&self, slot: Slot, index: u64) -> bool {
        match slot {
            Slot::Known(at) => self.windows[at].is_new(index),
            Slot::New => true,
        }
    }

    /// Records an authenticated `index`, making room for the stream if it is new.
    pub(super) fn record(&mut self, slot: Slot, ssrc: u32, index: u64) {
        let at = match slot {
            Slot::Known(at) => at,
            Slot::New => {
                self.ssrcs.push(ssrc);
                self.windows.push(ReplayWindow::default());
                self.last = self.ssrcs.len() - 1;
                self.last
            }
        };
        self.windows[at].record(index);
    }
}
