//! What waits to be written to one connection.
//!
//! Invariant: bounded in bytes, and media in age too. A frame of which a part is written is written to its end; otherwise a slow
//! reader loses whole frames: of media the oldest, which would come too late, and of the rest (checks' answers, DTLS, which
//! go before media) the newest, which is said again.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    time::Duration,
};

use halloo_transport::Timestamp;

use super::framing::{PREFIX, frame};

/// Media that waits, in bytes: half a second at 4 Mbit/s.
const MAX_MEDIA: usize = 256 << 10;
/// Media older than this is of no use to anybody.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Everything else that waits, in bytes.
const MAX_URGENT: usize = 16 << 10;

/// A connection's queues.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The rest of a frame whose beginning is written.
    begun: VecDeque<u8>,
    urgent: Queue,
    media: Queue,
}

/// Whole frames.
#[derive(Debug, Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// Length with its prefix, and since when it waits.
    frames: VecDeque<(usize, Timestamp)>,
}

/// Whether the connection took everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    All,
    /// It takes no more for now.
    Part,
}

impl Outgoing {
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.urgent.bytes.is_empty() && self.media.bytes.is_empty()
    }

    /// Takes a datagram; returns how many were dropped, this one or older ones.
    pub(super) fn push(&mut self, now: Timestamp, datagram: &[u8]) -> u64 {
        let mut dropped = 0;
        // SRTP and SRTCP (RFC 7983, section 7).
        if matches!(datagram, [128..=191, ..]) {
            while self.media.bytes.len() + PREFIX + datagram.len() > MAX_MEDIA && self.media.drop_oldest() {
                dropped += 1;
            }
            return dropped + u64::from(!self.media.push(now, datagram));
        }
        let fits = self.urgent.bytes.len() + PREFIX + datagram.len() <= MAX_URGENT;
        u64::from(!(fits && self.urgent.push(now, datagram)))
    }

    /// Drops media that waited too long; returns how many frames.
    pub(super) fn expire(&mut self, now: Timestamp) -> u64 {
        let mut dropped = 0;
        while self.media.frames.front().is_some_and(|(_, since)| now.since(*since) > MAX_AGE) {
            self.media.drop_oldest();
            dropped += 1;
        }
        dropped
    }

    /// Gives all that waits to `write`, in one call.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub(super) fn write(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<Written> {
        let queues = [&self.begun, &self.urgent.bytes, &self.media.bytes].map(VecDeque::as_slices);
        let slices = queues.map(|(front, back)| [IoSlice::new(front), IoSlice::new(back)]);
        let len: usize = slices.as_flattened().iter().map(|slice| slice.len()).sum();
        if len == 0 {
            return Ok(Written::All);
        }
        let written = match write(slices.as_flattened()) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        self.advance(written);
        Ok(if written < len { Written::Part } else { Written::All })
    }

    fn advance(&mut self, written: usize) {
        let of_begun = written.min(self.begun.len());
        self.begun.drain(..of_begun);
        let rest = self.urgent.advance(written - of_begun, &mut self.begun);
        self.media.advance(rest, &mut self.begun);
    }
}

impl Queue {
    fn push(&mut self, now: Timestamp, datagram: &[u8]) -> bool {
        let framed = frame(datagram, &mut self.bytes);
        if framed {
            self.frames.push_back((PREFIX + datagram.len(), now));
        }
        framed
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((len, _)) = self.frames.pop_front() else { return false };
        self.bytes.drain(..len);
        true
    }

