//! Whether the application sends clearly less than it may: then what arrives says nothing about what the path carries.

use crate::{time::Timestamp, units::Bitrate};
use std::{collections::VecDeque, time::Duration};

/// Time that is looked at.
const WINDOW: Duration = Duration::from_millis(500);
/// Share of the target below which the application is the limit.
const SHARE: f64 = 0.65;

/// Sums what is sent.
#[derive(Clone, Debug, Default)]
pub struct ApplicationLimit {
    sent: VecDeque<(Timestamp, usize)>,
    bytes: usize,
    started: Option<Timestamp>,
}

impl ApplicationLimit {
    /// Nothing sent.
    pub const fn new() -> Self {
        Self { sent: VecDeque::new(), bytes: 0, started: None }
    }

    /// Takes a packet that leaves.
    #[inline]
    pub fn on_sent(&mut self, now: Timestamp, size: usize, target: Bitrate) {
        self.started.get_or_insert(now);
        self.bytes += size;
        match self.sent.back_mut() {
            // What leaves in one batch is one entry.
            Some((at, bytes)) if *at == now => {
                *bytes += size;
                return;
            }
            _ => self.sent.push_back((now, size)),
        }
        // What is above the target's share proves enough: nothing older is needed.
        let enough = target.bytes_in(WINDOW) as usize * 2;
        while self.sent.front().is_some_and(|(at, _)| now.since(*at) > WINDOW)
            || (self.bytes > enough && self.sent.len() > 1_024)
        {
            let Some((_, size)) = self.sent.pop_front() else { break };
            self.bytes -= size;
        }
    }

    /// Whether less than its share of `target` left lately.
    pub fn is_limited(&self, now: Timestamp, target: Bitrate) -> bool {
        if self.started.is_none_or(|at| now.since(at) < WINDOW) {
            return false;
        }
        let old = self.sent.iter().take_while(|(at, _)| now.since(*at) > WINDOW).map(|(_, size)| size);
        let recent = self.bytes - old.sum::<usize>();
        (recent as f64) < target.bytes_in(WINDOW) as f64 * SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_target_is_limited_and_most_of_it_is_not() {
        for (bytes, limited) in [(500, true), (900, false)] {
            let mut application = ApplicationLimit::new();
            let target = Bitrate::from_kbps(800);
            for ms in (0..2_000).step_by(10) {
                application.on_sent(Timestamp::from_millis(ms), bytes, target);
            }
            assert_eq!(application.is_limited(Timestamp::from_millis(2_000), target), limited);
            assert!(application.is_limited(Timestamp::from_millis(4_000), target));
        }
    }
}
