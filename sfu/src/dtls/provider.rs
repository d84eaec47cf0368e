//! A handshake's public-key work on `ring`, which takes a fraction of the time that `dimpl`'s portable code does: X25519 and
//! P-256 key agreement, and ECDSA on P-256 with SHA-256, as every browser uses. All else is `dimpl`'s own.
//!
//! Invariant: what `ring` cannot do falls to the default, so that no peer is refused for this.

use std::sync::LazyLock;

use dimpl::{
    CryptoError, CryptoOperation,
    crypto::{
        ActiveKeyExchange, Buf, CryptoProvider, HashAlgorithm, KeyProvider, NamedGroup, SignatureAlgorithm,
        SignatureVerifier, SigningKey, SupportedKxGroup, cert_named_group, rust_crypto,
    },
};
use ring::{
    agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
    signature::{self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use x509_cert::{Certificate, der::Decode};

static DEFAULT: LazyLock<CryptoProvider> = LazyLock::new(rust_crypto::default_provider);
static X25519: Group = Group { name: NamedGroup::X25519, algorithm: &agreement::X25519 };
static P256: Group = Group { name: NamedGroup::Secp256r1, algorithm: &agreement::ECDH_P256 };
/// Ours first, then what only the default has.
static GROUPS: LazyLock<Vec<&'static dyn SupportedKxGroup>> = LazyLock::new(|| {
    let ours: [&'static dyn SupportedKxGroup; 2] = [&X25519, &P256];
    let others = DEFAULT.kx_groups.iter().copied().filter(|group| ours.iter().all(|own| own.name() != group.name()));
    ours.into_iter().chain(others).collect()
});

/// The provider for all connections.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: GROUPS.as_slice(),
        signature_verification: &Verifier,
        key_provider: &Keys,
        ..DEFAULT.clone()
    }
}

#[derive(Debug)]
struct Group {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        self.name
    }

    fn start_exchange(&self, mut buf: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let failed = |operation| move |_| CryptoError::OperationFailed(operation);
        let private = EphemeralPrivateKey::generate(self.algorithm, &SystemRandom::new())
            .map_err(failed(CryptoOperation::GenerateEphemeralKey))?;
        let public = private.compute_public_key().map_err(failed(CryptoOperation::ComputePublicKey))?;
        buf.clear();
        buf.extend_from_slice(public.as_ref());
        Ok(Box::new(Exchange { name: self.name, private, public: buf }))
    }
}

#[derive(Debug)]
struct Exchange {
    name: NamedGroup,
    private: EphemeralPrivateKey,
    public: Buf,
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    /// Points that are not on the curve, and for X25519 those of small order, are refused (RFC 8446, 4.2.8.2; RFC 7748, 6.1).
    fn complete(self: Box<Self>, peer_pub: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let Self { name, private, .. } = *self;
        let peer = UnparsedPublicKey::new(private.algorithm(), peer_pub);
        agree_ephemeral(private, &peer, |secret| {
            out.clear();
            out.extend_from_slice(secret);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(name))
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key_der, &SystemRandom::new()) {
            Ok(key) => Ok(Box::new(P256Key(key))),
            Err(_) => DEFAULT.key_provider.load_private_key(key_der),
        }
    }
}

#[derive(Debug)]
struct P256Key(EcdsaKeyPair);

impl SigningKey for P256Key {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash_alg != HashAlgorithm::SHA256 {
            let key_hash = HashAlgorithm::SHA256;
            return Err(CryptoError::SigningKeyHashMismatch { key_hash, requested: hash_alg });
        }
        let failed = |_| CryptoError::OperationFailed(CryptoOperation::Sign);
        let signature = self.0.sign(&SystemRandom::new(), data).map_err(failed)?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let group = NamedGroup::Secp256r1;
        let ours = sig_alg == SignatureAlgorithm::ECDSA
            && hash_alg == HashAlgorithm::SHA256
            && cert_named_group(cert_der).is_ok_and(|named| named == group);
        if !ours {
            return DEFAULT.signature_verification.verify_signature(cert_der, data, signature, hash_alg, sig_alg);
        }
        let certificate = Certificate::from_der(cert_der).map_err(|_| CryptoError::CertificateParseFailed)?;
        let key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.as_bytes();
        let key = key.ok_or(CryptoError::InvalidSubjectPublicKey)?;
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(data, signature)
            .map_err(|_| CryptoError::SignatureVerificationFailed { signature: sig_alg, hash: hash_alg, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::Certificate as Own;

    #[test]
    fn keys_agree_with_the_defaults() {
        for name in [NamedGroup::X25519, NamedGroup::Secp256r1] {
            let group =
                |provider: &CryptoProvider| *provider.kx_groups.iter().find(|group| group.name() == name).unwrap();
            let ours = group(&provider()).start_exchange(Buf::new()).unwrap();
            let theirs = group(&DEFAULT).start_exchange(Buf::new()).unwrap();
            let (our_public, their_public) = (ours.pub_key().to_vec(), theirs.pub_key().to_vec());
            let (mut one, mut two) = (Buf::new(), Buf::new());
            ours.complete(&their_public, &mut one).unwrap();
            theirs.complete(&our_public, &mut two).unwrap();
            assert_eq!(&one[..], &two[..]);
            let again = group(&provider()).start_exchange(Buf::new()).unwrap();
            assert!(again.complete(&vec![0; our_public.len()], &mut one).is_err(), "{name:?}");
        }
    }

    #[test]
    fn each_verifies_what_the_other_signed_and_neither_what_was_changed() {
        let certificate = Own::generate().unwrap().to_dimpl();
        let providers = [provider(), DEFAULT.clone()];
        for signer in &providers {
            let mut key = signer.key_provider.load_private_key(&certificate.private_key).unwrap();
            let mut signature = Buf::new();
            key.sign(b"transcript", HashAlgorithm::SHA256, &mut signature).unwrap();
            for verifier in &providers {
                let verify = |data: &[u8], hash| {
                    let (certificate, ecdsa) = (&certificate.certificate, SignatureAlgorithm::ECDSA);
                    verifier.signature_verification.verify_signature(certificate, data, &signature, hash, ecdsa)
                };
                assert!(verify(b"transcript", HashAlgorithm::SHA256).is_ok());
                assert!(verify(b"Transcript", HashAlgorithm::SHA256).is_err());
                assert!(verify(b"transcript", HashAlgorithm::SHA384).is_err());
            }
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert!(provider().key_provider.load_private_key(b"no key").is_err());
        let verifier = provider().signature_verification;
        assert!(verifier.verify_signature(b"x", b"", b"", HashAlgorithm::SHA256, SignatureAlgorithm::ECDSA).is_err());
    }
}
