//! How many spatial layers a source is sent with, and how a target bitrate is divided among them. Pure.
//!
//! A large picture is sent in up to three sizes, each half as wide as the next; the smallest comes first. Where the target does not pay for
//! a layer, or nobody receives it, it is left out; only below the smallest does the frame rate fall. A source that is
//! small, or a screen, whose text a smaller size would spoil, has one layer and is reduced as a whole.

use super::{
    adapt::{Adapter, Climb, Offer, cost, full_size},
    encoder::Content,
    scalability::MAX_SPATIAL_LAYERS,
};
use crate::Timestamp;
use halloo_transport::Bitrate;

/// Spatial layers at most.
const MOST: usize = MAX_SPATIAL_LAYERS as usize;
/// Shortest sides from which there are two and three sizes: the smallest has half and a quarter of it.
const TWO_FROM: u32 = 270;
const THREE_FROM: u32 = 540;
/// More than so many times its cost no layer gets, but the largest of all: the rest is better spent above it.
const ENOUGH: f64 = 3.0;
/// Parts of the frame rate that the smallest layer falls to where even that is too dear.
const SLOWER: [f64; 2] = [0.5, 0.25];

/// What to make of a source.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerPlan {
    /// Width of the largest layer.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// Most frames per second.
    pub frame_rate: f64,
    /// Spatial layers that the stream has.
    pub spatial: u8,
    /// Spatial layers that are coded now, from the smallest.
    pub active: u8,
    /// What each of them may take.
    pub bitrates: [Bitrate; MOST],
}

impl LayerPlan {
    /// Picture size of a spatial layer.
    pub fn size(&self, spatial: u8) -> (u32, u32) {
        let halvings = (self.spatial - 1).saturating_sub(spatial);
        (self.width >> halvings, self.height >> halvings)
    }
}

/// The state: how many layers the target has paid for, and for how long.
#[derive(Debug, Default)]
pub struct LayerPlanner {
    climb: Climb,
    one: Adapter,
}

