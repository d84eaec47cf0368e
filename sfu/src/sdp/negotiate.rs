//! What an offer and the SFU agree on: which source a section carries, which slot receives, under which SSRCs.
//!
//! Invariants: every section keeps its place; a slot's SSRCs, once given, stay through later offers; SSRCs within a session
//! are distinct, the client's declared ones included.

use super::{
    answer,
    error::OfferError,
    extension::{BundleExtensions, Extension},
    local::LocalTransport,
    offer::{Offer, OfferedDirection, OfferedMedia},
    remote::RemoteTransport,
};
use crate::room::{Grants, Limits, ParticipantConfig, PublishedSection, ReceiveSlot, Rtx, SlotKind, SourceKind};
use halloo_transport::{Bitrate, Mid, Ssrc, random::Random, session::MediaKind};

/// Audio slots of one participant; sections beyond them are rejected.
pub const MAX_AUDIO_SLOTS: usize = 7;
/// Video slots of one participant; sections beyond them are rejected.
pub const MAX_VIDEO_SLOTS: usize = 25;

/// What the SFU brings to a negotiation besides its transport.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the participant's token allows; passed on to the room.
    pub grants: Grants,
    /// Its bounds; passed on to the room. `publish` is also told to the client (`b=TIAS`).
    pub limits: Limits,
    /// What a browser should start sending at; `None` leaves it to the browser.
    pub start_publish: Option<Bitrate>,
    /// SSRCs and the cname are drawn from it: distinct for every participant.
    pub seed: u64,
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// For the room.
    pub participant: ParticipantConfig,
    /// For ICE and DTLS.
    pub remote: RemoteTransport,
    /// For the client: the SDP answer.
    pub answer: String,
    /// For a later offer of the same client.
    pub agreed: Agreed,
}

