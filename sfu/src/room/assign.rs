//! Which slot shows which source: what each subscriber wishes first, then screens, then those who spoke last.
//!
//! A source stays in its slot as long as it is shown at all. Changes are told as deltas, and make the slot's stream start
//! anew: for video at a key frame, which is asked for at once.

use super::{
    Event, Room, Stale,
    config::{ParticipantId, SlotKind, SourceId, SourceKind},
    forward::is_own,
    interface::{Egress, SlotChange, SlotIndex},
    publisher::{Listener, Publisher},
    subscriber::{MAX_SLOTS, Subscriber},
};
use halloo_transport::Timestamp;

impl Room {
    /// Assigns slots anew where something changed, and asks for the key frames that are needed for it.
    pub(super) fn assign(&mut self, now: Timestamp, egress: &mut impl Egress) {
        let stale = std::mem::take(&mut self.stale);
        if stale == Stale::default() {
            return;
        }
        let audio = if stale.audio { self.heard() } else { Vec::new() };
        let video = if stale.video { self.followed() } else { Vec::new() };
        self.due.touch_all();
        for index in 0..self.subscribers.len() {
            let Some(Some(subscriber)) = self.subscribers.get_mut(index) else { continue };
            let publishers = &self.publishers;
            let mut changes = Vec::new();
            if stale.audio {
                let wanted = wanted_audio(subscriber, &audio);
                fill(subscriber, SlotKind::Audio, &wanted, &mut changes);
            }
            if stale.video {
                let wanted = wanted_video(subscriber, &video, publishers);
                fill(subscriber, SlotKind::Video, &wanted, &mut changes);
            }
            self.apply(index, &changes);
        }
        if stale.video {
            self.allocate(now);
            self.request_key_frames(now, egress);
        }
    }

    /// Microphones of the loudest.
    fn heard(&self) -> Vec<SourceId> {
        let source = |place: &usize| Some(SourceId::new(self.id_at(*place)?, SourceKind::Microphone));
        self.loudest.members().iter().filter_map(source).collect()
    }

    /// What slots follow that nobody asked for: screens, then cameras of those who spoke last.
    fn followed(&self) -> Vec<SourceId> {
        let of = |kind| {
            let source = move |place: &usize| Some(SourceId::new(self.id_at(*place)?, kind));
            self.recency.iter().filter_map(source).filter(|source| is_available(&self.publishers, *source))
        };
        // Each subscriber leaves out its own two.
        of(SourceKind::Screen).chain(of(SourceKind::Camera)).take(MAX_SLOTS * 2 + 2).collect()
    }

    fn apply(&mut self, index: usize, changes: &[SlotChange]) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            let listener = Listener { subscriber: index as u16, slot: change.slot.0 };
            let Some(Some(subscriber)) = self.subscribers.get_mut(index) else { return };
            let Some(slot) = subscriber.slots.get_mut(usize::from(change.slot.0)) else { continue };
            let before = std::mem::replace(&mut slot.showing, change.source);
            slot.stream.restart();
            slot.stream.selector().set_goal(None);
            slot.announced = change.source;
            if let Some(section) = before.and_then(|source| self.section_mut(source)) {
                section.remove_listener(listener);
            }
            if let Some(section) = change.source.and_then(|source| self.section_mut(source)) {
                section.listeners.push(listener);
            }
        }
        if let Some(subscriber) = self.id_at(index) {
            self.events.push_back(Event::SlotsChanged { subscriber, changes: changes.to_vec() });
        }
    }
}

fn is_available(publishers: &[Option<Publisher>], source: SourceId) -> bool {
    let id: ParticipantId = source.participant();
    publishers
        .get(id.index())
        .and_then(Option::as_ref)
        .filter(|p| p.id == id)
        .and_then(|p| p.section(source.kind()))
        .is_some_and(|section| section.is_available())
}

fn slots_of(subscriber: &Subscriber, kind: SlotKind) -> usize {
    if subscriber.may_receive { subscriber.slots.iter().filter(|s| s.config.kind == kind).count() } else { 0 }
}

fn wanted_audio(subscriber: &Subscriber, heard: &[SourceId]) -> Vec<SourceId> {
    let places = slots_of(subscriber, SlotKind::Audio);
    heard.iter().copied().filter(|source| !is_own(subscriber.id, *source)).take(places).collect()
}

/// What a subscriber's video slots are to show, as many as it has.
fn wanted_video(subscriber: &Subscriber, followed: &[SourceId], publishers: &[Option<Publisher>]) -> Vec<SourceId> {
    let places = slots_of(subscriber, SlotKind::Video);
    let mut wishes: Vec<_> = subscriber
        .wishes
        .iter()
        .filter(|w| w.source.kind() != SourceKind::Microphone && w.height > 0 && !is_own(subscriber.id, w.source))
        .filter(|w| is_available(publishers, w.source))
        .collect();
    wishes.sort_by_key(|w| (!w.pinned, std::cmp::Reverse(u64::from(w.width) * u64::from(w.height))));
    let follows = subscriber.others.is_none_or(|(_, height)| height > 0);
    let hidden = |source: &SourceId| subscriber.wishes.iter().any(|w| w.source == *source && w.height == 0);
    let rest = followed.iter().copied().filter(|s| follows && !hidden(s) && !is_own(subscriber.id, *s));
    let mut wanted: Vec<SourceId> = Vec::with_capacity(places);
    for source in wishes.iter().map(|w| w.source).chain(rest) {
        if wanted.len() == places {
            break;
        }
        if !wanted.contains(&source) {
            wanted.push(source);
        }
    }
    wanted
}

/// Puts `wanted` into the slots of a kind: what is shown already stays where it is.
fn fill(subscriber: &Subscriber, kind: SlotKind, wanted: &[SourceId], changes: &mut Vec<SlotChange>) {
    let slots = || subscriber.slots.iter().enumerate().filter(|(_, s)| s.config.kind == kind);
    let shown = |source: &SourceId| slots().any(|(_, s)| s.showing == Some(*source));
    let mut new = wanted.iter().copied().filter(|source| !shown(source));
    for (index, slot) in slots() {
        if slot.showing.is_some_and(|source| wanted.contains(&source)) {
            continue;
        }
        let source = new.next();
        if source != slot.showing {
            changes.push(SlotChange { slot: SlotIndex(index as u8), source });
        }
    }
}
