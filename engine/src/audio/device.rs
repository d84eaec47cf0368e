//! Microphones and speakers.
//!
//! ```text
//!  [device callback] -> ring -> DeviceSource -> audio thread -> PlayoutRing -> ring -> [device callback]
//!          ^                                                                              |  wakes the audio thread
//!          +---- supervisor thread, one per stream: opens, watches, falls back, returns --+
//! ```
//!
//! `cpal` is used in `host` (and for its sample types in `callback`) only. Drivers block, so streams are opened, listed and watched on the supervisor's thread; the
//! callbacks are in `callback` and neither allocate nor lock.

mod callback;
mod capture;
mod host;
mod playout;
mod supervisor;

pub use capture::DeviceSource;
pub use supervisor::DeviceEvent;

use super::{AudioError, AudioEvent, AudioHandle};
use crate::media::MediaError;
use std::sync::PoisonError;
pub(crate) use supervisor::Supervisor;

/// Which way sound goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceKind {
    /// A microphone, or a monitor of what plays.
    Input,
    /// A speaker.
    Output,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "microphone",
            Self::Output => "speaker",
        })
    }
}

/// A device that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which way sound goes.
    pub kind: DeviceKind,
    /// Names it between runs of a program, unlike `name`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whether it is the system's default of its kind.
    pub is_default: bool,
}

/// Which device to use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum DeviceChoice {
    /// The system's default, also when that changes.
    #[default]
    Default,
    /// The one with this id, or else the first whose name or id contains this, in either case.
    Named(String),
}

/// Where the mix is played.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Playout {
    /// Nowhere; sinks get it all the same.
    #[default]
    None,
    /// On a device.
    Device(DeviceChoice),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// None fits.
    #[error("there is no {kind} {}; {}", named(.choice), there_is(.kind, .there))]
    NotFound {
        /// What was looked for.
        kind: DeviceKind,
        /// Which.
        choice: DeviceChoice,
        /// Names of those that are there.
        there: Vec<String>,
    },
    /// It is there and refuses.
    #[error("cannot open the {kind} '{name}': {reason}; is another program using it?")]
    Open {
        /// What was opened.
        kind: DeviceKind,
        /// Its name.
        name: String,
        /// What the driver said.
        reason: String,
    },
    /// The system's sound service does not answer.
    #[error("cannot reach the sound service: {0}")]
    Host(String),
    /// The audio thread cannot be reached.
    #[error(transparent)]
    Audio(AudioError),
}

fn named(choice: &DeviceChoice) -> String {
    match choice {
        DeviceChoice::Default => "on this machine".to_owned(),
        DeviceChoice::Named(name) => format!("called '{name}'"),
    }
}

fn there_is(kind: &DeviceKind, there: &[String]) -> String {
    if there.is_empty() {
        return format!("there is no {kind} at all: connect one, or use a file or none");
    }
    format!("there is: {}", there.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "))
}

impl From<DeviceError> for MediaError {
    fn from(e: DeviceError) -> Self {
        Self::new(e.to_string())
    }
}

/// All devices, inputs first.
///
/// Asks drivers and may take seconds: not for an async task or a media thread.
///
/// # Errors
/// Where the sound service does not answer.
pub fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
    host::Host::connect().list()
}

impl AudioHandle {
    /// Plays the mix on a device, or nowhere. While the device plays it paces the audio thread. When it is unplugged the
    /// default takes over, and it is used again once it is back; each change is an [`AudioEvent::Device`].
    ///
    /// Waits for the driver to open it: not for an async task.
    ///
    /// # Errors
    /// Where there is no such device (the text lists those there are) or it cannot be opened.
    pub fn set_playout(&self, playout: Playout) -> Result<(), DeviceError> {
        let mut current = self.playout_supervisor().lock().unwrap_or_else(PoisonError::into_inner);
        *current = None;
        let Playout::Device(choice) = playout else {
            return self.set_port(None).map_err(DeviceError::Audio);
        };
        let (ends, port) = playout::PlayoutRing::new();
        self.set_port(Some(Box::new(port))).map_err(DeviceError::Audio)?;
        let waker = self.waker();
        let events = self.event_raiser();
        let opened = Supervisor::start(
            DeviceKind::Output,
            choice,
            move |host, found, broke| host.open_playout(found, waker.clone(), &ends, broke),
            move |event| events(AudioEvent::Device { kind: DeviceKind::Output, event }),
        );
        match opened {
            Ok(supervisor) => {
                *current = Some(supervisor);
                Ok(())
            }
            Err(e) => {
                self.set_port(None).map_err(DeviceError::Audio)?;
                Err(e)
            }
        }
    }
}
