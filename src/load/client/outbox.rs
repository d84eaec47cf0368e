//! Datagrams on their way to the server, side by side, so that those of one length leave with one system call (GSO).
//!
//! Invariant: a run has packets of one length, of which only the last may be shorter.

/// Room for one packet.
const ROOM: usize = 1_600;
/// Most that one send takes.
const MAX_RUN: usize = 60_000;
const MAX_SEGMENTS: usize = 60;

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    len: usize,
    segment: usize,
}

impl Outbox {
    /// Where the next packet is written; [`Outbox::commit`] takes it in.
    pub fn room(&mut self) -> &mut [u8] {
        let end = self.used + ROOM;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// The packet in the room has `len` bytes.
    pub fn commit(&mut self, len: usize) {
        self.used += len.min(ROOM);
        if let Some(run) = self.runs.last_mut()
            && run.len.is_multiple_of(run.segment)
            && len <= run.segment
            && run.len + len <= MAX_RUN
            && run.len / run.segment < MAX_SEGMENTS
        {
            run.len += len;
            return;
        }
        self.runs.push(Run { len, segment: len.max(1) });
    }

    /// Takes in a whole datagram, if it is of a possible length.
    pub fn push(&mut self, datagram: &[u8]) {
        if let Some(room) = self.room().get_mut(..datagram.len()) {
            room.copy_from_slice(datagram);
            self.commit(datagram.len());
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Gives each run with the length of its segments to `send`, and forgets them.
    pub fn drain(&mut self, mut send: impl FnMut(&[u8], usize)) {
        let mut rest = &self.bytes[..self.used];
        for run in self.runs.drain(..) {
            let (bytes, after) = rest.split_at(run.len.min(rest.len()));
            rest = after;
            send(bytes, run.segment);
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_length_leave_together_and_a_shorter_one_ends_the_run() {
        let mut outbox = Outbox::default();
        for len in [100, 100, 60, 100, 120, 120] {
            outbox.push(&vec![len as u8; len]);
        }
        let mut sent = Vec::new();
        outbox.drain(|bytes, segment| sent.push((bytes.len(), segment, bytes[0])));
        assert_eq!(sent, [(260, 100, 100), (100, 100, 100), (240, 120, 120)]);
        assert!(outbox.is_empty());
        outbox.drain(|_, _| panic!("nothing is left"));
    }

    #[test]
    fn what_no_datagram_can_be_is_not_taken() {
        let mut outbox = Outbox::default();
        outbox.push(&[0; 2_000]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_run_never_outgrows_one_send() {
        let mut outbox = Outbox::default();
        (0..200).for_each(|_| outbox.push(&[1; 1_200]));
        let mut total = 0;
        outbox.drain(|bytes, segment| {
            assert!(bytes.len() <= MAX_RUN && bytes.len() / segment <= MAX_SEGMENTS);
            total += bytes.len();
        });
        assert_eq!(total, 240_000);
    }
}
