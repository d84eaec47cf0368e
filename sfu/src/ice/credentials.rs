//! User fragment and password of one end of an ICE session (RFC 8445, 5.3; grammar in RFC 8839, 5.4).

use std::fmt;

use ring::rand::SecureRandom;

/// 64 characters of `ice-char`, so that six random bits choose one without bias.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const UFRAG_LEN: usize = 8;
const PWD_LEN: usize = 24;

/// A user fragment and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    pwd: String,
}

/// Why credentials are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not 4 to 256 `ice-char`.
    #[error("the ICE user fragment is not 4 to 256 ice-chars")]
    Ufrag,
    /// Not 22 to 256 `ice-char`.
    #[error("the ICE password is not 22 to 256 ice-chars")]
    Pwd,
    /// The system gave no random bytes.
    #[error("no randomness for ICE credentials")]
    Randomness,
}

impl Credentials {
    /// Credentials from an offer or answer.
    ///
    /// # Errors
    /// [`CredentialsError::Ufrag`], [`CredentialsError::Pwd`] where a length or character is not allowed.
    pub fn new(ufrag: impl Into<String>, pwd: impl Into<String>) -> Result<Self, CredentialsError> {
        let (ufrag, pwd) = (ufrag.into(), pwd.into());
        let valid = |text: &str, least| (least..=256).contains(&text.len()) && text.bytes().all(is_ice_char);
        if !valid(&ufrag, 4) {
            return Err(CredentialsError::Ufrag);
        }
        if !valid(&pwd, 22) {
            return Err(CredentialsError::Pwd);
        }
        Ok(Self { ufrag, pwd })
    }

    /// Fresh credentials: 48 bits of user fragment, 144 bits of password.
    ///
    /// # Errors
    /// [`CredentialsError::Randomness`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, CredentialsError> {
        let mut bytes = [0; UFRAG_LEN + PWD_LEN];
        random.fill(&mut bytes).map_err(|_| CredentialsError::Randomness)?;
        let mut text = bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)]));
        Ok(Self { ufrag: text.by_ref().take(UFRAG_LEN).collect(), pwd: text.collect() })
    }

    /// The user fragment: public, it names the session.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password.
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

const fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn generated_credentials_are_valid_and_differ() {
        let (one, two) = (Credentials::generate(&SystemRandom::new()), Credentials::generate(&SystemRandom::new()));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(Credentials::new(one.ufrag(), one.pwd()), Ok(one.clone()));
        assert_ne!(one, two);
    }

    #[test]
    fn short_or_foreign_credentials_are_refused() {
        let pwd = "0123456789012345678901";
        assert_eq!(Credentials::new("abc", pwd), Err(CredentialsError::Ufrag));
        assert_eq!(Credentials::new("ab:d", pwd), Err(CredentialsError::Ufrag));
        assert_eq!(Credentials::new("abcd", "short"), Err(CredentialsError::Pwd));
        assert_eq!(Credentials::new("abcd", format!("{pwd}\u{e9}")), Err(CredentialsError::Pwd));
        assert!(!format!("{:?}", Credentials::new("abcd", pwd).unwrap()).contains(pwd));
    }
}