    /// Forgets what is written; the rest of a frame that is so in part goes to `begun`. Returns what was written of what
    /// comes after this queue.
    fn advance(&mut self, mut written: usize, begun: &mut VecDeque<u8>) -> usize {
        let mut done = 0;
        while written > 0
            && let Some((len, _)) = self.frames.pop_front()
        {
            done += len;
            if written < len {
                let from = done - (len - written);
                begun.extend(self.bytes.range(from..done));
            }
            written = written.saturating_sub(len);
        }
        self.bytes.drain(..done);
        written
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::Frames;

    const NOW: Timestamp = Timestamp::from_millis(5_000);

    /// A media datagram that says its number.
    fn media(number: u32, len: usize) -> Vec<u8> {
        let mut datagram = vec![0x80; len.max(5)];
        datagram[1..5].copy_from_slice(&number.to_be_bytes());
        datagram
    }

    fn number(datagram: &[u8]) -> u32 {
        u32::from_be_bytes(datagram[1..5].try_into().unwrap())
    }

    /// Writes at most `most` bytes.
    fn write(outgoing: &mut Outgoing, most: usize, to: &mut Vec<u8>) -> Written {
        let take = |slices: &[IoSlice<'_>]| {
            if most == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = all.len().min(most);
            to.extend_from_slice(&all[..taken]);
            Ok(taken)
        };
        outgoing.write(take).unwrap()
    }

    fn datagrams(mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut frames = Frames::new(&mut bytes);
        let mut all = Vec::new();
        while let Some(datagram) = frames.next_frame().unwrap() {
            all.push(datagram.to_vec());
        }
        assert!(frames.rest().is_empty(), "a torn frame");
        all
    }

    #[test]
    fn a_batch_is_one_write() {
        let (mut outgoing, mut calls, mut bytes) = (Outgoing::default(), 0, Vec::new());
        (0..20).for_each(|n| assert_eq!(outgoing.push(NOW, &media(n, 1_100)), 0));
        let written = outgoing.write(|slices| {
            calls += 1;
            bytes.extend(slices.iter().flat_map(|slice| slice.iter().copied()));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!((written.unwrap(), calls), (Written::All, 1));
        assert!(outgoing.is_empty());
        assert_eq!(datagrams(bytes).iter().map(|d| number(d)).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_media_and_no_check() {
        let (mut outgoing, mut wire) = (Outgoing::default(), Vec::new());
        outgoing.push(NOW, &media(0, 1_000));
        assert_eq!(write(&mut outgoing, 300, &mut wire), Written::Part);
        outgoing.push(NOW, &[1; 80]);
        let dropped: u64 = (1..1_000).map(|n| outgoing.push(NOW, &media(n, 1_000))).sum();
        assert_eq!(write(&mut outgoing, usize::MAX, &mut wire), Written::All);
        let got = datagrams(wire);
        // The one that was begun is whole, the check's answer goes before the rest.
        assert_eq!((number(&got[0]), &got[1]), (0, &vec![1; 80]));
        let kept = MAX_MEDIA / 1_002;
        assert_eq!(
            got[2..].iter().map(|d| number(d)).collect::<Vec<_>>(),
            ((1_000 - kept as u32)..1_000).collect::<Vec<_>>()
        );
        assert_eq!(dropped, 999 - kept as u64);
    }

    #[test]
    fn old_media_is_dropped_and_checks_are_not() {
        let (mut outgoing, mut wire) = (Outgoing::default(), Vec::new());
        outgoing.push(NOW, &media(1, 100));
        outgoing.push(NOW, &[1; 80]);
        outgoing.push(NOW + Duration::from_millis(800), &media(2, 100));
        assert_eq!(outgoing.expire(NOW + MAX_AGE), 0);
        assert_eq!(outgoing.expire(NOW + MAX_AGE + Duration::from_millis(1)), 1);
        write(&mut outgoing, usize::MAX, &mut wire);
        let got = datagrams(wire);
        assert_eq!((got.len(), got[0].len(), number(&got[1])), (2, 80, 2));
    }

    #[test]
    fn who_asks_without_reading_fills_a_small_queue_only() {
        let mut outgoing = Outgoing::default();
        let dropped: u64 = (0..1_000).map(|_| outgoing.push(NOW, &[1; 98])).sum();
        assert_eq!(dropped, 1_000 - (MAX_URGENT / 100) as u64);
    }

    #[test]
    fn a_broken_connection_says_so() {
        let mut outgoing = Outgoing::default();
        outgoing.push(NOW, &[1]);
        assert!(outgoing.write(|_| Err(ErrorKind::BrokenPipe.into())).is_err());
        assert!(outgoing.write(|_| Ok(0)).is_err());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Media(usize),
        Other(usize),
        Write(usize),
        Wait(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (5usize..1_500).prop_map(Op::Media),
            1 => (5usize..200).prop_map(Op::Other),
            4 => (0usize..4_000).prop_map(Op::Write),
            1 => (0u64..700).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_reader_takes_it_gets_whole_frames_in_order(ops in prop::collection::vec(op(), 0..400)) {
            let (mut outgoing, mut wire, mut now) = (Outgoing::default(), Vec::new(), NOW);
            let (mut pushed, mut dropped) = (0u32, 0);
            for op in ops {
                match op {
                    Op::Media(len) => {
                        dropped += outgoing.push(now, &media(pushed, len));
                        pushed += 1;
                    }
                    Op::Other(len) => {
                        let mut datagram = media(pushed, len);
                        datagram[0] = 1;
                        dropped += outgoing.push(now, &datagram);
                        pushed += 1;
                    }
                    Op::Write(most) => {
                        write(&mut outgoing, most, &mut wire);
                    }
                    Op::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        dropped += outgoing.expire(now);
                    }
                }
                prop_assert!(outgoing.media.bytes.len() <= MAX_MEDIA && outgoing.urgent.bytes.len() <= MAX_URGENT);
            }
            write(&mut outgoing, usize::MAX, &mut wire);
            prop_assert!(outgoing.is_empty());
            let got = datagrams(wire);
            prop_assert_eq!(got.len() as u64 + dropped, u64::from(pushed));
            for is_media in [true, false] {
                let numbers: Vec<_> = got.iter().filter(|d| (d[0] == 0x80) == is_media).map(|d| number(d)).collect();
                prop_assert!(numbers.is_sorted());
            }
        }
    }
}
