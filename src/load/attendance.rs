//! What one client knows of its room, and what it shows of it: a grid of tiles, as a page does.
//!
//! Pure. The grid has the cameras of those who came first; where there are more cameras than tiles, the last tile follows whoever
//! speaks. What changes is said at once where nothing was said lately, and else gathered, so that a room that fills is not said
//! once for each.

use halloo_protocol::{
    Event, Participant, ParticipantId, RoomId, RoomSnapshot, Shown, SourceKind, SourceOf, SourceState, Subscribe,
    TileSize,
};
use halloo_transport::Timestamp;
use std::time::Duration;

/// From what was said to what is said next: what changes meanwhile is gathered, as real clients do.
const GATHER: Duration = Duration::from_millis(300);
/// The page, in pixels.
const PAGE: (u16, u16) = (1_280, 720);

/// A client's view of its room.
#[derive(Debug)]
pub struct Attendance {
    room: RoomId,
    me: ParticipantId,
    /// Everybody, in the order in which they came, and whether their camera is on.
    participants: Vec<(ParticipantId, bool)>,
    tiles: usize,
    said: Option<Subscribe>,
    said_at: Option<Timestamp>,
    due: Option<Timestamp>,
    /// Nobody else's camera was on until then; `None` where somebody's was from the start, or still nobody's is.
    alone_until: Option<Timestamp>,
}

/// What an event means for the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Whether anybody receives its camera.
    Watched(bool),
    /// It has to join anew.
    Rejoin,
    /// It is out.
    Out(&'static str),
}

impl Attendance {
    /// The room as it was when the client joined.
    pub fn new(now: Timestamp, snapshot: &RoomSnapshot, tiles: usize) -> Self {
        let mut attendance = Self {
            room: snapshot.room.clone(),
            me: snapshot.you,
            participants: Vec::new(),
            tiles,
            said: None,
            said_at: None,
            due: Some(now),
            alone_until: None,
        };
        snapshot.participants.iter().for_each(|participant| attendance.put(participant));
        attendance
    }

    /// Takes an event.
    pub fn handle_event(&mut self, now: Timestamp, event: &Event) -> Option<Meaning> {
        match event {
            Event::ParticipantJoined { participant, .. } | Event::ParticipantChanged { participant, .. } => {
                let was_alone = self.cameras().next().is_none();
                self.put(participant);
                if was_alone && self.cameras().next().is_some() {
                    self.alone_until.get_or_insert(now);
                }
                self.changed(now);
            }
            Event::ParticipantLeft { participant, .. } => {
                self.participants.retain(|(id, _)| id != participant);
                self.changed(now);
            }
            Event::LayersWanted(wanted) if wanted.kind == SourceKind::Camera => {
                return Some(Meaning::Watched(wanted.encodings > 0));
            }
            Event::RoomLeft { .. } => return Some(Meaning::Out("taken out of the room")),
            Event::RejoinRoom { .. } => return Some(Meaning::Rejoin),
            Event::GoingAway { .. } => return Some(Meaning::Out("the server goes away")),
            _ => {}
        }
        None
    }

    fn put(&mut self, participant: &Participant) {
        let (id, films) = (participant.participant, participant.media.camera == SourceState::On);
        match self.participants.iter_mut().find(|(known, _)| *known == id) {
            Some(known) => known.1 = films,
            None => self.participants.push((id, films)),
        }
    }

    fn changed(&mut self, now: Timestamp) {
        let due = self.said_at.map_or(now, |said| now.max(said + GATHER));
        self.due.get_or_insert(due);
    }

    /// What is to be asked of the server now.
    pub fn poll(&mut self, now: Timestamp) -> Option<Subscribe> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        let wish = self.wish();
        if self.said.as_ref() == Some(&wish) {
            return None;
        }
        self.said = Some(wish.clone());
        self.said_at = Some(now);
        Some(wish)
    }

    /// When [`Attendance::poll`] is next wanted.
    pub const fn next_timeout(&self) -> Option<Timestamp> {
        self.due
    }

    /// Until when nobody else's camera was on; `None` where somebody's was when the client joined, or none came yet.
    pub const fn alone_until(&self) -> Option<Timestamp> {
        self.alone_until
    }

    /// Others whose camera is on.
    fn cameras(&self) -> impl Iterator<Item = ParticipantId> {
        self.participants.iter().filter(|(id, films)| *films && *id != self.me).map(|(id, _)| *id)
    }

    fn wish(&self) -> Subscribe {
        let cameras: Vec<ParticipantId> = self.cameras().collect();
        let follows = cameras.len() > self.tiles;
        let size = tile(cameras.len().min(self.tiles));
        let named = if follows { self.tiles.saturating_sub(1) } else { self.tiles };
        let shown = |participant: &ParticipantId| Shown {
            source: SourceOf { participant: *participant, kind: SourceKind::Camera },
            size,
            pinned: false,
        };
        Subscribe {
            room: self.room.clone(),
            show: cameras.iter().take(named).map(shown).collect(),
            others: follows.then_some(size),
        }
    }
}

