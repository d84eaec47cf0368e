//! The two transforms: AES-GCM (RFC 7714, 8 to 10) and AES-CM with HMAC-SHA1 (RFC 3711, 4.1.1 and 4.2.1).
//!
//! Invariant: opening authenticates before it gives plaintext out; what it leaves behind on failure is not to be read.

use aes::{
    Aes128,
    cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper},
};
use ctr::{CtrCore, flavors::Ctr128BE};
use ring::{aead, hmac};
use subtle::ConstantTimeEq;

use super::{
    MasterKey, Profile, SrtpError,
    key_derivation::{Label, derive},
    packet::{RTCP_CLEAR, RtpHeader},
};

/// Bytes of the SRTCP word that carries the E flag and the index.
const RTCP_INDEX: usize = 4;
const ENCRYPTED: u32 = 1 << 31;
const GCM_TAG: usize = 16;
/// Tag of HMAC-SHA1-80.
const SHA1_80: usize = 10;

/// Session keys of one direction.
#[expect(clippy::large_enum_variant, reason = "one per direction and peer; the keys of the hot path stay in place")]
pub(super) enum Cipher {
    Gcm { rtp: GcmKey, rtcp: GcmKey },
    CounterMode { rtp: Box<CounterModeKey>, rtcp: Box<CounterModeKey> },
}

impl Cipher {
    pub(super) fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        let rtp = [Label::RtpEncryption, Label::RtpSalt, Label::RtpAuthentication];
        let rtcp = [Label::RtcpEncryption, Label::RtcpSalt, Label::RtcpAuthentication];
        Ok(match master.profile() {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                Self::Gcm { rtp: GcmKey::derive(master, rtp)?, rtcp: GcmKey::derive(master, rtcp)? }
            }
            Profile::Aes128CmSha1_80 => Self::CounterMode {
                rtp: Box::new(CounterModeKey::derive(master, rtp)?),
                rtcp: Box::new(CounterModeKey::derive(master, rtcp)?),
            },
        })
    }

    pub(super) const fn tag_len(&self) -> usize {
        match self {
            Self::Gcm { .. } => GCM_TAG,
            Self::CounterMode { .. } => SHA1_80,
        }
    }

    /// Seals the `len` bytes of RTP at the start of `buffer`; returns the length with tag.
    pub(super) fn seal_rtp(
        &self,
        header: RtpHeader,
        index: u64,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SrtpError> {
        let end = len + self.tag_len();
        let (packet, tag) = buffer.get_mut(..end).ok_or(SrtpError::NoRoom)?.split_at_mut(len);
        match self {
            Self::Gcm { rtp, .. } => {
                let (clear, secret) = packet.split_at_mut(header.len);
                rtp.seal(rtp.rtp_nonce(header.ssrc, index), &[clear], secret, tag)?;
            }
            Self::CounterMode { rtp, .. } => {
                rtp.apply_keystream(header.ssrc, index, &mut packet[header.len..]);
                tag.copy_from_slice(&rtp.tag(packet, rollover(index)));
            }
        }
        Ok(end)
    }

    /// Opens an SRTP packet; returns the length without tag.
    pub(super) fn open_rtp(&self, header: RtpHeader, index: u64, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.tag_len()).ok_or(SrtpError::Malformed)?;
        if len < header.len {
            return Err(SrtpError::Malformed);
        }
        let (packet, tag) = packet.split_at_mut(len);
        match self {
            Self::Gcm { rtp, .. } => {
                let (clear, secret) = packet.split_at_mut(header.len);
                rtp.open(rtp.rtp_nonce(header.ssrc, index), &[clear], secret, tag)?;
            }
            Self::CounterMode { rtp, .. } => {
                rtp.verify(packet, rollover(index), tag)?;
                rtp.apply_keystream(header.ssrc, index, &mut packet[header.len..]);
            }
        }
        Ok(len)
    }

    /// Seals the `len` bytes of RTCP at the start of `buffer`; returns the length with index and tag.
    pub(super) fn seal_rtcp(&self, ssrc: u32, index: u32, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let end = len + RTCP_INDEX + self.tag_len();
        let buffer = buffer.get_mut(..end).ok_or(SrtpError::NoRoom)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        match self {
            Self::Gcm { rtcp, .. } => {
                let (packet, tail) = buffer.split_at_mut(len);
                let (tag, trailer) = tail.split_at_mut(GCM_TAG);
                let (clear, secret) = packet.split_at_mut(RTCP_CLEAR);
                rtcp.seal(rtcp.rtcp_nonce(ssrc, index), &[clear, &word], secret, tag)?;
                trailer.copy_from_slice(&word);
            }
            Self::CounterMode { rtcp, .. } => {
                let (packet, tag) = buffer.split_at_mut(len + RTCP_INDEX);
                rtcp.apply_keystream(ssrc, u64::from(index), &mut packet[RTCP_CLEAR..len]);
                packet[len..].copy_from_slice(&word);
                tag.copy_from_slice(&rtcp.tag(packet, []));
            }
        }
        Ok(end)
    }

    /// The index of an SRTCP packet, not yet authenticated.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let behind = match self {
            Self::Gcm { .. } => 0,
            Self::CounterMode { .. } => SHA1_80,
        };
        let word = packet.len().checked_sub(behind).and_then(|end| packet[..end].last_chunk::<RTCP_INDEX>());
        let word = u32::from_be_bytes(*word.ok_or(SrtpError::Malformed)?);
        if word & ENCRYPTED == 0 { Err(SrtpError::NotEncrypted) } else { Ok(word & !ENCRYPTED) }
    }

    /// Opens an SRTCP packet; returns the length of the RTCP in it.
    pub(super) fn open_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(RTCP_INDEX + self.tag_len()).ok_or(SrtpError::Malformed)?;
        if len < RTCP_CLEAR {
            return Err(SrtpError::Malformed);
        }
        match self {
            Self::Gcm { rtcp, .. } => {
                let word = (index | ENCRYPTED).to_be_bytes();
                let (packet, tail) = packet.split_at_mut(len);
                let (clear, secret) = packet.split_at_mut(RTCP_CLEAR);
                rtcp.open(rtcp.rtcp_nonce(ssrc, index), &[clear, &word], secret, &tail[..GCM_TAG])?;
            }
            Self::CounterMode { rtcp, .. } => {
                let (packet, tag) = packet.split_at_mut(len + RTCP_INDEX);
                rtcp.verify(packet, [], tag)?;
                rtcp.apply_keystream(ssrc, u64::from(index), &mut packet[RTCP_CLEAR..len]);
            }
        }
        Ok(len)
    }
}

