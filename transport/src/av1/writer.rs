//! Descriptors of what this side encodes (RTP Payload Format For AV1, appendix A.8).
//!
//! An encoder describes its kinds of frames once, as templates; each frame then costs three bytes where a template says all of
//! it, and some more where it differs. Invariant: what is written reads back as what the frame was described as.

use super::{Indication, MAX_DESCRIPTOR, bits::BitWriter, structure::Resolution};
use bytes::Bytes;

/// Largest difference of frame numbers that a template, and that a frame of its own, can name.
const MAX_TEMPLATE_DIFF: u16 = 16;
const MAX_DIFF: u16 = 4_096;
/// The same for chains, where 0 stands for none.
const MAX_TEMPLATE_CHAIN_DIFF: u16 = 15;
const MAX_CHAIN_DIFF: u16 = 255;

/// What a frame is and needs: of a template, or of one frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameDependencies {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// What it is to each decode target.
    pub indications: Vec<Indication>,
    /// The frames it refers to, as differences of frame numbers, from 1.
    pub diffs: Vec<u16>,
    /// For each chain the frames back to the last one in it; 0 for none.
    pub chain_diffs: Vec<u16>,
}

/// The templates of a stream that is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateStructure {
    /// For each decode target the chain that protects it.
    pub target_chains: Vec<u8>,
    /// How many chains there are.
    pub chains: u8,
    /// By spatial, then by temporal layer, without a gap, each for as many targets and chains as there are.
    pub templates: Vec<FrameDependencies>,
    /// Picture sizes by spatial layer.
    pub resolutions: Vec<Resolution>,
}

/// One frame to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameToSend {
    /// Its number, one above the last frame's of any layer.
    pub number: u16,
    /// What it is and needs.
    pub dependencies: FrameDependencies,
    /// The decode targets that are still produced, as a mask, where it is to be said.
    pub active_targets: Option<u32>,
    /// Whether its first packet brings the structure.
    pub brings_structure: bool,
}

impl TemplateStructure {
    /// The descriptor for each of a frame's `packets`. Empty where the frame has a layer that no template has, or names more
    /// than fits: nothing malformed is ever sent.
    pub fn descriptors(&self, frame: &FrameToSend, packets: usize) -> Vec<Bytes> {
        let one = |index: usize| self.descriptor(frame, index == 0, index + 1 == packets);
        (0..packets).map(one).collect::<Option<_>>().unwrap_or_default()
    }

    fn descriptor(&self, frame: &FrameToSend, first: bool, last: bool) -> Option<Bytes> {
        let needs = &frame.dependencies;
        let same_layer =
            |(_, t): &(usize, &FrameDependencies)| (t.spatial, t.temporal) == (needs.spatial, needs.temporal);
        let likeness = |t: &FrameDependencies| {
            (t.indications == needs.indications, t.diffs == needs.diffs, t.chain_diffs == needs.chain_diffs)
        };
        let templates = self.templates.iter().enumerate().filter(same_layer);
        let (id, template) = templates.max_by_key(|(_, t)| likeness(t))?;
        let custom = likeness(template);
        let custom = [!custom.0, !custom.1, !custom.2];
        let structure = frame.brings_structure && first;
        let mut out = [0; MAX_DESCRIPTOR];
        let mut writer = BitWriter::new(&mut out);
        writer.write(u32::from(first), 1);
        writer.write(u32::from(last), 1);
        writer.write(u32::try_from(id).ok().filter(|id| *id < 64)?, 6);
        writer.write(u32::from(frame.number), 16);
        if structure || frame.active_targets.is_some() || custom.contains(&true) {
            writer.write(u32::from(structure), 1);
            writer.write(u32::from(frame.active_targets.is_some()), 1);
            custom.iter().for_each(|flag| writer.write(u32::from(*flag), 1));
            if structure {
                self.write(&mut writer)?;
            }
            if let Some(active) = frame.active_targets {
                writer.write(active, self.target_chains.len() as u32);
            }
            if custom[0] {
                needs.indications.iter().for_each(|i| writer.write(indication(*i), 2));
            }
            if custom[1] {
                for diff in &needs.diffs {
                    let below = diff.checked_sub(1).filter(|_| *diff <= MAX_DIFF)?;
                    // As many nibbles as it takes.
                    let size = (u16::BITS - below.leading_zeros()).div_ceil(4).max(1);
                    writer.write(size, 2);
                    writer.write(u32::from(below), 4 * size);
                }
                writer.write(0, 2);
            }
            if custom[2] {
                needs.chain_diffs.iter().for_each(|diff| writer.write(u32::from(*diff.min(&MAX_CHAIN_DIFF)), 8));
            }
        }
        let len = writer.finish()?;
        Some(Bytes::copy_from_slice(out.get(..len)?))
    }

