//! A room above SRTP: participants, sources, and who gets what.
//!
//! ```text
//!  publisher's packet -> Publisher (whose stream?) -> Stream (new? layers? history) -> for each slot that shows it:
//!      SlotStream (forward? renumber) -> Subscriber (budget, pacer, congestion control) -> Egress
//! ```
//!
//! A participant is two halves in two tables with one index, so that a packet of one can be forwarded to all others without
//! a lock or a copy. Payloads are opaque. Nothing allocates for a packet once tables and histories have grown to their size.

mod assign;
mod audio_rate;
mod bandwidth;
mod comebacks;
mod config;
mod due;
mod feedback;
mod forward;
mod history;
mod interface;
mod messages;
mod publisher;
#[cfg(test)]
mod simulation;
pub mod snapshot;
mod stream;
mod subscriber;
#[cfg(test)]
mod tests;
mod timers;

pub use config::{
    Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot, RoomConfig, Rtx,
    SlotKind, SourceId, SourceKind,
};
pub use interface::{Command, Egress, Event, JoinError, RequestedLayers, SlotChange, SlotIndex, VideoWish};

pub use snapshot::RoomSnapshot;

use crate::speaker::{Dominant, Loudest};
use halloo_transport::Timestamp;
use publisher::Publisher;
use std::collections::VecDeque;
use subscriber::Subscriber;

/// A room: a pure value. Call [`Room::handle_timeout`] when [`Room::next_timeout`] is reached, and drain
/// [`Room::poll_event`] after every call.
#[derive(Debug)]
pub struct Room {
    config: RoomConfig,
    publishers: Vec<Option<Publisher>>,
    subscribers: Vec<Option<Subscriber>>,
    /// How many participants each place had so far.
    generations: Vec<u32>,
    free: Vec<usize>,
    dominant: Dominant,
    loudest: Loudest,
    /// Places in the order in which they were last dominant, newest first; who never was follows in order of joining.
    recency: Vec<usize>,
    events: VecDeque<Event>,
    /// Packets that were taken in and not sent on yet.
    waiting: Vec<forward::Taken>,
    /// When the first of them came.
    waiting_since: Timestamp,
    /// Slots have to be assigned anew.
    stale: Stale,
    next_cycle: Option<Timestamp>,
    /// When participants are next wanted.
    due: due::Due,
    scratch: bandwidth::Scratch,
    feedback: feedback::Feedback,
}

/// Which assignment of slots is out of date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Stale {
    audio: bool,
    video: bool,
}

impl Room {
    /// An empty room.
    pub fn new(config: RoomConfig) -> Self {
        let max_participants = config.max_participants.min(ParticipantId::MAX_PARTICIPANTS);
        Self {
            config: RoomConfig { max_participants, ..config },
            publishers: Vec::new(),
            subscribers: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            dominant: Dominant::new(),
            loudest: Loudest::new(config.loudest),
            recency: Vec::new(),
            events: VecDeque::new(),
            waiting: Vec::new(),
            waiting_since: Timestamp::ZERO,
            stale: Stale::default(),
            next_cycle: None,
            due: due::Due::default(),
            scratch: bandwidth::Scratch::default(),
            feedback: feedback::Feedback::default(),
        }
    }

