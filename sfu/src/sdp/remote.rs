//! What an offer says of its author's end of the transport: ICE (RFC 8839) and DTLS (RFC 8122, RFC 8842).

use super::error::{OfferError, clip};
use sdp_types::{Fingerprint, HashFunc, Media, Session, Setup};

/// The client's end of the one transport.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// ICE user name fragment: 4 to 256 characters.
    pub ufrag: String,
    /// ICE password: 22 to 256 characters.
    pub pwd: String,
    /// SHA-256 of the certificates that it may present; at least one.
    pub fingerprints: Vec<[u8; 32]>,
}

impl std::fmt::Debug for RemoteTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteTransport({}, {} fingerprints)", self.ufrag, self.fingerprints.len())
    }
}

/// Fingerprints looked at.
const MAX_FINGERPRINTS: usize = 8;

impl RemoteTransport {
    /// Reads the transport of a section; what it does not say, the session says.
    ///
    /// # Errors
    /// [`OfferError`] about ICE credentials, fingerprint or setup role.
    pub(super) fn read(session: &Session, media: &Media) -> Result<Self, OfferError> {
        let ufrag = value(session, media, "ice-ufrag");
        let ufrag = ufrag.filter(|v| is_ice(v, 4)).ok_or(OfferError::IceCredentials { what: "ice-ufrag" })?;
        let pwd = value(session, media, "ice-pwd");
        let pwd = pwd.filter(|v| is_ice(v, 22)).ok_or(OfferError::IceCredentials { what: "ice-pwd" })?;
        check_setup(session, media)?;
        let fingerprints = fingerprints(session, media)?;
        Ok(Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned(), fingerprints })
    }

    /// Whether a further section of the bundle, where it says anything, says the same (RFC 9143, section 7.1.3).
    ///
    /// # Errors
    /// [`OfferError::TransportMismatch`], or what cannot be read.
    pub(super) fn check(&self, session: &Session, media: &Media, mid: &str) -> Result<(), OfferError> {
        let differs = |what| OfferError::TransportMismatch { mid: mid.to_owned(), what };
        if value(session, media, "ice-ufrag").is_some_and(|v| v != self.ufrag) {
            return Err(differs("ice-ufrag"));
        }
        if value(session, media, "ice-pwd").is_some_and(|v| v != self.pwd) {
            return Err(differs("ice-pwd"));
        }
        if media.has_attribute("fingerprint") && fingerprints(session, media)? != self.fingerprints {
            return Err(differs("fingerprint"));
        }
        check_setup(session, media)
    }
}

fn value<'a>(session: &'a Session, media: &'a Media, key: &'a str) -> Option<&'a str> {
    let own = media.get_first_attribute_value(key).flatten();
    own.or_else(|| session.get_first_attribute_value(key).flatten())
}

/// `ice-char`s (RFC 8839, section 5.4), at least so many and at most 256.
fn is_ice(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// The SFU waits for the handshake: the client must be able to be `active`.
fn check_setup(session: &Session, media: &Media) -> Result<(), OfferError> {
    match value(session, media, "setup") {
        None => Ok(()),
        Some(text) => match text.parse() {
            Ok(Setup::ActPass | Setup::Active) => Ok(()),
            _ => Err(OfferError::SetupRole(clip(text))),
        },
    }
}

fn fingerprints(session: &Session, media: &Media) -> Result<Vec<[u8; 32]>, OfferError> {
    let own = media.has_attribute("fingerprint");
    let lines: Vec<_> = match own {
        true => media.attributes_typed::<Fingerprint>().take(MAX_FINGERPRINTS).collect(),
        false => session.attributes_typed::<Fingerprint>().take(MAX_FINGERPRINTS).collect(),
    };
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for line in lines {
        let line = line.map_err(|err| OfferError::attribute("fingerprint", err))?;
        if line.hash_func != HashFunc::Sha256 {
            others.push(clip(line.hash_func.as_str()));
            continue;
        }
        let digest = <[u8; 32]>::try_from(line.fingerprint.as_slice());
        found.push(digest.map_err(|_| OfferError::attribute("fingerprint", "sha-256 has 32 bytes"))?);
    }
    match (found.is_empty(), others.is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Err(OfferError::NoFingerprint),
        (true, false) => Err(OfferError::FingerprintHash(others.join(", "))),
    }
}
