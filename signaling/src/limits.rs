//! Limits on what one connection and one address may do. Pure: time is given.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// What a connection is held to.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Messages per second, sustained.
    pub messages_per_second: u32,
    /// Messages that may come at once.
    pub burst: u32,
    /// Refused messages after which the connection is closed.
    pub strikes: u32,
    /// How long `hello` may take.
    pub sign_in: Duration,
    /// How often a ping goes out; a connection that leaves two unanswered is dead.
    pub ping_interval: Duration,
    /// Messages waiting for one client.
    pub queued_messages: usize,
    /// Bytes waiting for one client.
    pub queued_bytes: usize,
    /// How long the last messages and the close frame may take to go out.
    pub close_grace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            messages_per_second: 50,
            burst: 200,
            strikes: 100,
            sign_in: Duration::from_secs(5),
            ping_interval: Duration::from_secs(15),
            queued_messages: 4_096,
            queued_bytes: 1024 * 1024,
            close_grace: Duration::from_secs(5),
        }
    }
}

/// What becomes of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Take,
    /// Refuse it; another one is taken after this time.
    Refuse(Duration),
    /// The sender does not listen: close.
    Close,
}

/// A token bucket, and a count of what went over it.
#[derive(Debug)]
pub(crate) struct MessageRate {
    tokens: f32,
    strikes: u32,
    filled_at: Instant,
}

impl MessageRate {
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^24")]
    pub(crate) fn new(now: Instant, limits: &ConnectionLimits) -> Self {
        Self { tokens: limits.burst as f32, strikes: 0, filled_at: now }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^24")]
    pub(crate) fn take(&mut self, now: Instant, limits: &ConnectionLimits) -> Verdict {
        let (rate, burst) = (limits.messages_per_second as f32, limits.burst as f32);
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f32();
        self.filled_at = now;
        self.tokens = (self.tokens + passed * rate).min(burst);
        if self.tokens >= burst / 2.0 {
            self.strikes = 0;
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Take;
        }
        self.strikes += 1;
        if self.strikes > limits.strikes {
            return Verdict::Close;
        }
        Verdict::Refuse(Duration::from_secs_f32((1.0 - self.tokens) / rate.max(0.001)))
    }
}

/// Connections by address, up to a limit for each and for all.
#[derive(Debug)]
pub(crate) struct AddressLimits {
    per_address: usize,
    total: usize,
    open: HashMap<IpAddr, usize>,
    sum: usize,
}

/// Which limit a new connection is above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OverLimit {
    Address,
    Server,
}

impl AddressLimits {
    pub(crate) fn new(per_address: usize, total: usize) -> Self {
        Self { per_address, total, open: HashMap::new(), sum: 0 }
    }

    pub(crate) fn open(&mut self, address: IpAddr) -> Result<(), OverLimit> {
        if self.sum >= self.total {
            return Err(OverLimit::Server);
        }
        let count = self.open.entry(address).or_default();
        if *count >= self.per_address {
            return Err(OverLimit::Address);
        }
        *count += 1;
        self.sum += 1;
        Ok(())
    }

    pub(crate) fn close(&mut self, address: IpAddr) {
        if let Some(count) = self.open.get_mut(&address) {
            *count -= 1;
            self.sum -= 1;
            if *count == 0 {
                self.open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_then_the_rate_holds_then_the_door_closes() {
        let limits = ConnectionLimits { messages_per_second: 10, burst: 5, strikes: 2, ..Default::default() };
        let start = Instant::now();
        let mut rate = MessageRate::new(start, &limits);
        for _ in 0..5 {
            assert_eq!(rate.take(start, &limits), Verdict::Take);
        }
        let Verdict::Refuse(wait) = rate.take(start, &limits) else { panic!("above the burst") };
        assert!(wait <= Duration::from_millis(101));
        assert_eq!(rate.take(start + wait + Duration::from_millis(1), &limits), Verdict::Take);
        assert!(matches!(rate.take(start + wait, &limits), Verdict::Refuse(_)));
        assert_eq!(rate.take(start + wait, &limits), Verdict::Close);
    }

    #[test]
    fn strikes_are_forgiven_after_a_rest() {
        let limits = ConnectionLimits { messages_per_second: 10, burst: 4, strikes: 1, ..Default::default() };
        let mut now = Instant::now();
        let mut rate = MessageRate::new(now, &limits);
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(rate.take(now, &limits), Verdict::Take);
            }
            assert!(matches!(rate.take(now, &limits), Verdict::Refuse(_)));
            now += Duration::from_secs(1);
        }
    }

    #[test]
    fn addresses_are_counted_apart_and_together() {
        let mut limits = AddressLimits::new(2, 3);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!((limits.open(a), limits.open(a), limits.open(a)), (Ok(()), Ok(()), Err(OverLimit::Address)));
        assert_eq!((limits.open(b), limits.open(b)), (Ok(()), Err(OverLimit::Server)));
        limits.close(a);
        assert_eq!(limits.open(b), Ok(()));
        limits.close(a);
        limits.close(b);
        limits.close(b);
        limits.close(b);
        assert!(limits.open.is_empty() && limits.sum == 0);
    }
}
