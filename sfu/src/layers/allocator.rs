//! How a subscriber's bandwidth is divided among its pictures.
//!
//! The pinned ones first, each as good as it may be; then every visible one its lowest layer, then improvements, largest tile
//! first; then those that follow the dominant speaker likewise. Nobody gets more picture than its tile has pixels for. Going
//! up must fit with room to spare, going down happens only where it has to: an estimate that wavers changes nothing. What
//! comes lowest is given up last: it stays while it nearly fits, and comes back as soon as it does.

use super::Goal;
use halloo_transport::Bitrate;

/// What a larger picture that is not sent yet has to fit with: a fifth to spare, since it begins with a key frame.
const UPWARD_MARGIN: f64 = 1.2;
/// The same for more pictures of the same size a second, which come and go at no cost; and the share of them that has to fit for
/// them to stay.
const TEMPORAL_MARGIN: f64 = 1.05;
const TEMPORAL_KEPT: f64 = 0.9;
/// The share of a picture's lowest layer that has to fit for it to come, and to stay.
const LOWEST_MARGIN: f64 = 1.05;
const LOWEST_KEPT: f64 = 0.8;
/// A picture this much smaller than its tile still fills it.
pub(crate) const TILE_SHARE: f64 = 0.8;

/// Whose wishes come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Goes before all others.
    Pinned,
    /// Shown on purpose.
    Visible,
    /// Shown because somebody speaks.
    Speaker,
}

/// Something a source can be sent as.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layer {
    /// The layers.
    pub goal: Goal,
    /// What they take, as measured.
    pub rate: Bitrate,
    /// Height of the picture, in pixels; 0 where it is not known.
    pub height: u32,
}

/// One picture that wants bandwidth.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its class.
    pub class: Class,
    /// Height of its tile, in pixels; 0 for one that is not shown.
    pub height: u32,
    /// What there is to choose from, from worst to best.
    pub layers: &'a [Layer],
    /// What it gets so far.
    pub current: Option<Goal>,
}

/// What a picture gets.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Allocation {
    /// The layers; `None` where there is not enough for the lowest, or nothing to show.
    pub goal: Option<Goal>,
    /// What they take.
    pub rate: Bitrate,
}

