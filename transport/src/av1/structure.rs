//! The template structure of a coded video sequence: which kinds of frames there are, and which decode target needs each
//! (RTP Payload Format For AV1, appendix A.8.3).
//!
//! Read once per key frame that brings a new one and kept per stream. Reading reuses what the last one had allocated.

use super::{DescriptorError, bits::BitReader};

/// Most decode targets: five bits count them.
const MAX_TARGETS: usize = 32;
/// Most templates: six bits name one.
const MAX_TEMPLATES: usize = 64;
/// Most spatial and temporal layers: AV1's operating points have four and eight.
const MAX_SPATIAL: u8 = 4;
const MAX_TEMPORAL: u8 = 8;

/// What a frame is to a decode target (section A.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing in it refers to the frame.
    Discardable,
    /// Part of it; who can decode this frame can decode the target from here on.
    Switch,
    /// Part of it.
    Required,
}

/// A kind of frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Two bits per decode target, target 0 in the lowest.
    pub(super) indications: u64,
    /// Where its frame differences are in the structure's list.
    pub(super) first_diff: u16,
    pub(super) diffs: u16,
}

/// Size of a spatial layer's pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
}

/// Highest layers of a decode target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct TargetLayers {
    spatial: u8,
    temporal: u8,
}

/// A template structure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    template_id_offset: u8,
    targets: u8,
    pub(super) chains: u8,
    templates: Vec<Template>,
    diffs: Vec<u16>,
    layers: [TargetLayers; MAX_TARGETS],
    /// Which targets each target contains: whoever got all frames of the one can go on with the other at any frame.
    contained: [u32; MAX_TARGETS],
    resolutions: Vec<Resolution>,
    /// Its bits as they came, for receivers that lack it.
    pub(super) raw: Vec<u8>,
    pub(super) raw_bits: usize,
}

impl Default for Structure {
    fn default() -> Self {
        Self {
            template_id_offset: 0,
            targets: 0,
            chains: 0,
            templates: Vec::new(),
            diffs: Vec::new(),
            layers: [TargetLayers::default(); MAX_TARGETS],
            contained: [0; MAX_TARGETS],
            resolutions: Vec::new(),
            raw: Vec::new(),
            raw_bits: 0,
        }
    }
}

impl Structure {
    /// Reads the structure that starts where `reader` is, in place of what this one holds.
    pub(super) fn read(&mut self, reader: &mut BitReader<'_>) -> Result<(), DescriptorError> {
        self.templates.clear();
        self.diffs.clear();
        self.resolutions.clear();
        self.template_id_offset = reader.read(6)? as u8;
        self.targets = reader.read(5)? as u8 + 1;
        self.read_layers(reader)?;
        for template in &mut self.templates {
            for target in 0..u32::from(self.targets) {
                template.indications |= u64::from(reader.read(2)?) << (2 * target);
            }
        }
        for template in &mut self.templates {
            template.first_diff = self.diffs.len() as u16;
            while reader.flag()? {
                self.diffs.push(reader.read(4)? as u16 + 1);
                template.diffs += 1;
            }
        }
        self.read_chains(reader)?;
        if reader.flag()? {
            let layers = self.templates.iter().map(|t| t.spatial).max().unwrap_or_default();
            for _ in 0..=layers {
                let (width, height) = (reader.read(16)? + 1, reader.read(16)? + 1);
                self.resolutions.push(Resolution { width, height });
            }
        }
        self.derive();
        Ok(())
    }

    /// How many decode targets there are, 1 to 32; 0 before one was read.
    pub const fn targets(&self) -> u8 {
        self.targets
    }

    /// A mask with a bit for each decode target.
    pub const fn all_targets(&self) -> u32 {
        ((1u64 << self.targets) - 1) as u32
    }

    /// Its templates.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// The highest spatial layer of a target.
    pub fn spatial(&self, target: u8) -> u8 {
        self.layers.get(usize::from(target)).map_or(0, |l| l.spatial)
    }

    /// The highest temporal layer of a target.
    pub fn temporal(&self, target: u8) -> u8 {
        self.layers.get(usize::from(target)).map_or(0, |l| l.temporal)
    }

    /// The targets whose frames are all frames of `target`, itself included, as a mask.
    pub fn contained_in(&self, target: u8) -> u32 {
        self.contained.get(usize::from(target)).copied().unwrap_or_default()
    }

    /// The best of the targets in `among` with layers up to `spatial` and `temporal`; where none is as low, the lowest.
    pub fn best_target(&self, among: u32, spatial: u8, temporal: u8) -> Option<u8> {
        let present = |target: &u8| among & (1 << target) != 0;
        let key = |target: &u8| (self.spatial(*target), self.temporal(*target));
        let fits = |target: &u8| self.spatial(*target) <= spatial && self.temporal(*target) <= temporal;
        (0..self.targets)
            .filter(|target| present(target) && fits(target))
            .max_by_key(key)
            .or_else(|| (0..self.targets).filter(present).min_by_key(key))
    }

    /// The picture size of a spatial layer, where the structure tells it.
    pub fn resolution(&self, spatial: u8) -> Option<Resolution> {
        self.resolutions.get(usize::from(spatial)).copied()
    }

    /// The template with this id.
    pub(super) fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from((id + 64 - self.template_id_offset) % 64))
    }

    /// The frames that a template's frames refer to, as differences of frame numbers.
    pub(super) fn template_diffs(&self, template: &Template) -> &[u16] {
        let first = usize::from(template.first_diff);
        self.diffs.get(first..first + usize::from(template.diffs)).unwrap_or_default()
    }

    fn read_layers(&mut self, reader: &mut BitReader<'_>) -> Result<(), DescriptorError> {
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            if self.templates.len() == MAX_TEMPLATES || spatial >= MAX_SPATIAL || temporal >= MAX_TEMPORAL {
                return Err(DescriptorError::Malformed);
            }
            self.templates.push(Template { spatial, temporal, indications: 0, first_diff: 0, diffs: 0 });
            match reader.read(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Ok(()),
            }
        }
    }

    /// Chains tell a receiver what it lost; forwarding does not need them, but what follows has to be found.
    fn read_chains(&mut self, reader: &mut BitReader<'_>) -> Result<(), DescriptorError> {
        self.chains = reader.non_symmetric(u32::from(self.targets) + 1)? as u8;
        if self.chains == 0 {
            return Ok(());
        }
        for _ in 0..self.targets {
            reader.non_symmetric(u32::from(self.chains))?;
        }
        for _ in 0..self.templates.len() * usize::from(self.chains) {
            reader.read(4)?;
        }
        Ok(())
    }

    fn derive(&mut self) {
        self.layers = [TargetLayers::default(); MAX_TARGETS];
        self.contained = [0; MAX_TARGETS];
        for target in 0..self.targets {
            let mut layers = TargetLayers::default();
            for template in self.templates.iter().filter(|t| t.is_part_of(target)) {
                layers.spatial = layers.spatial.max(template.spatial);
                layers.temporal = layers.temporal.max(template.temporal);
            }
            let mut contained = 0;
            for other in 0..self.targets {
                if self.templates.iter().all(|t| !t.is_part_of(other) || t.is_part_of(target)) {
                    contained |= 1 << other;
                }
            }
            if let (Some(l), Some(c)) =
                (self.layers.get_mut(usize::from(target)), self.contained.get_mut(usize::from(target)))
            {
                (*l, *c) = (layers, contained);
            }
        }
    }
}

impl Template {
    fn is_part_of(&self, target: u8) -> bool {
        (self.indications >> (2 * target)) & 3 != 0
    }
}
