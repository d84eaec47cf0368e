//! Connectivity checks of a controlling agent with one pair (RFC 8445, 7.2), which go on as consent (RFC 7675).

use std::time::Duration;

use halloo_transport::Timestamp;
use stun_rs::{
    DecoderContextBuilder, HMACKey, MessageClass, MessageDecoder, MessageDecoderBuilder, MessageEncoder,
    StunMessageBuilder, TransactionId,
    attributes::{
        ice::{IceControlling, Priority, UseCandidate},
        stun::{Fingerprint, MessageIntegrity, UserName},
    },
    methods::BINDING,
};

use super::UnusableCredentials;
use crate::ice::Credentials;

/// Between checks until the first answer.
const PACE: Duration = Duration::from_millis(50);
/// Between checks afterwards.
const CONSENT_PACE: Duration = Duration::from_millis(2_500);
/// Priority of a peer-reflexive candidate (RFC 8445, 5.1.2).
const PRIORITY: u32 = 0x6eff_ffff;
const TIE_BREAKER: u64 = 0x4861_6c6c_6f21_0001;

/// The checks of one pair, nominated from the first.
#[derive(Debug)]
pub(super) struct Checks {
    username: UserName,
    key: HMACKey,
    decoder: MessageDecoder,
    next_check: Timestamp,
    last: Option<TransactionId>,
    answered: bool,
}

impl Checks {
    pub(super) fn new(now: Timestamp, local_ufrag: &str, server: &Credentials) -> Result<Self, UnusableCredentials> {
        let key = HMACKey::new_short_term(server.pwd()).map_err(|_| UnusableCredentials)?;
        let username = UserName::new(format!("{}:{local_ufrag}", server.ufrag())).map_err(|_| UnusableCredentials)?;
        let context = DecoderContextBuilder::default().with_key(key.clone()).with_validation().build();
        let decoder = MessageDecoderBuilder::default().with_context(context).build();
        Ok(Self { username, key, decoder, next_check: now, last: None, answered: false })
    }

    pub(super) const fn next_check(&self) -> Timestamp {
        self.next_check
    }

    pub(super) const fn check_now(&mut self, now: Timestamp) {
        self.next_check = now;
    }

    /// The check that is due, if one is.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        if now < self.next_check {
            return None;
        }
        self.next_check = now + if self.answered { CONSENT_PACE } else { PACE };
        let message = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_attribute(self.username.clone())
            .with_attribute(Priority::from(PRIORITY))
            .with_attribute(IceControlling::from(TIE_BREAKER))
            .with_attribute(UseCandidate::default())
            .with_attribute(MessageIntegrity::new(self.key.clone()))
            .with_attribute(Fingerprint::default())
            .build();
        self.last = Some(*message.transaction_id());
        let mut bytes = vec![0; 1_024];
        let len = MessageEncoder::default().encode(&mut bytes, &message).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }

    /// Takes an answer; `true` where it is the first good one.
    pub(super) fn handle_answer(&mut self, now: Timestamp, datagram: &[u8]) -> bool {
        let Ok((message, _)) = self.decoder.decode(datagram) else { return false };
        let is_ours = Some(*message.transaction_id()) == self.last
            && message.class() == MessageClass::SuccessResponse
            && message.get::<MessageIntegrity>().is_some();
        if !is_ours || self.answered {
            return false;
        }
        self.answered = true;
        self.next_check = now + CONSENT_PACE;
        true
    }
}