/// The size of each of so many tiles.
fn tile(count: usize) -> TileSize {
    let columns = (1..=8).find(|columns| columns * columns >= count).unwrap_or(8) as u16;
    TileSize { width: PAGE.0 / columns, height: PAGE.1 / columns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_protocol::{
        DeviceId, LayersWanted, LeaveReason, PeerReach, Role, RoomGrants, RoomLimits, RoomMedia, RoomState, UserId,
    };

    fn participant(id: u32, camera: SourceState) -> Participant {
        Participant {
            participant: ParticipantId(id),
            user: UserId::new(format!("user{id}")).unwrap(),
            device: DeviceId::new("device").unwrap(),
            display_name: String::new(),
            role: Role::Participant,
            media: RoomMedia { camera, ..RoomMedia::default() },
            reach: PeerReach::Back,
        }
    }

    fn room() -> RoomId {
        RoomId::new("room").unwrap()
    }

    fn attendance(cameras: u32, tiles: usize) -> Attendance {
        let snapshot = RoomSnapshot {
            room: room(),
            you: ParticipantId(1),
            grants: RoomGrants { publish: Vec::new(), subscribe: true, moderate: false },
            state: RoomState {
                locked: false,
                limits: RoomLimits { max_participants: 200, max_publish_kbps: 1, max_height: 1 },
            },
            participants: (1..=cameras + 1).map(|id| participant(id, SourceState::On)).collect(),
            dominant_speaker: None,
        };
        Attendance::new(Timestamp::ZERO, &snapshot, tiles)
    }

    fn joined(id: u32, camera: SourceState) -> Event {
        Event::ParticipantJoined { room: room(), participant: participant(id, camera) }
    }

    #[test]
    fn everybody_but_oneself_is_shown_and_more_than_the_tiles_follow_the_speaker() {
        for (cameras, shown, others, width) in
            [(0, 0, false, 1_280), (1, 1, false, 1_280), (5, 5, false, 426), (9, 9, false, 426), (20, 8, true, 426)]
        {
            let wish = attendance(cameras, 9).poll(Timestamp::ZERO).unwrap();
            assert_eq!((wish.show.len(), wish.others.is_some()), (shown, others), "{cameras} cameras");
            assert!(wish.show.iter().all(|s| s.source.participant != ParticipantId(1) && s.size.width == width));
        }
    }

    #[test]
    fn what_changes_is_said_at_once_but_not_twice_within_a_moment_and_not_for_nothing() {
        let mut attendance = attendance(1, 9);
        attendance.poll(Timestamp::ZERO);
        assert_eq!(attendance.next_timeout(), None);
        let now = Timestamp::from_millis(1_000);
        attendance.handle_event(now, &joined(3, SourceState::On));
        assert_eq!(attendance.poll(now).unwrap().show.len(), 2, "nothing was said lately");
        attendance.handle_event(now + Duration::from_millis(100), &joined(4, SourceState::On));
        attendance.handle_event(now + Duration::from_millis(200), &joined(5, SourceState::On));
        let due = attendance.next_timeout().unwrap();
        assert_eq!(due, now + GATHER);
        assert_eq!(attendance.poll(now + Duration::from_millis(200)), None);
        assert_eq!(attendance.poll(due).unwrap().show.len(), 4);
        attendance.handle_event(due, &joined(6, SourceState::Off));
        assert_eq!(attendance.poll(due + GATHER), None, "no camera");
        let left = Event::ParticipantLeft { room: room(), participant: ParticipantId(4), reason: LeaveReason::Left };
        attendance.handle_event(due + GATHER, &left);
        assert_eq!(attendance.poll(due + GATHER).unwrap().show.len(), 3);
    }

    #[test]
    fn who_comes_first_is_alone_until_somebody_films() {
        let mut first = attendance(0, 9);
        first.handle_event(Timestamp::from_millis(10), &joined(2, SourceState::Off));
        assert_eq!(first.alone_until(), None);
        for (millis, id) in [(20, 3), (30, 4)] {
            first.handle_event(Timestamp::from_millis(millis), &joined(id, SourceState::On));
        }
        assert_eq!(first.alone_until(), Some(Timestamp::from_millis(20)));
        let mut later = attendance(1, 9);
        later.handle_event(Timestamp::from_millis(20), &joined(5, SourceState::On));
        assert_eq!(later.alone_until(), None, "somebody was there");
    }

    #[test]
    fn a_publisher_learns_whether_it_is_watched() {
        let mut attendance = attendance(0, 9);
        let wanted = |kind, encodings| Event::LayersWanted(LayersWanted { room: room(), kind, encodings, spatial: 1 });
        let mut meaning = |event| attendance.handle_event(Timestamp::ZERO, &event);
        assert_eq!(meaning(wanted(SourceKind::Camera, 0)), Some(Meaning::Watched(false)));
        assert_eq!(meaning(wanted(SourceKind::Camera, 1)), Some(Meaning::Watched(true)));
        assert_eq!(meaning(wanted(SourceKind::Screen, 1)), None);
        assert_eq!(meaning(Event::RejoinRoom { room: room() }), Some(Meaning::Rejoin));
    }
}
