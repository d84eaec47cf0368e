//! The target from what delay tells: grow while the path is calm, drain when a queue builds, come back when it is gone
//! (after draft-ietf-rmcat-gcc-02, section 5.5).
//!
//! ```text
//!             delay grows, or a queue stands
//!   Increase ---------------------------------> Drain: capacity * (what empties the queue in about a second)
//!      ^                                          |
//!      +---------- queue gone: 0.95 capacity -----+
//! ```
//!
//! While a queue stands at the narrowest link, what arrives is its capacity, whatever is sent: the drain rate does not
//! compound with itself.

use super::{CongestionConfig, Growth, probe::ProbeResult, trendline::Usage};
use crate::{time::Timestamp, units::Bitrate};
use std::time::Duration;

/// A queue below this is noise: it is no overuse yet, and a drained queue.
const SMALL_QUEUE: Duration = Duration::from_millis(15);
/// A queue above this that does not go away by itself is drained although it does not grow.
const STANDING_QUEUE: Duration = Duration::from_millis(80);
const STANDING_TIME: Duration = Duration::from_millis(400);
/// A queue above this, with less arriving than this share of the target, is a path that became narrow.
const CHOKED_QUEUE: Duration = Duration::from_millis(30);
const CHOKED_SHARE: f64 = 0.7;
/// A queue above this keeps the narrowest link busy: what arrives is what the link carries.
const BUSY_QUEUE: Duration = Duration::from_millis(60);
/// Time in which a queue is to be emptied: sets how far below capacity the drain rate goes.
const DRAIN_TIME: f64 = 0.8;
/// Share of the capacity while a queue is drained, at most and at least.
const DRAIN_SHARE: (f64, f64) = (0.10, 0.90);
/// Share of the capacity to return to.
const RETURN_SHARE: f64 = 0.95;
/// Share of the former target to return to after a stall, and the longest time between two feedback messages.
const STALL_SHARE: f64 = 0.92;
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
/// A queue that sending less did not shorten within this time is the path's own delay.
const MAX_DRAIN: Duration = Duration::from_secs(4);
/// Growth in a second: far from a known capacity, and with a little queue already.
const GROWTH: f64 = 1.16;
const CAREFUL_GROWTH: f64 = 1.04;
/// The same within a capacity that was seen, and how much of that is gone up to.
const PROVEN_GROWTH: f64 = 1.5;
const PROVEN_SHARE: f64 = 0.97;
/// Around the capacity (within this share of it) growth is by packets, not by factors.
const NEAR_CAPACITY: (f64, f64) = (0.85, 1.15);
/// The target does not run ahead of what arrives by more than this.
const MAX_AHEAD: f64 = 1.5;
const MAX_AHEAD_EXTRA: Bitrate = Bitrate::from_kbps(20);

/// What one feedback message tells.
#[derive(Clone, Copy, Debug)]
pub struct RateInput {
    /// The trend of the delay.
    pub usage: Usage,
    /// What arrives, over half a second.
    pub throughput: Option<Bitrate>,
    /// What arrives, over the last moments.
    pub recent_throughput: Option<Bitrate>,
    /// Delay above the path's minimum.
    pub queue_delay: Duration,
    /// Whether less is sent than may be.
    pub application_limited: bool,
    /// A probe that was completed.
    pub probed: Option<ProbeResult>,
    /// Round trip.
    pub rtt: Duration,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Increase,
    Drain(Drain),
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Drain {
    started: Timestamp,
    /// The target and the capacity before.
    from: f64,
    capacity: Option<f64>,
    /// When the queue was last seen to get shorter, and its length then.
    shortened: Timestamp,
    shortest: Duration,
}

/// The controller's delay-based part.
#[derive(Clone, Debug)]
pub struct RateControl {
    config: CongestionConfig,
    target: f64,
    state: State,
    /// What the path carried when it last had a queue, in bits per second.
    capacity: Option<f64>,
    last_update: Option<Timestamp>,
    queue_stands_since: Option<Timestamp>,
    /// Feedback messages in a row that told of a choked path.
    choking: u32,
    /// Nothing was learned about the path yet: the target is a guess.
    guessed: bool,
}

impl RateControl {
    /// Starts at the configured target.
    pub fn new(config: CongestionConfig) -> Self {
        let target = config.start.as_bps() as f64;
        Self {
            config,
            target,
            state: State::Increase,
            capacity: None,
            last_update: None,
            queue_stands_since: None,
            choking: 0,
            guessed: true,
        }
    }

