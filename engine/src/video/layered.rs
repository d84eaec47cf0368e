//! AV1 encoding in layers: one picture in, a frame of each spatial layer out, each with what its dependency descriptor says.
//!
//! One libaom context makes all layers. Invariant: a new picture size, number of layers or kind of content makes a new context and
//! structure, and thus a key picture; numbers of frames go on.

use super::{
    aom::Context,
    encoder::{Content, EncoderConfig, KeyFrame, PresentationClock, duration, kbps, settings},
    layer_plan::LayerPlan,
    scalability::{Scalability, TEMPORAL_LAYERS},
};
use crate::media::{MediaError, VideoFrame};
use bytes::Bytes;
use halloo_transport::{
    Bitrate,
    av1::{FrameToSend, Resolution, TemplateStructure},
};

/// Parts of a spatial layer's rate for its temporal layers, each with those below: a base frame is referred to the longest.
const TEMPORAL_SHARES: [f64; TEMPORAL_LAYERS as usize] = [0.54, 0.7, 1.0];

/// A coded frame of one layer.
#[derive(Clone, Debug)]
pub struct CodedLayer {
    /// Its part of the temporal unit, in the low-overhead bitstream format.
    pub data: Bytes,
    /// What its descriptor says.
    pub frame: FrameToSend,
}

/// A coded picture.
#[derive(Clone, Debug)]
pub struct LayeredPicture {
    /// Its frames, from the smallest. At least one; rate control may have dropped some.
    pub layers: Vec<CodedLayer>,
    /// Whether decoding can start here.
    pub key_frame: bool,
    /// The quantizer of the largest, 0 to 255.
    pub quantizer: u8,
}

/// An AV1 encoder of layers.
#[derive(Debug)]
pub struct LayeredEncoder {
    content: Content,
    state: Option<State>,
    clock: PresentationClock,
    /// The number of the first frame of the next structure.
    next_number: u16,
}

#[derive(Debug)]
struct State {
    context: Context,
    scalability: Scalability,
    templates: TemplateStructure,
    rates: Vec<u32>,
    /// Added to the structure's numbers.
    first_number: u16,
}

impl LayeredEncoder {
    /// An encoder that begins with the first picture it is given.
    pub fn new(content: Content) -> Self {
        Self { content, state: None, clock: PresentationClock::new(), next_number: 0 }
    }

    /// Codes for this kind of content from the next key frame on.
    pub fn set_content(&mut self, content: Content) {
        if content != self.content {
            self.content = content;
            self.state = None;
        }
    }

    /// What the current stream's key frames tell; `None` before the first picture.
    pub fn templates(&self) -> Option<&TemplateStructure> {
        self.state.as_ref().map(|state| &state.templates)
    }

    /// Codes one picture of the plan's size. `None` where rate control dropped all of it.
    ///
    /// # Errors
    /// Where libaom fails; it starts again with a key frame at the next picture.
    pub fn encode(
        &mut self,
        frame: &VideoFrame,
        key_frame: KeyFrame,
        plan: &LayerPlan,
    ) -> Result<Option<LayeredPicture>, MediaError> {
        let size = (frame.width(), frame.height());
        let same = |state: &State| state.context.size() == size && state.scalability.spatial_layers() == plan.spatial;
        let mut state = match self.state.take().filter(same) {
            Some(state) => state,
            None => State::new(self.content, plan, size, self.next_number)?,
        };
        state.set_rates(plan)?;
        let (pts, duration) = (self.clock.pts(frame.captured_at), duration(plan.frame_rate));
        let picture = state.scalability.next_picture(key_frame == KeyFrame::Force, plan.active);
        let mut layers = Vec::new();
        for spatial in 0..picture.spatial {
            let layer = state.scalability.layer_frame(&picture, spatial);
            let Some(data) = state.context.encode_layer(frame, pts, duration, &layer)? else { continue };
            let mut frame = state.scalability.coded(&picture, &layer);
            frame.number = frame.number.wrapping_add(state.first_number);
            self.next_number = frame.number.wrapping_add(1);
            layers.push(CodedLayer { data, frame });
        }
        let coded = if layers.is_empty() {
            None
        } else {
            state.scalability.finish(&picture);
            Some(LayeredPicture { layers, key_frame: picture.key, quantizer: state.context.quantizer()? })
        };
        // Only a context that works is kept.
        self.state = Some(state);
        Ok(coded)
    }
}

impl State {
    fn new(content: Content, plan: &LayerPlan, size: (u32, u32), first_number: u16) -> Result<Self, MediaError> {
        let bitrate = Bitrate::from_bps(plan.bitrates.iter().map(|rate| rate.as_bps()).sum());
        let config = EncoderConfig { bitrate, frame_rate: plan.frame_rate, content };
        let mut context = Context::new(settings(&config, size))?;
        let rates = rates(plan);
        context.set_layers(&rates, TEMPORAL_SHARES)?;
        let scalability = Scalability::new(plan.spatial);
        let resolution = |spatial: u8| {
            let (width, height) = plan.size(spatial);
            Resolution { width, height }
        };
        let templates = scalability.structure((0..plan.spatial).map(resolution).collect());
        Ok(Self { context, scalability, templates, rates, first_number })
    }

    fn set_rates(&mut self, plan: &LayerPlan) -> Result<(), MediaError> {
        let rates = rates(plan);
        if rates != self.rates {
            self.context.set_layers(&rates, TEMPORAL_SHARES)?;
            self.rates = rates;
        }
        Ok(())
    }
}

/// By layer, in kbit/s; nothing for those that are not coded.
fn rates(plan: &LayerPlan) -> Vec<u32> {
    let layers = plan.bitrates.iter().take(usize::from(plan.spatial)).enumerate();
    layers.map(|(layer, rate)| if layer < usize::from(plan.active) { kbps(*rate) } else { 0 }).collect()
}
