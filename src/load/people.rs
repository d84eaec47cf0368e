//! How everybody fares: when they were asked to join, when media flowed, when they saw the first picture.

use super::{
    client::Event,
    figures::{Spread, Summary},
    plan::Person,
    session::{Notice, Shows},
    worker::{Told, What},
};
use halloo_transport::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Who leaves sooner after asking for a picture needs not have seen one.
const TIME_TO_SEE: Duration = Duration::from_secs(2);
/// Kinds of failure that are told apart.
const MAX_REASONS: usize = 20;

#[derive(Clone, Debug)]
struct Fare {
    asked: Timestamp,
    connected: Option<Timestamp>,
    watches: Option<Timestamp>,
    alone_until: Option<Timestamp>,
    left: Option<Timestamp>,
    saw: Option<Timestamp>,
    decoded: Option<Timestamp>,
    tiles: BTreeMap<u32, Tile>,
    rejoined: usize,
    failed: bool,
    over: bool,
}

/// Somebody whose picture a client shows, or did.
#[derive(Clone, Copy, Default, Debug)]
struct Tile {
    shown: Option<Timestamp>,
    hidden: Option<Timestamp>,
    seen: Option<Timestamp>,
}

impl Fare {
    fn new(asked: Timestamp) -> Self {
        Self {
            asked,
            connected: None,
            watches: None,
            alone_until: None,
            left: None,
            saw: None,
            decoded: None,
            tiles: BTreeMap::new(),
            rejoined: 0,
            failed: false,
            over: false,
        }
    }

    /// From when on there was something to wait for.
    fn waits_since(&self) -> Timestamp {
        self.alone_until.map_or(self.asked, |until| until.max(self.asked))
    }

    fn shows(&mut self, shows: &Shows) {
        self.alone_until = self.alone_until.or(shows.alone_until);
        if !shows.cameras.is_empty() {
            self.watches.get_or_insert(shows.at);
        }
        for (number, tile) in &mut self.tiles {
            if tile.shown.is_some() && !shows.cameras.contains(number) {
                tile.hidden.get_or_insert(shows.at);
            }
        }
        for number in &shows.cameras {
            self.tiles.entry(*number).or_default().shown.get_or_insert(shows.at);
        }
    }

    /// The tiles in which a picture can be expected.
    fn wanted_tiles(&self) -> impl Iterator<Item = (Timestamp, &Tile)> {
        self.tiles.values().filter_map(|tile| {
            let shown = tile.shown?;
            let end = [tile.hidden, self.left].into_iter().flatten().min();
            let stayed = end.is_none_or(|end| end.since(shown) >= TIME_TO_SEE);
            (tile.seen.is_some() || stayed).then_some((shown, tile))
        })
    }

    /// Whether a picture can be expected: they saw one, or stayed a while after asking for it.
    fn wanted(&self) -> bool {
        let stayed = |since: Timestamp| self.left.is_none_or(|left| left.since(since) >= TIME_TO_SEE);
        self.saw.is_some() || self.watches.is_some_and(stayed)
    }
}

/// Everybody.
#[derive(Debug, Default)]
pub struct People {
    all: Vec<Option<Fare>>,
    reasons: BTreeMap<String, u64>,
    undecodable: BTreeMap<String, u64>,
    first_connected: Option<Timestamp>,
    last_connected: Option<Timestamp>,
}

/// How joining went.
#[derive(Clone, Default, Debug, PartialEq, Serialize)]
pub struct Joins {
    /// Who was asked to join.
    pub asked: usize,
    /// Whose media could flow.
    pub joined: usize,
    /// Who could not join, or was out before their time.
    pub failed: usize,
    /// How often somebody was told to join again, and did.
    pub rejoined: usize,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Joins per second, from the first to the last.
    pub per_second: Option<f64>,
    /// From asking to join, the WebSocket included, until media could flow, in milliseconds.
    pub join_ms: Option<Summary>,
}

/// How soon there was something to see.
#[derive(Clone, Default, Debug, PartialEq, Serialize)]
pub struct FirstPictures {
    /// Who asked for somebody's pictures, and stayed for two seconds more or saw one.
    pub wanted: usize,
    /// Who got one that can be decoded.
    pub seen: usize,
    /// From asking to join until then, in milliseconds; who came first waits from when somebody with a camera came.
    pub first_picture_ms: Option<Summary>,
    /// Whose first picture an AV1 decoder took.
    pub decoded: usize,
    /// The same as `first_picture_ms`, until it was decoded.
    pub first_decoded_ms: Option<Summary>,
    /// Why first pictures were not decoded, and how often.
    pub undecodable: BTreeMap<String, u64>,
    /// Pairs of a receiver and somebody whose picture it asked for, for two seconds or until there was one.
    pub tiles_wanted: usize,
    /// Those in which there was a picture.
    pub tiles_seen: usize,
    /// From asking for somebody's picture until there was one, in milliseconds.
    pub tile_ms: Option<Summary>,
}

