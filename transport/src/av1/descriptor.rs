//! The descriptor of one packet: read with the stream's structure, written again for one receiver
//! (RTP Payload Format For AV1, appendix A.8).

use super::{
    DescriptorError,
    bits::{BitReader, BitWriter},
    structure::{Indication, Structure},
};

/// The longest descriptor that a header extension carries, in bytes.
pub const MAX_DESCRIPTOR: usize = 255;
/// Frame differences that are kept of a frame with its own list; AV1 has seven references.
const MAX_DIFFS: usize = 8;
/// The part that every packet has: flags, template id, frame number.
const MANDATORY: usize = 3;

/// What a packet's descriptor says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The packet is the first of its frame.
    pub start_of_frame: bool,
    /// The packet is the last of its frame.
    pub end_of_frame: bool,
    /// The frame's number, 16 bits, one more for each frame of any layer.
    pub frame_number: u16,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The packet brought the structure along.
    pub has_structure: bool,
    /// The decode targets that the sender still produces, where the packet says so or brings a structure.
    pub active_targets: Option<u32>,
    target_count: u8,
    indications: u64,
    diffs: [u16; MAX_DIFFS],
    diff_count: u8,
    /// Bits of the structure within the descriptor.
    structure_bits: (u16, u16),
    /// Bits of the frame's own indications, differences and chains.
    definition_bits: (u16, u16),
    /// Which of those three there are, as the three flags.
    custom: u8,
}

/// What to change when a descriptor is written again.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite<'s> {
    /// The frame number for this receiver.
    pub frame_number: u16,
    /// The targets this receiver can still decode; `None` leaves out or keeps what the packet says.
    pub active_targets: Option<u32>,
    /// The structure, for a packet that does not bring it to a receiver that lacks it. To receivers that means a key frame.
    pub structure: Option<&'s Structure>,
}

impl Descriptor {
    /// Reads a descriptor. Where it brings a structure that differs from `structure`, that one is replaced; after an error
    /// while reading it `structure` is `None`.
    ///
    /// # Errors
    /// Where it ends early, refers to an unknown template, or its structure is malformed.
    pub fn read(bytes: &[u8], structure: &mut Option<Structure>) -> Result<Self, DescriptorError> {
        let mut reader = BitReader::new(bytes);
        let (start_of_frame, end_of_frame) = (reader.flag()?, reader.flag()?);
        let template_id = reader.read(6)? as u8;
        let frame_number = reader.read(16)? as u16;
        let (mut has_structure, mut has_active, mut custom) = (false, false, 0);
        let mut structure_bits = (0, 0);
        if bytes.len() > MANDATORY {
            (has_structure, has_active) = (reader.flag()?, reader.flag()?);
            custom = reader.read(3)? as u8;
        }
        if has_structure {
            let from = reader.position();
            replace(structure, bytes, &mut reader)?;
            structure_bits = (from as u16, reader.position() as u16);
        }
        let known = structure.as_ref().ok_or(DescriptorError::UnknownTemplate)?;
        let mut active_targets = has_structure.then(|| known.all_targets());
        if has_active {
            active_targets = Some(reader.read(u32::from(known.targets()))? & known.all_targets());
        }
        let template = known.template(template_id).ok_or(DescriptorError::UnknownTemplate)?;
        let mut descriptor = Self {
            start_of_frame,
            end_of_frame,
            frame_number,
            spatial: template.spatial,
            temporal: template.temporal,
            has_structure,
            active_targets,
            target_count: known.targets(),
            indications: template.indications,
            diffs: [0; MAX_DIFFS],
            diff_count: 0,
            structure_bits,
            definition_bits: (reader.position() as u16, 0),
            custom,
        };
        descriptor.read_definition(&mut reader, known, known.template_diffs(template))?;
        descriptor.definition_bits.1 = reader.position() as u16;
        Ok(descriptor)
    }

