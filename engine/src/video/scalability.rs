//! Which layer each frame is, what it refers to, and who can do without it: modes `L1T3`, `L2T3_KEY` and `L3T3_KEY` of
//! WebRTC's scalability modes (RTP Payload Format For AV1, appendix A).
//!
//! ```text
//!  picture   key 1  2  3  4  5  6  7     three temporal layers in a cycle of four; each spatial layer refers to itself,
//!  temporal   0  2  1  2  0  2  1  2     and to the layer below in key pictures alone
//! ```
//!
//! Pure. Invariants: a frame refers only to frames that whoever is to decode it was to decode; a spatial layer comes (back) with
//! a key picture. What a frame refers to is taken from what was really coded, so frames that rate control dropped do no harm.

use halloo_transport::av1::{FrameDependencies, FrameToSend, Indication, Resolution, TemplateStructure};

/// Temporal layers, always.
pub const TEMPORAL_LAYERS: u8 = 3;
/// Most spatial layers.
pub const MAX_SPATIAL_LAYERS: u8 = 3;
/// Temporal layer of each picture of a cycle.
const CYCLE: [u8; 4] = [0, 2, 1, 2];
/// An L3 structure needs two buffers for each spatial layer; AV1 has eight.
const BUFFERS: usize = 2 * MAX_SPATIAL_LAYERS as usize;

/// A picture of all its layers, before it is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Whether decoding can start here.
    pub key: bool,
    /// Its temporal layer.
    pub temporal: u8,
    /// How many spatial layers are to be coded.
    pub spatial: u8,
    position: usize,
}

/// How one frame of a picture is to be coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayerFrame {
    /// Its spatial layer.
    pub spatial: u8,
    /// Its temporal layer.
    pub temporal: u8,
    /// The buffer it is predicted from; `None` for a key frame.
    pub reference: Option<u8>,
    /// The buffer that it is kept in.
    pub refresh: Option<u8>,
}

/// A frame that a buffer holds, or that a chain ends with.
type Number = u64;

/// The state: what was coded so far.
#[derive(Clone, Debug)]
pub struct Scalability {
    spatial: u8,
    /// Layers that were coded in each picture since the last key picture.
    unbroken: u8,
    position: usize,
    next: Number,
    buffers: [Option<Number>; BUFFERS],
    chains: [Option<Number>; MAX_SPATIAL_LAYERS as usize],
    /// Whether the middle picture of this cycle was coded, by spatial layer.
    middle: [bool; MAX_SPATIAL_LAYERS as usize],
    templates: Vec<FrameDependencies>,
}

impl Scalability {
    /// A structure of this many spatial layers, 1 to 3, that begins with a key picture.
    pub fn new(spatial: u8) -> Self {
        let mut structure = Self {
            spatial: spatial.clamp(1, MAX_SPATIAL_LAYERS),
            unbroken: 0,
            position: 0,
            next: 0,
            buffers: [None; BUFFERS],
            chains: [None; MAX_SPATIAL_LAYERS as usize],
            middle: [false; MAX_SPATIAL_LAYERS as usize],
            templates: Vec::new(),
        };
        structure.templates = structure.clone().all_kinds();
        structure
    }

    /// How many spatial layers there are when all are coded.
    pub const fn spatial_layers(&self) -> u8 {
        self.spatial
    }

    /// The next picture, of `active` spatial layers. It is a key picture where one is asked for or a layer could not be decoded
    /// otherwise.
    pub fn next_picture(&self, key: bool, active: u8) -> Picture {
        let spatial = active.clamp(1, self.spatial);
        let key = key || spatial > self.unbroken;
        let position = if key { 0 } else { self.position };
        Picture { key, temporal: CYCLE.get(position).copied().unwrap_or_default(), spatial, position }
    }

    /// How the frame of this layer of a picture is to be coded.
    pub fn layer_frame(&self, picture: &Picture, spatial: u8) -> LayerFrame {
        let (base, middle) = (spatial, self.spatial + spatial);
        let middle_is_new = self.middle.get(usize::from(spatial)).copied().unwrap_or_default();
        let (reference, refresh) = match picture.position {
            0 if picture.key => (spatial.checked_sub(1), Some(base)),
            0 => (Some(base), Some(base)),
            2 => (Some(base), Some(middle)),
            3 if middle_is_new => (Some(middle), None),
            _ => (Some(base), None),
        };
        LayerFrame { spatial, temporal: picture.temporal, reference, refresh }
    }

