//! How everybody fares: when they were asked to join, when media flowed, when they saw the first picture.

use super::{
    client::Event,
    figures::{Spread, Summary},
    plan::Person,
    session::Notice,
    worker::Told,
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
    left: Option<Timestamp>,
    saw: Option<Timestamp>,
    failed: bool,
    over: bool,
}

impl Fare {
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
    /// From asking to join until then, in milliseconds. Of those who found somebody to see, or to wait for.
    pub first_picture_ms: Option<Summary>,
}

impl People {
    /// Somebody is asked to join.
    pub fn ask(&mut self, person: &Person, now: Timestamp) {
        let at = person.number as usize;
        if self.all.len() <= at {
            self.all.resize(at + 1, None);
        }
        let fare =
            Fare { asked: now, connected: None, watches: None, left: None, saw: None, failed: false, over: false };
        if let Some(place) = self.all.get_mut(at) {
            *place = Some(fare);
        }
    }

    fn get(&mut self, number: u32) -> Option<&mut Fare> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    /// Takes what a session told.
    pub fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Entered(_) => {}
            Notice::Watches(number, at) => self.get(number).into_iter().for_each(|fare| fare.watches = Some(at)),
            Notice::Left(number, at) => self.get(number).into_iter().for_each(|fare| {
                fare.left = Some(at);
                fare.over = true;
            }),
            Notice::Failed(number, why) => self.fail(number, why),
        }
    }

    /// Takes what a client's media told.
    pub fn told(&mut self, told: Told) {
        let Told { person, at, event } = told;
        match event {
            Event::Connected => {
                self.first_connected.get_or_insert(at);
                self.last_connected = Some(at);
                self.get(person).into_iter().for_each(|fare| fare.connected = Some(at));
            }
            Event::FirstPicture => self.get(person).into_iter().for_each(|fare| fare.saw = Some(at)),
            Event::Failed(why) => self.fail(person, why),
        }
    }

    fn fail(&mut self, number: u32, why: String) {
        let Some(fare) = self.get(number) else { return };
        fare.over = true;
        if !std::mem::replace(&mut fare.failed, true) {
            let why = if self.reasons.len() < MAX_REASONS { why } else { "other reasons".to_owned() };
            *self.reasons.entry(why).or_default() += 1;
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
            reasons: self.reasons.clone(),
            per_second: span
                .filter(|span| *span > 0.0 && joined > 1)
                .map(|span| ((joined - 1) as f64 / span * 10.0).round() / 10.0),
            join_ms: times.summary(),
        }
    }

    /// How soon there was something to see.
    pub fn first_pictures(&self) -> FirstPictures {
        let times = spread(self.fares().filter_map(|fare| Some(fare.saw?.since(fare.asked))));
        FirstPictures {
            wanted: self.fares().filter(|fare| fare.wanted()).count(),
            seen: self.fares().filter(|fare| fare.saw.is_some()).count(),
            first_picture_ms: times.summary(),
        }
    }
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
        Told { person, at: Timestamp::from_millis(millis), event }
    }

    #[test]
    fn each_is_counted_once_whatever_happens_to_them() {
        let mut people = People::default();
        (0..4).for_each(|n| people.ask(&person(n), Timestamp::from_millis(u64::from(n) * 100)));
        people.told(told(0, 40, Event::Connected));
        people.told(told(1, 160, Event::Connected));
        people.told(told(1, 200, Event::FirstPicture));
        people.notice(Notice::Watches(1, Timestamp::from_millis(170)));
        people.notice(Notice::Watches(0, Timestamp::from_millis(100)));
        people.notice(Notice::Failed(2, "refused".to_owned()));
        people.told(told(2, 300, Event::Failed("no handshake".to_owned())));
        people.notice(Notice::Left(0, Timestamp::from_millis(1_900)));
        people.notice(Notice::Watches(3, Timestamp::from_millis(400)));
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
