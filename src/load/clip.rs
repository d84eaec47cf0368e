//! The media that every publisher sends, coded once, and finding a payload again in it.
//!
//! Invariant: payloads cross the forwarding unit untouched, so a receiver knows by the payload alone which of the clip's packets
//! it has, and that nothing altered it. Payloads that the clip has twice are known, but name no packet.

use bytes::Bytes;
use halloo_engine::{Bitrate, load};
use std::{collections::HashMap, ops::Range};

/// Payloads of the largest packets: with all that goes around them they fit 1,280 bytes of IP.
const MAX_PAYLOAD: usize = 1_100;
/// How long the clip is before it is repeated.
const SECONDS: u64 = 4;
/// Opus packets in a second.
const SOUNDS_PER_SECOND: u64 = 50;
const SOUND_RATE: Bitrate = Bitrate::from_kbps(32);

/// What the pictures are like.
#[derive(Clone, Copy, Debug)]
pub struct VideoShape {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Pictures a second.
    pub fps: u32,
    /// Bits per second.
    pub bitrate: Bitrate,
}

/// Which payload of the clip.
pub type Position = u32;

/// The clip.
#[derive(Debug)]
pub struct Clip {
    payloads: Vec<Bytes>,
    /// The payloads of each picture; the first is the only key frame.
    pictures: Vec<Range<usize>>,
    sounds: Range<usize>,
    index: HashMap<Key, Option<Position>>,
    /// What the pictures are like.
    pub video: VideoShape,
}

/// What tells payloads apart: their length and last bytes.
type Key = (u16, u128);

/// A payload, found in the clip or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// This one.
    At(Position),
    /// One that the clip has several times.
    Repeated,
    /// None of the clip.
    Unknown,
}

impl Clip {
    /// Codes the clip.
    ///
    /// # Errors
    /// Where a codec fails.
    pub fn encode(video: VideoShape) -> anyhow::Result<Self> {
        let count = SECONDS * u64::from(video.fps);
        let pictures = load::pictures(video.size, f64::from(video.fps), video.bitrate, count, MAX_PAYLOAD)?;
        let sounds = load::speech((SECONDS * SOUNDS_PER_SECOND) as usize, SOUND_RATE)?;
        Ok(Self::new(video, pictures.into_iter().map(|picture| picture.payloads).collect(), sounds))
    }

    fn new(video: VideoShape, coded: Vec<Vec<Bytes>>, sounds: Vec<Bytes>) -> Self {
        let (mut payloads, mut pictures) = (Vec::new(), Vec::new());
        for picture in coded {
            let first = payloads.len();
            payloads.extend(picture);
            pictures.push(first..payloads.len());
        }
        let first = payloads.len();
        payloads.extend(sounds);
        let sounds = first..payloads.len();
        let mut index = HashMap::with_capacity(payloads.len());
        for (position, payload) in payloads.iter().enumerate() {
            index.entry(key(payload)).and_modify(|found| *found = None).or_insert(Some(position as Position));
        }
        Self { payloads, pictures, sounds, index, video }
    }

    /// Pictures until it begins again.
    pub fn pictures(&self) -> usize {
        self.pictures.len()
    }

    /// The payloads of a picture.
    pub fn picture(&self, number: usize) -> Range<usize> {
        self.pictures.get(number % self.pictures.len().max(1)).cloned().unwrap_or_default()
    }

    /// The payload of a sound.
    pub fn sound(&self, number: usize) -> Position {
        (self.sounds.start + number % self.sounds.len().max(1)) as Position
    }

    /// How many payloads there are.
    pub fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// A payload; empty where there is none.
    pub fn payload(&self, position: Position) -> &[u8] {
        self.payloads.get(position as usize).map_or(&[], |payload| payload)
    }

    /// Finds a payload, compared as a whole.
    pub fn find(&self, payload: &[u8]) -> Found {
        match self.index.get(&key(payload)) {
            Some(Some(position)) if self.payload(*position) == payload => Found::At(*position),
            Some(None) => Found::Repeated,
            _ => Found::Unknown,
        }
    }
}

fn key(payload: &[u8]) -> Key {
    let tail = payload.len().saturating_sub(16);
    let last = payload.iter().skip(tail).fold(0u128, |all, byte| all << 8 | u128::from(*byte));
    (payload.len() as u16, last)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const VIDEO: VideoShape = VideoShape { size: (320, 180), fps: 10, bitrate: Bitrate::from_kbps(300) };

    /// A clip of made-up bytes: three pictures of two packets and five sounds.
    pub(crate) fn made_up() -> Clip {
        let bytes = |n: u8, len: usize| Bytes::from((0..len).map(|i| n ^ i as u8).collect::<Vec<_>>());
        let picture = |n: u8| {
            // The aggregation header: a first packet that goes on in the second; N on the key frame.
            let mut first = bytes(n, 200).to_vec();
            first[0] = if n == 0 { 0b0101_1000 } else { 0b0101_0000 };
            let mut second = bytes(n + 100, 190).to_vec();
            second[0] = 0b1001_0000;
            vec![Bytes::from(first), Bytes::from(second)]
        };
        Clip::new(VIDEO, (0..3).map(picture).collect(), (0..5).map(|n| bytes(n + 200, 80)).collect())
    }

    #[test]
    fn every_payload_is_found_and_what_was_altered_is_not() {
        let clip = Clip::encode(VIDEO).unwrap();
        assert!(clip.pictures() > 30);
        let mut found = 0;
        for position in 0..clip.len() {
            match clip.find(clip.payload(position as u32)) {
                Found::At(at) => {
                    assert_eq!(at as usize, position);
                    found += 1;
                }
                other => assert_eq!(other, Found::Repeated),
            }
        }
        assert!(found * 100 >= clip.len() * 95, "{found} of {} are unique", clip.len());
        let mut altered = clip.payload(0).to_vec();
        altered[1] ^= 1;
        assert_eq!(clip.find(&altered), Found::Unknown);
    }

    #[test]
    fn what_it_has_twice_names_no_packet() {
        let same = Bytes::from_static(b"the same");
        let clip = Clip::new(VIDEO, vec![vec![same.clone()]], vec![same.clone(), Bytes::from_static(b"another")]);
        assert_eq!(clip.find(&same), Found::Repeated);
        assert_eq!(clip.find(b"another"), Found::At(2));
    }

    #[test]
    fn pictures_and_sounds_go_round() {
        let clip = made_up();
        assert_eq!((clip.picture(0), clip.picture(4)), (0..2, 2..4));
        assert_eq!((clip.sound(0), clip.sound(6)), (6, 7));
    }
}
