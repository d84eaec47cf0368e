//! Bits in network order, most significant first.

use super::DescriptorError;

/// Reads bits; running out of them is an error, never a panic.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits read so far.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// `count` bits, at most 32.
    pub(crate) fn read(&mut self, count: u32) -> Result<u32, DescriptorError> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(DescriptorError::Truncated);
        }
        let mut value = 0u64;
        let mut left = count as usize;
        while left > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8).ok_or(DescriptorError::Truncated)?);
            let open = 8 - self.at % 8;
            let take = open.min(left);
            value = (value << take) | ((byte >> (open - take)) & ((1 << take) - 1));
            self.at += take;
            left -= take;
        }
        Ok(value as u32)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DescriptorError> {
        Ok(self.read(1)? == 1)
    }

    /// Skips the next `count` bits if they are the first `count` bits of `other`.
    pub(crate) fn skip_if_same(&mut self, other: &[u8], count: usize) -> bool {
        let (mut ahead, mut expected) = (self.clone(), BitReader::new(other));
        let mut left = count;
        while left > 0 {
            let take = left.min(32) as u32;
            match (ahead.read(take), expected.read(take)) {
                (Ok(a), Ok(b)) if a == b => left -= take as usize,
                _ => return false,
            }
        }
        self.at = ahead.at;
        true
    }

    /// A number below `bound`, in the specification's non-symmetric code.
    pub(crate) fn non_symmetric(&mut self, bound: u32) -> Result<u32, DescriptorError> {
        let width = 32 - bound.leading_zeros();
        let short = (1u32 << width) - bound;
        let value = self.read(width.saturating_sub(1))?;
        if value < short { Ok(value) } else { Ok((value << 1) - short + self.read(1)?) }
    }
}

/// Writes bits into a buffer; what does not fit sets an error that [`BitWriter::finish`] tells.
#[derive(Debug)]
pub(crate) struct BitWriter<'b> {
    out: &'b mut [u8],
    at: usize,
    overflow: bool,
}

impl<'b> BitWriter<'b> {
    pub(crate) const fn new(out: &'b mut [u8]) -> Self {
        Self { out, at: 0, overflow: false }
    }

    /// The low `count` bits of `value`, at most 32.
    pub(crate) fn write(&mut self, value: u32, count: u32) {
        let mut left = count as usize;
        while left > 0 {
            let open = 8 - self.at % 8;
            let take = open.min(left);
            let part = ((u64::from(value) >> (left - take)) & ((1 << take) - 1)) as u8;
            let Some(byte) = self.out.get_mut(self.at / 8) else {
                self.overflow = true;
                return;
            };
            if open == 8 {
                *byte = 0;
            }
            *byte |= ((u16::from(part)) << (open - take)) as u8;
            self.at += take;
            left -= take;
        }
    }

    /// A number below `bound`, as [`BitReader::non_symmetric`] reads it.
    pub(crate) fn non_symmetric(&mut self, value: u32, bound: u32) {
        let width = 32 - bound.leading_zeros();
        let short = (1u32 << width) - bound;
        if value < short {
            self.write(value, width.saturating_sub(1));
        } else {
            self.write(value + short, width);
        }
    }

    /// The bits `from..to` of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8], from: usize, to: usize) {
        let mut reader = BitReader { bytes, at: from };
        let mut left = to.saturating_sub(from);
        while left > 0 {
            let take = left.min(32) as u32;
            let Ok(value) = reader.read(take) else {
                self.overflow = true;
                return;
            };
            self.write(value, take);
            left -= take as usize;
        }
    }

    /// Bytes written, the last one filled up with zeros; `None` where something did not fit.
    pub(crate) fn finish(self) -> Option<usize> {
        (!self.overflow).then(|| self.at.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(fields in prop::collection::vec((any::<u32>(), 1u32..=32), 0..40)) {
            let mut out = [0xffu8; 200];
            let mut writer = BitWriter::new(&mut out);
            for (value, count) in &fields {
                writer.write(*value, *count);
            }
            let len = writer.finish().unwrap();
            let mut reader = BitReader::new(&out[..len]);
            for (value, count) in &fields {
                prop_assert_eq!(reader.read(*count).unwrap(), value & (u32::MAX >> (32 - count)));
            }
        }

        #[test]
        fn copied_bits_are_the_same_wherever_they_start(bytes in prop::collection::vec(any::<u8>(), 1..30), skip in 0usize..20, lead in 0u32..9) {
            let total = bytes.len() * 8;
            let from = skip.min(total);
            let mut out = [0u8; 40];
            let mut writer = BitWriter::new(&mut out);
            writer.write(0, lead);
            writer.copy(&bytes, from, total);
            writer.finish().unwrap();
            let (mut a, mut b) = (BitReader { bytes: &bytes, at: from }, BitReader { bytes: &out, at: lead as usize });
            for _ in from..total {
                prop_assert_eq!(a.read(1), b.read(1));
            }
        }
    }

    #[test]
    fn non_symmetric_numbers_follow_the_specification() {
        // Below five: 0, 1 and 2 take two bits, 3 and 4 take three.
        let mut reader = BitReader::new(&[0b0001_1011, 0b0111_0000]);
        let values: Vec<u32> = (0..5).map(|_| reader.non_symmetric(5).unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 3, 4]);
        assert_eq!(BitReader::new(&[]).non_symmetric(1), Ok(0));
    }

    #[test]
    fn non_symmetric_numbers_round_trip() {
        for bound in 1..40 {
            for value in 0..bound {
                let mut out = [0; 4];
                let mut writer = BitWriter::new(&mut out);
                writer.non_symmetric(value, bound);
                writer.finish().unwrap();
                assert_eq!(BitReader::new(&out).non_symmetric(bound), Ok(value), "{value} below {bound}");
            }
        }
    }

    #[test]
    fn the_end_is_an_error() {
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.read(9), Err(DescriptorError::Truncated));
        let mut out = [0; 1];
        let mut writer = BitWriter::new(&mut out);
        writer.write(0, 9);
        assert_eq!(writer.finish(), None);
    }
}
