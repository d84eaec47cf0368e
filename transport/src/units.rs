//! The units of RTP as types, so that no bare `u32` crosses a module boundary where a unit exists.

use std::{fmt, time::Duration};

/// Bits in a byte times nanoseconds in a second: between a rate with a time and a number of bytes. Products that do not fit 64
/// bits are made of 128, which is slow and rare.
const BITS_TIMES_NANOS: u64 = 8_000_000_000;

/// A bitrate in bits per second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// `bps` bits per second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// `kbps` thousand bits per second.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(1_000))
    }

    /// The rate at which `bytes` pass in `time`; [`Bitrate::ZERO`] where `time` is zero.
    pub fn from_bytes_over(bytes: u64, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds <= 0.0 {
            return Self::ZERO;
        }
        Self((bytes as f64 * 8.0 / seconds) as u64)
    }

    /// Bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// Thousand bits per second, as a fraction.
    pub fn as_kbps_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// How long `bytes` take at this rate; [`Duration::MAX`] at a rate of zero.
    #[inline]
    pub fn time_for(self, bytes: usize) -> Duration {
        if self.0 == 0 {
            return Duration::MAX;
        }
        Duration::from_nanos(match (bytes as u64).checked_mul(BITS_TIMES_NANOS) {
            Some(bits) => bits / self.0,
            None => (bytes as u128 * u128::from(BITS_TIMES_NANOS) / u128::from(self.0)) as u64,
        })
    }

    /// How many whole bytes pass in `time` at this rate.
    #[inline]
    pub fn bytes_in(self, time: Duration) -> u64 {
        match u64::try_from(time.as_nanos()).ok().and_then(|nanos| self.0.checked_mul(nanos)) {
            Some(bits) => bits / BITS_TIMES_NANOS,
            None => (u128::from(self.0) * time.as_nanos() / u128::from(BITS_TIMES_NANOS)) as u64,
        }
    }

    /// This rate times `factor`; negative factors give zero.
    #[must_use]
    #[inline]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).max(0.0) as u64)
    }
}

impl fmt::Debug for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}kbit/s", self.as_kbps_f64())
    }
}

/// A synchronisation source identifier (RFC 3550, section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(pub u32);

impl fmt::Debug for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssrc:{:08x}", self.0)
    }
}

/// A payload type, 0 to 127 (RFC 3550, section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PayloadType(pub u8);

/// A media section's identification tag (RFC 9143), at most 16 bytes on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mid(pub String);

/// A restriction identifier: one encoding of a simulcast source (RFC 8851).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rid(pub String);

/// An RTP sequence number extended to 64 bits: it never wraps, so plain comparison is right
/// (RFC 3550, appendix A.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The 16 bits that go on the wire.
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Debug for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// An RTP timestamp extended to 64 bits, in ticks of `clock_rate`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpTime {
    /// Ticks since the stream's first wrap period began.
    pub ticks: u64,
    /// Ticks in a second: 48,000 for Opus, 90,000 for video.
    pub clock_rate: u32,
}

impl RtpTime {
    /// `ticks` of a clock with `clock_rate` ticks in a second.
    pub const fn new(ticks: u64, clock_rate: u32) -> Self {
        Self { ticks, clock_rate }
    }

    /// The 32 bits that go on the wire.
    pub const fn wire(self) -> u32 {
        self.ticks as u32
    }

    /// Time since tick zero.
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos((u128::from(self.ticks) * 1_000_000_000 / u128::from(self.clock_rate.max(1))) as u64)
    }
}

impl fmt::Debug for RtpTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}Hz", self.ticks, self.clock_rate)
    }
}

/// Extends a counter of `BITS` bits that wraps on the wire into 64 bits that do not.
///
/// The first value lands one full period above zero, so that packets which precede it still fit.
/// A jump of more than half the period counts as backwards.
#[derive(Clone, Debug, Default)]
pub struct Unwrapper<const BITS: u32> {
    last: Option<u64>,
}

/// Extends 16-bit sequence numbers.
pub type SeqUnwrapper = Unwrapper<16>;
/// Extends 32-bit RTP timestamps.
pub type RtpTimeUnwrapper = Unwrapper<32>;

impl<const BITS: u32> Unwrapper<BITS> {
    const PERIOD: u64 = 1 << BITS;

    /// An unwrapper that has seen nothing.
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// An unwrapper whose newest value is `value`.
    pub const fn starting_at(value: u64) -> Self {
        Self { last: Some(value) }
    }

    /// The extended value of `wire`, remembered as the newest seen if it is.
    pub fn unwrap(&mut self, wire: u64) -> u64 {
        let value = self.peek(wire);
        self.last = Some(self.last.map_or(value, |last| last.max(value)));
        value
    }

    /// The extended value of `wire`, without remembering it.
    pub fn peek(&self, wire: u64) -> u64 {
        let wire = wire % Self::PERIOD;
        let Some(last) = self.last else {
            return Self::PERIOD + wire;
        };
        let ahead = wire.wrapping_sub(last) % Self::PERIOD;
        if ahead < Self::PERIOD / 2 { last + ahead } else { (last + ahead).saturating_sub(Self::PERIOD) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwrapper_follows_a_wrap_forwards_and_backwards() {
        let mut seq = SeqUnwrapper::new();
        let first = seq.unwrap(65_534);
        assert_eq!(seq.unwrap(65_535), first + 1);
        assert_eq!(seq.unwrap(1), first + 3);
        assert_eq!(seq.unwrap(65_535), first + 1);
        assert_eq!(seq.unwrap(2), first + 4);
    }

    #[test]
    fn a_packet_older_than_the_first_still_has_a_number() {
        let mut seq = SeqUnwrapper::new();
        let first = seq.unwrap(3);
        assert_eq!(seq.unwrap(65_535), first - 4);
    }

    #[test]
    fn bitrate_and_bytes_agree() {
        let rate = Bitrate::from_kbps(800);
        assert_eq!(rate.time_for(1_000), Duration::from_millis(10));
        assert_eq!(rate.bytes_in(Duration::from_millis(10)), 1_000);
        assert_eq!(Bitrate::from_bytes_over(1_000, Duration::from_millis(10)), rate);
    }
}