/// The rollover counter, as it is authenticated behind a packet.
const fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// An AES-GCM session key and its salt.
pub(super) struct GcmKey {
    key: aead::LessSafeKey,
    salt: [u8; aead::NONCE_LEN],
}

impl GcmKey {
    fn derive(master: &MasterKey, [key_label, salt_label, _]: [Label; 3]) -> Result<Self, SrtpError> {
        let mut key = [0; 32];
        let key = &mut key[..master.profile().key_len()];
        let mut salt = [0; aead::NONCE_LEN];
        derive(master, key_label, key)?;
        derive(master, salt_label, &mut salt)?;
        Self::new(key, salt)
    }

    pub(super) fn new(key: &[u8], salt: [u8; aead::NONCE_LEN]) -> Result<Self, SrtpError> {
        let algorithm = if key.len() == 32 { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
        let key = aead::UnboundKey::new(algorithm, key).map_err(|_| SrtpError::KeyLength)?;
        Ok(Self { key: aead::LessSafeKey::new(key), salt })
    }

    /// RFC 7714, 8.1: two zero bytes, SSRC, rollover counter, sequence number, all XOR the salt.
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> aead::Nonce {
        let mut nonce = [0; aead::NONCE_LEN];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        self.salted(nonce)
    }

    /// RFC 7714, 9.1: two zero bytes, SSRC, two zero bytes, index, all XOR the salt.
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> aead::Nonce {
        let mut nonce = [0; aead::NONCE_LEN];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[8..].copy_from_slice(&index.to_be_bytes());
        self.salted(nonce)
    }

    #[inline]
    fn salted(&self, nonce: [u8; aead::NONCE_LEN]) -> aead::Nonce {
        let mut salted = self.salt;
        for (salt, byte) in salted.iter_mut().zip(nonce) {
            *salt ^= byte;
        }
        aead::Nonce::assume_unique_for_key(salted)
    }

    fn seal(&self, nonce: aead::Nonce, clear: &[&[u8]], secret: &mut [u8], tag: &mut [u8]) -> Result<(), SrtpError> {
        let sealed = with_associated_data(clear, |data| {
            self.key.seal_in_place_separate_tag(nonce, aead::Aad::from(data), secret)
        })?;
        tag.copy_from_slice(sealed.map_err(|_| SrtpError::KeyExhausted)?.as_ref());
        Ok(())
    }

    fn open(&self, nonce: aead::Nonce, clear: &[&[u8]], secret: &mut [u8], tag: &[u8]) -> Result<(), SrtpError> {
        let tag = aead::Tag::try_from(tag).map_err(|_| SrtpError::Malformed)?;
        with_associated_data(clear, |data| {
            self.key.open_in_place_separate_tag(nonce, aead::Aad::from(data), tag, secret, 0..).map(|_| ())
        })?
        .map_err(|_| SrtpError::Authentication)
    }
}

/// Runs `with` on the pieces of `clear` in one slice: as they are where there is one, else put together on the stack (SRTCP:
/// the eight bytes in the clear and the index word).
fn with_associated_data<T>(clear: &[&[u8]], with: impl FnOnce(&[u8]) -> T) -> Result<T, SrtpError> {
    match clear {
        [whole] => Ok(with(whole)),
        pieces => {
            let mut joined = [0; RTCP_CLEAR + RTCP_INDEX];
            let mut at = 0;
            for piece in pieces {
                joined.get_mut(at..at + piece.len()).ok_or(SrtpError::Malformed)?.copy_from_slice(piece);
                at += piece.len();
            }
            Ok(with(&joined[..at]))
        }
    }
}

/// An AES-CM session key with its salt, and the key of its HMAC.
pub(super) struct CounterModeKey {
    cipher: Aes128,
    salt: [u8; 14],
    authentication: hmac::Key,
}

impl CounterModeKey {
    fn derive(master: &MasterKey, [key_label, salt_label, auth_label]: [Label; 3]) -> Result<Self, SrtpError> {
        let (mut key, mut salt, mut auth) = ([0; 16], [0; 14], [0; 20]);
        derive(master, key_label, &mut key)?;
        derive(master, salt_label, &mut salt)?;
        derive(master, auth_label, &mut auth)?;
        Ok(Self {
            cipher: Aes128::new(&key.into()),
            salt,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
        })
    }

    /// RFC 3711, 4.1.1: the counter starts at salt, SSRC and index XORed at their places.
    fn apply_keystream(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        iv[4..8].iter_mut().zip(ssrc.to_be_bytes()).for_each(|(byte, ssrc)| *byte ^= ssrc);
        iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]).for_each(|(byte, index)| *byte ^= index);
        let core = CtrCore::<&Aes128, Ctr128BE>::inner_iv_init(&self.cipher, &iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    /// The first 80 bits of the HMAC over `packet` and what follows it unsent (RFC 3711, 4.2).
    fn tag<const N: usize>(&self, packet: &[u8], behind: [u8; N]) -> [u8; SHA1_80] {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(&behind);
        let mut tag = [0; SHA1_80];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }

    fn verify<const N: usize>(&self, packet: &[u8], behind: [u8; N], tag: &[u8]) -> Result<(), SrtpError> {
        if self.tag(packet, behind).ct_eq(tag).into() { Ok(()) } else { Err(SrtpError::Authentication) }
    }
}
