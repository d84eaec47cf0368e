//! When each place of a room is next wanted, so that a wake looks at those that are due and at nobody else: what is not
//! touched stays out of the caches.
//!
//! Who changes something at a place that may be wanted earlier than before touches it; times are asked for anew once, when
//! the room is asked for its next one.

use halloo_transport::Timestamp;

/// When a place is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Times {
    /// For what cannot wait.
    pub(super) exact: Option<Timestamp>,
    /// For what can wait a little.
    pub(super) soft: Option<Timestamp>,
}

/// The times, by place.
#[derive(Debug, Default)]
pub(super) struct Due {
    exact: Vec<Timestamp>,
    soft: Vec<Timestamp>,
    touched: Vec<usize>,
    all: bool,
}

impl Due {
    /// The times of this place may have changed.
    pub(super) fn touch(&mut self, place: usize) {
        // A burst touches the same place again and again.
        if !self.all && self.touched.last() != Some(&place) {
            self.touched.push(place);
        }
    }

    /// The times of any place may have changed.
    pub(super) fn touch_all(&mut self) {
        self.all = true;
        self.touched.clear();
    }

    /// Asks for the times that may have changed, of `places` places.
    pub(super) fn refresh(&mut self, places: usize, times_of: impl Fn(usize) -> Times) {
        if self.exact.len() != places {
            self.exact.resize(places, Timestamp::MAX);
            self.soft.resize(places, Timestamp::MAX);
            self.all = true;
        }
        if std::mem::take(&mut self.all) {
            self.touched.clear();
            (0..places).for_each(|place| self.set(place, times_of(place)));
        }
        while let Some(place) = self.touched.pop() {
            self.set(place, times_of(place));
        }
    }

    /// Whether this place is wanted by `now`, as far as refreshed.
    pub(super) fn is_due(&self, place: usize, now: Timestamp) -> bool {
        [&self.exact, &self.soft].into_iter().any(|times| times.get(place).is_some_and(|at| *at <= now))
    }

    /// The first times of all, as far as refreshed.
    pub(super) fn first(&self) -> Times {
        let first = |times: &[Timestamp]| times.iter().min().copied().filter(|at| *at < Timestamp::MAX);
        Times { exact: first(&self.exact), soft: first(&self.soft) }
    }

    fn set(&mut self, place: usize, times: Times) {
        if let (Some(exact), Some(soft)) = (self.exact.get_mut(place), self.soft.get_mut(place)) {
            *exact = times.exact.unwrap_or(Timestamp::MAX);
            *soft = times.soft.unwrap_or(Timestamp::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_touched_is_asked_again() {
        let mut due = Due::default();
        let ms = |ms| Some(Timestamp::from_millis(ms));
        let soft = |at| Times { soft: ms(at), exact: None };
        due.refresh(3, |place| soft(10 * place as u64 + 10));
        assert_eq!(due.first(), soft(10));
        due.touch(0);
        due.touch(0);
        due.touch(9);
        due.refresh(3, |place| {
            assert!(place == 0 || place == 9, "{place}");
            Times { exact: ms(25), soft: None }
        });
        assert_eq!(due.first(), Times { exact: ms(25), soft: ms(20) });
        let at = Timestamp::from_millis;
        assert!(due.is_due(1, at(20)) && !due.is_due(0, at(24)) && due.is_due(0, at(25)) && !due.is_due(7, at(1_000)));
        due.touch_all();
        due.refresh(3, |_| Times::default());
        assert_eq!(due.first(), Times::default());
        due.refresh(4, |place| soft(place as u64));
        assert!(due.is_due(3, at(3)), "a place that was added");
    }
}