impl LayerPlanner {
    /// A planner that starts with what its first target pays for.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to make of the source at `now`, with this target, where so many spatial layers are received by somebody.
    pub fn update(&mut self, now: Timestamp, target: Bitrate, wanted: u8, offer: &Offer) -> LayerPlan {
        let (width, height) = full_size(offer);
        let spatial = match width.min(height) {
            _ if offer.content == Content::Screen => 1,
            THREE_FROM.. => 3,
            TWO_FROM.. => 2,
            _ => 1,
        };
        let mut bitrates = [Bitrate::from_bps(0); MOST];
        if spatial == 1 {
            let one = self.one.update(now, target, offer);
            bitrates[0] = target;
            let (width, height, frame_rate) = (one.width, one.height, one.frame_rate);
            return LayerPlan { width, height, frame_rate, spatial, active: 1, bitrates };
        }
        // Every layer's sides are even.
        let unit = 1_u32 << spatial;
        let plan = LayerPlan {
            width: width / unit * unit,
            height: height / unit * unit,
            frame_rate: offer.frame_rate,
            spatial,
            active: spatial,
            bitrates,
        };
        let costs = |active: u8, rate: f64| (0..active).map(move |layer| cost(plan.size(layer), rate));
        let steps = usize::from(spatial) + SLOWER.len();
        let step = |step: usize| match spatial.saturating_sub(step as u8) {
            0 => (1, offer.frame_rate * SLOWER.get(step - usize::from(spatial)).copied().unwrap_or(1.0)),
            active => (active, offer.frame_rate),
        };
        let at = self.climb.update(now, target, steps, |at| {
            let (active, rate) = step(at);
            costs(active, rate).sum()
        });
        let (affordable, frame_rate) = step(at);
        let active = affordable.min(wanted.max(1));
        let share = target.as_bps() as f64 / costs(active, frame_rate).sum::<f64>();
        for (layer, (bitrate, cost)) in bitrates.iter_mut().zip(costs(active, frame_rate)).enumerate() {
            let share = if layer + 1 == usize::from(spatial) { share } else { share.min(ENOUGH) };
            *bitrate = Bitrate::from_bps((cost * share) as u64);
        }
        LayerPlan { frame_rate: frame_rate.max(1.0).min(offer.frame_rate), active, bitrates, ..plan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(size: (u32, u32)) -> Offer {
        Offer { size, frame_rate: 30.0, max_size: (1_280, 720), content: Content::Camera }
    }

    fn plan(kbps: u64, wanted: u8, offer: &Offer) -> LayerPlan {
        LayerPlanner::new().update(Timestamp::ZERO, Bitrate::from_kbps(kbps), wanted, offer)
    }

    #[test]
    fn what_a_bitrate_pays_for() {
        let at = |kbps| {
            let plan = plan(kbps, 3, &offer((1_280, 720)));
            (plan.active, plan.frame_rate as u32, plan.bitrates.map(|rate| (rate.as_bps() + 500) / 1_000))
        };
        assert_eq!(at(1_500), (3, 30, [101, 329, 1_070]));
        assert_eq!(at(640), (3, 30, [43, 140, 456]));
        assert_eq!(at(600), (2, 30, [128, 415, 0]), "the sizes that there are get no more than they can use");
        assert_eq!(at(100), (1, 30, [100, 0, 0]));
        assert_eq!(at(30), (1, 15, [30, 0, 0]));
        assert_eq!(at(10), (1, 7, [10, 0, 0]));
    }

    #[test]
    fn sizes_halve_and_small_sources_and_screens_have_one() {
        let sizes = |offer: &Offer| {
            let plan = plan(4_000, 3, offer);
            (0..plan.spatial).map(|layer| plan.size(layer)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&offer((1_280, 720))), [(320, 180), (640, 360), (1_280, 720)]);
        assert_eq!(sizes(&offer((720, 1_280))), [(180, 320), (360, 640), (720, 1_280)]);
        assert_eq!(sizes(&offer((640, 360))), [(320, 180), (640, 360)]);
        assert_eq!(sizes(&offer((1_278, 718))), [(318, 178), (636, 356), (1_272, 712)]);
        assert_eq!(sizes(&offer((320, 180))), [(320, 180)]);
        let screen = Offer { content: Content::Screen, ..offer((1_280, 720)) };
        assert_eq!(sizes(&screen), [(1_280, 720)]);
    }

    #[test]
    fn what_nobody_receives_is_left_out_at_once_and_comes_back_at_once() {
        let (mut planner, offer) = (LayerPlanner::new(), offer((1_280, 720)));
        let mut active = |millis: u64, wanted| {
            planner.update(Timestamp::from_millis(millis), Bitrate::from_kbps(1_500), wanted, &offer).active
        };
        assert_eq!([active(0, 3), active(10, 1), active(20, 0), active(30, 2), active(40, 3)], [3, 1, 1, 2, 3]);
    }

    #[test]
    fn a_target_that_fell_brings_its_layers_back_after_a_while() {
        let (mut planner, offer) = (LayerPlanner::new(), offer((1_280, 720)));
        let mut active = |millis: u64, kbps| {
            planner.update(Timestamp::from_millis(millis), Bitrate::from_kbps(kbps), 3, &offer).active
        };
        assert_eq!([active(0, 1_500), active(100, 300), active(200, 1_500), active(3_100, 1_500)], [3, 2, 2, 2]);
        assert_eq!(active(3_200, 1_500), 3);
    }

    proptest! {
        #[test]
        fn no_plan_takes_more_than_the_target_or_makes_a_layer_without_pixels(
            w in 1_u32..5_000, h in 1_u32..5_000, kbps in 1_u64..5_000, wanted in 0_u8..9, rate in 0.1_f64..240.0
        ) {
            let plan = plan(kbps, wanted, &Offer { frame_rate: rate, ..offer((w, h)) });
            prop_assert!(plan.bitrates.iter().map(|rate| rate.as_bps()).sum::<u64>() <= kbps * 1_000);
            prop_assert!(plan.active >= 1 && plan.active <= plan.spatial && plan.frame_rate > 0.0);
            for layer in 0..plan.spatial {
                let (w, h) = plan.size(layer);
                prop_assert!(w > 0 && h > 0);
                prop_assert!(plan.spatial == 1 || w % 2 == 0 && h % 2 == 0);
            }
        }
    }
}
