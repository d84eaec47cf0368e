//! The one task that knows every participant of the forwarding unit: passes orders on to it, and its events back to
//! signaling.
//!
//! Invariants: orders reach the unit in the hub's order, whatever it refuses for being busy is offered again; a participant's
//! own events are held back until it is connected, by which time signaling surely knows it.

use super::{convert, metrics::Figures, negotiation::Negotiation};
use halloo_protocol::{ParticipantId, RoomId, RoomMedia, SlotShows, SourceKind};
use halloo_sfu::{
    SfuHandle,
    room::{self, Command},
    shard::{Event, LeaveReason},
};
use halloo_signaling::{MediaCommand, MediaEvent, MediaEvents};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};

/// What the unit had no room for is offered again after this.
const RETRY: Duration = Duration::from_millis(5);
/// The shards are asked for their counters this often.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Orders waiting for a busy unit; above it what participants want to see is dropped, which they say again.
const MAX_WAITING: usize = 10_000;

/// What the desk is told.
pub(super) enum Inbox {
    /// A shard took somebody in.
    Joined(Box<Joined>),
    /// An order from the hub.
    Command { room: RoomId, command: MediaCommand },
    /// Somebody has a later offer: what was agreed on so far.
    Negotiation { room: RoomId, participant: ParticipantId, reply: oneshot::Sender<Option<Arc<Mutex<Negotiation>>>> },
    /// The slots of somebody after a later offer.
    Slots { room: RoomId, participant: ParticipantId, mids: Vec<String> },
}

/// Somebody who was taken in.
pub(super) struct Joined {
    pub(super) room: RoomId,
    pub(super) participant: room::ParticipantId,
    pub(super) media: RoomMedia,
    pub(super) negotiation: Negotiation,
}

/// A participant.
#[derive(Debug)]
struct Member {
    negotiation: Arc<Mutex<Negotiation>>,
    mids: Vec<String>,
    link: Link,
}

#[derive(Debug)]
enum Link {
    /// Not connected yet. What its slots show by then, by mid.
    Awaited(BTreeMap<String, SlotShows>),
    Connected,
}

/// An order on its way to the unit.
#[derive(Clone, Debug)]
enum Order {
    Leave(room::ParticipantId),
    Command(Command),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    unit: Arc<SfuHandle>,
    inbox: mpsc::UnboundedReceiver<Inbox>,
    unit_events: mpsc::Receiver<Event>,
    figures: Arc<Figures>,
    rooms: HashMap<RoomId, HashMap<ParticipantId, Member>>,
    waiting: VecDeque<(Arc<str>, Order)>,
}

impl Desk {
    pub(super) fn new(
        unit: Arc<SfuHandle>,
        inbox: mpsc::UnboundedReceiver<Inbox>,
        unit_events: mpsc::Receiver<Event>,
        figures: Arc<Figures>,
    ) -> Self {
        Self { unit, inbox, unit_events, figures, rooms: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Works until the plane is dropped.
    pub(super) async fn run(mut self, events: MediaEvents) {
        let (counted, mut counts) = mpsc::unbounded_channel();
        let mut count = interval(COUNT_EVERY);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = self.inbox.recv() => match told {
                    Some(told) => self.handle(told),
                    None => return,
                },
                Some(event) = self.unit_events.recv() => {
                    // Whom it names may have been told of just before.
                    while let Ok(told) = self.inbox.try_recv() {
                        self.handle(told);
                    }
                    self.pass_on(event, &events);
                }
                Some((shard, stats)) = counts.recv() => self.figures.set(shard, stats),
                _ = count.tick() => {
                    let counted = counted.clone();
                    // A shard too busy to be asked keeps its last figures.
                    let told = move |shard, stats| {
                        let _ = counted.send((shard, stats));
                    };
                    let _ = self.unit.stats(told);
                }
                () = sleep(RETRY), if !self.waiting.is_empty() => {}
            }
            self.drain();
        }
    }

    fn handle(&mut self, told: Inbox) {
        match told {
            Inbox::Joined(joined) => self.add(*joined),
            Inbox::Command { room, command } => self.order(room, command),
            Inbox::Negotiation { room, participant, reply } => {
                let member = self.rooms.get(&room).and_then(|room| room.get(&participant));
                let _ = reply.send(member.map(|member| Arc::clone(&member.negotiation)));
            }
            Inbox::Slots { room, participant, mids } => {
                if let Some(member) = self.member(&room, participant) {
                    member.mids = mids;
                }
            }
        }
    }

    fn member(&mut self, room: &RoomId, participant: ParticipantId) -> Option<&mut Member> {
        self.rooms.get_mut(room)?.get_mut(&participant)
    }

    fn add(&mut self, Joined { room, participant, media, negotiation }: Joined) {
        let participant = convert::from_unit(participant);
        let member = Member {
            mids: negotiation.slot_mids(),
            negotiation: Arc::new(Mutex::new(negotiation)),
            link: Link::Awaited(BTreeMap::new()),
        };
        for kind in SourceKind::ALL {
            let state = media.get(kind);
            self.order(room.clone(), MediaCommand::Source { participant, kind, state });
        }
        self.rooms.entry(room).or_default().insert(participant, member);
    }

