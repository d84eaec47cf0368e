//! A session's recent events, kept until the client has them.
//!
//! Invariant: numbers have no gap; what was dropped is never passed over in silence: [`History::after`] says `None`.

use std::{collections::VecDeque, sync::Arc};

/// Events kept at most.
pub(crate) const MAX_EVENTS: usize = 1_024;
/// Bytes of events kept at most.
pub(crate) const MAX_BYTES: usize = 512 * 1024;

#[derive(Debug, Default)]
pub(crate) struct History {
    last: u64,
    events: VecDeque<Arc<str>>,
    bytes: usize,
    abandoned: bool,
}

impl History {
    /// Numbers an event, given as JSON, keeps it, and gives the whole message. Drops the oldest above the bounds.
    pub(crate) fn push(&mut self, body: Arc<str>) -> String {
        self.last += 1;
        let text = numbered(self.last, &body);
        self.bytes += body.len();
        self.events.push_back(body);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
        text
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last
    }

    /// The messages after this one; `None` where some of them are gone, or it was never sent.
    pub(crate) fn after(&self, seq: u64) -> Option<Vec<String>> {
        if self.abandoned {
            return None;
        }
        let kept = u64::try_from(self.events.len()).ok()?;
        let missing = self.last.checked_sub(seq)?;
        let skip = usize::try_from(kept.checked_sub(missing)?).ok()?;
        Some(self.events.iter().skip(skip).zip(seq + 1..).map(|(body, seq)| numbered(seq, body)).collect())
    }

    /// Drops what the client is known to have.
    pub(crate) fn forget_through(&mut self, seq: u64) {
        while u64::try_from(self.events.len()).is_ok_and(|kept| self.last - kept < seq.min(self.last)) {
            self.drop_oldest();
        }
        if self.events.is_empty() {
            self.events.shrink_to_fit();
        }
    }

    /// Something else could not be kept: no place is good to resume from any more.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.events = VecDeque::new();
        self.bytes = 0;
    }

    fn drop_oldest(&mut self) {
        if let Some(body) = self.events.pop_front() {
            self.bytes -= body.len();
        }
    }
}

fn numbered(seq: u64, body: &str) -> String {
    format!("{{\"seq\":{seq},\"event\":{body}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> History {
        let mut history = History::default();
        for n in 0..count {
            history.push(format!("{n}").into());
        }
        history
    }

    #[test]
    fn what_follows_a_seen_event_is_replayed_in_order() {
        let history = filled(3);
        assert_eq!(history.after(1).unwrap(), [r#"{"seq":2,"event":1}"#, r#"{"seq":3,"event":2}"#]);
        assert_eq!(history.after(3).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_event_never_sent_or_dropped_is_no_place_to_resume_from() {
        assert_eq!(filled(3).after(4), None);
        let history = filled(MAX_EVENTS + 2);
        assert_eq!(history.after(1), None);
        assert_eq!(history.after(2).unwrap().len(), MAX_EVENTS);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut history = History::default();
        for _ in 0..20 {
            history.push("x".repeat(60_000).into());
        }
        assert!(history.bytes <= MAX_BYTES);
        assert!(history.after(19).is_some() && history.after(2).is_none());
    }

    #[test]
    fn received_events_are_forgotten_and_numbers_go_on() {
        let mut history = filled(5);
        history.forget_through(4);
        assert_eq!((history.events.len(), history.bytes), (1, 1));
        assert_eq!(history.after(3), None);
        assert_eq!(history.after(4).unwrap().len(), 1);
        history.forget_through(99);
        assert_eq!(history.after(5).unwrap().len(), 0);
        assert_eq!(history.push("\"x\"".into()), r#"{"seq":6,"event":"x"}"#);
    }
}
