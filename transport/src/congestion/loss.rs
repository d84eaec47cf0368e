//! A cap from loss that the sending rate causes (after draft-ietf-rmcat-gcc-02, section 6).
//!
//! A path may lose packets whatever is sent: radio does. The least loss seen lately is taken for the path's own; only what
//! comes on top of it is taken for ours and lowers the cap.

use super::CongestionConfig;
use crate::{time::Timestamp, units::Bitrate};
use std::{collections::VecDeque, time::Duration};

/// Packets and time that one look at the loss needs.
const MIN_PACKETS: u32 = 30;
const MIN_TIME: Duration = Duration::from_millis(200);
/// Loss on top of the path's own that lowers the cap, and that still lets it grow.
const HIGH: f64 = 0.10;
const LOW: f64 = 0.02;
/// Delay that shows a queue which may overflow.
const BUSY_QUEUE: Duration = Duration::from_millis(50);
/// Looks whose least loss is the path's own.
const LOOKS: usize = 8;
/// Growth of the cap per look without loss.
const GROWTH: f64 = 1.08;

/// Follows loss.
#[derive(Clone, Debug)]
pub struct LossControl {
    config: CongestionConfig,
    cap: Bitrate,
    lost: u32,
    settled: u32,
    since: Option<Timestamp>,
    last_decrease: Option<Timestamp>,
    looks: VecDeque<f64>,
}

impl LossControl {
    /// No loss seen: no cap.
    pub fn new(config: CongestionConfig) -> Self {
        Self {
            config,
            cap: config.max,
            lost: 0,
            settled: 0,
            since: None,
            last_decrease: None,
            // Until the path was seen to lose on its own, loss is ours.
            looks: [0.0; LOOKS].into(),
        }
    }

    /// The share that was lost at the last look.
    pub fn recent(&self) -> f64 {
        self.looks.back().copied().unwrap_or_default()
    }

    /// The highest target that loss allows.
    pub const fn cap(&self) -> Bitrate {
        self.cap
    }

    /// Takes a packet's fate.
    pub fn on_result(&mut self, arrived: bool) {
        self.settled += 1;
        self.lost += u32::from(!arrived);
    }

    /// Forgets what was lost since the last look.
    pub fn overlook(&mut self, now: Timestamp) {
        (self.lost, self.settled, self.since) = (0, 0, Some(now));
    }

    /// Looks at the loss, when enough was settled; `target` is what is sent at.
    pub fn update(&mut self, now: Timestamp, rtt: Duration, target: Bitrate, queue_delay: Duration) {
        let since = *self.since.get_or_insert(now);
        if self.settled < MIN_PACKETS || now.since(since) < MIN_TIME {
            return;
        }
        let settled = self.settled;
        let loss = f64::from(self.lost) / f64::from(settled);
        (self.lost, self.settled, self.since) = (0, 0, Some(now));
        let own = self.looks.iter().copied().fold(1.0, f64::min);
        self.looks.push_back(loss);
        self.looks.pop_front();
        // With few packets a look is coarse: loss at a queue is the queue's, but without one it has to be certain.
        let spread = (loss * (1.0 - loss) / f64::from(settled)).sqrt();
        let doubt = if queue_delay > BUSY_QUEUE { 0.0 } else { spread * 1.5 };
        let excess = loss - own;
        if excess - doubt > HIGH {
            let reacted = self.last_decrease.is_some_and(|at| now.since(at) < rtt + MIN_TIME);
            if !reacted {
                self.last_decrease = Some(now);
                self.cap = target.scale(1.0 - 0.5 * excess).max(self.config.min);
            }
        } else if excess - spread < LOW {
            self.cap = self.cap.scale(GROWTH).max(target.scale(GROWTH)).min(self.config.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Growth, *};

    fn run(control: &mut LossControl, from_ms: u64, looks: u64, every: u32) -> Bitrate {
        for look in 0..looks {
            for i in 0..50 {
                control.on_result(every == 0 || i % every != 0);
            }
            let now = Timestamp::from_millis(from_ms + 500 * look);
            let target = control.cap();
            control.update(now, Duration::from_millis(50), target, Duration::ZERO);
        }
        control.cap()
    }

    fn control() -> LossControl {
        LossControl::new(CongestionConfig {
            start: Bitrate::from_kbps(300),
            min: Bitrate::from_kbps(50),
            max: Bitrate::from_kbps(2_000),
            growth: Growth::ByItself,
        })
    }

    #[test]
    fn heavy_loss_lowers_the_cap_and_none_raises_it_again() {
        let mut control = control();
        assert_eq!(run(&mut control, 0, 5, 0), Bitrate::from_kbps(2_000));
        let lowered = run(&mut control, 10_000, 5, 4);
        assert!(lowered < Bitrate::from_kbps(1_500), "{lowered:?}");
        assert_eq!(run(&mut control, 20_000, 20, 0), Bitrate::from_kbps(2_000));
    }

    #[test]
    fn loss_that_stays_whatever_is_sent_stops_lowering_the_cap() {
        let mut control = control();
        run(&mut control, 0, 10, 4);
        let first = control.cap();
        assert!(run(&mut control, 10_000, 30, 4) >= first);
    }

    #[test]
    fn a_tenth_lost_at_random_is_lived_with() {
        assert_eq!(run(&mut control(), 0, 50, 10), Bitrate::from_kbps(2_000));
    }
}
