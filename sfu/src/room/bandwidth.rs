//! Bandwidth: what each subscriber's slots get of its estimate, and what publishers need not send.

use super::{
    Event, Room,
    config::{SourceId, SourceKind},
    interface::RequestedLayers,
    publisher::Publisher,
    subscriber::Subscriber,
};
use crate::layers::{Allocation, Class, Goal, Layer, Request, TILE_SHARE, allocate};
use halloo_transport::{Bitrate, Timestamp};
use std::time::Duration;

/// What is kept free for one voice, headers and all, however quiet it is now.
const LEAST_AUDIO: Bitrate = Bitrate::from_kbps(24);
/// Share of the estimate for media; the rest is retransmissions, probes and key frames.
const MEDIA_SHARE: f64 = 0.95;
/// For this long fewer layers are wanted before the publisher is told.
const FEWER_AFTER: Duration = Duration::from_millis(1_000);
/// Spatial layers of the richest AV1 mode. Not how many a publisher sends now: one that was told to send fewer would never be
/// told to send more.
const ALL_SPATIAL_LAYERS: u8 = 3;
/// A slot's height where the subscriber never said.
const DEFAULT_HEIGHT: u32 = 360;

/// Tables that are used again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    layers: Vec<Layer>,
    /// Slot, class, height, range of its layers, and what it has.
    wants: Vec<Want>,
    allocations: Vec<Allocation>,
    unlimited: Vec<Allocation>,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    slot: usize,
    class: Class,
    height: u32,
    first: usize,
    end: usize,
    current: Option<Goal>,
}

impl Room {
    /// Divides each subscriber's estimate among its slots.
    pub(super) fn allocate(&mut self, now: Timestamp) {
        for index in 0..self.subscribers.len() {
            self.allocate_for(now, index);
        }
    }

    /// Divides one subscriber's estimate.
    pub(super) fn allocate_for(&mut self, now: Timestamp, index: usize) {
        let Self { publishers, subscribers, scratch, .. } = self;
        let Some(Some(subscriber)) = subscribers.get_mut(index) else { return };
        scratch.collect(now, subscriber, publishers);
        let voices = subscriber.slots.iter().filter_map(|s| s.showing).filter(|s| s.kind() == SourceKind::Microphone);
        let least = LEAST_AUDIO.as_bps() * voices.count() as u64;
        let audio = subscriber.audio.update(now).as_bps().max(least);
        let budget = subscriber.budget(now);
        subscriber.allocated_by = budget;
        scratch.divide(now, Bitrate::from_bps(budget.scale(MEDIA_SHARE).as_bps().saturating_sub(audio)), subscriber);
    }

    /// Tells publishers which of their layers somebody receives, where that changed.
    pub(super) fn request_layers(&mut self, now: Timestamp) {
        let Self { publishers, subscribers, events, .. } = self;
        for section in publishers.iter_mut().flatten().flat_map(|p| &mut p.sections) {
            if section.source.kind() == SourceKind::Microphone || !section.live {
                continue;
            }
            let wanted = section.listeners.iter().filter_map(|listener| {
                let subscriber = subscribers.get(usize::from(listener.subscriber))?.as_ref()?;
                subscriber.slots.get(usize::from(listener.slot))?.desired
            });
            let all = RequestedLayers { encodings: section.streams.len() as u8, spatial: ALL_SPATIAL_LAYERS };
            let as_told = section.requested.filter(|told| told.encodings > 0).unwrap_or(all);
            let layers = wanted
                .map(|desired| match desired {
                    Desired::All => all,
                    Desired::Top(goal) => {
                        [as_told, up_to(goal)].into_iter().max_by_key(|layers| rank(*layers)).unwrap_or(as_told)
                    }
                    Desired::Goal(goal) => up_to(goal),
                })
                .max_by_key(|layers| rank(*layers))
                .unwrap_or(RequestedLayers { encodings: 0, spatial: 0 });
            let told = section.requested;
            if told == Some(layers) {
                section.fewer_since = None;
                continue;
            }
            let fewer = told.is_none_or(|told| rank(layers) < rank(told));
            let since = *section.fewer_since.get_or_insert(now);
            if fewer && now.since(since) < FEWER_AFTER {
                continue;
            }
            section.fewer_since = None;
            section.requested = Some(layers);
            events.push_back(Event::LayersRequested { source: section.source, layers });
        }
    }
}

const fn up_to(goal: Goal) -> RequestedLayers {
    RequestedLayers { encodings: goal.encoding + 1, spatial: goal.spatial + 1 }
}

const fn rank(layers: RequestedLayers) -> (u8, u8) {
    (layers.encodings, layers.spatial)
}

/// What a slot would get if there were bandwidth: its publisher has to go on sending that, or nobody could ever get it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Desired {
    /// These layers fill its tile, and there are larger ones.
    Goal(Goal),
    /// The largest of what is sent now fills its tile. How many layers that is says nothing of how many the publisher has: it
    /// may send one of full size, so what it was told stays right.
    Top(Goal),
    /// Nothing that is sent now fills its tile.
    All,
}

