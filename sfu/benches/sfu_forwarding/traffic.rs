//! What a publisher sends: AV1 in three temporal layers at 30 pictures a second, 2.6 Mbit/s, and Opus every 20 ms.
//!
//! A frame is cut into packets of equal length of which the last is a few bytes shorter, and leaves as one burst: libwebrtc
//! spreads the difference over all of them.

use std::time::Duration;

use halloo_transport::random::Random;

pub(crate) const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);
pub(crate) const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes of an average frame: 2.6 Mbit/s at 30 a second.
const MEAN_FRAME: f64 = 10_830.0;
const KEY_FRAME_FACTOR: f64 = 3.0;
/// Most payload of a packet.
const MAX_PAYLOAD: usize = 1_150;
/// Sizes of the four frames of a cycle, in parts of the mean: the base layer's is the largest.
const CYCLE: [f64; 4] = [1.6, 0.7, 1.0, 0.7];
/// Templates of the four frames in [`STRUCTURE`].
const TEMPLATES: [u8; 4] = [1, 3, 2, 4];
/// `L1T3`: what the first packet of a key frame carries behind its frame number.
const STRUCTURE: [u8; 11] = [0x80, 0x02, 0x14, 0xea, 0xa8, 0xa0, 0x41, 0x4d, 0x14, 0x10, 0x00];

/// A packet of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VideoPacket {
    pub(crate) payload: usize,
    pub(crate) marker: bool,
    descriptor: [u8; 3 + STRUCTURE.len()],
    descriptor_len: usize,
}

impl VideoPacket {
    pub(crate) fn descriptor(&self) -> &[u8] {
        &self.descriptor[..self.descriptor_len]
    }
}

/// The frames of one camera.
#[derive(Debug)]
pub(crate) struct Camera {
    random: Random,
    number: u16,
    since_key_frame: Option<usize>,
}

impl Camera {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), number: 0, since_key_frame: None }
    }

    pub(crate) fn ask_for_key_frame(&mut self) {
        self.since_key_frame = None;
    }

    /// The next frame's packets.
    pub(crate) fn next_frame(&mut self, packets: &mut Vec<VideoPacket>) {
        let index = self.since_key_frame.map_or(0, |index| index + 1);
        self.since_key_frame = Some(index);
        let (template, factor) = match index {
            0 => (0, KEY_FRAME_FACTOR),
            _ => (TEMPLATES[index % 4], CYCLE[index % 4]),
        };
        let spread = 0.7 + 0.6 * self.random.next_f64();
        let size = (MEAN_FRAME * factor * spread) as usize;
        let count = size.div_ceil(MAX_PAYLOAD);
        packets.clear();
        for n in 0..count {
            let (first, last) = (n == 0, n + 1 == count);
            let mut descriptor = [0; 3 + STRUCTURE.len()];
            descriptor[0] = u8::from(first) << 7 | u8::from(last) << 6 | template;
            descriptor[1..3].copy_from_slice(&self.number.to_be_bytes());
            descriptor[3..].copy_from_slice(&STRUCTURE);
            packets.push(VideoPacket {
                payload: if last { size - (count - 1) * size.div_ceil(count) } else { size.div_ceil(count) },
                marker: last,
                descriptor,
                descriptor_len: if index == 0 && first { descriptor.len() } else { 3 },
            });
        }
        self.number = self.number.wrapping_add(1);
    }

    /// A length of an Opus packet: 64 kbit/s, variable.
    pub(crate) fn opus_packet(&mut self) -> usize {
        120 + (self.random.next_u64() % 81) as usize
    }
}