    /// The target.
    pub fn target(&self) -> Bitrate {
        Bitrate::from_bps(self.target as u64)
    }

    /// What the path was last seen to carry at most.
    pub fn capacity(&self) -> Option<Bitrate> {
        self.capacity.map(|capacity| Bitrate::from_bps(capacity as u64))
    }

    /// Whether nothing was learned about the path yet.
    pub const fn is_guess(&self) -> bool {
        self.guessed
    }

    /// Whether a queue is being emptied.
    pub const fn is_draining(&self) -> bool {
        matches!(self.state, State::Drain(_))
    }

    /// Takes what a feedback message told. True when the delay that is taken for a queue turned out to be the path's own.
    pub fn update(&mut self, now: Timestamp, input: &RateInput) -> bool {
        let elapsed = self.last_update.map_or(0.0, |at| now.since(at).as_secs_f64()).min(0.5);
        self.last_update = Some(now);
        let stands = self.queue_stands(now, input.queue_delay);
        let grows = input.usage == Usage::Over && input.queue_delay > SMALL_QUEUE;
        let chokes = self.chokes(input);
        let mut rebase = false;
        match self.state {
            State::Increase if grows || stands || chokes => {
                self.guessed = false;
                let before = self.capacity.replace(self.arriving(input));
                self.state = State::Drain(Drain {
                    started: now,
                    from: self.target,
                    capacity: before,
                    shortened: now,
                    shortest: input.queue_delay,
                });
                self.drain(input.queue_delay);
            }
            State::Increase => self.increase(elapsed, input),
            State::Drain(drain) if input.queue_delay <= SMALL_QUEUE => self.come_back(now, &drain, input.rtt),
            State::Drain(mut drain) => {
                if input.queue_delay < drain.shortest {
                    (drain.shortened, drain.shortest) = (now, input.queue_delay);
                }
                self.state = State::Drain(drain);
                if now.since(drain.shortened) > MAX_DRAIN {
                    rebase = true;
                    self.come_back(now, &drain, input.rtt);
                } else {
                    self.follow_capacity(input);
                    self.drain(input.queue_delay);
                }
            }
        }
        if let Some(probe) = input.probed {
            self.on_probe(&probe);
        }
        self.clamp();
        rebase
    }

    /// Keeps the target under another controller's cap, so that it need not come down from far above later.
    pub fn limit(&mut self, cap: Bitrate) {
        self.target = self.target.min(cap.as_bps() as f64 * 1.05);
        self.clamp();
    }

    /// Takes half, for want of any feedback.
    pub fn halve(&mut self) {
        self.target *= 0.5;
        self.clamp();
    }

    fn increase(&mut self, elapsed: f64, input: &RateInput) {
        let by_probes = self.config.growth == Growth::ByProbes;
        let unproven = input.application_limited && !(by_probes && self.capacity.is_some());
        if unproven || input.usage != Usage::Normal {
            return;
        }
        let near = self
            .capacity
            .is_some_and(|capacity| (NEAR_CAPACITY.0 * capacity..NEAR_CAPACITY.1 * capacity).contains(&self.target));
        if let (true, Some(capacity)) = (by_probes, self.capacity) {
            let grown = self.target * PROVEN_GROWTH.powf(elapsed);
            self.target = grown.min(capacity * PROVEN_SHARE).max(self.target);
            return;
        }
        if self.capacity.is_some_and(|capacity| self.target > capacity * NEAR_CAPACITY.1) {
            // Above what was thought possible without a queue: the thought was wrong.
            self.capacity = None;
        }
        let grown = if near {
            let response = input.rtt.as_secs_f64() + 0.1;
            self.target + 8_000.0 / response * elapsed
        } else if input.queue_delay > SMALL_QUEUE {
            self.target * CAREFUL_GROWTH.powf(elapsed)
        } else {
            self.target * GROWTH.powf(elapsed)
        };
        let arriving = input.throughput.map_or(self.target, |t| t.as_bps() as f64);
        let ahead = arriving * MAX_AHEAD + MAX_AHEAD_EXTRA.as_bps() as f64;
        self.target = grown.min(ahead).max(self.target);
    }

