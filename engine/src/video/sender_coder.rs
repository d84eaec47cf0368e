//! What a published track makes of a picture: one size, or layers where the route carries them; and its packets.

use super::{
    adapt::{Adaptation, Adapter, Offer},
    encoder::{Content, EncodedPicture, Encoder, EncoderConfig, KeyFrame},
    layer_plan::{LayerPlan, LayerPlanner},
    layered::{LayeredEncoder, LayeredPicture},
};
use crate::{
    Timestamp,
    av1::packetize::packetize,
    media::{MediaError, VideoFrame},
};
use bytes::Bytes;
use halloo_transport::{Bitrate, av1::TemplateStructure, session::MAX_PAYLOAD};

/// Bytes of a descriptor for which [`MAX_PAYLOAD`] leaves room beside the other extensions.
const ROOM_FOR_DESCRIPTOR: usize = 32;

/// What to make of a source's picture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Shape {
    /// One size, without descriptors.
    One(Adaptation),
    /// Layers.
    Layers(LayerPlan),
}

impl Shape {
    /// Size of the picture that the encoder takes.
    pub(super) const fn size(&self) -> (u32, u32) {
        match self {
            Self::One(one) => (one.width, one.height),
            Self::Layers(plan) => (plan.width, plan.height),
        }
    }

    pub(super) const fn frame_rate(&self) -> f64 {
        match self {
            Self::One(one) => one.frame_rate,
            Self::Layers(plan) => plan.frame_rate,
        }
    }
}

/// A coded picture, ready to be sent.
pub(super) struct Coded {
    pub(super) payloads: Vec<Bytes>,
    /// One for each payload, or none.
    pub(super) descriptors: Vec<Bytes>,
    pub(super) key_frame: bool,
    pub(super) bytes: usize,
    pub(super) quantizer: u8,
    /// Of the largest layer.
    pub(super) size: (u32, u32),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Coder {
    one: Encoder,
    adapter: Adapter,
    layered: LayeredEncoder,
    planner: LayerPlanner,
    in_layers: bool,
}

impl Coder {
    pub(super) fn new(config: EncoderConfig) -> Self {
        Self {
            one: Encoder::new(config),
            adapter: Adapter::new(),
            layered: LayeredEncoder::new(config.content),
            planner: LayerPlanner::new(),
            in_layers: false,
        }
    }

    /// What to make of a picture with this target. `layers` are the spatial layers that somebody receives, `None` where the
    /// route carries no layers.
    pub(super) fn shape(&mut self, now: Timestamp, target: Bitrate, layers: Option<u8>, offer: &Offer) -> Shape {
        match layers {
            Some(wanted) => Shape::Layers(self.planner.update(now, target, wanted, offer)),
            None => Shape::One(self.adapter.update(now, target, offer)),
        }
    }

    /// Codes for this kind of content from the next key frame on.
    pub(super) fn set_content(&mut self, content: Content) {
        self.one.set_content(content);
        self.layered.set_content(content);
    }

    /// Codes a picture of the shape's size. `None` where rate control dropped it.
    pub(super) fn encode(
        &mut self,
        frame: &VideoFrame,
        key_frame: KeyFrame,
        target: Bitrate,
        shape: &Shape,
    ) -> Result<Option<Coded>, MediaError> {
        let in_layers = matches!(shape, Shape::Layers(_));
        // What one encoder made the other does not know.
        let switched = std::mem::replace(&mut self.in_layers, in_layers) != in_layers;
        let key_frame = if switched { KeyFrame::Force } else { key_frame };
        match shape {
            Shape::One(one) => {
                self.one.set_frame_rate(one.frame_rate);
                self.one.set_bitrate(target)?;
                let size = (frame.width(), frame.height());
                Ok(self.one.encode(frame, key_frame)?.map(|picture| in_one(&picture, size)))
            }
            Shape::Layers(plan) => {
                let picture = self.layered.encode(frame, key_frame, plan)?;
                Ok(picture.zip(self.layered.templates()).map(|(picture, t)| in_layers_of(&picture, t, plan)))
            }
        }
    }
}

fn in_one(picture: &EncodedPicture, size: (u32, u32)) -> Coded {
    Coded {
        payloads: packetize(&picture.data, MAX_PAYLOAD),
        descriptors: Vec::new(),
        key_frame: picture.key_frame,
        bytes: picture.data.len(),
        quantizer: picture.quantizer,
        size,
    }
}

/// Each layer's frame has packets of its own.
fn in_layers_of(picture: &LayeredPicture, templates: &TemplateStructure, plan: &LayerPlan) -> Coded {
    let (mut payloads, mut descriptors, mut bytes) = (Vec::new(), Vec::new(), 0);
    for layer in &picture.layers {
        let longest = templates.descriptors(&layer.frame, 1).first().map_or(0, Bytes::len);
        let packets = packetize(&layer.data, MAX_PAYLOAD - longest.saturating_sub(ROOM_FOR_DESCRIPTOR));
        descriptors.extend(templates.descriptors(&layer.frame, packets.len()));
        payloads.extend(packets);
        bytes += layer.data.len();
    }
    let top = picture.layers.iter().map(|layer| layer.frame.dependencies.spatial).max().unwrap_or_default();
    Coded {
        payloads,
        descriptors,
        key_frame: picture.key_frame,
        bytes,
        quantizer: picture.quantizer,
        size: plan.size(top),
    }
}
