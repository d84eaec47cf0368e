//! Exit codes, the same for every command that holds a call.

use halloo_engine::{BuildError, CallEnded, CallError, EndReason, EndedBy, ErrorCode, JoinError, RoomEnded};
use std::process::ExitCode;

/// What `--help` says about exit codes.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    failed: a file, a device, or the demo's measurements
  2    wrong usage
  3    not answered: declined, busy, offline or unknown; a room: not let in, or taken out
  4    no connection: the server or the other side could not be reached, or was lost
  5    not signed in: the token or name was refused
  130  interrupted before the call was answered";

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something on this machine failed.
    Failed = 1,
    /// Wrong arguments.
    Usage = 2,
    /// The other side did not take the call.
    NotAnswered = 3,
    /// Server or peer not reached, or lost.
    Disconnected = 4,
    /// The server refused the sign-in.
    Refused = 5,
    /// Ctrl-C before there was a call.
    Interrupted = 130,
}

impl Exit {
    /// The code for an error that ended a command.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(error) = cause.downcast_ref::<BuildError>() {
                return match error {
                    BuildError::Address { .. } | BuildError::Name(_) | BuildError::NoCredential => Self::Usage,
                    BuildError::Refused(_) => Self::Refused,
                    BuildError::Unreachable(_) => Self::Disconnected,
                    _ => Self::Failed,
                };
            }
            if let Some(error) = cause.downcast_ref::<CallError>() {
                return match error {
                    CallError::Name(_) => Self::Usage,
                    CallError::Refused(body) => Self::of_code(body.code),
                    _ => Self::Disconnected,
                };
            }
            if let Some(error) = cause.downcast_ref::<JoinError>() {
                return match error {
                    JoinError::Name(_) => Self::Usage,
                    JoinError::Refused(body) => Self::of_code(body.code),
                    _ => Self::Disconnected,
                };
            }
        }
        Self::Failed
    }

    /// The code for how a stay in a room ended.
    pub fn of_room(ended: &RoomEnded, connected: bool) -> Self {
        match ended.reason {
            EndedBy::Left if connected => Self::Done,
            EndedBy::Left => Self::Interrupted,
            EndedBy::Closed => Self::Done,
            EndedBy::Removed => Self::NotAnswered,
            _ => ended.code.map_or(Self::Disconnected, Self::of_code),
        }
    }

    /// The code for how a call ended.
    pub fn of_call(ended: &CallEnded, connected: bool) -> Self {
        match ended.reason {
            EndReason::HungUp if connected => Self::Done,
            EndReason::Declined | EndReason::Busy | EndReason::NoAnswer => Self::NotAnswered,
            EndReason::AnsweredElsewhere | EndReason::DeclinedElsewhere => Self::NotAnswered,
            EndReason::Cancelled => Self::Interrupted,
            _ => ended.code.map_or(Self::Disconnected, Self::of_code),
        }
    }

    fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::CalleeUnknown | ErrorCode::CalleeOffline | ErrorCode::CalleeBusy => Self::NotAnswered,
            ErrorCode::CalleeSelf => Self::Usage,
            ErrorCode::RoomNotGranted | ErrorCode::GrantMissing | ErrorCode::RoomFull | ErrorCode::RoomLocked => {
                Self::NotAnswered
            }
            _ => Self::Disconnected,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