/// What later offers have to keep to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub(super) session_id: u64,
    pub(super) version: u64,
    pub(super) cname: String,
    feedback_ssrc: Ssrc,
    sections: Vec<AgreedSection>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AgreedSection {
    mid: Option<Mid>,
    role: Role,
    ssrcs: Option<SlotSsrcs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotSsrcs {
    pub(super) media: Ssrc,
    pub(super) rtx: Ssrc,
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The client sends.
    Publish(SourceKind),
    /// The client receives.
    Slot(SlotKind, SlotSsrcs),
    /// Nobody sends for now.
    Idle,
    /// Port zero.
    Rejected,
}

/// Answers an offer; `before` is what an earlier offer of the same session agreed on.
///
/// # Errors
/// [`OfferError::SectionsChanged`] where a later offer changes sections of an earlier one.
pub fn negotiate(
    offer: &Offer,
    local: &LocalTransport,
    terms: &Terms,
    before: Option<&Agreed>,
) -> Result<Negotiated, OfferError> {
    if let Some(before) = before {
        check_unchanged(offer, before)?;
    }
    let mut draw = Draw::new(offer, terms.seed, before);
    let mut agreed = match before {
        Some(before) => Agreed { version: before.version + 1, sections: Vec::new(), ..before.clone() },
        None => draw.fresh_session(),
    };
    let mut roles = Roles::default();
    for (index, section) in offer.sections.iter().enumerate() {
        let known = before.and_then(|before| before.sections.get(index)).and_then(|section| section.ssrcs);
        let role = match &section.media {
            Some(media) => roles.assign(media, || known.unwrap_or_else(|| draw.slot())),
            None => Role::Rejected,
        };
        let ssrcs = match role {
            Role::Slot(_, ssrcs) => Some(ssrcs),
            _ => known,
        };
        agreed.sections.push(AgreedSection { mid: section.mid.clone(), role, ssrcs });
    }
    let role_of = |index: usize| agreed.sections.get(index).map_or(Role::Rejected, |section| section.role);
    let answer = answer::write(offer, local, terms, &agreed, role_of);
    let participant = participant(offer, terms, &agreed)?;
    Ok(Negotiated { participant, remote: offer.transport.clone(), answer, agreed })
}

/// Sections may be added (RFC 3264, section 8); their number never shrinks and their mids stay.
fn check_unchanged(offer: &Offer, before: &Agreed) -> Result<(), OfferError> {
    for (index, agreed) in before.sections.iter().enumerate() {
        let now = offer.sections.get(index).and_then(|section| section.mid.as_ref());
        if now != agreed.mid.as_ref() || index >= offer.sections.len() {
            let name = |mid: Option<&Mid>| mid.map_or_else(|| "nothing".to_owned(), |mid| mid.0.clone());
            return Err(OfferError::SectionsChanged { index, before: name(agreed.mid.as_ref()), now: name(now) });
        }
    }
    Ok(())
}

/// Gives each section its role, in order.
#[derive(Default)]
struct Roles {
    taken: Vec<SourceKind>,
    audio_slots: usize,
    video_slots: usize,
}

impl Roles {
    fn assign(&mut self, media: &OfferedMedia, slot: impl FnOnce() -> SlotSsrcs) -> Role {
        match media.direction {
            OfferedDirection::Send => self.publish(media).map_or(Role::Rejected, Role::Publish),
            OfferedDirection::Inactive => self.publish(media).map_or(Role::Rejected, |_| Role::Idle),
            OfferedDirection::Receive => {
                let (kind, used, max) = match media.kind {
                    MediaKind::Audio => (SlotKind::Audio, &mut self.audio_slots, MAX_AUDIO_SLOTS),
                    MediaKind::Video => (SlotKind::Video, &mut self.video_slots, MAX_VIDEO_SLOTS),
                };
                if *used >= max {
                    return Role::Rejected;
                }
                *used += 1;
                Role::Slot(kind, slot())
            }
        }
    }

    /// What a sent section carries: what its msid's stream is called, else the first of its kind that is not taken.
    fn publish(&mut self, media: &OfferedMedia) -> Option<SourceKind> {
        let fits = |kind: &SourceKind| match media.kind {
            MediaKind::Audio => *kind == SourceKind::Microphone,
            MediaKind::Video => *kind != SourceKind::Microphone,
        };
        let named = match media.stream.as_deref() {
            Some("microphone") => Some(SourceKind::Microphone),
            Some("camera") => Some(SourceKind::Camera),
            Some("screen") => Some(SourceKind::Screen),
            _ => None,
        };
        let free = |kind: &SourceKind| fits(kind) && !self.taken.contains(kind);
        let kind = named.filter(free).or_else(|| SourceKind::ALL.into_iter().find(free))?;
        self.taken.push(kind);
        Some(kind)
    }
}

fn participant(offer: &Offer, terms: &Terms, agreed: &Agreed) -> Result<ParticipantConfig, OfferError> {
    let (mut incoming, mut outgoing) = (BundleExtensions::default(), BundleExtensions::default());
    let (mut published, mut slots) = (Vec::new(), Vec::new());
    for (section, agreed) in offer.sections.iter().zip(&agreed.sections) {
        let Some(media) = &section.media else { continue };
        match agreed.role {
            Role::Publish(kind) => {
                incoming.add(&media.extensions)?;
                published.push(PublishedSection {
                    mid: media.mid.clone(),
                    kind,
                    payload_type: media.payload_type,
                    rtx_payload_type: media.rtx,
                    nack: media.feedback.contains(&super::format::Feedback::Nack),
                    encodings: media.encodings.clone(),
                });
            }
            Role::Slot(kind, ssrcs) => {
                outgoing.add(&slot_extensions(media))?;
                slots.push(ReceiveSlot {
                    mid: media.mid.clone(),
                    kind,
                    ssrc: ssrcs.media,
                    payload_type: media.payload_type,
                    rtx: media.rtx.map(|payload_type| Rtx { ssrc: ssrcs.rtx, payload_type }),
                });
            }
            Role::Idle | Role::Rejected => {}
        }
    }
    Ok(ParticipantConfig {
        published,
        slots,
        incoming_extensions: incoming.ids(),
        outgoing_extensions: outgoing.ids(),
        grants: terms.grants,
        limits: terms.limits,
        feedback_ssrc: agreed.feedback_ssrc,
        cname: agreed.cname.clone(),
        seed: terms.seed,
    })
}

/// A slot is one stream: restriction ids have no place in it.
pub(super) fn slot_extensions(media: &OfferedMedia) -> Vec<(u8, Extension)> {
    let all = media.extensions.iter().copied();
    all.filter(|(_, extension)| !matches!(extension, Extension::Rid | Extension::RepairedRid)).collect()
}

/// Draws SSRCs that are new to the session (RFC 3550, section 8.1).
struct Draw {
    random: Random,
    used: Vec<Ssrc>,
}

impl Draw {
    fn new(offer: &Offer, seed: u64, before: Option<&Agreed>) -> Self {
        let encodings = offer.usable().flat_map(|media| &media.encodings);
        let mut used: Vec<Ssrc> = encodings.flat_map(|encoding| [encoding.ssrc, encoding.rtx_ssrc]).flatten().collect();
        if let Some(before) = before {
            used.push(before.feedback_ssrc);
            used.extend(before.sections.iter().filter_map(|s| s.ssrcs).flat_map(|s| [s.media, s.rtx]));
        }
        // Later offers must not meet the numbers of earlier ones again.
        let version = before.map_or(0, |before| before.version);
        Self { random: Random::new(seed ^ version.rotate_left(32)), used }
    }

    fn ssrc(&mut self) -> Ssrc {
        loop {
            let ssrc = Ssrc((self.random.next_u64() >> 32) as u32);
            if ssrc.0 != 0 && !self.used.contains(&ssrc) {
                self.used.push(ssrc);
                return ssrc;
            }
        }
    }

    fn slot(&mut self) -> SlotSsrcs {
        SlotSsrcs { media: self.ssrc(), rtx: self.ssrc() }
    }

    fn fresh_session(&mut self) -> Agreed {
        Agreed {
            // Below 2^62, since some implementations read it as a signed number (RFC 8829, section 5.2.1).
            session_id: self.random.next_u64() >> 2,
            version: 1,
            cname: format!("{:016x}", self.random.next_u64()),
            feedback_ssrc: self.ssrc(),
            sections: Vec::new(),
        }
    }
}
