//! Datagrams on a stream, each behind its length in two bytes.
//!
//! Invariant: whatever arrives, in whatever pieces, at most [`MAX_FRAME`] bytes and their length are kept for later.
//!
//! RFC 4571, section 2.

use std::mem;

/// Longest frame that is taken, in bytes: more than any datagram on an Ethernet path has.
pub const MAX_FRAME: usize = 2_048;
/// The length before each frame.
pub(super) const PREFIX: usize = 2;
/// Bytes read at once.
const READ: usize = 1 << 16;

/// A length that no datagram has: the peer speaks something else, and its stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is longer than any datagram")]
pub struct FrameTooLong(pub usize);

/// Appends a datagram to a stream's bytes; `false` where it is longer than a frame may be, or empty.
pub fn frame(datagram: &[u8], stream: &mut impl for<'a> Extend<&'a u8>) -> bool {
    let Ok(len @ 1..) = u16::try_from(datagram.len()) else { return false };
    if datagram.len() > MAX_FRAME {
        return false;
    }
    stream.extend(&len.to_be_bytes());
    stream.extend(datagram);
    true
}

/// Takes a stream's bytes apart, in place.
#[derive(Debug)]
pub struct Frames<'a> {
    rest: &'a mut [u8],
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`, which begin with a frame.
    pub const fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next frame that is there as a whole. Empty ones are passed over: they say nothing.
    ///
    /// # Errors
    /// [`FrameTooLong`], again at each call.
    pub fn next_frame(&mut self) -> Result<Option<&'a mut [u8]>, FrameTooLong> {
        while let [high, low, ..] = *self.rest {
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len > MAX_FRAME {
                return Err(FrameTooLong(len));
            }
            if self.rest.len() < PREFIX + len {
                break;
            }
            let (frame, rest) = mem::take(&mut self.rest).split_at_mut(PREFIX + len);
            self.rest = rest;
            if len > 0 {
                return Ok(Some(&mut frame[PREFIX..]));
            }
        }
        Ok(None)
    }

    /// What comes after the frames so far: after the last whole one, the beginning of the next.
    pub const fn rest(&self) -> &[u8] {
        self.rest
    }
}

/// The beginning of a frame whose end has not arrived.
#[derive(Debug, Default)]
pub struct Partial {
    bytes: Vec<u8>,
}

impl Partial {
    /// Keeps what [`Frames::rest`] says, once there is no whole frame in it.
    pub fn keep(&mut self, rest: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(rest);
    }

    /// Puts what was kept in front of what is read next; returns how long it is.
    pub fn put(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.bytes.len()].copy_from_slice(&self.bytes);
        self.bytes.len()
    }
}

/// Room for what is read from any one stream, allocated once.
#[derive(Debug)]
pub struct StreamBuffer {
    bytes: Box<[u8]>,
    filled: usize,
}

impl StreamBuffer {
    /// An empty one, of 64 kB.
    pub fn new() -> Self {
        Self { bytes: vec![0; PREFIX + MAX_FRAME + READ].into_boxed_slice(), filled: 0 }
    }

    /// Fills it with what was kept of a stream and what `read` gives of it now; returns how many bytes that gave.
    ///
    /// # Errors
    /// Those of `read`; nothing is filled then.
    pub fn fill<E>(&mut self, partial: &Partial, read: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<usize, E> {
        self.filled = 0;
        let kept = partial.put(&mut self.bytes);
        let len = read(&mut self.bytes[kept..])?;
        self.filled = kept + len;
        Ok(len)
    }

    /// The frames that it was filled with.
    pub fn frames(&mut self) -> Frames<'_> {
        Frames::new(&mut self.bytes[..self.filled])
    }
}

impl Default for StreamBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(datagrams: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        datagrams.iter().for_each(|datagram| assert!(frame(datagram, &mut bytes)));
        bytes
    }

    /// What comes out when the bytes arrive in these pieces.
    fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, FrameTooLong> {
        let (mut partial, mut buffer, mut got) = (Partial::default(), StreamBuffer::new(), Vec::new());
        for piece in pieces {
            let read = |room: &mut [u8]| {
                room[..piece.len()].copy_from_slice(piece);
                Ok::<_, ()>(piece.len())
            };
            buffer.fill(&partial, read).unwrap();
            let mut frames = buffer.frames();
            while let Some(datagram) = frames.next_frame()? {
                got.push(datagram.to_vec());
            }
            partial.keep(frames.rest());
            assert!(partial.bytes.len() < PREFIX + MAX_FRAME);
        }
        Ok(got)
    }

    #[test]
    fn a_datagram_stands_behind_its_length() {
        assert_eq!(stream(&[vec![7; 3], vec![8; 260]])[..9], [0, 3, 7, 7, 7, 1, 4, 8, 8]);
    }

    #[test]
    fn what_no_datagram_can_be_is_not_framed() {
        let mut bytes = Vec::new();
        assert!(!frame(&[], &mut bytes) && !frame(&[0; MAX_FRAME + 1], &mut bytes) && !frame(&[0; 70_000], &mut bytes));
        assert!(bytes.is_empty());
        assert!(frame(&[0; MAX_FRAME], &mut bytes));
    }

    #[test]
    fn another_protocol_is_told_by_its_first_bytes() {
        for (hello, len) in [(&b"GET / HTTP/1.1\r\n"[..], 0x4745), (b"\x16\x03\x01\x02\x00\x01", 0x1603)] {
            assert_eq!(receive([hello]), Err(FrameTooLong(len)));
        }
    }

    #[test]
    fn empty_frames_are_passed_over() {
        assert_eq!(receive([&[0, 0, 0, 0, 0, 1, 9, 0, 0][..]]), Ok(vec![vec![9]]));
    }

    #[test]
    fn frames_before_a_broken_one_come_out() {
        let mut bytes = [0, 1, 5, 0xff, 0xff];
        let mut frames = Frames::new(&mut bytes);
        assert_eq!(frames.next_frame(), Ok(Some(&mut [5][..])));
        assert_eq!(frames.next_frame(), Err(FrameTooLong(0xffff)));
        assert_eq!(frames.next_frame(), Err(FrameTooLong(0xffff)));
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_datagrams_come_out(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..30),
            longest in prop::option::of(Just(vec![1; MAX_FRAME])),
            cuts in prop::collection::vec(1usize..400, 1..200),
        ) {
            let datagrams: Vec<_> = datagrams.into_iter().chain(longest).collect();
            let bytes = stream(&datagrams);
            let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(receive(pieces).unwrap(), datagrams);
        }

        #[test]
        fn any_bytes_in_any_pieces_are_the_same_as_at_once(
            bytes in prop::collection::vec(prop_oneof![4 => 0u8..3, 1 => any::<u8>()], 0..600),
            piece in 1usize..50,
        ) {
            prop_assert_eq!(receive(bytes.chunks(piece)), receive([&bytes[..]]));
        }
    }
}
