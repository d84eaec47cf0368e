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

/// What a sound costs with its headers, where it was not measured yet.
const AUDIO_RATE: Bitrate = Bitrate::from_kbps(40);
/// Share of the estimate for media; the rest is headers, retransmissions and reports.
const MEDIA_SHARE: f64 = 0.92;
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
        let Self { publishers, subscribers, scratch, .. } = self;
        for subscriber in subscribers.iter_mut().flatten() {
            scratch.collect(now, subscriber, publishers);
            let audio: u64 = subscriber
                .slots
                .iter()
                .filter_map(|s| s.showing)
                .filter(|source| source.kind() == SourceKind::Microphone)
                .map(|_| AUDIO_RATE.as_bps())
                .sum();
            let target = subscriber.congestion.target().scale(MEDIA_SHARE).as_bps();
            scratch.divide(Bitrate::from_bps(target.saturating_sub(audio)), subscriber);
        }
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
            let layers = wanted
                .map(|desired| match desired {
                    Desired::All => all,
                    Desired::Goal(goal) => RequestedLayers { encodings: goal.encoding + 1, spatial: goal.spatial + 1 },
                })
                .max_by_key(|layers| (layers.encodings, layers.spatial))
                .unwrap_or(RequestedLayers { encodings: 0, spatial: 0 });
            let rank = |layers: RequestedLayers| (layers.encodings, layers.spatial);
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

/// What a slot would get if there were bandwidth: its publisher has to go on sending that, or nobody could ever get it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Desired {
    /// These layers fill its tile.
    Goal(Goal),
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

    fn divide(&mut self, available: Bitrate, subscriber: &mut Subscriber) {
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
        subscriber.wants_more = false;
        for ((want, given), best) in wants.iter().zip(allocations.iter()).zip(unlimited.iter()) {
            let Some(slot) = subscriber.slots.get_mut(want.slot) else { continue };
            slot.stream.selector().set_goal(given.goal);
            let largest = layers.get(want.first..want.end).unwrap_or_default().iter().map(|l| l.height).max();
            let fills = |height: u32| f64::from(height) >= f64::from(want.height) * TILE_SHARE;
            slot.desired = match best.goal {
                Some(goal) if largest.is_none_or(fills) => Some(Desired::Goal(goal)),
                _ if want.height == 0 => None,
                _ => Some(Desired::All),
            };
            subscriber.wants_more |= given.goal != best.goal;
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
