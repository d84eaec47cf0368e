//! Which picture size and frame rate a target bitrate pays for. Pure.
//!
//! Below some bits per pixel AV1 looks worse than a smaller picture scaled up. The ladder goes down at once when the target no
//! longer pays for a step, and up only after the target has paid for the next step, with a margin, for a while: so a target that
//! wavers around a threshold changes the size once.

use super::{encoder::Content, scale::fit};
use crate::Timestamp;
use halloo_transport::Bitrate;
use std::time::Duration;

/// What the sender should make of its source.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adaptation {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Most frames per second.
    pub frame_rate: f64,
}

/// What a source offers and a publication allows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Offer {
    /// The source's picture size.
    pub size: (u32, u32),
    /// Its frames per second, or the most that is allowed.
    pub frame_rate: f64,
    /// The largest size that is allowed.
    pub max_size: (u32, u32),
    /// What the source shows.
    pub content: Content,
}

/// A rung: parts of the full side length and of the full frame rate.
struct Step {
    scale: f64,
    rate: f64,
}

const fn step(scale: f64, rate: f64) -> Step {
    Step { scale, rate }
}

/// Motion matters most: the picture shrinks first.
const CAMERA: [Step; 7] = [
    step(1.0, 1.0),
    step(0.75, 1.0),
    step(0.5, 1.0),
    step(0.5, 0.5),
    step(0.375, 0.5),
    step(0.25, 0.5),
    step(0.25, 0.25),
];
/// Sharpness matters most: the frame rate falls first.
const SCREEN: [Step; 6] =
    [step(1.0, 1.0), step(1.0, 0.5), step(1.0, 0.25), step(1.0, 0.125), step(0.75, 0.125), step(0.5, 0.125)];

/// Bits that a pixel of a 640x360 picture at 30 frames per second takes to look fair. Larger pictures need fewer, since their
/// detail is coarser; lower rates more, since less stays from frame to frame.
const BITS_PER_PIXEL: f64 = 0.020;
const REFERENCE_PIXELS: f64 = 640.0 * 360.0;
const REFERENCE_RATE: f64 = 30.0;
/// How much more than a step's cost the target must be for going up to it.
const UP_MARGIN: f64 = 1.25;
/// For how long.
const UP_AFTER: Duration = Duration::from_secs(3);
/// A reduced side is not shorter than this, where the source's is not.
const SHORTEST_SIDE: f64 = 90.0;

/// Where on a ladder a target is: down at once, up after a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Climb {
    step: usize,
    affordable_since: Option<Timestamp>,
}

impl Climb {
    /// The step at `now`, of `steps` from the dearest to the cheapest; `cost` is what one takes, in bits per second.
    pub(super) fn update(
        &mut self,
        now: Timestamp,
        target: Bitrate,
        steps: usize,
        cost: impl Fn(usize) -> f64,
    ) -> usize {
        self.step = self.step.min(steps.saturating_sub(1));
        let budget = target.as_bps() as f64;
        while self.step + 1 < steps && cost(self.step) > budget {
            self.step += 1;
            self.affordable_since = None;
        }
        if self.step > 0 && cost(self.step - 1) * UP_MARGIN <= budget {
            let since = *self.affordable_since.get_or_insert(now);
            if now.since(since) >= UP_AFTER {
                self.step -= 1;
                self.affordable_since = None;
            }
        } else {
            self.affordable_since = None;
        }
        self.step
    }
}

/// The state: where on the ladder.
#[derive(Debug, Default)]
pub struct Adapter {
    climb: Climb,
}

impl Adapter {
    /// An adapter that starts on the rung that its first target pays for.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to make of the source at `now`, with this target.
    pub fn update(&mut self, now: Timestamp, target: Bitrate, offer: &Offer) -> Adaptation {
        let ladder: &[Step] = match offer.content {
            Content::Camera => &CAMERA,
            Content::Screen => &SCREEN,
        };
        let full = full_size(offer);
        let cost = |step: usize| {
            ladder.get(step).map_or(0.0, |step| cost(reduced(full, step.scale), offer.frame_rate * step.rate))
        };
        let step = &ladder[self.climb.update(now, target, ladder.len(), cost)];
        let (width, height) = reduced(full, step.scale);
        Adaptation { width, height, frame_rate: (offer.frame_rate * step.rate).max(1.0).min(offer.frame_rate) }
    }
}

