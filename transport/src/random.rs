//! The session's own randomness: a small deterministic generator, seeded from outside (SplitMix64).
//!
//! It draws what the RTP specifications want unpredictable between calls but not secret: first sequence numbers and
//! report intervals. SRTP protects what must be secret.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that repeats itself for the same `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, excluding, 1.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A first sequence number (RFC 3550, section 5.1), in the lower half so that a wrap is not met at once by peers that
    /// count from the first packet they happen to see (RFC 3711, section 3.3.1).
    pub fn first_sequence_number(&mut self) -> u16 {
        (self.next_u64() & 0x7fff) as u16
    }
}
