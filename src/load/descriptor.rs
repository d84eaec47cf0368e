//! The dependency descriptor of pictures without layers, L1T1 (RTP Payload Format For AV1, appendix A.8).

/// Longest descriptor written here.
const LONGEST: usize = 12;

/// A packet's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureOf {
    /// The picture's number, one more for each.
    pub number: u16,
    /// Whether it is a key frame.
    pub key_frame: bool,
    /// The packet is its first.
    pub first: bool,
    /// The packet is its last.
    pub last: bool,
}

/// A written descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Descriptor {
    /// The descriptor of a packet; the first of a key frame brings the template structure along.
    pub fn new(packet: PictureOf, (width, height): (u32, u32)) -> Self {
        let mut bits = Bits::default();
        bits.push(u128::from(packet.first), 1);
        bits.push(u128::from(packet.last), 1);
        // Template 0 refers to nothing, template 1 to the picture before.
        bits.push(u128::from(!packet.key_frame), 6);
        bits.push(u128::from(packet.number), 16);
        if packet.key_frame && packet.first {
            // Of the five flags: a structure follows.
            bits.push(0b10000, 5);
            // Template ids count from 0, one decode target.
            bits.push(0, 6);
            bits.push(0, 5);
            // The second template is of the same layer, and the last.
            bits.push(0b0011, 4);
            // Both are switch points of the target.
            bits.push(0b1010, 4);
            // No difference; one difference of 1 (coded as 0).
            bits.push(0b010_0000, 7);
            // No chains.
            bits.push(0, 1);
            // The size of the pictures.
            bits.push(1, 1);
            bits.push(u128::from(width.clamp(1, 65_536) - 1), 16);
            bits.push(u128::from(height.clamp(1, 65_536) - 1), 16);
        }
        bits.finish()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[derive(Default)]
struct Bits {
    value: u128,
    count: usize,
}

impl Bits {
    fn push(&mut self, value: u128, count: usize) {
        self.value = self.value << count | value;
        self.count += count;
    }

    fn finish(self) -> Descriptor {
        let len = self.count.div_ceil(8).min(LONGEST);
        let all = (self.value << (128 - self.count)).to_be_bytes();
        let mut bytes = [0; LONGEST];
        bytes.copy_from_slice(&all[..LONGEST]);
        Descriptor { bytes, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_transport::av1::Descriptor as Read;

    #[test]
    fn the_forwarding_unit_reads_what_is_meant() {
        let mut structure = None;
        let key = PictureOf { number: 65_535, key_frame: true, first: true, last: false };
        let written = Descriptor::new(key, (640, 360));
        assert_eq!(written.bytes().len(), 12);
        let read = Read::read(written.bytes(), &mut structure).unwrap();
        assert!(read.starts_key_frame() && read.start_of_frame && !read.end_of_frame);
        assert_eq!((read.frame_number, read.spatial, read.temporal, read.diffs().len()), (65_535, 0, 0, 0));
        let known = structure.clone().unwrap();
        let size = known.resolution(0).unwrap();
        assert_eq!((known.targets(), size.width, size.height), (1, 640, 360));

        let next = PictureOf { number: 0, key_frame: false, first: false, last: true };
        let written = Descriptor::new(next, (640, 360));
        assert_eq!(written.bytes().len(), 3);
        let read = Read::read(written.bytes(), &mut structure).unwrap();
        assert!(!read.starts_key_frame() && read.end_of_frame);
        assert_eq!((read.frame_number, read.diffs(), read.targets()), (0, &[1][..], 1));
    }
}
