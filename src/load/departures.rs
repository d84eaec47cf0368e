//! When each source last sent each payload of the clip, for all threads to read: what forwarding delay is measured from.
//!
//! A payload is sent again after a whole clip, or when a key frame is asked for, and that is granted at most every 300 ms
//! ([`super::client::KEY_FRAME_INTERVAL`]): a packet that took less is measured right, a slower one too short.

use super::clip::Position;
use halloo_transport::Timestamp;
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The departures of one publisher.
#[derive(Debug)]
pub struct Departures(Box<[AtomicU64]>);

impl Departures {
    /// Nothing was sent of a clip with so many payloads.
    pub fn new(payloads: usize) -> Self {
        Self((0..payloads).map(|_| AtomicU64::new(0)).collect())
    }

    /// This payload leaves now.
    pub fn set(&self, position: Position, now: Timestamp) {
        if let Some(place) = self.0.get(position as usize) {
            place.store(now.as_nanos().max(1), Relaxed);
        }
    }

    /// When this payload left last.
    pub fn get(&self, position: Position) -> Option<Timestamp> {
        let nanos = self.0.get(position as usize)?.load(Relaxed);
        (nanos > 0).then(|| Timestamp::from_nanos(nanos))
    }
}

/// The publishers of one room, by participant number.
#[derive(Clone, Default, Debug)]
pub struct Directory(Arc<RwLock<HashMap<u32, Arc<Departures>>>>);

impl Directory {
    /// Enters a publisher.
    pub fn insert(&self, participant: u32, departures: Arc<Departures>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(participant, departures);
    }

    /// Takes one out.
    pub fn remove(&self, participant: u32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&participant);
    }

    /// The publisher with this number; others than ours may be in the room.
    pub fn get(&self, participant: u32) -> Option<Arc<Departures>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&participant).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_departure_counts() {
        let departures = Departures::new(2);
        assert_eq!(departures.get(1), None);
        departures.set(1, Timestamp::from_millis(3));
        departures.set(1, Timestamp::from_millis(5));
        departures.set(9, Timestamp::from_millis(5));
        assert_eq!((departures.get(0), departures.get(1)), (None, Some(Timestamp::from_millis(5))));
    }

    #[test]
    fn who_left_is_no_longer_known() {
        let directory = Directory::default();
        directory.insert(7, Arc::new(Departures::new(1)));
        assert!(directory.get(7).is_some() && directory.get(8).is_none());
        directory.remove(7);
        assert!(directory.get(7).is_none());
    }
}