    fn order(&mut self, room: RoomId, command: MediaCommand) {
        let name: Arc<str> = Arc::from(room.as_str());
        match command {
            MediaCommand::Leave { participant } => {
                self.remove(&room, participant);
                self.waiting.push_back((name, Order::Leave(convert::to_unit(participant))));
            }
            MediaCommand::Source { participant, kind, state } => {
                let commands = convert::source_commands(participant, kind, state);
                self.waiting.extend(commands.map(|command| (Arc::clone(&name), Order::Command(command))));
            }
            MediaCommand::Show { participant, show, others } => {
                if self.waiting.len() < MAX_WAITING {
                    let command = convert::show(participant, &show, others);
                    self.waiting.push_back((name, Order::Command(command)));
                }
            }
        }
    }

    /// Gives the unit as much as it takes.
    fn drain(&mut self) {
        while let Some((room, order)) = self.waiting.front() {
            let room = Arc::clone(room);
            let taken = match order.clone() {
                Order::Leave(participant) => self.unit.leave(room, participant),
                Order::Command(command) => self.unit.command(room, command),
            };
            if taken.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn remove(&mut self, room: &RoomId, participant: ParticipantId) -> Option<Member> {
        let members = self.rooms.get_mut(room)?;
        let member = members.remove(&participant);
        if members.is_empty() {
            self.rooms.remove(room);
        }
        member
    }

    /// Tells signaling what happened.
    fn pass_on(&mut self, event: Event, events: &MediaEvents) {
        match event {
            Event::Connected { room, participant } => self.connected(&room, participant, events),
            Event::Left { room, participant, reason } => self.left(&room, participant, &reason, events),
            Event::Room { room, event } => self.pass_room_event_on(&room, event, events),
            // Its last participant left by order or with an event of its own.
            Event::RoomClosed { .. } => {}
            Event::ShardFailed { shard } => {
                tracing::error!(shard, "a shard of the forwarding unit failed: its rooms have to be joined again");
                let (unit, rooms) = (Arc::clone(&self.unit), std::mem::take(&mut self.rooms));
                let (failed, rest): (HashMap<_, _>, _) =
                    rooms.into_iter().partition(|(room, _)| unit.shard_of(room.as_str()) == shard);
                self.rooms = rest;
                failed.into_keys().for_each(|room| events.send(room, MediaEvent::RoomFailed));
            }
        }
    }

    fn connected(&mut self, room: &str, participant: room::ParticipantId, events: &MediaEvents) {
        let Ok(room) = convert::room_id(room) else { return };
        let participant = convert::from_unit(participant);
        let Some(member) = self.member(&room, participant) else { return };
        if let Link::Awaited(shows) = std::mem::replace(&mut member.link, Link::Connected)
            && !shows.is_empty()
        {
            let slots = shows.into_values().collect();
            events.send(room, MediaEvent::Slots { participant, slots });
        }
    }

    fn left(&mut self, room: &str, participant: room::ParticipantId, reason: &LeaveReason, events: &MediaEvents) {
        let Ok(room) = convert::room_id(room) else { return };
        if *reason == LeaveReason::RoomFailed {
            // Said of each participant; the first time says it all.
            if self.rooms.remove(&room).is_some() {
                tracing::error!("a room of the forwarding unit failed: it has to be joined again");
                events.send(room, MediaEvent::RoomFailed);
            }
            return;
        }
        let participant = convert::from_unit(participant);
        if self.remove(&room, participant).is_some() {
            tracing::debug!(%participant, ?reason, "a participant's media connection is gone");
            events.send(room, MediaEvent::Lost { participant });
        }
    }

    fn pass_room_event_on(&mut self, room: &str, event: room::Event, events: &MediaEvents) {
        let Ok(room) = convert::room_id(room) else { return };
        let event = match event {
            room::Event::SlotsChanged { subscriber, changes } => {
                let participant = convert::from_unit(subscriber);
                let Some(member) = self.member(&room, participant) else { return };
                let named = |change: &room::SlotChange| {
                    let mid = member.mids.get(usize::from(change.slot.0))?;
                    Some(convert::slot(mid, change.source))
                };
                let slots: Vec<SlotShows> = changes.iter().filter_map(named).collect();
                if let Link::Awaited(shows) = &mut member.link {
                    shows.extend(slots.into_iter().map(|slot| (slot.mid.clone(), slot)));
                    return;
                }
                MediaEvent::Slots { participant, slots }
            }
            room::Event::DominantSpeaker(speaker) => MediaEvent::DominantSpeaker(speaker.map(convert::from_unit)),
            room::Event::LayersRequested { source, layers } => MediaEvent::LayersWanted {
                participant: convert::from_unit(source.participant()),
                kind: convert::kind_from_unit(source.kind()),
                encodings: layers.encodings,
                spatial: layers.spatial,
            },
            room::Event::Policed { publisher, largest } => MediaEvent::Policed {
                participant: convert::from_unit(publisher),
                kind: convert::kind_from_unit(largest),
            },
            // What is published is what participants say of themselves; whether it flows shows in the slots.
            room::Event::SourceStarted(_) | room::Event::SourceStopped(_) => return,
        };
        events.send(room, event);
    }
}