/// The largest size that is allowed of the source.
pub(super) fn full_size(offer: &Offer) -> (u32, u32) {
    let (w, h) = offer.size;
    let (max_w, max_h) = offer.max_size;
    // A source held upright may use the limit upright.
    let limit = if (w < h) == (max_w < max_h) { (max_w, max_h) } else { (max_h, max_w) };
    if w <= limit.0 && h <= limit.1 { (w, h) } else { fit((w, h), limit) }
}

fn reduced((w, h): (u32, u32), scale: f64) -> (u32, u32) {
    let shortest = f64::from(w.min(h));
    let scale = scale.max((SHORTEST_SIDE / shortest).min(1.0));
    if scale >= 1.0 {
        return (w, h);
    }
    // Even sides keep chroma aligned.
    let side = |length: u32| ((f64::from(length) * scale / 2.0).round() as u32 * 2).clamp(1, length);
    (side(w), side(h))
}

/// The fewest bits per second with which pictures of this size look fair.
pub(super) fn cost((w, h): (u32, u32), frame_rate: f64) -> f64 {
    let pixels = f64::from(w) * f64::from(h);
    let reference = BITS_PER_PIXEL * REFERENCE_PIXELS * REFERENCE_RATE;
    reference * (pixels / REFERENCE_PIXELS).powf(0.85) * (frame_rate / REFERENCE_RATE).powf(0.75)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(size: (u32, u32)) -> Offer {
        Offer { size, frame_rate: 30.0, max_size: (1_280, 720), content: Content::Camera }
    }

    fn settled(kbps: u64, offer: &Offer) -> Adaptation {
        Adapter::new().update(Timestamp::ZERO, Bitrate::from_kbps(kbps), offer)
    }

    #[test]
    fn what_a_bitrate_pays_for() {
        let at = |kbps| {
            let a = settled(kbps, &offer((1_280, 720)));
            (a.width, a.height, a.frame_rate)
        };
        assert_eq!(at(1_500), (1_280, 720, 30.0));
        assert_eq!(at(300), (960, 540, 30.0));
        assert_eq!(at(150), (640, 360, 30.0));
        assert_eq!(at(40), (320, 180, 15.0));
        assert_eq!(settled(300, &offer((640, 360))), Adaptation { width: 640, height: 360, frame_rate: 30.0 });
    }

    #[test]
    fn a_screen_keeps_its_size_and_loses_frames() {
        let screen = Offer { content: Content::Screen, ..offer((1_280, 720)) };
        assert_eq!(settled(170, &screen), Adaptation { width: 1_280, height: 720, frame_rate: 7.5 });
    }

    #[test]
    fn larger_sources_are_reduced_to_what_is_allowed_in_either_orientation() {
        let size = |w, h| {
            let a = settled(100_000, &offer((w, h)));
            (a.width, a.height)
        };
        assert_eq!(size(1_920, 1_080), (1_280, 720));
        assert_eq!(size(1_080, 1_920), (720, 1_280));
        assert_eq!(size(641, 361), (641, 361));
    }

    #[test]
    fn down_at_once_and_up_after_a_while() {
        let (mut adapter, offer) = (Adapter::new(), offer((1_280, 720)));
        let mut width =
            |millis: u64, kbps| adapter.update(Timestamp::from_millis(millis), Bitrate::from_kbps(kbps), &offer).width;
        assert_eq!(width(0, 1_500), 1_280);
        assert_eq!(width(100, 300), 960);
        assert_eq!(width(200, 1_500), 960);
        assert_eq!(width(3_100, 1_500), 960);
        assert_eq!(width(3_200, 1_500), 1_280);
    }

    #[test]
    fn a_wavering_target_changes_the_size_once() {
        let (mut adapter, offer) = (Adapter::new(), offer((1_280, 720)));
        let mut widths: Vec<u32> = (0..200)
            .map(|i| {
                adapter.update(Timestamp::from_millis(i * 100), Bitrate::from_kbps(440 + i % 2 * 40), &offer).width
            })
            .collect();
        widths.dedup();
        assert!(widths.len() <= 2, "{widths:?}");
    }

    proptest! {
        #[test]
        fn no_source_is_enlarged_or_vanishes(w in 1_u32..5_000, h in 1_u32..5_000, kbps in 0_u64..5_000, rate in 0.1_f64..240.0) {
            let offer = Offer { frame_rate: rate, ..offer((w, h)) };
            let a = settled(kbps, &offer);
            prop_assert!(a.width >= 1 && a.height >= 1 && a.width <= w && a.height <= h);
            prop_assert!(a.frame_rate > 0.0 && a.frame_rate <= rate);
        }
    }
}