    /// Lets a participant in. Nothing is sent to it before [`Command::Connected`].
    ///
    /// # Errors
    /// Where the room is full.
    pub fn join(&mut self, now: Timestamp, config: ParticipantConfig) -> Result<ParticipantId, JoinError> {
        if self.len() >= self.config.max_participants {
            return Err(JoinError::Full);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.publishers.push(None);
            self.subscribers.push(None);
            self.generations.push(0);
            self.generations.len() - 1
        });
        let generation = self.generations.get_mut(index).map_or(0, |generation| {
            *generation = generation.wrapping_add(1);
            *generation
        });
        let id = ParticipantId::new(index, generation);
        if let (Some(publisher), Some(subscriber)) = (self.publishers.get_mut(index), self.subscribers.get_mut(index)) {
            *publisher = Some(Publisher::new(id, &config));
            *subscriber = Some(Subscriber::new(id, &config));
        }
        self.recency.push(index);
        self.stale = Stale { audio: true, video: true };
        self.due.touch_all();
        self.next_cycle.get_or_insert(now);
        Ok(id)
    }

    /// Takes a participant and its sources out. Unknown ids are ignored, here and everywhere.
    pub fn leave(&mut self, now: Timestamp, id: ParticipantId, egress: &mut impl Egress) {
        self.forward(now, egress);
        let Some(index) = self.index_of(id) else { return };
        for kind in SourceKind::ALL {
            self.stop_source(SourceId::new(id, kind));
        }
        for publisher in self.publishers.iter_mut().flatten() {
            for section in &mut publisher.sections {
                section.listeners.retain(|l| usize::from(l.subscriber) != index);
            }
        }
        for table in
            [self.publishers.get_mut(index).map(|p| *p = None), self.subscribers.get_mut(index).map(|s| *s = None)]
        {
            debug_assert!(table.is_some());
        }
        self.due.touch_all();
        self.recency.retain(|place| *place != index);
        self.free.push(index);
        if self.is_empty() {
            self.next_cycle = None;
        }
        self.assign(now, egress);
    }

    /// Adds receive slots to a participant who asked to see more.
    pub fn add_slots(&mut self, now: Timestamp, id: ParticipantId, slots: &[ReceiveSlot], egress: &mut impl Egress) {
        self.forward(now, egress);
        if let Some(subscriber) = self.subscriber_mut(id) {
            subscriber.add_slots(slots);
            self.stale = Stale { audio: true, video: true };
            self.assign(now, egress);
        }
    }

    /// Does what control asks.
    pub fn command(&mut self, now: Timestamp, command: Command, egress: &mut impl Egress) {
        self.forward(now, egress);
        match command {
            Command::Connected(id) => self.set_connected(now, id, true),
            Command::Disconnected(id) => self.set_connected(now, id, false),
            Command::Show { by, mut wishes, others } => {
                if let Some(subscriber) = self.subscriber_mut(by) {
                    wishes.truncate(subscriber::MAX_SLOTS);
                    (subscriber.wishes, subscriber.others) = (wishes, Some(others));
                    self.stale.video = true;
                    self.next_cycle = Some(now);
                }
            }
            Command::Mute { source, muted } => self.change_source(source, |section| section.muted = muted),
            Command::Publish { source, published } => {
                self.change_source(source, |section| section.published = published);
            }
        }
        self.assign(now, egress);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many participants are in the room.
    pub fn len(&self) -> usize {
        self.recency.len()
    }

    /// Whether nobody is in the room.
    pub fn is_empty(&self) -> bool {
        self.recency.is_empty()
    }

    /// The participant who speaks, as far as known.
    pub fn dominant_speaker(&self) -> Option<ParticipantId> {
        self.id_at(self.dominant.current()?)
    }

    /// How many participants' paths carry less than what they show would need.
    pub fn constrained(&self) -> usize {
        self.subscribers.iter().flatten().filter(|s| s.connected && s.wants_more).count()
    }

    /// Bytes of memory that packets kept for retransmission take.
    pub fn history_bytes(&self) -> usize {
        let sections = self.publishers.iter().flatten().flat_map(|p| &p.sections);
        sections.flat_map(|s| &s.streams).map(stream::Stream::memory).sum()
    }

    fn index_of(&self, id: ParticipantId) -> Option<usize> {
        self.publishers.get(id.index())?.as_ref().filter(|p| p.id == id).map(|_| id.index())
    }

    fn id_at(&self, index: usize) -> Option<ParticipantId> {
        self.publishers.get(index)?.as_ref().map(|p| p.id)
    }

    fn subscriber_mut(&mut self, id: ParticipantId) -> Option<&mut Subscriber> {
        self.subscribers.get_mut(id.index())?.as_mut().filter(|s| s.id == id)
    }

    fn section_mut(&mut self, source: SourceId) -> Option<&mut publisher::Section> {
        let id = source.participant();
        let publisher = self.publishers.get_mut(id.index())?.as_mut().filter(|p| p.id == id)?;
        publisher.section_mut(source.kind()).filter(|s| s.source == source)
    }

    fn set_connected(&mut self, now: Timestamp, id: ParticipantId, connected: bool) {
        let Some(subscriber) = self.subscriber_mut(id) else { return };
        if subscriber.connected {
            subscriber.reset_path(now);
        }
        subscriber.connected = connected;
        if connected {
            subscriber.start(now);
        }
        self.due.touch_all();
        self.stale = Stale { audio: true, video: true };
        self.next_cycle = Some(now);
    }

    fn change_source(&mut self, source: SourceId, change: impl FnOnce(&mut publisher::Section)) {
        let Some(section) = self.section_mut(source) else { return };
        let before = section.is_available();
        change(section);
        let (after, published) = (section.is_available(), section.published);
        if before != after {
            self.availability_changed(source);
        }
        if !published {
            self.stop_source(source);
        }
    }

    /// The source's slots, and its owner's place among speakers, are no longer right.
    fn availability_changed(&mut self, source: SourceId) {
        if source.kind() != SourceKind::Microphone {
            self.stale.video = true;
            return;
        }
        self.stale.audio = true;
        let index = source.participant().index();
        let available = self.section_mut(source).is_some_and(|s| s.is_available());
        if !available {
            self.loudest.remove(index);
            if self.dominant.remove(index) {
                self.stale.video = true;
                self.events.push_back(Event::DominantSpeaker(None));
            }
        }
    }

    fn stop_source(&mut self, source: SourceId) {
        let Some(section) = self.section_mut(source).filter(|s| s.live) else { return };
        section.live = false;
        section.streams.iter_mut().for_each(stream::Stream::forget);
        self.events.push_back(Event::SourceStopped(source));
        self.availability_changed(source);
    }
}
