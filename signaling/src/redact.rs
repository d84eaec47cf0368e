//! Identities and addresses in logs: a keyed mark that is the same for the same text within one run, unless the operator
//! has asked to see them.

use ring::hmac;
use std::fmt;

/// How identities appear in logs.
#[derive(Clone)]
pub struct Redactor {
    key: Option<hmac::Key>,
}

impl Redactor {
    /// Hides them behind marks made with this key, to be drawn anew for each run.
    pub fn hiding(key: [u8; 16]) -> Self {
        Self { key: Some(hmac::Key::new(hmac::HMAC_SHA256, &key)) }
    }

    /// Shows them.
    pub fn showing() -> Self {
        Self { key: None }
    }

    /// The text as a log may have it.
    pub fn show(&self, text: impl fmt::Display) -> String {
        let text = text.to_string();
        let Some(key) = &self.key else { return text };
        let tag = hmac::sign(key, text.as_bytes());
        let mark: String = tag.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("#{mark}")
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.key.is_some() { "Redactor(hiding)" } else { "Redactor(showing)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_stable_and_says_nothing() {
        let redactor = Redactor::hiding([7; 16]);
        assert_eq!(redactor.show("alice"), redactor.show("alice"));
        assert_ne!(redactor.show("alice"), redactor.show("alicf"));
        assert!(!redactor.show("alice").contains("alice"));
        assert_eq!(Redactor::showing().show("alice"), "alice");
    }
}
