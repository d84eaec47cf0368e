//! The lite agent of one session: verifies checks, answers them, and knows the peer's address.
//!
//! Invariant: only a verified check adds a path, selects one, or renews consent. Where to send is the path nominated last
//! (RFC 8445, 7.3.1.5 and 8.1.1); without a nomination, a path that is still checked replaces one that fell silent.

use std::{collections::VecDeque, time::Duration};

use halloo_transport::Timestamp;
use stun_rs::{
    DecoderContextBuilder, HMACKey, MessageClass, MessageDecoder, MessageDecoderBuilder, StunMessage, TransactionId,
    attributes::{
        ice::{IceControlled, UseCandidate},
        stun::{Fingerprint, MessageIntegrity, UserName},
    },
    methods::BINDING,
};

use super::{Credentials, CredentialsError, TransportAddress, answer::Answer, username::local_ufrag};

/// Consent lasts this long after a verified check (RFC 7675, 5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// A selected path without a check for this long gives way to one that is checked. Browsers check every 2.7 s or more often.
const SILENT_PATH: Duration = Duration::from_secs(8);
/// Paths kept per session; the one checked longest ago makes room.
const MAX_PATHS: usize = 8;
/// Checks that are remembered, so that whoever overheard one cannot use it from elsewhere: some minutes of consent.
const MAX_REMEMBERED: usize = 64;

/// The lite side of one ICE session.
#[derive(Debug)]
pub struct Agent {
    current: Generation,
    /// The credentials from before an ICE restart, until the first check under the new ones.
    previous: Option<Generation>,
    paths: Vec<Path>,
    selected: Option<TransportAddress>,
    consent_until: Timestamp,
    /// The newest verified checks, and where each came from first.
    checks: VecDeque<(TransactionId, TransportAddress)>,
}

/// Credentials of both ends between two ICE restarts.
#[derive(Debug)]
struct Generation {
    local: Credentials,
    /// What USERNAME has to be: local and remote user fragment.
    username: String,
    key: HMACKey,
    decoder: MessageDecoder,
}

#[derive(Debug)]
struct Path {
    address: TransportAddress,
    last_check: Timestamp,
}

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing is sent and nothing changed.
    Dropped(Dropped),
    /// The first `len` bytes of the answer buffer go back to where the check came from.
    Answered {
        /// Length of the answer.
        len: usize,
        /// What the check did to the agent's paths.
        change: PathChange,
    },
}

/// Why a check was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Not a whole Binding request with USERNAME, MESSAGE-INTEGRITY and FINGERPRINT.
    Malformed,
    /// Of another session.
    WrongUsername,
    /// MESSAGE-INTEGRITY or FINGERPRINT is wrong.
    Authentication,
    /// The answer would be longer than the request.
    Amplification,
    /// The same check came from another address before: a client makes a new one for each path (RFC 8489, 5).
    Replayed,
}

/// What a check changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathChange {
    /// The address it came from is new to the session.
    pub validated: Option<TransportAddress>,
    /// An address that is the session's no longer.
    pub removed: Option<TransportAddress>,
    /// Datagrams go to this address from now on.
    pub selected: Option<TransportAddress>,
    /// A user fragment of ours that is valid no longer: an ICE restart is complete.
    pub retired_ufrag: Option<String>,
}

impl Agent {
    /// An agent that has seen no check. `remote_ufrag` is the peer's, from its offer.
    ///
    /// # Errors
    /// [`CredentialsError::Pwd`] where STUN cannot use the password.
    pub fn new(now: Timestamp, local: Credentials, remote_ufrag: &str) -> Result<Self, CredentialsError> {
        Ok(Self {
            current: Generation::new(local, remote_ufrag)?,
            previous: None,
            paths: Vec::new(),
            selected: None,
            consent_until: now + CONSENT,
            checks: VecDeque::new(),
        })
    }

    /// Begins an ICE restart (RFC 8445, 9): both generations are valid until a check under the new one arrives, and media
    /// goes on where it went. Returns the user fragment of an unfinished earlier restart, which is valid no longer.
    ///
    /// # Errors
    /// [`CredentialsError::Pwd`] where STUN cannot use the password; nothing changed then.
    pub fn restart(&mut self, local: Credentials, remote_ufrag: &str) -> Result<Option<String>, CredentialsError> {
        let last = std::mem::replace(&mut self.current, Generation::new(local, remote_ufrag)?);
        // Where an earlier restart never got a check, its generation is dropped and the one in use is kept.
        if self.previous.is_some() {
            return Ok(Some(last.local.ufrag().to_owned()));
        }
        self.previous = Some(last);
        Ok(None)
    }

    /// Handles a datagram that looks like STUN. `answer` has room for [`super::MAX_ANSWER`] bytes.
    pub fn handle_check(
        &mut self,
        now: Timestamp,
        from: TransportAddress,
        datagram: &[u8],
        answer: &mut [u8],
    ) -> Check {
        let Some(ufrag) = local_ufrag(datagram) else { return Check::Dropped(Dropped::Malformed) };
        let is_current = ufrag == self.current.local.ufrag().as_bytes();
        let Some(generation) = (if is_current { Some(&self.current) } else { self.previous.as_ref() }) else {
            return Check::Dropped(Dropped::WrongUsername);
        };
        let request = match generation.verify(datagram) {
            Ok(request) => request,
            Err(dropped) => return Check::Dropped(dropped),
        };
        let id = *request.transaction_id();
        let before = self.checks.iter().find(|(check, _)| *check == id).map(|(_, address)| *address);
        if before.is_some_and(|address| address != from) {
            return Check::Dropped(Dropped::Replayed);
        }
        let reply = reply(&request, from);
        let succeeds = matches!(reply, Answer::Success(_));
        let Some(len) = reply.write(&request, &generation.key, answer).filter(|len| *len <= datagram.len()) else {
            return Check::Dropped(Dropped::Amplification);
        };
        if before.is_none() {
            self.remember(id, from);
        }
        let mut change = PathChange::default();
        if succeeds {
            change = self.record(now, from, request.get::<UseCandidate>().is_some());
            if is_current {
                change.retired_ufrag = self.previous.take().map(|old| old.local.ufrag().to_owned());
            }
        }
        Check::Answered { len, change }
    }