impl People {
    /// Somebody is asked to join.
    pub fn ask(&mut self, person: &Person, now: Timestamp) {
        let at = person.number as usize;
        if self.all.len() <= at {
            self.all.resize(at + 1, None);
        }
        if let Some(place) = self.all.get_mut(at) {
            *place = Some(Fare::new(now));
        }
    }

    fn get(&mut self, number: u32) -> Option<&mut Fare> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    /// Takes what a session told.
    pub fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Entered(_) => {}
            Notice::Shows(number, shows) => self.get(number).into_iter().for_each(|fare| fare.shows(&shows)),
            Notice::Rejoined(number) => self.get(number).into_iter().for_each(|fare| fare.rejoined += 1),
            Notice::Left(number, at) => self.get(number).into_iter().for_each(|fare| {
                fare.left = Some(at);
                fare.over = true;
            }),
            Notice::Failed(number, why) => self.fail(number, why),
        }
    }

    /// Takes what a client's media told.
    pub fn told(&mut self, told: Told) {
        let Told { person, at, what } = told;
        match what {
            What::Event(Event::Failed(why)) => return self.fail(person, why),
            What::Decoded(Err(why)) => return count(&mut self.undecodable, why),
            _ => {}
        }
        let Some(fare) = self.all.get_mut(person as usize).and_then(Option::as_mut) else { return };
        match what {
            // Who joined again had been there before.
            What::Event(Event::Connected) if fare.connected.is_none() => {
                fare.connected = Some(at);
                self.first_connected.get_or_insert(at);
                self.last_connected = Some(at);
            }
            What::Event(Event::FirstPicture(_)) => _ = fare.saw.get_or_insert(at),
            What::Event(Event::Face(number)) => _ = fare.tiles.entry(number).or_default().seen.get_or_insert(at),
            What::Decoded(Ok(())) => _ = fare.decoded.get_or_insert(at),
            What::Event(_) | What::Decoded(_) => {}
        }
    }

    fn fail(&mut self, number: u32, why: String) {
        let Some(fare) = self.get(number) else { return };
        fare.over = true;
        if !std::mem::replace(&mut fare.failed, true) {
            count(&mut self.reasons, why);
        }
    }

    fn fares(&self) -> impl Iterator<Item = &Fare> {
        self.all.iter().flatten()
    }

    /// Who is connected and has not left.
    pub fn present(&self) -> usize {
        self.fares().filter(|fare| fare.connected.is_some() && !fare.over).count()
    }

    /// Who has not ended.
    pub fn going(&self) -> usize {
        self.fares().filter(|fare| !fare.over).count()
    }

    /// Who failed.
    pub fn failed(&self) -> usize {
        self.fares().filter(|fare| fare.failed).count()
    }

    /// How joining went. Who was still on the way when it ended counts as failed.
    pub fn joins(&self) -> Joins {
        let times = spread(self.fares().filter_map(|fare| Some(fare.connected?.since(fare.asked))));
        let joined = self.fares().filter(|fare| fare.connected.is_some()).count();
        let span = self.last_connected.zip(self.first_connected).map(|(last, first)| last.since(first).as_secs_f64());
        Joins {
            asked: self.fares().count(),
            joined,
            failed: self.fares().filter(|fare| fare.failed || fare.connected.is_none()).count(),
            rejoined: self.fares().map(|fare| fare.rejoined).sum(),
            reasons: self.reasons.clone(),
            per_second: span
                .filter(|span| *span > 0.0 && joined > 1)
                .map(|span| ((joined - 1) as f64 / span * 10.0).round() / 10.0),
            join_ms: times.summary(),
        }
    }

    /// How soon there was something to see.
    pub fn first_pictures(&self) -> FirstPictures {
        let waited = |at: fn(&Fare) -> Option<Timestamp>| {
            spread(self.fares().filter_map(|fare| Some(at(fare)?.since(fare.waits_since())))).summary()
        };
        let tiles = || self.fares().flat_map(Fare::wanted_tiles);
        FirstPictures {
            wanted: self.fares().filter(|fare| fare.wanted()).count(),
            seen: self.fares().filter(|fare| fare.saw.is_some()).count(),
            first_picture_ms: waited(|fare| fare.saw),
            decoded: self.fares().filter(|fare| fare.decoded.is_some()).count(),
            first_decoded_ms: waited(|fare| fare.decoded),
            undecodable: self.undecodable.clone(),
            tiles_wanted: tiles().count(),
            tiles_seen: tiles().filter(|(_, tile)| tile.seen.is_some()).count(),
            tile_ms: spread(tiles().filter_map(|(shown, tile)| Some(tile.seen?.since(shown)))).summary(),
        }
    }
}