    /// The frame was coded: numbers it and says what it needs.
    pub fn coded(&mut self, picture: &Picture, frame: &LayerFrame) -> FrameToSend {
        let number = self.next;
        self.next += 1;
        let starts = frame.reference.is_none();
        if starts {
            // A key frame fills every buffer.
            self.chains = [None; MAX_SPATIAL_LAYERS as usize];
        }
        let back = |from: Number| u16::try_from(number - from).unwrap_or(u16::MAX);
        let referred = frame.reference.and_then(|buffer| self.buffers.get(usize::from(buffer)).copied().flatten());
        let chains = self.chains.get(..usize::from(self.spatial)).unwrap_or_default();
        let chain_diff = |(chain, last): (usize, &Option<Number>)| {
            last.filter(|_| chain < usize::from(picture.spatial)).map_or(0, back)
        };
        let dependencies = FrameDependencies {
            spatial: frame.spatial,
            temporal: frame.temporal,
            indications: self.indications(picture, frame),
            diffs: referred.map(back).into_iter().collect(),
            chain_diffs: chains.iter().enumerate().map(chain_diff).collect(),
        };
        if starts {
            self.buffers = [Some(number); BUFFERS];
        }
        if let Some(kept) = frame.refresh.and_then(|buffer| self.buffers.get_mut(usize::from(buffer))) {
            *kept = Some(number);
        }
        if picture.position == 0 {
            // A key picture's frame begins the chains above it too.
            let last = if picture.key { self.spatial } else { frame.spatial + 1 };
            let of_chain = usize::from(frame.spatial)..usize::from(last);
            self.chains.get_mut(of_chain).unwrap_or_default().fill(Some(number));
        }
        if let Some(middle) = self.middle.get_mut(usize::from(frame.spatial)) {
            *middle |= picture.position == 2;
        }
        FrameToSend {
            number: number as u16,
            dependencies,
            active_targets: self.active_targets(picture).filter(|_| frame.temporal == 0),
            brings_structure: starts,
        }
    }

    /// The picture is done: at least one of its frames was coded.
    pub fn finish(&mut self, picture: &Picture) {
        self.position = (picture.position + 1) % CYCLE.len();
        self.unbroken = if picture.key { picture.spatial } else { self.unbroken.min(picture.spatial) };
        if picture.position == 0 {
            self.middle = Default::default();
        }
    }

    /// What key frames tell receivers. `sizes` are the pictures' by spatial layer.
    pub fn structure(&self, sizes: Vec<Resolution>) -> TemplateStructure {
        TemplateStructure {
            target_chains: (0..self.targets()).map(|target| target / TEMPORAL_LAYERS).collect(),
            chains: self.spatial,
            templates: self.templates.clone(),
            resolutions: sizes,
        }
    }

    const fn targets(&self) -> u8 {
        self.spatial * TEMPORAL_LAYERS
    }

    /// The targets that are produced, where they are not all.
    fn active_targets(&self, picture: &Picture) -> Option<u32> {
        (picture.spatial < self.spatial).then(|| (1 << (picture.spatial * TEMPORAL_LAYERS)) - 1)
    }

    fn indications(&self, picture: &Picture, frame: &LayerFrame) -> Vec<Indication> {
        let one = |target: u8| {
            let (spatial, temporal) = (target / TEMPORAL_LAYERS, target % TEMPORAL_LAYERS);
            let needed = if picture.key { frame.spatial <= spatial } else { frame.spatial == spatial };
            match frame.temporal {
                _ if !needed || temporal < frame.temporal => Indication::NotPresent,
                own if own > 0 && own == temporal => Indication::Discardable,
                _ => Indication::Switch,
            }
        };
        (0..self.targets()).map(one).collect()
    }

    /// One frame of each kind, ordered by layer: what a stream without a dropped frame looks like.
    fn all_kinds(mut self) -> Vec<FrameDependencies> {
        let mut kinds: Vec<FrameDependencies> = Vec::new();
        for index in 0..=2 * CYCLE.len() {
            let picture = self.next_picture(index == 0, self.spatial);
            for spatial in 0..self.spatial {
                let frame = self.layer_frame(&picture, spatial);
                let needs = self.coded(&picture, &frame).dependencies;
                if !kinds.contains(&needs) {
                    kinds.push(needs);
                }
            }
            self.finish(&picture);
        }
        kinds.sort_by_key(|kind| (kind.spatial, kind.temporal));
        kinds
    }
}

#[cfg(test)]
mod tests;
