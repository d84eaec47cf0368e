//! As much of RTP and RTCP as SRTP needs to know: where the header ends (RFC 3550, 5.1 and 6.1).

use super::SrtpError;

/// Bytes of an RTP header without CSRCs and extension.
const RTP_FIXED: usize = 12;
/// Bytes of an RTCP packet that stay in the clear.
pub(super) const RTCP_CLEAR: usize = 8;

/// An RTP header's identity and extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct RtpHeader {
    pub(super) ssrc: u32,
    pub(super) seq: u16,
    /// Bytes up to the payload: fixed part, CSRCs and extension.
    pub(super) len: usize,
}

impl RtpHeader {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, SrtpError> {
        let Some(fixed) = packet.first_chunk::<RTP_FIXED>() else { return Err(SrtpError::Malformed) };
        if fixed[0] >> 6 != 2 {
            return Err(SrtpError::Malformed);
        }
        let mut len = RTP_FIXED + 4 * usize::from(fixed[0] & 0x0f);
        if fixed[0] & 0x10 != 0 {
            let Some(extension) = packet.get(len..len + 4) else { return Err(SrtpError::Malformed) };
            len += 4 + 4 * usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        }
        if len > packet.len() {
            return Err(SrtpError::Malformed);
        }
        Ok(Self {
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            len,
        })
    }
}

/// The SSRC of an RTCP packet's sender.
pub(super) fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    match packet.first_chunk::<RTCP_CLEAR>() {
        Some(head) if head[0] >> 6 == 2 => Ok(u32::from_be_bytes([head[4], head[5], head[6], head[7]])),
        _ => Err(SrtpError::Malformed),
    }
}
