//! Sign-in tokens: JWT (RFC 7519) signed by HMAC-SHA-256 or Ed25519 (RFC 8037), checked and minted.
//!
//! Invariant: a token is only ever checked with the algorithm of the key it is checked against, whatever its header says.
//! Times and audience are checked here rather than by the library, so that a refusal can say which and by how much.

mod room_claim;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use halloo_protocol::{ErrorBody, ErrorCode, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use room_claim::RoomClaim;
pub use room_claim::{RoomGrant, RoomScope};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The largest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 4 * 1024;
/// Display names are cut to this many characters.
const MAX_NAME_CHARS: usize = 128;
/// An HMAC secret shorter than its hash gives away strength (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Why a key cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// An HMAC secret below 32 bytes.
    #[error("the secret has {0} bytes, but HS256 needs at least 32: `halloo token --new-key hs256` makes one")]
    ShortSecret(usize),
    /// Not the PEM of an Ed25519 key.
    #[error("the key is not an Ed25519 {0} key in PEM: `halloo token --new-key ed25519` makes a pair")]
    NotEd25519(&'static str),
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes for a new key")]
    NoRandomness,
}

/// A key that tokens are checked against.
#[derive(Clone)]
pub struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({:?}, kid {:?})", self.algorithm, self.id)
    }
}

impl VerifyingKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`] below 32 bytes.
    pub fn hs256(id: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        long_enough(secret)?;
        Ok(Self { id, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) })
    }

    /// An Ed25519 public key in PEM (`-----BEGIN PUBLIC KEY-----`), for EdDSA.
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`].
    pub fn ed25519_pem(id: Option<String>, pem: &str) -> Result<Self, KeyError> {
        let der = pem_body(pem, "PUBLIC KEY").ok_or(KeyError::NotEd25519("public"))?;
        let raw = der.strip_prefix(SPKI_ED25519).filter(|raw| raw.len() == 32).ok_or(KeyError::NotEd25519("public"))?;
        Ok(Self { id, algorithm: Algorithm::EdDSA, key: DecodingKey::from_ed_der(raw) })
    }
}

/// A key that tokens are minted with.
#[derive(Clone)]
pub struct SigningKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?}, kid {:?})", self.algorithm, self.id)
    }
}

impl SigningKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`] below 32 bytes.
    pub fn hs256(id: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        long_enough(secret)?;
        Ok(Self { id, algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) })
    }

    /// An Ed25519 private key in PEM (PKCS #8), for EdDSA.
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`].
    pub fn ed25519_pem(id: Option<String>, pem: &str) -> Result<Self, KeyError> {
        let der = pem_body(pem, "PRIVATE KEY").ok_or(KeyError::NotEd25519("private"))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::NotEd25519("private"))?;
        Ok(Self { id, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(&der) })
    }
}

/// A fresh Ed25519 key pair in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKeyPair {
    /// PKCS #8, to be kept by whoever mints tokens.
    pub private_pem: String,
    /// For the server.
    pub public_pem: String,
}

/// Makes an Ed25519 key pair.
///
/// # Errors
/// [`KeyError::NoRandomness`].
pub fn new_ed25519() -> Result<NewKeyPair, KeyError> {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| KeyError::NoRandomness)?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyError::NoRandomness)?;
    // The private key without its public half (RFC 8410, version 1), which every reader takes.
    let seed = pkcs8.as_ref().get(16..48).ok_or(KeyError::NoRandomness)?;
    let private = [PKCS8_ED25519, seed].concat();
    let public = [SPKI_ED25519, pair.public_key().as_ref()].concat();
    Ok(NewKeyPair { private_pem: pem("PRIVATE KEY", &private), public_pem: pem("PUBLIC KEY", &public) })
}

/// RFC 8410, section 4: what comes before the 32 bytes of an Ed25519 public key.
const SPKI_ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// RFC 8410, section 7: what comes before the 32 bytes of an Ed25519 private key.
const PKCS8_ED25519: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn pem_body(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(body).ok()
}

fn long_enough(secret: &[u8]) -> Result<(), KeyError> {
    if secret.len() < MIN_SECRET_BYTES { Err(KeyError::ShortSecret(secret.len())) } else { Ok(()) }
}

/// What to put into a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who may sign in.
    pub user: UserId,
    /// What others are shown, where it differs from the user id.
    pub name: Option<String>,
    /// Which server it is for.
    pub audience: Option<String>,
    /// From when, in seconds since 1970.
    pub issued_at: u64,
    /// For how long.
    pub ttl: Duration,
    /// Which rooms they may enter, and what they may do there; none unless given.
    pub room: Option<RoomGrant>,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomClaim>,
}

/// Signs a token.
///
/// # Errors
/// The library's sentence where the key cannot sign.
pub fn mint(key: &SigningKey, grant: &Grant) -> Result<String, String> {
    let claims = MintedClaims {
        sub: grant.user.as_str(),
        name: grant.name.as_deref(),
        aud: grant.audience.as_deref(),
        iat: grant.issued_at,
        nbf: grant.issued_at,
        exp: grant.issued_at.saturating_add(grant.ttl.as_secs()),
        room: grant.room.as_ref().map(RoomClaim::of),
    };
    let mut header = Header::new(key.algorithm);
    header.kid.clone_from(&key.id);
    jsonwebtoken::encode(&header, &claims, &key.key).map_err(|e| format!("the token could not be signed: {e}"))
}