/// Counts a reason; reasons are bounded.
fn count(reasons: &mut BTreeMap<String, u64>, why: String) {
    let known = reasons.len() < MAX_REASONS || reasons.contains_key(&why);
    *reasons.entry(if known { why } else { "other reasons".to_owned() }).or_default() += 1;
}

fn spread(times: impl Iterator<Item = Duration>) -> Spread {
    let mut spread = Spread::new();
    times.for_each(|time| spread.record(time));
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u32) -> Person {
        Person { number, room: 0, place: number, publishes: true }
    }

    fn told(person: u32, millis: u64, event: Event) -> Told {
        Told { person, at: Timestamp::from_millis(millis), what: What::Event(event) }
    }

    #[test]
    fn each_is_counted_once_whatever_happens_to_them() {
        let mut people = People::default();
        (0..4).for_each(|n| people.ask(&person(n), Timestamp::from_millis(u64::from(n) * 100)));
        people.told(told(0, 40, Event::Connected));
        people.told(told(1, 160, Event::Connected));
        people.told(told(1, 200, Event::FirstPicture(Vec::new())));
        people.notice(shows(1, 170, &[0]));
        people.notice(shows(0, 100, &[1]));
        people.notice(Notice::Failed(2, "refused".to_owned()));
        people.told(told(2, 300, Event::Failed("no handshake".to_owned())));
        people.notice(Notice::Left(0, Timestamp::from_millis(1_900)));
        people.notice(shows(3, 400, &[1]));
        assert_eq!((people.present(), people.going(), people.failed()), (1, 2, 1));
        let joins = people.joins();
        assert_eq!((joins.asked, joins.joined, joins.failed), (4, 2, 2), "one failed and one is on the way");
        assert_eq!(joins.reasons, BTreeMap::from([("refused".to_owned(), 1)]));
        assert_eq!(joins.per_second, Some(8.3));
        let times = joins.join_ms.unwrap();
        assert!((times.p50 - 40.0).abs() < 1.0 && (times.max - 60.0).abs() < 1.0, "{times:?}");
        let pictures = people.first_pictures();
        assert_eq!((pictures.wanted, pictures.seen), (2, 1), "the first left too soon, the last still waits");
    }

    fn shows(person: u32, millis: u64, cameras: &[u32]) -> Notice {
        let shows = Shows { at: Timestamp::from_millis(millis), cameras: cameras.to_vec(), alone_until: None };
        Notice::Shows(person, shows)
    }

    #[test]
    fn who_comes_first_waits_from_when_somebody_comes() {
        let mut people = People::default();
        people.ask(&person(0), Timestamp::ZERO);
        people.notice(shows(0, 5, &[]));
        let at = Timestamp::from_millis(800);
        people.notice(Notice::Shows(0, Shows { at, cameras: vec![1], alone_until: Some(at) }));
        people.told(told(0, 840, Event::FirstPicture(Vec::new())));
        people.told(Told { person: 0, at: Timestamp::from_millis(842), what: What::Decoded(Ok(())) });
        let pictures = people.first_pictures();
        let (whole, decoded) = (pictures.first_picture_ms.unwrap(), pictures.first_decoded_ms.unwrap());
        assert!((whole.max - 40.0).abs() < 1.0 && (decoded.max - 42.0).abs() < 1.0, "{pictures:?}");
        assert_eq!(pictures.decoded, 1);
    }

    #[test]
    fn a_tile_counts_once_it_was_shown_for_long_enough() {
        let mut people = People::default();
        people.ask(&person(0), Timestamp::ZERO);
        people.notice(shows(0, 0, &[1, 2, 3]));
        people.told(told(0, 30, Event::Face(1)));
        people.notice(shows(0, 500, &[1, 3]));
        let pictures = people.first_pictures();
        assert_eq!((pictures.tiles_wanted, pictures.tiles_seen), (2, 1), "the second was hidden soon, the third waits");
        assert!((pictures.tile_ms.unwrap().max - 30.0).abs() < 1.0);
    }

    #[test]
    fn who_joins_again_has_joined_once() {
        let mut people = People::default();
        people.ask(&person(0), Timestamp::ZERO);
        people.told(told(0, 10, Event::Connected));
        people.notice(Notice::Rejoined(0));
        people.told(told(0, 5_000, Event::Connected));
        let joins = people.joins();
        assert_eq!((joins.joined, joins.rejoined, joins.failed), (1, 1, 0));
        assert!(joins.join_ms.unwrap().max < 11.0);
    }

    #[test]
    fn reasons_are_bounded() {
        let mut people = People::default();
        (0..100).for_each(|n| {
            people.ask(&person(n), Timestamp::ZERO);
            people.notice(Notice::Failed(n, format!("reason {n}")));
        });
        assert_eq!(people.joins().reasons.len(), MAX_REASONS + 1);
    }
}
