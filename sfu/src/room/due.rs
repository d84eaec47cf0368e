//! When each place of a room is next wanted, so that a wake looks at those that are due and at nobody else: what is not
//! touched stays out of the caches.
//!
//! Who changes something at a place that may be wanted earlier than before touches it; times are asked for anew once, when
//! the room is asked for its next one.

use halloo_transport::Timestamp;

/// The times, by place.
#[derive(Debug, Default)]
pub(super) struct Due {
    at: Vec<Timestamp>,
    touched: Vec<usize>,
    all: bool,
}

impl Due {
    /// The time of this place may have changed.
    pub(super) fn touch(&mut self, place: usize) {
        // A burst touches the same place again and again.
        if !self.all && self.touched.last() != Some(&place) {
            self.touched.push(place);
        }
    }

    /// The time of any place may have changed.
    pub(super) fn touch_all(&mut self) {
        self.all = true;
        self.touched.clear();
    }

    /// Asks for the times that may have changed, of `places` places.
    pub(super) fn refresh(&mut self, places: usize, next_of: impl Fn(usize) -> Option<Timestamp>) {
        if std::mem::take(&mut self.all) || self.at.len() != places {
            self.at.clear();
            self.at.extend((0..places).map(|place| next_of(place).unwrap_or(Timestamp::MAX)));
            self.touched.clear();
            return;
        }
        while let Some(place) = self.touched.pop() {
            if let Some(at) = self.at.get_mut(place) {
                *at = next_of(place).unwrap_or(Timestamp::MAX);
            }
        }
    }

    /// Whether this place is wanted by `now`, as far as refreshed.
    pub(super) fn is_due(&self, place: usize, now: Timestamp) -> bool {
        self.at.get(place).is_some_and(|at| *at <= now)
    }

    /// The first time, as far as refreshed.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.at.iter().min().copied().filter(|at| *at < Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_touched_is_asked_again() {
        let mut due = Due::default();
        let ms = Timestamp::from_millis;
        due.refresh(3, |place| Some(ms(10 * place as u64 + 10)));
        assert_eq!(due.first(), Some(ms(10)));
        due.touch(0);
        due.touch(0);
        due.touch(9);
        due.refresh(3, |place| {
            assert!(place == 0 || place == 9, "{place}");
            None
        });
        assert_eq!(due.first(), Some(ms(20)));
        assert!(due.is_due(1, ms(20)) && !due.is_due(0, ms(1_000)) && !due.is_due(7, ms(1_000)));
        due.touch_all();
        due.refresh(3, |_| None);
        assert_eq!(due.first(), None);
        due.refresh(4, |place| Some(ms(place as u64)));
        assert!(due.is_due(3, ms(3)), "a place that was added");
    }
}