    fn write(&self, writer: &mut BitWriter<'_>) -> Option<()> {
        let targets = u32::try_from(self.target_chains.len()).ok().filter(|count| (1..=32).contains(count))?;
        writer.write(0, 6);
        writer.write(targets - 1, 5);
        for pair in self.templates.windows(2) {
            let [a, b] = pair else { return None };
            let next = if a.spatial != b.spatial { 2 } else { u32::from(a.temporal != b.temporal) };
            writer.write(next, 2);
        }
        writer.write(3, 2);
        for template in &self.templates {
            template.indications.iter().for_each(|i| writer.write(indication(*i), 2));
        }
        for template in &self.templates {
            for diff in &template.diffs {
                writer.write(1, 1);
                writer.write(u32::from(diff.checked_sub(1).filter(|_| *diff <= MAX_TEMPLATE_DIFF)?), 4);
            }
            writer.write(0, 1);
        }
        writer.non_symmetric(u32::from(self.chains), targets + 1);
        if self.chains > 0 {
            self.target_chains.iter().for_each(|c| writer.non_symmetric(u32::from(*c), u32::from(self.chains)));
            for diff in self.templates.iter().flat_map(|t| &t.chain_diffs) {
                writer.write(u32::from(Some(*diff).filter(|diff| *diff <= MAX_TEMPLATE_CHAIN_DIFF)?), 4);
            }
        }
        writer.write(u32::from(!self.resolutions.is_empty()), 1);
        for size in &self.resolutions {
            writer.write(size.width.checked_sub(1)?.min(0xffff), 16);
            writer.write(size.height.checked_sub(1)?.min(0xffff), 16);
        }
        Some(())
    }
}

const fn indication(value: Indication) -> u32 {
    match value {
        Indication::NotPresent => 0,
        Indication::Discardable => 1,
        Indication::Switch => 2,
        Indication::Required => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Descriptor, Structure},
        *,
    };
    use proptest::prelude::*;

    fn indications(text: &str) -> Vec<Indication> {
        let one = |c| match c {
            'D' => Indication::Discardable,
            'S' => Indication::Switch,
            'R' => Indication::Required,
            _ => Indication::NotPresent,
        };
        text.chars().map(one).collect()
    }

    fn frame(temporal: u8, text: &str, diffs: &[u16], chain: u16) -> FrameDependencies {
        let (diffs, chain_diffs) = (diffs.to_vec(), vec![chain]);
        FrameDependencies { spatial: 0, temporal, indications: indications(text), diffs, chain_diffs }
    }

    /// As libwebrtc describes L1T3.
    fn three_temporal_layers() -> TemplateStructure {
        TemplateStructure {
            target_chains: vec![0; 3],
            chains: 1,
            templates: vec![
                frame(0, "SSS", &[], 0),
                frame(0, "SSS", &[4], 4),
                frame(1, "-DS", &[2], 2),
                frame(2, "--D", &[1], 1),
                frame(2, "--D", &[1], 3),
            ],
            resolutions: vec![Resolution { width: 640, height: 360 }],
        }
    }

    fn sent(number: u16, dependencies: FrameDependencies, brings_structure: bool) -> FrameToSend {
        FrameToSend { number, dependencies, active_targets: None, brings_structure }
    }

    #[test]
    fn a_template_costs_three_bytes_and_a_structure_what_libwebrtc_takes() {
        let stream = three_temporal_layers();
        let key = stream.descriptors(&sent(7, frame(0, "SSS", &[], 0), true), 3);
        assert_eq!(key.iter().map(Bytes::len).collect::<Vec<_>>(), [20, 3, 3]);
        assert_eq!(key.iter().map(|d| d[0] >> 6).collect::<Vec<_>>(), [0b10, 0b00, 0b01]);
        let delta = stream.descriptors(&sent(8, frame(2, "--D", &[1], 3), false), 1);
        assert_eq!(delta, [Bytes::from_static(&[0b1100_0100, 0, 8])]);
        let mut structure = None;
        let read = Descriptor::read(&key[0], &mut structure).unwrap();
        assert!(read.starts_key_frame());
        let structure = structure.unwrap();
        assert_eq!((structure.targets(), structure.templates().len()), (3, 5));
        assert_eq!(structure.resolution(0), Some(Resolution { width: 640, height: 360 }));
    }

    #[test]
    fn what_cannot_be_said_is_not_sent() {
        let stream = three_temporal_layers();
        let other_layer = FrameDependencies { spatial: 1, ..frame(0, "SSS", &[], 0) };
        for needs in [other_layer, frame(0, "SSS", &[5_000], 0), frame(0, "SSS", &[0], 0)] {
            assert!(stream.descriptors(&sent(1, needs, false), 2).is_empty());
        }
    }

    proptest! {
        #[test]
        fn a_frame_that_no_template_is_like_reads_back(
            temporal in 0_u8..3,
            kinds in proptest::collection::vec(0_usize..4, 3),
            diffs in proptest::collection::vec(1_u16..=4_096, 0..5),
            chain in 0_u16..=255,
            number: u16,
            active in proptest::option::of(0_u32..8),
        ) {
            let stream = three_temporal_layers();
            let mut structure: Option<Structure> = None;
            let key = stream.descriptors(&sent(0, frame(0, "SSS", &[], 0), true), 1);
            Descriptor::read(&key[0], &mut structure).unwrap();
            let text: String = kinds.iter().map(|kind| ['-', 'D', 'S', 'R'][*kind]).collect();
            let needs = frame(temporal, &text, &diffs, chain);
            let frame = FrameToSend { active_targets: active, ..sent(number, needs.clone(), false) };
            let bytes = stream.descriptors(&frame, 1);
            let read = Descriptor::read(&bytes[0], &mut structure).unwrap();
            prop_assert_eq!((read.frame_number, read.temporal), (number, temporal));
            prop_assert_eq!(read.diffs(), diffs);
            prop_assert_eq!(read.active_targets, active);
            let read: Vec<Indication> = (0..3).map(|target| read.indication(target)).collect();
            prop_assert_eq!(read, needs.indications);
        }
    }
}
