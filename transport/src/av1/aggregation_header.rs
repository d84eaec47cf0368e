//! The first byte of an AV1 payload (RTP Payload Format For AV1, section 4.4): for streams without dependency descriptor.

/// Whether the payload is the first of a coded video sequence, which a key frame begins (the N bit).
pub fn starts_coded_video_sequence(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & 0x08 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_n_bit_counts() {
        assert!(starts_coded_video_sequence(&[0b0001_1000, 0x0a]));
        assert!(!starts_coded_video_sequence(&[0b1111_0111, 0x0a]));
        assert!(!starts_coded_video_sequence(&[]));
    }
}
