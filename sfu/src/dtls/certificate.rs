//! The certificate this process shows to every peer: self-signed, ECDSA P-256, known to peers by its fingerprint (RFC 8827, 6.5).

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::Fingerprint;

/// A certificate and its private key.
#[derive(Clone)]
pub struct Certificate {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("making a DTLS certificate failed: {0}")]
pub struct CertificateError(String);

impl CertificateError {
    pub(super) fn settings(error: &dimpl::Error) -> Self {
        Self(error.to_string())
    }
}

impl Certificate {
    /// A fresh certificate and key.
    ///
    /// # Errors
    /// [`CertificateError`] where the system has no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| CertificateError(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "WebRTC");
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }

    /// The SHA-256 of the certificate, for `a=fingerprint`.
    pub fn sha256(&self) -> [u8; 32] {
        Fingerprint::sha256_of(&self.certificate)
    }

    pub(super) fn to_dimpl(&self) -> dimpl::DtlsCertificate {
        dimpl::DtlsCertificate { certificate: self.certificate.clone(), private_key: self.private_key.clone() }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}