    fn drain(&mut self, queue: Duration) {
        let Some(capacity) = self.capacity else { return };
        let share = (1.0 - queue.as_secs_f64() / DRAIN_TIME).clamp(DRAIN_SHARE.0, DRAIN_SHARE.1);
        self.target = (capacity * share).min(self.target.max(capacity * DRAIN_SHARE.0));
        self.target = self.target.max(self.config.min.as_bps() as f64);
    }

    fn follow_capacity(&mut self, input: &RateInput) {
        let busy = input.queue_delay > BUSY_QUEUE;
        let (Some(capacity), Some(recent)) = (self.capacity, input.recent_throughput) else { return };
        if busy {
            let recent = recent.as_bps() as f64;
            let weight = if recent < capacity { 0.6 } else { 0.3 };
            self.capacity = Some(capacity + weight * (recent - capacity));
        }
    }

    fn come_back(&mut self, now: Timestamp, drain: &Drain, rtt: Duration) {
        self.state = State::Increase;
        self.queue_stands_since = None;
        self.choking = 0;
        // Sending less shows after a round trip and a feedback interval: a queue that was gone before was hardly ours, but
        // the path's or a busy machine's stall.
        if now.since(drain.started) < rtt + FEEDBACK_INTERVAL {
            self.target = (drain.from * STALL_SHARE).max(self.target);
            self.capacity = drain.capacity.filter(|_| self.config.growth == Growth::ByProbes);
        } else if let Some(capacity) = self.capacity {
            self.target = capacity * RETURN_SHARE;
        }
    }

    /// Whether far less arrives than is sent and a queue is there already, twice in a row: quicker than any trend, and not
    /// fooled by a stall, after which everything arrives at once.
    fn chokes(&mut self, input: &RateInput) -> bool {
        let arriving = input.recent_throughput.map_or(f64::MAX, |t| t.as_bps() as f64);
        let choked = input.queue_delay > CHOKED_QUEUE && arriving < self.target * CHOKED_SHARE;
        self.choking = if choked && !input.application_limited { self.choking + 1 } else { 0 };
        self.choking > 1
    }

    fn on_probe(&mut self, probe: &ProbeResult) {
        let rate = probe.rate.as_bps() as f64;
        if self.is_draining() {
            return;
        }
        // The start was a guess: a path that cannot carry it says so with the first probe.
        let less = rate <= self.target;
        if less && !(self.guessed && probe.saturated) {
            return;
        }
        self.guessed = false;
        self.target = rate;
        self.capacity = probe.saturated.then_some(rate);
    }

    fn queue_stands(&mut self, now: Timestamp, queue: Duration) -> bool {
        if queue < STANDING_QUEUE {
            self.queue_stands_since = None;
            return false;
        }
        now.since(*self.queue_stands_since.get_or_insert(now)) >= STANDING_TIME
    }

    fn arriving(&self, input: &RateInput) -> f64 {
        let recent = input.recent_throughput.map_or(self.target * 0.85, |t| t.as_bps() as f64);
        // An application that sends little and meets a spike of delay is not put down to what it happened to send.
        if input.application_limited && input.queue_delay < STANDING_QUEUE {
            recent.max(self.target * 0.85)
        } else {
            recent
        }
    }

