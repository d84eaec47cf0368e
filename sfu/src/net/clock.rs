//! The one place where a monotonic clock is read.

use std::time::Instant;

use halloo_transport::Timestamp;

/// A monotonic clock whose origin all threads of a unit share.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The instant at [`Timestamp::ZERO`].
    pub const fn origin(&self) -> Instant {
        self.origin
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
