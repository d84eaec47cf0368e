//! The sending direction of a connection (RFC 3711, 3.2 and 3.3).
//!
//! Invariant: no two packets are sealed under one (stream, index), which for AES-GCM would give the key away.

use super::{
    MasterKey, SrtpError,
    cipher::Cipher,
    packet::{self, RtpHeader},
    streams::Streams,
};

/// Largest SRTCP index (RFC 3711, 3.4).
const MAX_RTCP_INDEX: u32 = (1 << 31) - 1;

/// Protects packets to one peer.
pub struct Outbound {
    cipher: Cipher,
    rtp: Streams,
    /// One counter for all SRTCP senders of this context: unique for each SSRC too.
    rtcp_index: u32,
}

impl Outbound {
    /// A context that has sent nothing under `key`.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`], which a checked [`MasterKey`] never gives.
    pub fn new(key: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self::with_cipher(Cipher::new(key)?))
    }

    pub(super) fn with_cipher(cipher: Cipher) -> Self {
        Self { cipher, rtp: Streams::default(), rtcp_index: 0 }
    }

    /// Asks for what [`Outbound::protect_rtp`] looks at beside this value itself.
    pub(crate) fn prefetch(&self) {
        self.rtp.prefetch();
    }

    /// Bytes by which sealing lengthens an RTP packet.
    pub const fn rtp_overhead(&self) -> usize {
        self.cipher.tag_len()
    }

    /// Seals the RTP packet in the first `len` bytes of `buffer`, which has [`super::MAX_RTP_OVERHEAD`] bytes of room behind
    /// them. Returns the length of the SRTP packet.
    ///
    /// The rollover counter follows from the sequence numbers: they advance by less than half their range at a time, and a
    /// late one may be at most some four hundred behind.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::NoRoom`], [`SrtpError::NumberReused`], [`SrtpError::TooManyStreams`],
    /// [`SrtpError::KeyExhausted`].
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let header = RtpHeader::parse(buffer.get(..len).ok_or(SrtpError::NoRoom)?)?;
        let slot = self.rtp.find(header.ssrc)?;
        let index = self.rtp.estimate(slot, header.seq).map_err(|error| match error {
            SrtpError::Replayed => SrtpError::NumberReused,
            other => other,
        })?;
        if !self.rtp.is_new(slot, index) {
            return Err(SrtpError::NumberReused);
        }
        let sealed = self.cipher.seal_rtp(header, index, buffer, len)?;
        self.rtp.record(slot, header.ssrc, index);
        Ok(sealed)
    }

    /// Seals the RTCP packet in the first `len` bytes of `buffer`, which has [`super::MAX_RTCP_OVERHEAD`] bytes of room behind
    /// them. Returns the length of the SRTCP packet.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::NoRoom`], [`SrtpError::KeyExhausted`].
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let ssrc = packet::rtcp_ssrc(buffer.get(..len).ok_or(SrtpError::NoRoom)?)?;
        if self.rtcp_index == MAX_RTCP_INDEX {
            return Err(SrtpError::KeyExhausted);
        }
        let sealed = self.cipher.seal_rtcp(ssrc, self.rtcp_index + 1, buffer, len)?;
        self.rtcp_index += 1;
        Ok(sealed)
    }

    #[cfg(test)]
    pub(super) fn set_rtcp_index(&mut self, last: u32) {
        self.rtcp_index = last;
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("rtcp_index", &self.rtcp_index).finish_non_exhaustive()
    }
}
