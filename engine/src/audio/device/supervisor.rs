//! Keeps one stream running on the device that was chosen, on a thread of its own.
//!
//! When the device goes, the default takes over; when there is none, there is silence until one comes; when the chosen one is
//! back, or the default changed where that was chosen, the stream moves. The audio thread only ever sees a new ring.

use super::{
    DeviceChoice, DeviceError, DeviceKind,
    host::{Broke, Found, Host, OpenStream},
};
use crate::audio::priority::{self, Inherit};
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

/// How often the devices are looked at.
const WATCH: Duration = Duration::from_secs(2);

/// What happened to a device in use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceEvent {
    /// It was unplugged or its driver gave up.
    Lost {
        /// Its name.
        name: String,
        /// What the system said.
        reason: String,
    },
    /// Another device is used now: a fallback, a new default, or the chosen one again.
    Changed {
        /// Its name.
        name: String,
    },
    /// There is none: nothing is played or captured until one comes.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// A running stream; dropping it ends the stream.
pub(crate) struct Supervisor {
    signals: SyncSender<Signal>,
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // A full channel holds a signal already; the thread also ends when it finds this side gone.
        let _ = self.signals.try_send(Signal::Stop);
    }
}

enum Signal {
    Broke(String),
    Stop,
}

type Open = Box<dyn FnMut(&Host, &Found, Broke) -> Result<OpenStream, DeviceError> + Send>;
type Notify = Box<dyn Fn(DeviceEvent) + Send>;

impl Supervisor {
    /// Opens the chosen device on a thread of its own and waits until that is done.
    pub(super) fn start(
        kind: DeviceKind,
        choice: DeviceChoice,
        open: impl FnMut(&Host, &Found, Broke) -> Result<OpenStream, DeviceError> + Send + 'static,
        notify: impl Fn(DeviceEvent) + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let (signals, inbox) = sync_channel(4);
        let (report, opened) = sync_channel(1);
        let errors = signals.clone();
        std::thread::Builder::new()
            .name("halloo-device".into())
            .spawn(move || {
                // The driver's threads, among them the one that calls back, are started from this one.
                priority::raise(Inherit::Yes);
                let watch = Watch {
                    kind,
                    choice,
                    open: Box::new(open),
                    notify: Box::new(notify),
                    errors,
                    host: Host::connect(),
                };
                watch.run(&inbox, &report);
            })
            .map_err(|e| DeviceError::Host(format!("no thread: {e}")))?;
        match opened.recv() {
            Ok(Ok(())) => Ok(Self { signals }),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(DeviceError::Host("the driver crashed while it opened the device".to_owned())),
        }
    }
}

struct Watch {
    kind: DeviceKind,
    choice: DeviceChoice,
    open: Open,
    notify: Notify,
    errors: SyncSender<Signal>,
    host: Host,
}

/// The stream in use.
struct Current {
    id: String,
    name: String,
    _stream: OpenStream,
}

/// What the watch saw.
enum Seen {
    AsBefore,
    Gone(String),
    /// The chosen device, or the default, is another now.
    Better,
    Stop,
}

impl Watch {
    fn run(mut self, inbox: &Receiver<Signal>, report: &SyncSender<Result<(), DeviceError>>) {
        let choice = self.choice.clone();
        let mut current = match self.open(&choice) {
            Ok(current) => Some(current),
            Err(e) => {
                let _ = report.send(Err(e));
                return;
            }
        };
        let _ = report.send(Ok(()));
        loop {
            let had_one = current.is_some();
            match self.watch(inbox, current.as_ref()) {
                Seen::AsBefore => continue,
                Seen::Stop => return,
                Seen::Gone(reason) => {
                    if let Some(lost) = current.take() {
                        (self.notify)(DeviceEvent::Lost { name: lost.name, reason });
                    }
                    // The service itself may have gone and come back.
                    self.host = Host::connect();
                }
                Seen::Better => {}
            }
            drop(current.take());
            while inbox.try_recv().is_ok_and(|signal| matches!(signal, Signal::Broke(_))) {}
            current = self.reopen(had_one);
        }
    }

    fn open(&mut self, choice: &DeviceChoice) -> Result<Current, DeviceError> {
        let found = self.host.find(self.kind, choice)?;
        let errors = self.errors.clone();
        let broke: Broke = Box::new(move |reason| {
            let _ = errors.try_send(Signal::Broke(reason));
        });
        let stream = (self.open)(&self.host, &found, broke)?;
        Ok(Current { id: found.info.id, name: found.info.name, _stream: stream })
    }

    /// The chosen device, else the default, else none until the next look.
    fn reopen(&mut self, told_before: bool) -> Option<Current> {
        let choice = self.choice.clone();
        match self.open(&choice).or_else(|_| self.open(&DeviceChoice::Default)) {
            Ok(current) => {
                (self.notify)(DeviceEvent::Changed { name: current.name.clone() });
                Some(current)
            }
            Err(e) => {
                if told_before {
                    (self.notify)(DeviceEvent::Unavailable { reason: e.to_string() });
                }
                tracing::debug!(error = %e, kind = %self.kind, "no device");
                None
            }
        }
    }

    fn watch(&mut self, inbox: &Receiver<Signal>, current: Option<&Current>) -> Seen {
        match inbox.recv_timeout(WATCH) {
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Seen::Stop,
            Ok(Signal::Broke(reason)) => return Seen::Gone(reason),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let Some(current) = current else {
            self.host = Host::connect();
            let any = self.host.find(self.kind, &self.choice).is_ok()
                || self.host.find(self.kind, &DeviceChoice::Default).is_ok();
            return if any { Seen::Better } else { Seen::AsBefore };
        };
        match self.host.find(self.kind, &self.choice) {
            Ok(found) if found.info.id == current.id => Seen::AsBefore,
            Ok(_) => Seen::Better,
            Err(_) if self.host.has(self.kind, &current.id) => Seen::AsBefore,
            Err(e) => Seen::Gone(e.to_string()),
        }
    }
}
