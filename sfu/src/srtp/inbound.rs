//! The receiving direction of a connection (RFC 3711, 3.3 and 3.4).
//!
//! Invariant: rollover counters, replay windows and the list of streams change for authenticated packets only.

use super::{
    MasterKey, SrtpError,
    cipher::Cipher,
    packet::{self, RtpHeader},
    streams::Streams,
};

/// Opens packets from one peer.
pub struct Inbound {
    cipher: Cipher,
    rtp: Streams,
    rtcp: Streams,
}

impl Inbound {
    /// A context that has received nothing under `key`.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`], which a checked [`MasterKey`] never gives.
    pub fn new(key: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Self::with_cipher(Cipher::new(key)?))
    }

    pub(super) fn with_cipher(cipher: Cipher) -> Self {
        Self { cipher, rtp: Streams::default(), rtcp: Streams::default() }
    }

    /// Opens an SRTP packet in place; returns the length of the RTP packet now at the start of `packet`. On an error the
    /// bytes of `packet` are not to be used.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::Replayed`], [`SrtpError::Authentication`], [`SrtpError::TooManyStreams`],
    /// [`SrtpError::KeyExhausted`].
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let header = RtpHeader::parse(packet)?;
        let slot = self.rtp.find(header.ssrc)?;
        let index = self.rtp.estimate(slot, header.seq)?;
        if !self.rtp.is_new(slot, index) {
            return Err(SrtpError::Replayed);
        }
        let len = self.cipher.open_rtp(header, index, packet)?;
        self.rtp.record(slot, header.ssrc, index);
        Ok(len)
    }

    /// Opens an SRTCP packet in place; returns the length of the RTCP packet now at the start of `packet`. On an error the
    /// bytes of `packet` are not to be used.
    ///
    /// # Errors
    /// [`SrtpError::Malformed`], [`SrtpError::NotEncrypted`], [`SrtpError::Replayed`], [`SrtpError::Authentication`],
    /// [`SrtpError::TooManyStreams`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = packet::rtcp_ssrc(packet)?;
        let index = self.cipher.rtcp_index(packet)?;
        let slot = self.rtcp.find(ssrc)?;
        if !self.rtcp.is_new(slot, u64::from(index)) {
            return Err(SrtpError::Replayed);
        }
        let len = self.cipher.open_rtcp(ssrc, index, packet)?;
        self.rtcp.record(slot, ssrc, u64::from(index));
        Ok(len)
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}