    /// What the frame is to a target.
    pub const fn indication(&self, target: u8) -> Indication {
        if target >= 32 {
            return Indication::NotPresent;
        }
        match (self.indications >> (2 * target)) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// The targets that the frame is part of, as a mask.
    pub fn targets(&self) -> u32 {
        let present = (self.indications | (self.indications >> 1)) & 0x5555_5555_5555_5555;
        (0..32).fold(0, |mask, target| mask | (((present >> (2 * target)) & 1) as u32) << target)
    }

    /// The frames it refers to, as differences of frame numbers.
    pub fn diffs(&self) -> &[u16] {
        self.diffs.get(..usize::from(self.diff_count)).unwrap_or_default()
    }

    /// Whether a decoder can start here: the first packet of a frame that refers to none and brings the structure.
    pub const fn starts_key_frame(&self) -> bool {
        self.start_of_frame && self.has_structure && self.diff_count == 0
    }

    /// Writes the descriptor `bytes`, which this was read from, with changes; gives its length. `None` where `out` is too
    /// small: [`MAX_DESCRIPTOR`] always holds what can be sent.
    pub fn write(&self, bytes: &[u8], rewrite: &Rewrite<'_>, out: &mut [u8]) -> Option<usize> {
        let attach = rewrite.structure.filter(|_| !self.has_structure);
        let keeps = rewrite.active_targets.is_none() && attach.is_none();
        let number = rewrite.frame_number.to_be_bytes();
        if keeps {
            let copy = out.get_mut(..bytes.len())?;
            copy.copy_from_slice(bytes);
            copy.get_mut(1..MANDATORY)?.copy_from_slice(&number);
            return Some(bytes.len());
        }
        let mut writer = BitWriter::new(out);
        writer.copy(bytes, 0, 8);
        writer.write(u32::from(rewrite.frame_number), 16);
        let had_active = bytes.len() > MANDATORY && bytes.get(MANDATORY).is_some_and(|b| b & 0x40 != 0);
        let active = rewrite.active_targets.or(self.active_targets.filter(|_| had_active));
        writer.write(u32::from(self.has_structure || attach.is_some()), 1);
        writer.write(u32::from(active.is_some()), 1);
        writer.write(u32::from(self.custom), 3);
        let own = self.structure_bits;
        match attach {
            Some(structure) => writer.copy(&structure.raw, 0, structure.raw_bits),
            None => writer.copy(bytes, usize::from(own.0), usize::from(own.1)),
        }
        if let Some(active) = active {
            writer.write(active, u32::from(self.target_count));
        }
        writer.copy(bytes, usize::from(self.definition_bits.0), usize::from(self.definition_bits.1));
        writer.finish().filter(|len| *len <= MAX_DESCRIPTOR)
    }
    fn read_definition(
        &mut self,
        reader: &mut BitReader<'_>,
        structure: &Structure,
        template_diffs: &[u16],
    ) -> Result<(), DescriptorError> {
        let [indications, diffs, chains] = [4, 2, 1].map(|flag| self.custom & flag != 0);
        if indications {
            self.indications = 0;
            for target in 0..u32::from(structure.targets()) {
                self.indications |= u64::from(reader.read(2)?) << (2 * target);
            }
        }
        if diffs {
            loop {
                let size = reader.read(2)?;
                if size == 0 {
                    break;
                }
                self.push_diff(reader.read(4 * size)? as u16 + 1);
            }
        } else {
            template_diffs.iter().for_each(|diff| self.push_diff(*diff));
        }
        if chains {
            for _ in 0..structure.chains {
                reader.read(8)?;
            }
        }
        Ok(())
    }

    fn push_diff(&mut self, diff: u16) {
        if let Some(place) = self.diffs.get_mut(usize::from(self.diff_count)) {
            *place = diff;
            self.diff_count += 1;
        }
    }
}

/// Reads the structure at `reader` into `structure`; one that is known already is only skipped.
fn replace(structure: &mut Option<Structure>, bytes: &[u8], reader: &mut BitReader<'_>) -> Result<(), DescriptorError> {
    let from = reader.position();
    if let Some(known) = structure
        && reader.skip_if_same(&known.raw, known.raw_bits)
    {
        return Ok(());
    }
    let mut fresh = structure.take().unwrap_or_default();
    fresh.read(reader)?;
    let to = reader.position();
    fresh.raw_bits = to - from;
    fresh.raw.clear();
    fresh.raw.resize((to - from).div_ceil(8), 0);
    let mut writer = BitWriter::new(&mut fresh.raw);
    writer.copy(bytes, from, to);
    *structure = Some(fresh);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            structure::Resolution,
            synthetic::{self, Frame, Mode},
        },
        *,
    };
    use proptest::prelude::*;

    fn read_all(mode: Mode, frames: usize) -> (Vec<Descriptor>, Structure) {
        let mut structure = None;
        let read = (0..frames)
            .map(|i| {
                let frame = Frame { mode, index: i, first: true, last: true, number: i as u16 };
                Descriptor::read(&synthetic::descriptor(&frame), &mut structure).unwrap()
            })
            .collect();
        (read, structure.unwrap())
    }

    #[test]
    fn three_temporal_layers_are_told_apart() {
        let (frames, structure) = read_all(Mode::L1T3, 5);
        assert_eq!(structure.targets(), 3);
        assert_eq!(frames.iter().map(|f| f.temporal).collect::<Vec<_>>(), [0, 2, 1, 2, 0]);
        assert!(frames[0].starts_key_frame());
        assert!(frames[1..].iter().all(|f| !f.starts_key_frame()));
        assert_eq!(frames.iter().map(Descriptor::targets).collect::<Vec<_>>(), [7, 4, 6, 4, 7]);
        assert_eq!(frames[4].indication(0), Indication::Switch);
        assert_eq!(frames[1].indication(2), Indication::Discardable);
        assert_eq!(
            frames.iter().map(|f| f.diffs().to_vec()).collect::<Vec<_>>(),
            [vec![], vec![1], vec![2], vec![1], vec![4]]
        );
        assert_eq!(structure.contained_in(2), 0b111);
        assert_eq!(structure.contained_in(0), 0b001);
    }

    #[test]
    fn spatial_layers_bring_sizes_and_targets() {
        let (frames, structure) = read_all(Mode::L3T3, 15);
        assert_eq!(structure.targets(), 9);
        assert_eq!((structure.spatial(8), structure.temporal(8)), (2, 2));
        assert_eq!(structure.resolution(0), Some(Resolution { width: 320, height: 180 }));
        assert_eq!(structure.best_target(structure.all_targets(), 1, 2), Some(5));
        assert_eq!(structure.best_target(0b1_1000_0000, 0, 0), Some(7), "nothing is as low: the lowest");
        assert_eq!(structure.contained_in(8), 0x1ff);
        assert_eq!(frames[1].spatial, 1);
        assert_eq!(frames[1].diffs(), [1]);
        assert!(!frames[1].starts_key_frame(), "refers to the layer below");
    }

    #[test]
    fn a_target_that_skips_lower_layers_does_not_contain_them() {
        let (_, structure) = read_all(Mode::L3T3Key, 15);
        assert_eq!(structure.contained_in(8) & 0b111, 0);
        assert_eq!(structure.contained_in(8), 0b1_1100_0000);
    }

    #[test]
    fn only_the_number_changes_where_nothing_else_is_asked() {
        let bytes = synthetic::descriptor(&Frame { mode: Mode::L3T3, index: 0, first: true, last: false, number: 7 });
        let mut structure = None;
        let read = Descriptor::read(&bytes, &mut structure).unwrap();
        let mut out = [0; MAX_DESCRIPTOR];
        let rewrite = Rewrite { frame_number: 0xfffe, active_targets: None, structure: None };
        let len = read.write(&bytes, &rewrite, &mut out).unwrap();
        assert_eq!(out[1..3], [0xff, 0xfe]);
        assert_eq!((out[0], &out[3..len]), (bytes[0], &bytes[3..]));
    }

    #[test]
    fn a_mask_and_a_structure_are_put_in_and_read_back() {
        for mode in Mode::ALL {
            let mut structure = None;
            for index in 0..13 {
                let frame = Frame { mode, index, first: true, last: true, number: 1_000 + index as u16 };
                let bytes = synthetic::descriptor(&frame);
                let read = Descriptor::read(&bytes, &mut structure).unwrap();
                for attach in [None, structure.as_ref()] {
                    let rewrite = Rewrite { frame_number: 3, active_targets: Some(1), structure: attach };
                    let mut out = [0xff; MAX_DESCRIPTOR];
                    let len = read.write(&bytes, &rewrite, &mut out).unwrap();
                    let mut theirs = structure.clone().filter(|_| attach.is_none());
                    let back = Descriptor::read(&out[..len], &mut theirs).unwrap();
                    assert_eq!(theirs, structure);
                    assert_eq!((back.frame_number, back.active_targets), (3, Some(1)));
                    assert_eq!((back.targets(), back.diffs()), (read.targets(), read.diffs()));
                    assert_eq!((back.spatial, back.temporal), (read.spatial, read.temporal));
                    assert_eq!(back.has_structure, read.has_structure || attach.is_some());
                }
            }
        }
    }

    #[test]
    fn a_known_structure_is_not_read_again_and_a_new_one_replaces_it() {
        let (_, mut structure) = read_all(Mode::L1T3, 1);
        let before = structure.clone();
        let mut kept = Some(structure);
        let frame = |mode| synthetic::descriptor(&Frame { mode, index: 0, first: true, last: true, number: 9 });
        Descriptor::read(&frame(Mode::L1T3), &mut kept).unwrap();
        assert_eq!(kept, Some(before));
        Descriptor::read(&frame(Mode::L3T3), &mut kept).unwrap();
        structure = kept.unwrap();
        assert_eq!(structure.targets(), 9);
    }

    #[test]
    fn a_packet_before_any_structure_is_an_error() {
        assert_eq!(Descriptor::read(&[0xc0, 0, 1], &mut None), Err(DescriptorError::UnknownTemplate));
        assert_eq!(Descriptor::read(&[0xc0, 0], &mut None), Err(DescriptorError::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), known: bool, force: bool) {
            let mut bytes = bytes;
            if force && bytes.len() > 3 {
                bytes[3] |= 0x80;
            }
            let mut structure = known.then(|| read_all(Mode::L3T3, 1).1);
            if let Ok(read) = Descriptor::read(&bytes, &mut structure) {
                let rewrite = Rewrite { frame_number: 5, active_targets: Some(1), structure: None };
                let mut out = [0; MAX_DESCRIPTOR];
                if let Some(len) = read.write(&bytes, &rewrite, &mut out) {
                    let back = Descriptor::read(&out[..len], &mut structure).unwrap();
                    prop_assert_eq!((back.frame_number, back.targets()), (5, read.targets()));
                }
            }
        }

        #[test]
        fn a_flipped_bit_never_panics(mode in 0usize..4, index in 0usize..13, bit in 0usize..800) {
            let frame = Frame { mode: Mode::ALL[mode], index, first: true, last: false, number: 77 };
            let mut bytes = synthetic::descriptor(&frame);
            let at = bit % (bytes.len() * 8);
            bytes[at / 8] ^= 0x80 >> (at % 8);
            let mut structure = Some(read_all(frame.mode, 1).1);
            let _ = Descriptor::read(&bytes, &mut structure);
        }
    }
}
