//! Certificate fingerprints (RFC 8122, 5): what ties a DTLS connection to the signaling that announced it.

use std::fmt;

use ring::digest;

/// A hash of a DER certificate, as `a=fingerprint` carries it. MD5 and SHA-1 are not accepted (RFC 8122, 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fingerprint {
    /// `sha-256`.
    Sha256([u8; 32]),
    /// `sha-384`.
    Sha384([u8; 48]),
    /// `sha-512`.
    Sha512([u8; 64]),
}

impl Fingerprint {
    /// Whether it is the fingerprint of `certificate` (DER).
    pub fn matches(&self, certificate: &[u8]) -> bool {
        let (algorithm, expected): (_, &[u8]) = match self {
            Self::Sha256(hash) => (&digest::SHA256, hash),
            Self::Sha384(hash) => (&digest::SHA384, hash),
            Self::Sha512(hash) => (&digest::SHA512, hash),
        };
        digest::digest(algorithm, certificate).as_ref() == expected
    }

    /// The SHA-256 of `certificate` (DER).
    pub(super) fn sha256_of(certificate: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        hash
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, hash): (_, &[u8]) = match self {
            Self::Sha256(hash) => ("sha-256", hash),
            Self::Sha384(hash) => ("sha-384", hash),
            Self::Sha512(hash) => ("sha-512", hash),
        };
        write!(f, "{name} ")?;
        hash.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hash_matches_its_own_certificate_only() {
        let hash = |algorithm, of: &[u8]| digest::digest(algorithm, of).as_ref().to_vec();
        let fingerprints = [
            Fingerprint::Sha256(hash(&digest::SHA256, b"certificate").try_into().unwrap()),
            Fingerprint::Sha384(hash(&digest::SHA384, b"certificate").try_into().unwrap()),
            Fingerprint::Sha512(hash(&digest::SHA512, b"certificate").try_into().unwrap()),
        ];
        for fingerprint in fingerprints {
            assert!(fingerprint.matches(b"certificate"), "{fingerprint:?}");
            assert!(!fingerprint.matches(b"certificatf"), "{fingerprint:?}");
        }
    }
}
