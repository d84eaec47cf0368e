//! The engine's one door to the monotonic clock.

use halloo_transport::Timestamp;

/// Now, on `CLOCK_MONOTONIC`: comparable between processes of one machine, and what the engine's timestamps mean.
#[cfg(unix)]
pub fn now() -> Timestamp {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Timestamp::from_nanos((t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64))
}

/// Now, since the first time it was asked: comparable within this process.
#[cfg(not(unix))]
pub fn now() -> Timestamp {
    use std::{sync::OnceLock, time::Instant};
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    Timestamp::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
