//! What one participant and the forwarding unit have agreed on, over its first offer and later ones.
//!
//! Invariant: a refused offer changes nothing.

use super::convert;
use halloo_sfu::{
    room::{ParticipantConfig, ReceiveSlot},
    sdp::{Agreed, LocalTransport, Negotiated, Offer, OfferError, RemoteTransport, Terms, negotiate},
};
use halloo_signaling::{MediaError, MediaJoin};
use halloo_transport::Bitrate;
use ring::rand::{SecureRandom, SystemRandom};

/// What a browser begins to send at; its own guess is 300 kbit/s, which takes seconds to leave.
const START_PUBLISH: Bitrate = Bitrate::from_kbps(1_000);

/// An agreement.
#[derive(Clone, Debug)]
pub(super) struct Negotiation {
    terms: Terms,
    local: LocalTransport,
    remote: RemoteTransport,
    participant: ParticipantConfig,
    agreed: Agreed,
}

/// What a later offer comes to.
#[derive(Debug)]
pub(super) struct Renegotiated {
    /// The agreement from now on.
    pub(super) next: Negotiation,
    /// The SDP answer.
    pub(super) answer: String,
    /// Whether there are new ICE credentials on both ends.
    pub(super) restart: bool,
    /// Slots that were not there before.
    pub(super) new_slots: Vec<ReceiveSlot>,
}

impl Negotiation {
    /// Answers the offer that somebody joins with.
    ///
    /// # Errors
    /// [`MediaError::BadOffer`].
    pub(super) fn begin(join: &MediaJoin, local: LocalTransport) -> Result<(Self, String), MediaError> {
        let offer = Offer::parse(&join.sdp).map_err(|error| bad(&error))?;
        let terms = Terms {
            grants: convert::grants(&join.grants),
            limits: convert::limits(&join.limits),
            start_publish: Some(START_PUBLISH.min(convert::limits(&join.limits).publish)),
            seed: seed()?,
        };
        let Negotiated { participant, remote, answer, agreed } =
            negotiate(&offer, &local, &terms, None).map_err(|error| bad(&error))?;
        Ok((Self { terms, local, remote, participant, agreed }, answer))
    }

    /// Answers a later offer. `fresh` gives our end of the transport for an ICE restart.
    ///
    /// # Errors
    /// [`MediaError::BadOffer`], where the offer changes what cannot be changed too.
    pub(super) fn offer_again(
        &self,
        sdp: &str,
        fresh: impl FnOnce() -> Result<LocalTransport, MediaError>,
    ) -> Result<Renegotiated, MediaError> {
        let offer = Offer::parse(sdp).map_err(|error| bad(&error))?;
        let remote = &offer.transport;
        if remote.fingerprints != self.remote.fingerprints {
            return Err(fixed("the certificate"));
        }
        let restart = (&remote.ufrag, &remote.pwd) != (&self.remote.ufrag, &self.remote.pwd);
        let local = if restart { fresh()? } else { self.local.clone() };
        let Negotiated { participant, remote, answer, agreed } =
            negotiate(&offer, &local, &self.terms, Some(&self.agreed)).map_err(|error| bad(&error))?;
        if participant.published != self.participant.published {
            return Err(fixed("what is sent"));
        }
        let Some(new_slots) = participant.slots.strip_prefix(self.participant.slots.as_slice()) else {
            return Err(fixed("a slot that is there"));
        };
        let (new_slots, terms) = (new_slots.to_vec(), self.terms.clone());
        let next = Self { terms, local, remote, participant, agreed };
        Ok(Renegotiated { next, answer, restart, new_slots })
    }

    pub(super) const fn participant(&self) -> &ParticipantConfig {
        &self.participant
    }

    pub(super) const fn remote(&self) -> &RemoteTransport {
        &self.remote
    }

    pub(super) const fn local(&self) -> &LocalTransport {
        &self.local
    }

    /// The mid of each slot, in the unit's order.
    pub(super) fn slot_mids(&self) -> Vec<String> {
        self.participant.slots.iter().map(|slot| slot.mid.0.clone()).collect()
    }
}

fn bad(error: &OfferError) -> MediaError {
    MediaError::BadOffer(error.to_string())
}

fn fixed(what: &str) -> MediaError {
    MediaError::BadOffer(format!(
        "a later offer can restart ICE and add slots at the end, but not change {what}: join again for that"
    ))
}

fn seed() -> Result<u64, MediaError> {
    let mut bytes = [0; 8];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(_) => Err(MediaError::Unavailable("the operating system gave no random bytes".to_owned())),
    }
}
