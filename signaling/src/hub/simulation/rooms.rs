//! Rooms in the simulation: a media plane that answers late, badly or never, and what every client believes of its rooms.

use super::*;
use crate::media::{MediaCommand, MediaError, MediaEvent, MediaJoined};
use halloo_protocol::{
    JoinRoom, LeaveReason, Moderate, Moderation, ParticipantId, Role, RoomId, RoomMedia, RoomSnapshot, SourceKind,
    SourceOf, SourceState, Subscribe,
};
use std::collections::HashSet;

/// A media plane that does what it is told, after a while.
#[derive(Default)]
pub(super) struct Plane {
    /// Whom it has taken in.
    taken_in: BTreeMap<RoomId, BTreeSet<ParticipantId>>,
    /// What it has not answered yet.
    unanswered: Vec<MediaOrder>,
    next: u32,
    pub(super) joins: u64,
    pub(super) late: u64,
}

/// What a client believes, by what it was told.
#[derive(Default)]
pub(super) struct Belief {
    rooms: HashMap<RoomId, BTreeSet<ParticipantId>>,
    /// Who went away, and may be said to have left after all.
    lost: BTreeSet<(RoomId, ParticipantId)>,
    /// Which participant the client is itself.
    own: HashMap<RoomId, ParticipantId>,
    /// Requests about rooms whose reply was not read yet.
    asked: HashMap<u64, Request>,
    /// A reply was lost with its connection: what came of it is not known until a new session.
    unsure: bool,
}

impl Belief {
    pub(super) fn ask(&mut self, id: u64, request: &Request) {
        self.asked.insert(id, request.clone());
    }

    pub(super) fn welcome(&mut self, resumed: bool, rooms: &[RoomSnapshot]) {
        if resumed {
            self.unsure |= !self.asked.is_empty();
        } else {
            self.unsure = false;
            self.rooms = rooms.iter().map(|room| (room.room.clone(), numbers(room))).collect();
            self.own = rooms.iter().map(|room| (room.room.clone(), room.you)).collect();
        }
        self.asked.clear();
    }