/// What a good token says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its `sub`.
    pub user: UserId,
    /// Its `name`, or its `sub`.
    pub display_name: String,
    /// When it ends, in seconds since 1970, the leeway included.
    pub until: u64,
    /// Its `room`.
    pub room: Option<RoomGrant>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    name: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    aud: Audience,
    room: Option<RoomClaim>,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Audience {
    #[default]
    Absent,
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn list(&self) -> &[String] {
        match self {
            Self::Absent => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

/// Checks tokens against several keys, so that keys can be rotated.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    audience: Option<String>,
    leeway: Duration,
}

impl Verifier {
    /// Checks against these keys, and where given for this audience; clocks may differ by `leeway`.
    pub fn new(keys: Vec<VerifyingKey>, audience: Option<String>, leeway: Duration) -> Self {
        Self { keys, audience, leeway }
    }

    /// Whether there is any key.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks a token at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// `token_invalid`, `token_expired`, `token_not_yet_valid` or `token_audience`, with a sentence that says what and by
    /// how much.
    pub fn verify(&self, now: u64, token: &str) -> Result<Verified, ErrorBody> {
        let claims = self.authentic(token)?;
        let until = self.check_times(now, &claims)?;
        self.check_audience(&claims)?;
        let sub = claims.sub.ok_or_else(|| invalid("the token has no sub: it must name the user"))?;
        let user = UserId::new(sub).map_err(|e| invalid(format!("the token's sub is no user id: {e}")))?;
        let name = claims.name.filter(|name| !name.trim().is_empty());
        let display_name = name.unwrap_or_else(|| user.to_string());
        let display_name = display_name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        let room = claims.room.map(RoomClaim::read).transpose()?;
        Ok(Verified { user, display_name, until, room })
    }

    /// The claims of a token whose signature is good, and nothing else about them checked.
    fn authentic(&self, token: &str) -> Result<Claims, ErrorBody> {
        if token.len() > MAX_TOKEN_BYTES {
            let message = format!("the token has {} bytes, at most {MAX_TOKEN_BYTES} are taken", token.len());
            return Err(invalid(message));
        }
        if self.keys.is_empty() {
            return Err(invalid("this server has no key to check tokens with"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| invalid("the token is not a JWT: three parts of base64url joined by dots are expected"))?;
        let by_id = |key: &&VerifyingKey| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let candidates: Vec<&VerifyingKey> = self.keys.iter().filter(by_id).collect();
        if candidates.is_empty() {
            let kid: String = header.kid.unwrap_or_default().chars().take(64).collect();
            return Err(invalid(format!("the token's key id {kid:?} is not among the server's keys")));
        }
        let same_algorithm: Vec<_> = candidates.iter().filter(|key| key.algorithm == header.alg).collect();
        let Some(first) = candidates.first() else { return Err(invalid("no key")) };
        if same_algorithm.is_empty() {
            let message =
                format!("the token is signed with {:?}, but the server's key is for {:?}", header.alg, first.algorithm);
            return Err(invalid(message));
        }
        let mut failure = invalid("the token's signature is wrong: it was made with another key");
        for key in same_algorithm {
            match jsonwebtoken::decode::<Claims>(token, &key.key, &signature_only(key.algorithm)) {
                Ok(data) => return Ok(data.claims),
                Err(error) if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::Json(_)) => {
                    failure = invalid(format!("the token's claims cannot be read: {error}"));
                }
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// When the token ends, if it is good now.
    fn check_times(&self, now: u64, claims: &Claims) -> Result<u64, ErrorBody> {
        let exp =
            seconds("exp", claims.exp)?.ok_or_else(|| invalid("the token has no exp: it must say when it ends"))?;
        let leeway = self.leeway.as_secs();
        if exp.saturating_add(leeway) <= now {
            let ago = in_words(now - exp);
            let message = format!("the token expired {ago} ago: sign in with a new one");
            return Err(ErrorBody::new(ErrorCode::TokenExpired, message));
        }
        match seconds("nbf", claims.nbf)? {
            Some(nbf) if nbf > now.saturating_add(leeway) => {
                let wait = in_words(nbf - now);
                let message = format!("the token becomes valid in {wait}: wait, or check both machines' clocks");
                Err(ErrorBody::new(ErrorCode::TokenNotYetValid, message))
            }
            _ => Ok(exp.saturating_add(leeway)),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), ErrorBody> {
        let Some(expected) = &self.audience else { return Ok(()) };
        let found = claims.aud.list();
        if found.contains(expected) {
            return Ok(());
        }
        let found = if found.is_empty() { "nobody in particular".to_owned() } else { found.join(", ") };
        let found: String = found.chars().take(200).collect();
        let message = format!("the token is meant for {found}, but this server is {expected}");
        Err(ErrorBody::new(ErrorCode::TokenAudience, message))
    }
}

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::TokenInvalid, message)
}

/// Checks the signature and nothing else: the claims are checked here.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A NumericDate (RFC 7519, section 2): seconds, possibly with a fraction.
fn seconds(what: &str, value: Option<f64>) -> Result<Option<u64>, ErrorBody> {
    let Some(value) = value else { return Ok(None) };
    if !value.is_finite() || !(0.0..=253_402_300_799.0).contains(&value) {
        return Err(invalid(format!("the token's {what} is no time in seconds since 1970")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie between 0 and the year 9999"
    )]
    Ok(Some(value as u64))
}

/// A span of time for people: its largest unit, and the next where it helps.
fn in_words(seconds: u64) -> String {
    let unit = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    match seconds {
        0..60 => unit(seconds, "second"),
        60..3_600 => unit(seconds / 60, "minute"),
        3_600..86_400 => unit(seconds / 3_600, "hour"),
        _ => unit(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests;
