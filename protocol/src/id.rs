//! Identifiers as types that cannot hold what the wire must not carry.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing, or too much.
    #[error("{what} must have 1 to {max} characters, but has {len}")]
    Length {
        /// Which identifier.
        what: &'static str,
        /// The longest allowed.
        max: usize,
        /// Characters given.
        len: usize,
    },
    /// A character outside the allowed set.
    #[error("{what} may not contain {found:?}: letters, digits and . _ - @ + are allowed")]
    Character {
        /// Which identifier.
        what: &'static str,
        /// The first offender.
        found: char,
    },
}

const MAX: usize = 64;

fn check(what: &'static str, text: &str) -> Result<(), IdError> {
    let len = text.chars().count();
    if len == 0 || len > MAX {
        return Err(IdError::Length { what, max: MAX, len });
    }
    match text.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+'))) {
        Some(found) => Err(IdError::Character { what, found }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier with this text: 1 to 64 letters, digits and `. _ - @ +`.
            ///
            /// # Errors
            /// [`IdError`] where the text is empty, too long or holds another character.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX, "description": $what })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A person: the `sub` of their token, or the name a guest chose. One user may have several devices signed in.
    UserId, "a user id"
);
id!(
    /// One installation of a client, chosen by it once and kept: a second sign-in with the same id replaces the first.
    DeviceId, "a device id"
);
id!(
    /// One call. The caller draws it at random (at least 96 bits), so that candidates can follow the invitation at once.
    CallId, "a call id"
);
id!(
    /// One signed-in session, which may outlive several connections. It is a secret between the client and the server.
    SessionId, "a session id"
);
id!(
    /// A room, by the name that people join it by.
    RoomId, "a room name"
);
id!(
    /// One run of the server's memory. Events are numbered within (session, epoch).
    Epoch, "an epoch"
);

/// A participant of one room, by number: below 2^30, never 0, and never given to two within the life of a room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ParticipantId(pub u32);

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_only_what_a_log_and_a_url_can_carry() {
        assert!(UserId::new("alice@example.org").is_ok());
        assert!(UserId::new("Zoë").is_ok());
        assert_eq!(UserId::new(""), Err(IdError::Length { what: "a user id", max: 64, len: 0 }));
        assert_eq!(UserId::new("a b"), Err(IdError::Character { what: "a user id", found: ' ' }));
        assert!(serde_json::from_str::<CallId>("\"a\\nb\"").is_err());
    }
}