    pub(super) fn read(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Reply(Reply { reply_to, body: ReplyBody::Result(result) }) => match result {
                ReplyResult::RoomJoined(joined) => {
                    self.asked.remove(reply_to);
                    self.rooms.insert(joined.snapshot.room.clone(), numbers(&joined.snapshot));
                    self.own.insert(joined.snapshot.room.clone(), joined.snapshot.you);
                }
                _ => self.done(*reply_to),
            },
            ServerMessage::Reply(Reply { reply_to, body: ReplyBody::Error(_) }) => {
                self.asked.remove(reply_to);
            }
            ServerMessage::Event(NumberedEvent { event, .. }) => self.event(event),
        }
    }

    fn done(&mut self, id: u64) {
        match self.asked.remove(&id) {
            Some(Request::LeaveRoom { room }) => {
                self.rooms.remove(&room);
            }
            Some(Request::Moderate(Moderate { room, action: Moderation::Close })) => {
                self.rooms.remove(&room);
            }
            Some(Request::Moderate(Moderate { room, action: Moderation::Remove { participant } })) => {
                if self.own.get(&room) == Some(&participant) {
                    self.rooms.remove(&room);
                } else if let Some(participants) = self.rooms.get_mut(&room) {
                    participants.remove(&participant);
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::ParticipantJoined { room, participant } => {
                self.rooms.get_mut(room).map(|participants| participants.insert(participant.participant));
            }
            Event::ParticipantLeft { room, participant, reason } => {
                let here = self.rooms.get_mut(room).is_some_and(|participants| participants.remove(participant));
                let key = (room.clone(), *participant);
                let known = here || (*reason == LeaveReason::Left && self.lost.remove(&key));
                if *reason == LeaveReason::Lost {
                    self.lost.insert(key);
                }
                assert!(known || self.unsure, "{participant} left {room}, and nobody had said that they were there");
            }
            Event::RoomLeft { room, .. } | Event::RejoinRoom { room } => {
                self.rooms.remove(room);
            }
            _ => {}
        }
    }
}

fn numbers(snapshot: &RoomSnapshot) -> BTreeSet<ParticipantId> {
    snapshot.participants.iter().map(|participant| participant.participant).collect()
}

/// Whether the reply may come later.
pub(super) fn is_deferred(request: &Request) -> bool {
    matches!(request, Request::JoinRoom(_) | Request::RoomOffer { .. })
}

impl World {
    fn some_room(&mut self) -> RoomId {
        RoomId::new(format!("room{}", self.draw(2))).unwrap()
    }

    fn some_participant(&mut self) -> ParticipantId {
        let back = u32::try_from(self.draw(5)).unwrap();
        ParticipantId(self.plane.next.saturating_sub(back))
    }

    pub(super) fn some_room_request(&mut self) -> Request {
        let room = self.some_room();
        let participant = self.some_participant();
        let microphone = if self.draw(2) == 0 { SourceState::On } else { SourceState::Muted };
        let media = RoomMedia { microphone, ..RoomMedia::default() };
        let moderate = |action| Request::Moderate(Moderate { room: room.clone(), action });
        match self.draw(14) {
            0..6 => Request::JoinRoom(JoinRoom { room, media, sdp: "offer".into(), token: None }),
            6 => Request::LeaveRoom { room },
            7 => Request::RoomOffer { room, sdp: "offer".into() },
            8 => Request::RoomMedia { room, media },
            9 => Request::Subscribe(Subscribe { room, show: Vec::new(), others: None }),
            10 => moderate(Moderation::Mute { source: SourceOf { participant, kind: SourceKind::Microphone } }),
            11 => moderate(Moderation::Remove { participant }),
            12 => moderate(Moderation::SetRole { participant, role: Role::Moderator }),
            _ if self.draw(6) == 0 => moderate(Moderation::Close),
            _ => moderate(Moderation::Lock { locked: self.draw(3) == 0 }),
        }
    }

    /// The media plane takes what the hub has for it.
    pub(super) fn take_orders(&mut self) {
        while let Some(order) = self.hub.poll_media() {
            match order {
                MediaOrder::Command { room, command: MediaCommand::Leave { participant } } => {
                    let participants = self.plane.taken_in.get_mut(&room);
                    assert!(participants.is_some_and(|p| p.remove(&participant)), "{participant} is not in {room}");
                }
                MediaOrder::Command {
                    room,
                    command: MediaCommand::Source { participant, .. } | MediaCommand::Show { participant, .. },
                } => {
                    assert!(self.plane.taken_in[&room].contains(&participant), "{participant} is not in {room}");
                }
                order => self.plane.unanswered.push(order),
            }
        }
    }

    /// The media plane does something.
    pub(super) fn media_step(&mut self) {
        match self.draw(12) {
            0 => self.media_event(),
            _ => self.answer_one(),
        }
        self.take_orders();
        self.collect(None);
    }

    fn answer_one(&mut self) {
        if self.plane.unanswered.is_empty() {
            return;
        }
        let which = usize::try_from(self.draw(self.plane.unanswered.len() as u64)).unwrap();
        let good = self.draw(8) != 0;
        match self.plane.unanswered.swap_remove(which) {
            MediaOrder::Join { ticket, join } if good => {
                self.plane.next += 1;
                self.plane.joins += 1;
                let participant = ParticipantId(self.plane.next);
                let room = self.plane.taken_in.entry(join.room).or_default();
                room.insert(participant);
                let before = self.hub.rooms.entering().count();
                self.hub.handle_media_joined(self.now, ticket, Ok(MediaJoined { participant, sdp: "answer".into() }));
                self.plane.late += u64::from(self.hub.rooms.entering().count() == before);
            }
            MediaOrder::Join { ticket, .. } => {
                let error = MediaError::BadOffer("no fingerprint".into());
                self.hub.handle_media_joined(self.now, ticket, Err(error));
            }
            MediaOrder::Offer { ticket, .. } => self.hub.handle_media_answer(ticket, Ok("answer".into())),
            MediaOrder::Command { .. } => unreachable!("commands are not answered"),
        }
    }

    fn media_event(&mut self) {
        let room = self.some_room();
        let participant = self.some_participant();
        let event = match self.draw(6) {
            0..3 => MediaEvent::DominantSpeaker(Some(participant)),
            3 => MediaEvent::Policed { participant, kind: SourceKind::Camera },
            4 => {
                if let Some(participants) = self.plane.taken_in.get_mut(&room) {
                    participants.remove(&participant);
                }
                MediaEvent::Lost { participant }
            }
            _ => {
                self.plane.taken_in.remove(&room);
                MediaEvent::RoomFailed
            }
        };
        self.hub.handle_media_event(self.now, &room, event);
    }

    /// The hub, the media plane and every client that has read all it was sent agree on who is in which room.
    pub(super) fn check_rooms(&self) {
        let mut seats = HashSet::new();
        for (id, room) in &self.hub.rooms.open {
            assert!(!room.is_empty());
            for (who, session) in &self.hub.sessions {
                assert_eq!(room.member(who).is_some(), session.rooms.contains(id), "{who:?} in {id}");
                if let Some(member) = room.member(who) {
                    assert!(seats.insert((id.clone(), member.participant)));
                    assert_eq!(member.lost, session.conn.is_none());
                }
            }
        }
        for session in self.hub.sessions.values() {
            assert!(session.rooms.iter().all(|room| self.hub.rooms.open.contains_key(room)));
        }
        let of_plane = self.plane.taken_in.iter().flat_map(|(room, p)| p.iter().map(|p| (room.clone(), *p)));
        assert_eq!(of_plane.collect::<HashSet<_>>(), seats, "the media plane and the hub differ");
        for client in &self.clients {
            let who = Endpoint { user: client.user.clone(), device: client.device.clone() };
            if client.conn.is_none() || !client.unread.is_empty() || client.belief.unsure {
                continue;
            }
            let open =
                self.hub.rooms.open.iter().filter_map(|(id, room)| Some((id.clone(), numbers(&room.snapshot(&who)?))));
            assert_eq!(client.belief.rooms, open.collect::<HashMap<_, _>>(), "what {who:?} believes");
        }
    }

    /// The media plane answers all that it has been asked.
    pub(super) fn end_media(&mut self) {
        while !self.plane.unanswered.is_empty() {
            self.answer_one();
            self.take_orders();
            self.collect(None);
        }
        assert!(self.hub.rooms.is_idle());
        assert!(self.plane.taken_in.values().all(BTreeSet::is_empty), "{:?}", self.plane.taken_in);
        assert!(self.awaited.is_empty(), "never replied to: {:?}", self.awaited);
    }
}
