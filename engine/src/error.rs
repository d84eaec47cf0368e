//! Errors, one enum an operation.

use halloo_protocol::{ErrorBody, ErrorCode, IdError};

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The address is not one of a signaling server.
    #[error(
        "{address:?} is not the address of a signaling server: {why} (like ws://127.0.0.1:8080 or wss://calls.example.org)"
    )]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A user or device name cannot be used.
    #[error(transparent)]
    Name(#[from] IdError),
    /// No credential was given.
    #[error("give the engine a token (`token`) or a guest's name (`guest`)")]
    NoCredential,
    /// The server could not be reached.
    #[error("{0}; is the server running, and is the address right?")]
    Unreachable(String),
    /// The server refused the sign-in.
    #[error("the signaling server refused the sign-in: {0}")]
    Refused(ErrorBody),
    /// TLS or the runtime could not be set up.
    #[error("the engine could not start: {0}")]
    Setup(String),
}

/// Why a call could not be made or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The name cannot be a user's.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The server refused.
    #[error("{0}")]
    Refused(ErrorBody),
    /// The call was over before it could be taken.
    #[error("the call has ended already: {0}")]
    Ended(String),
    /// The connection or a codec could not be set up.
    #[error("the call could not be set up: {0}")]
    Setup(String),
}

/// Why a room could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name cannot be a room's.
    #[error(transparent)]
    Name(#[from] IdError),
    /// The server refused.
    #[error("{0}")]
    Refused(ErrorBody),
    /// This engine is in the room already.
    #[error("this engine is in the room {0} already: leave it first")]
    Already(String),
    /// This engine is in as many rooms as it can be.
    #[error("this engine is in {0} rooms, and cannot be in more")]
    TooMany(usize),
    /// The connection or a codec could not be set up.
    #[error("the room could not be joined: {0}")]
    Setup(String),
}

impl JoinError {
    /// The server's code, where the server refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

impl CallError {
    /// The server's code, where the server refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}
