//! SRTP and SRTCP in place: [`Outbound`] seals packets into room the caller leaves behind them, [`Inbound`] opens them where
//! they were received.
//!
//! Invariant: a packet is authenticated before it changes anything (rollover counter, replay window, list of streams), and a
//! sender never uses one nonce twice. Steady state allocates nothing. No MKI and no key derivation rate, as DTLS-SRTP has
//! none by default.
//!
//! RFC 3711 (framework, AES-CM with HMAC-SHA1), RFC 7714 (AES-GCM), RFC 6188 (AES-256 key derivation), RFC 5764, 4.2 (keys
//! from DTLS).

mod cipher;
mod inbound;
mod key_derivation;
mod outbound;
mod packet;
mod replay;
mod streams;
#[cfg(test)]
mod tests;

pub use inbound::Inbound;
pub use outbound::Outbound;

/// Bytes that [`Outbound::protect_rtp`] needs behind a packet, whatever the profile.
pub const MAX_RTP_OVERHEAD: usize = 16;
/// Bytes that [`Outbound::protect_rtcp`] needs behind a packet, whatever the profile.
pub const MAX_RTCP_OVERHEAD: usize = 20;
/// Most streams (SSRCs) one context keeps state for; packets of further ones are refused.
pub const MAX_STREAMS: usize = 256;

/// A protection profile of DTLS-SRTP (RFC 5764, 4.1.2; RFC 7714, 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM.
    AeadAes256Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    Aes128CmSha1_80,
}

impl Profile {
    /// Bytes of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes of the authentication tag.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
        }
    }
}

/// Which side of the DTLS handshake this end was: it decides which exported keys it sends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// Sent the ClientHello.
    Client,
    /// Answered it.
    Server,
}

/// A master key and salt of one direction.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    profile: Profile,
    key: [u8; 32],
    salt: [u8; 14],
}

impl MasterKey {
    /// A master key from its bytes.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] where a length is not the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        let mut master = Self { profile, key: [0; 32], salt: [0; 14] };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        Ok(master)
    }

    /// The profile this key is for.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_len()]
    }

    /// The salt, padded at its end with zeros to 112 bits (RFC 7714, 11).
    const fn salt(&self) -> &[u8; 14] {
        &self.salt
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The master keys of both directions of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// What this end protects with.
    pub outbound: MasterKey,
    /// What the peer protects with.
    pub inbound: MasterKey,
}

impl SessionKeys {
    /// Splits what the DTLS exporter gave (label `EXTRACTOR-dtls_srtp`): client key, server key, client salt, server salt
    /// (RFC 5764, 4.2).
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] where `exported` is not two keys and two salts of `profile`.
    pub fn from_exporter(profile: Profile, exported: &[u8], role: DtlsRole) -> Result<Self, SrtpError> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if exported.len() != 2 * (key + salt) {
            return Err(SrtpError::KeyLength);
        }
        let (keys, salts) = exported.split_at(2 * key);
        let client = MasterKey::new(profile, &keys[..key], &salts[..salt])?;
        let server = MasterKey::new(profile, &keys[key..], &salts[salt..])?;
        Ok(match role {
            DtlsRole::Client => Self { outbound: client, inbound: server },
            DtlsRole::Server => Self { outbound: server, inbound: client },
        })
    }
}

/// Why a packet was refused. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Key or salt has a length that is not the profile's.
    #[error("the key or salt is not of the profile's length")]
    KeyLength,
    /// Shorter than its header says, or than header and tag together.
    #[error("not a whole packet")]
    Malformed,
    /// The buffer has no room for tag (and index) behind the packet.
    #[error("no room for the authentication tag behind the packet")]
    NoRoom,
    /// The tag is wrong: forged, damaged, of another key, or carrying an MKI.
    #[error("authentication failed")]
    Authentication,
    /// Seen before, or older than the replay window.
    #[error("replayed, or too old to tell")]
    Replayed,
    /// To be sent under a number that this stream already used; doing so would give its key away.
    #[error("this packet number was used before")]
    NumberReused,
    /// The peer left an SRTCP packet unencrypted, which no profile here allows.
    #[error("SRTCP packet is not encrypted")]
    NotEncrypted,
    /// More than [`MAX_STREAMS`] streams.
    #[error("too many streams")]
    TooManyStreams,
    /// 2^31 SRTCP or 2^48 SRTP packets under one key (RFC 3711, 9.2).
    #[error("the key is used up")]
    KeyExhausted,
}