impl Scratch {
    /// Gathers what the slots of a subscriber want.
    fn collect(&mut self, now: Timestamp, subscriber: &Subscriber, publishers: &[Option<Publisher>]) {
        self.layers.clear();
        self.wants.clear();
        for (slot, state) in subscriber.slots.iter().enumerate() {
            let Some(source) = state.showing.filter(|s| s.kind() != SourceKind::Microphone) else { continue };
            let Some(Some(publisher)) = publishers.get(source.participant().index()) else { continue };
            let Some(section) = publisher.section(source.kind()).filter(|s| s.source == source) else { continue };
            let first = self.layers.len();
            let live = section.streams.iter().filter(|s| s.is_live(now)).count() as u32;
            let mut larger = live;
            for (encoding, stream) in section.streams.iter().enumerate().filter(|(_, s)| s.is_live(now)) {
                larger = larger.saturating_sub(1);
                let sharp = source.kind() == SourceKind::Screen;
                stream.choices(encoding as u8, larger, sharp, &mut self.layers);
            }
            let (class, height) = class_and_height(subscriber, source);
            let height = height.min(subscriber.limits.max_height);
            let current = state.stream.selected().goal();
            self.wants.push(Want { slot, class, height, first, end: self.layers.len(), current });
        }
    }

    fn divide(&mut self, now: Timestamp, available: Bitrate, subscriber: &mut Subscriber) {
        let Self { layers, wants, allocations, unlimited } = self;
        let layers: &[Layer] = layers;
        let mut requests = [EMPTY; super::subscriber::MAX_SLOTS];
        let mut count = 0;
        for (request, want) in requests.iter_mut().zip(wants.iter()) {
            let layers = layers.get(want.first..want.end).unwrap_or_default();
            *request = Request { class: want.class, height: want.height, layers, current: want.current };
            count += 1;
        }
        let requests = requests.get(..count).unwrap_or_default();
        allocate(available, requests, allocations);
        allocate(Bitrate::from_bps(u64::MAX / 4), requests, unlimited);
        let too_little = allocations.iter().zip(unlimited.iter()).any(|(given, best)| given.goal != best.goal);
        let thin = subscriber.is_thin(now, too_little);
        subscriber.wants_more = false;
        if !too_little {
            subscriber.comebacks.on_plenty();
        }
        // Frames of the pinned picture come before pictures that are not there yet.
        let pinned_short = requests.iter().zip(allocations.iter()).any(|(request, given)| {
            let more = |layer: &Layer| {
                given.goal.is_some_and(|goal| goal.size() == layer.goal.size() && goal.temporal < layer.goal.temporal)
            };
            request.class == Class::Pinned && request.layers.iter().any(more)
        });
        for ((want, given), best) in wants.iter().zip(allocations.iter()).zip(unlimited.iter()) {
            let Some(slot) = subscriber.slots.get_mut(want.slot) else { continue };
            let pinned = want.class == Class::Pinned;
            let starts = want.current.is_none() && !pinned && too_little;
            // One that begins before the path is up would keep the first real one waiting.
            let may_start =
                subscriber.connected && !pinned_short && subscriber.comebacks.may_start(now, subscriber.allocated_by);
            let given_goal = given.goal.filter(|_| !starts || may_start);
            if starts && given_goal.is_some() {
                subscriber.comebacks.on_start(now);
            }
            let goal = given_goal.map(|goal| if thin { Goal { temporal: 0, ..goal } } else { goal });
            slot.stream.selector().set_goal(goal);
            let sent = layers.get(want.first..want.end).unwrap_or_default();
            let largest = sent.iter().map(|l| l.height).max();
            let fills = |height: u32| f64::from(height) >= f64::from(want.height) * TILE_SHARE;
            let is_top = |goal: Goal| sent.last().is_some_and(|l| l.goal.size() == goal.size());
            slot.desired = match best.goal {
                Some(goal) if largest.is_none_or(fills) && is_top(goal) => Some(Desired::Top(goal)),
                Some(goal) if largest.is_none_or(fills) => Some(Desired::Goal(goal)),
                _ if want.height == 0 => None,
                _ => Some(Desired::All),
            };
            subscriber.wants_more |= given_goal != best.goal;
            if want.current.is_some() && goal.is_none() && best.goal.is_some() {
                subscriber.give_up(now, want.slot);
            }
        }
    }
}

const EMPTY: Request<'static> = Request { class: Class::Speaker, height: 0, layers: &[], current: None };

fn class_and_height(subscriber: &Subscriber, source: SourceId) -> (Class, u32) {
    if let Some(wish) = subscriber.wishes.iter().find(|w| w.source == source) {
        return (if wish.pinned { Class::Pinned } else { Class::Visible }, wish.height);
    }
    (Class::Speaker, subscriber.others.map_or(DEFAULT_HEIGHT, |(_, height)| height))
}
