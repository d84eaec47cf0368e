//! The framing of datagrams on TCP: however a stream is cut into pieces, the same datagrams come out of it, none longer than
//! they may be, and little is kept between pieces. What is framed comes out as it was.
//!
//! The first byte says how long the pieces are.
#![no_main]

use halloo_sfu::net::{FrameTooLong, MAX_FRAME, Partial, StreamBuffer, frame};
use libfuzzer_sys::fuzz_target;

fn receive<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), FrameTooLong>) {
    let (mut partial, mut buffer, mut got) = (Partial::default(), StreamBuffer::new(), Vec::new());
    for piece in pieces {
        let read = |room: &mut [u8]| {
            room[..piece.len()].copy_from_slice(piece);
            Ok::<_, ()>(piece.len())
        };
        assert_eq!(buffer.fill(&partial, read), Ok(piece.len()));
        let mut frames = buffer.frames();
        loop {
            match frames.next_frame() {
                Ok(Some(datagram)) => {
                    assert!((1..=MAX_FRAME).contains(&datagram.len()));
                    got.push(datagram.to_vec());
                }
                Ok(None) => break,
                Err(error) => return (got, Err(error)),
            }
        }
        assert!(frames.rest().len() < 2 + MAX_FRAME);
        partial.keep(frames.rest());
    }
    (got, Ok(()))
}

fuzz_target!(|input: &[u8]| {
    let [len, stream @ ..] = input else { return };
    let (at_once, end) = receive([stream].into_iter());
    assert_eq!(receive(stream.chunks(usize::from(*len) + 1)), (at_once.clone(), end));
    let mut framed = Vec::new();
    at_once.iter().for_each(|datagram| assert!(frame(datagram, &mut framed)));
    assert_eq!(receive(framed.chunks(usize::from(*len) + 1)), (at_once, Ok(())));
});