    fn clamp(&mut self) {
        self.target = self.target.clamp(self.config.min.as_bps() as f64, self.config.max.as_bps() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(start: u64) -> RateControl {
        RateControl::new(CongestionConfig {
            start: Bitrate::from_kbps(start),
            min: Bitrate::from_kbps(50),
            max: Bitrate::from_kbps(3_000),
            growth: Growth::ByItself,
        })
    }

    fn input(usage: Usage, arriving_kbps: u64, queue_ms: u64) -> RateInput {
        let arriving = Some(Bitrate::from_kbps(arriving_kbps));
        RateInput {
            usage,
            throughput: arriving,
            recent_throughput: arriving,
            queue_delay: Duration::from_millis(queue_ms),
            application_limited: false,
            probed: None,
            rtt: Duration::from_millis(50),
        }
    }

    const AT: fn(u64) -> Timestamp = Timestamp::from_millis;

    #[test]
    fn a_queue_is_drained_below_capacity_and_left_for_just_under_it() {
        let mut control = control(1_000);
        control.update(AT(0), &input(Usage::Over, 600, 200));
        assert!(control.is_draining());
        assert!(control.target() < Bitrate::from_kbps(500), "{:?}", control.target());
        control.update(AT(400), &input(Usage::Under, 600, 100));
        control.update(AT(800), &input(Usage::Normal, 500, 5));
        assert!(!control.is_draining());
        assert_eq!(control.target(), Bitrate::from_kbps(570));
    }

    #[test]
    fn a_queue_that_is_gone_before_sending_less_can_show_was_a_stall() {
        let mut control = control(1_000);
        control.update(AT(0), &input(Usage::Over, 300, 150));
        control.update(AT(60), &input(Usage::Normal, 1_000, 0));
        assert_eq!(control.target(), Bitrate::from_kbps(920));
    }

    #[test]
    fn a_narrowed_path_is_noticed_before_the_trend_is() {
        let mut control = control(2_000);
        control.update(AT(0), &input(Usage::Normal, 300, 60));
        assert!(!control.is_draining(), "once may be a stall");
        control.update(AT(50), &input(Usage::Normal, 300, 90));
        assert!(control.is_draining() && control.target() < Bitrate::from_kbps(300));
    }

    #[test]
    fn growth_does_not_run_ahead_of_what_arrives_and_stops_without_traffic() {
        let mut busy = control(1_000);
        let mut limited = control(1_000);
        for i in 0..200 {
            busy.update(AT(100 * i), &input(Usage::Normal, 1_000, 0));
            limited.update(AT(100 * i), &RateInput { application_limited: true, ..input(Usage::Normal, 100, 0) });
        }
        assert_eq!(busy.target(), Bitrate::from_kbps(1_520));
        assert_eq!(limited.target(), Bitrate::from_kbps(1_000));
    }

    #[test]
    fn by_probes_the_target_stays_within_a_capacity_that_was_seen() {
        let mut control = control(1_000);
        control.config.growth = Growth::ByProbes;
        control.update(AT(0), &input(Usage::Over, 600, 200));
        control.update(AT(200), &input(Usage::Under, 600, 100));
        for i in 4..100 {
            control.update(AT(100 * i), &input(Usage::Normal, 590, 5));
        }
        assert_eq!(control.target(), Bitrate::from_kbps(582));
        let carried =
            ProbeResult { rate: Bitrate::from_kbps(1_200), sent: Bitrate::from_kbps(1_200), saturated: false };
        control.update(AT(10_000), &RateInput { probed: Some(carried), ..input(Usage::Normal, 590, 5) });
        assert_eq!((control.target(), control.capacity()), (Bitrate::from_kbps(1_200), None));
    }

    #[test]
    fn only_the_first_probe_of_all_lowers_a_target() {
        let narrow = ProbeResult { rate: Bitrate::from_kbps(280), sent: Bitrate::from_kbps(3_000), saturated: true };
        let mut control = control(1_000);
        control.update(AT(0), &RateInput { probed: Some(narrow), ..input(Usage::Normal, 280, 5) });
        assert_eq!(control.target(), Bitrate::from_kbps(280));
        let narrower = ProbeResult { rate: Bitrate::from_kbps(100), ..narrow };
        control.update(AT(100), &RateInput { probed: Some(narrower), ..input(Usage::Normal, 280, 5) });
        assert!(control.target() >= Bitrate::from_kbps(280));
    }

    #[test]
    fn a_delay_that_sending_less_does_not_shorten_is_the_paths_own() {
        let mut control = control(1_000);
        let rebased = (0..100).find(|i| control.update(AT(100 * i), &input(Usage::Normal, 900, 120)));
        assert!(rebased.is_some_and(|i| (40..60).contains(&i)), "{rebased:?}");
    }
}