/// Divides `available`: one allocation for each request, in their order, into `out`.
pub fn allocate(available: Bitrate, requests: &[Request<'_>], out: &mut Vec<Allocation>) {
    out.clear();
    out.resize(requests.len(), Allocation::default());
    let mut left = available.as_bps();
    for class in [Class::Pinned, Class::Visible, Class::Speaker] {
        let passes: &[Pass] = if class == Class::Pinned { &[Pass::Best] } else { &[Pass::Lowest, Pass::Best] };
        for pass in passes {
            each_by_size(requests, class, |index| {
                let (Some(request), Some(given)) = (requests.get(index), out.get_mut(index)) else { return };
                let budget = left + given.rate.as_bps();
                if let Some(layer) = choose(request, *pass, budget) {
                    left = budget.saturating_sub(layer.rate.as_bps());
                    *given = Allocation { goal: Some(layer.goal), rate: layer.rate };
                }
            });
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Lowest,
    Best,
}

/// Largest tile first; of equal ones the first request.
fn each_by_size(requests: &[Request<'_>], class: Class, mut visit: impl FnMut(usize)) {
    let mut last: Option<(u32, usize)> = None;
    loop {
        let after = |height: u32, index: usize| last.is_none_or(|(h, i)| height < h || (height == h && index > i));
        let next = requests
            .iter()
            .enumerate()
            .filter(|(index, r)| r.class == class && after(r.height, *index))
            .max_by_key(|(index, r)| (r.height, std::cmp::Reverse(*index)));
        let Some((index, request)) = next else { return };
        last = Some((request.height, index));
        visit(index);
    }
}

fn choose<'a>(request: &Request<'a>, pass: Pass, budget: u64) -> Option<&'a Layer> {
    if request.height == 0 {
        return None;
    }
    let current = request.layers.iter().position(|l| Some(l.goal) == request.current);
    let enough = f64::from(request.height) * TILE_SHARE;
    // The first layer that fills the tile is of its size; of that size all temporal layers may be had.
    let size = request.layers.iter().map(|l| l.height).find(|height| f64::from(*height) >= enough);
    let candidates = request.layers.iter().enumerate().filter(|(_, l)| size.is_none_or(|size| l.height <= size));
    let fits = |(index, layer): &(usize, &Layer)| {
        let kept = current.is_some_and(|current| *index <= current);
        let below = index.checked_sub(1).and_then(|below| request.layers.get(below));
        // More or fewer pictures of the size that goes out already.
        let temporal = [request.current, below.map(|below| below.goal)]
            .iter()
            .all(|goal| goal.is_some_and(|goal| goal.size() == layer.goal.size()));
        let share = match (*index, temporal, kept) {
            (0, _, true) => LOWEST_KEPT,
            (0, _, false) => LOWEST_MARGIN,
            (_, true, true) => TEMPORAL_KEPT,
            (_, true, false) => TEMPORAL_MARGIN,
            (_, false, true) => 1.0,
            (_, false, false) => UPWARD_MARGIN,
        };
        layer.rate.scale(share).as_bps() <= budget
    };
    let mut fitting = candidates.filter(fits).map(|(_, layer)| layer);
    match pass {
        Pass::Lowest => fitting.next(),
        Pass::Best => fitting.next_back(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn goal(spatial: u8, temporal: u8) -> Goal {
        Goal { encoding: 0, spatial, temporal }
    }

    const fn layer(spatial: u8, temporal: u8, kbps: u64) -> Layer {
        Layer { goal: goal(spatial, temporal), rate: Bitrate::from_kbps(kbps), height: 180 << spatial }
    }

    const LAYERS: [Layer; 5] =
        [layer(0, 0, 60), layer(0, 1, 90), layer(0, 2, 150), layer(1, 2, 500), layer(2, 2, 1_700)];

    fn request(class: Class, height: u32, current: Option<Goal>) -> Request<'static> {
        Request { class, height, layers: &LAYERS, current }
    }

    fn goals(kbps: u64, requests: &[Request<'_>]) -> Vec<Option<Goal>> {
        let mut out = Vec::new();
        allocate(Bitrate::from_kbps(kbps), requests, &mut out);
        let sum: u64 = out.iter().map(|a| a.rate.as_bps()).sum();
        assert!(sum <= kbps * 1_250, "{sum} of {kbps}k");
        out.iter().map(|a| a.goal).collect()
    }

    #[test]
    fn a_tile_gets_no_more_than_its_pixels() {
        let tile = |height| goals(50_000, &[request(Class::Visible, height, None)])[0];
        assert_eq!(tile(90), Some(goal(0, 2)));
        assert_eq!(tile(220), Some(goal(0, 2)), "nearly as large");
        assert_eq!(tile(300), Some(goal(1, 2)));
        assert_eq!(tile(2_000), Some(goal(2, 2)));
        assert_eq!(tile(0), None, "not shown");
    }

    #[test]
    fn the_pinned_one_goes_first_and_the_rest_share_by_size() {
        let requests = [
            request(Class::Visible, 200, None),
            request(Class::Visible, 720, None),
            request(Class::Pinned, 720, None),
            request(Class::Speaker, 720, None),
        ];
        assert_eq!(goals(300, &requests), [Some(goal(0, 0)), Some(goal(0, 0)), Some(goal(0, 2)), None]);
        assert_eq!(goals(2_300, &requests), [Some(goal(0, 2)), Some(goal(0, 2)), Some(goal(2, 2)), Some(goal(0, 2))]);
        assert_eq!(goals(20_000, &requests), [Some(goal(0, 2)), Some(goal(2, 2)), Some(goal(2, 2)), Some(goal(2, 2))]);
    }

    #[test]
    fn up_needs_room_to_spare_and_down_needs_a_reason() {
        let one = |kbps, current| goals(kbps, &[request(Class::Visible, 360, current)])[0];
        assert_eq!(one(550, Some(goal(0, 2))), Some(goal(0, 2)));
        assert_eq!(one(600, Some(goal(0, 2))), Some(goal(1, 2)));
        assert_eq!(one(510, Some(goal(1, 2))), Some(goal(1, 2)));
        assert_eq!(one(490, Some(goal(1, 2))), Some(goal(0, 2)));
        assert_eq!(one(62, None), None);
        assert_eq!(one(65, None), Some(goal(0, 0)), "the lowest needs hardly any");
        assert_eq!(one(50, Some(goal(0, 0))), Some(goal(0, 0)), "and stays while it nearly fits");
        assert_eq!(one(47, Some(goal(0, 0))), None);
    }

    #[test]
    fn frames_are_dropped_before_the_picture_is() {
        let pinned = |kbps, current| goals(kbps, &[request(Class::Pinned, 720, current)])[0];
        assert_eq!(pinned(140, Some(goal(0, 2))), Some(goal(0, 2)), "frames stay while they nearly fit");
        assert_eq!(pinned(130, Some(goal(0, 2))), Some(goal(0, 1)));
        assert_eq!(pinned(80, Some(goal(0, 1))), Some(goal(0, 0)));
        let others = [request(Class::Visible, 720, Some(goal(1, 2))), request(Class::Pinned, 180, None)];
        assert_eq!(goals(100, &others), [None, Some(goal(0, 0))], "and the others' pictures before the pinned one's");
    }

    #[test]
    fn a_wavering_estimate_changes_nothing() {
        let mut current = None;
        let mut changes = 0;
        for i in 0..200u64 {
            let next = goals(540 + (i * 37) % 80, &[request(Class::Visible, 360, current)])[0];
            changes += usize::from(next != current);
            current = next;
        }
        assert!(changes <= 2, "{changes}");
    }
}