    /// Where to send, once a check said so.
    pub const fn selected(&self) -> Option<TransportAddress> {
        self.selected
    }

    /// Whether a verified check came from `address`.
    pub fn is_valid(&self, address: TransportAddress) -> bool {
        self.paths.iter().any(|path| path.address == address)
    }

    /// Addresses that verified checks came from.
    pub fn addresses(&self) -> impl Iterator<Item = TransportAddress> {
        self.paths.iter().map(|path| path.address)
    }

    /// Forgets a path that is no longer there, as a TCP connection that ended. Where it was the selected one, the path that was
    /// checked last takes its place; without any, the next check selects one. Returns whether the selected path changed.
    pub fn remove(&mut self, address: TransportAddress) -> bool {
        self.paths.retain(|path| path.address != address);
        let was_selected = self.selected == Some(address);
        if was_selected {
            self.selected = self.paths.iter().max_by_key(|path| path.last_check).map(|path| path.address);
        }
        was_selected
    }

    /// Our user fragments that are valid now: one, or two during an ICE restart.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().map(|generation| generation.local.ufrag())
    }

    /// When consent runs out unless another check comes: nothing may be sent after that (RFC 7675, 5.1). Before the first
    /// check it is as long after the agent's start.
    pub const fn consent_until(&self) -> Timestamp {
        self.consent_until
    }

    fn remember(&mut self, id: TransactionId, from: TransportAddress) {
        if self.checks.len() == MAX_REMEMBERED {
            self.checks.pop_front();
        }
        self.checks.push_back((id, from));
    }

    fn record(&mut self, now: Timestamp, from: TransportAddress, nominated: bool) -> PathChange {
        let mut change = PathChange::default();
        self.consent_until = now + CONSENT;
        match self.paths.iter_mut().find(|path| path.address == from) {
            Some(path) => path.last_check = now,
            None => {
                if self.paths.len() == MAX_PATHS {
                    change.removed = self.remove_oldest();
                }
                self.paths.push(Path { address: from, last_check: now });
                change.validated = Some(from);
            }
        }
        if self.selected != Some(from) && (nominated || self.selected_is_silent(now)) {
            self.selected = Some(from);
            change.selected = Some(from);
        }
        change
    }

    fn selected_is_silent(&self, now: Timestamp) -> bool {
        let last = self.paths.iter().find(|path| Some(path.address) == self.selected).map(|path| path.last_check);
        last.is_none_or(|last| now.since(last) > SILENT_PATH)
    }

    fn remove_oldest(&mut self) -> Option<TransportAddress> {
        let selected = self.selected;
        let candidates = self.paths.iter().enumerate().filter(|(_, path)| Some(path.address) != selected);
        let (oldest, _) = candidates.min_by_key(|(_, path)| path.last_check)?;
        Some(self.paths.swap_remove(oldest).address)
    }
}

impl Generation {
    fn new(local: Credentials, remote_ufrag: &str) -> Result<Self, CredentialsError> {
        let key = HMACKey::new_short_term(local.pwd()).map_err(|_| CredentialsError::Pwd)?;
        let context = DecoderContextBuilder::default().with_key(key.clone()).with_validation().build();
        let decoder = MessageDecoderBuilder::default().with_context(context).build();
        Ok(Self { username: format!("{}:{remote_ufrag}", local.ufrag()), local, key, decoder })
    }

    fn verify(&self, datagram: &[u8]) -> Result<StunMessage, Dropped> {
        let (request, len) = self.decoder.decode(datagram).map_err(|_| Dropped::Authentication)?;
        if len != datagram.len() || request.method() != BINDING || request.class() != MessageClass::Request {
            return Err(Dropped::Malformed);
        }
        if request.get::<MessageIntegrity>().is_none() || request.get::<Fingerprint>().is_none() {
            return Err(Dropped::Malformed);
        }
        let username = request.get::<UserName>().and_then(|attribute| attribute.as_user_name().ok());
        match username {
            Some(username) if username.as_str() == self.username => Ok(request),
            _ => Err(Dropped::WrongUsername),
        }
    }
}

/// A lite agent is always the controlled one (RFC 8445, 6.1.1), so a peer that says it is too has to change.
fn reply(request: &StunMessage, from: TransportAddress) -> Answer {
    let unknown: Vec<u16> = request
        .attributes()
        .iter()
        .filter(|attribute| attribute.is_unknown() && attribute.attribute_type().is_comprehension_required())
        .map(|attribute| attribute.attribute_type().as_u16())
        .collect();
    if !unknown.is_empty() {
        Answer::Unknown(unknown)
    } else if request.get::<IceControlled>().is_some() {
        Answer::RoleConflict
    } else {
        Answer::Success(from.address)
    }
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
