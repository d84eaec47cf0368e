//! An offer as a typed value: everything that can be wrong with it is found here (RFC 8866, RFC 8829, RFC 9143).
//!
//! Invariant: a parsed offer has a transport that can be checked, distinct mids, one meaning for each header extension id
//! and each payload type in use, and at least one section that can be accepted.

use super::{
    codec::{Codec, recognise},
    encodings,
    error::{OfferError, clip},
    extension::{self, BundleExtensions, Extension},
    format::{self, Feedback, Parameters},
    remote::RemoteTransport,
};
use crate::{room::Encoding, rtp::ExtensionIds};
use halloo_protocol::MAX_SDP_BYTES;
use halloo_transport::{Mid, PayloadType, session::MediaKind};
use sdp_types::{Group, Media, Session};
use std::collections::BTreeMap;

/// Media sections of one participant at most.
pub const MAX_SECTIONS: usize = 64;

/// What a client offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its end of the transport.
    pub transport: RemoteTransport,
    /// Every media section, in order.
    pub sections: Vec<Section>,
    /// The header extension ids of the bundle.
    pub extensions: ExtensionIds,
    /// Whether one-byte and two-byte header extensions may be mixed (RFC 8285, section 4.1.2).
    pub mixed_extensions: bool,
}

/// One media section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its tag; sections that are not to be used may lack it.
    pub mid: Option<Mid>,
    /// As its m= line says, to be repeated in the answer.
    pub(super) line: MediaLine,
    /// What can be agreed on; `None` where it can only be rejected.
    pub media: Option<OfferedMedia>,
}

/// The parts of an m= line that an answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MediaLine {
    pub(super) media: String,
    pub(super) proto: String,
    pub(super) formats: String,
}

/// What a usable section offers.
#[derive(Clone)]
pub struct OfferedMedia {
    /// Its tag.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Who is to send.
    pub direction: OfferedDirection,
    /// The first codec that is known.
    pub codec: &'static dyn Codec,
    /// That codec's number.
    pub payload_type: PayloadType,
    /// That codec's parameters, as offered.
    pub parameters: Parameters,
    /// The retransmission format that names it (RFC 4588).
    pub rtx: Option<PayloadType>,
    /// The feedback offered for it that is known.
    pub feedback: Vec<Feedback>,
    /// Its header extensions that are known.
    pub extensions: Vec<(u8, Extension)>,
    /// The streams it sends, in the offer's order: one, or the encodings of a simulcast.
    pub encodings: Vec<Encoding>,
    /// Whether RTCP may be of reduced size (RFC 5506).
    pub reduced_size: bool,
    /// The stream id of `a=msid`, where it is not `-`.
    pub stream: Option<String>,
}

impl std::fmt::Debug for OfferedMedia {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mid, codec, pt) = (&self.mid.0, self.codec.name(), self.payload_type.0);
        write!(f, "OfferedMedia({mid}: {:?} {codec}/{pt}, {} encodings)", self.direction, self.encodings.len())
    }
}

/// The direction as seen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferedDirection {
    /// `sendonly`, or `sendrecv`, which is answered as if it were.
    Send,
    /// `recvonly`: a receive slot.
    Receive,
    /// `inactive`: kept for later.
    Inactive,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`OfferError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > MAX_SDP_BYTES {
            return Err(OfferError::TooLong { len: text.len(), max: MAX_SDP_BYTES });
        }
        let session = Session::parse(text.as_bytes()).map_err(|err| OfferError::Grammar(clip(&err.to_string())))?;
        if session.medias.len() > MAX_SECTIONS {
            return Err(OfferError::TooManySections { count: session.medias.len(), max: MAX_SECTIONS });
        }
        let bundle = bundle(&session)?;
        let mixed = session.has_attribute("extmap-allow-mixed");
        let mut sections: Vec<Section> = Vec::with_capacity(session.medias.len());
        let mut transport: Option<RemoteTransport> = None;
        let mut extensions = BundleExtensions::default();
        let mut payload_types: BTreeMap<u8, &'static str> = BTreeMap::new();
        for (index, media) in session.medias.iter().enumerate() {
            let section = Section::read(&session, media, index, mixed)?;
            if let Some(mid) = &section.mid
                && sections.iter().any(|other| other.mid.as_ref() == Some(mid))
            {
                return Err(OfferError::DuplicateMid(mid.clone()));
            }
            if let Some(offered) = &section.media {
                if !bundle.contains(&offered.mid.0) {
                    return Err(OfferError::NotBundled(offered.mid.clone()));
                }
                match &transport {
                    None => transport = Some(RemoteTransport::read(&session, media)?),
                    Some(first) => first.check(&session, media, &offered.mid.0)?,
                }
                extensions.add(&offered.extensions)?;
                claim(&mut payload_types, offered.payload_type, offered.codec.name())?;
                if let Some(rtx) = offered.rtx {
                    claim(&mut payload_types, rtx, "rtx")?;
                }
            }
            sections.push(section);
        }
        let Some(transport) = transport else { return Err(OfferError::NothingUsable(listed(&session))) };
        Ok(Self { transport, sections, extensions: extensions.ids(), mixed_extensions: mixed })
    }

    /// The sections that can be agreed on.
    pub fn usable(&self) -> impl Iterator<Item = &OfferedMedia> {
        self.sections.iter().filter_map(|section| section.media.as_ref())
    }
}

impl Section {
    fn read(session: &Session, media: &Media, index: usize, mixed: bool) -> Result<Self, OfferError> {
        let line = MediaLine { media: media.media.clone(), proto: media.proto.clone(), formats: media.fmt.clone() };
        let mid = media.get_first_attribute_value("mid").flatten().map(read_mid).transpose()?;
        let kind = match media.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return Ok(Self { mid, line, media: None }),
        };
        // Port zero means "not wanted", unless it means "within the bundle or not at all" (RFC 9143, section 7.2).
        if media.port == 0 && !media.has_attribute("bundle-only") {
            return Ok(Self { mid, line, media: None });
        }
        let mid = mid.ok_or(OfferError::NoMid(index))?;
        let offered = OfferedMedia::read(session, media, kind, &mid, mixed)?;
        Ok(Self { mid: Some(mid), line, media: offered })
    }
}

impl OfferedMedia {
    /// `None` where no format is known.
    fn read(
        session: &Session,
        media: &Media,
        kind: MediaKind,
        mid: &Mid,
        mixed: bool,
    ) -> Result<Option<Self>, OfferError> {
        if !PROTOCOLS.contains(&media.proto.as_str()) {
            return Err(OfferError::Protocol { mid: mid.0.clone(), proto: clip(&media.proto) });
        }
        if media.has_attribute("crypto") {
            return Err(OfferError::SdesKeys(mid.clone()));
        }
        if !media.has_attribute("rtcp-mux") && !media.has_attribute("rtcp-mux-only") {
            return Err(OfferError::NoRtcpMux(mid.clone()));
        }
        let formats = format::read(media)?;
        let known = formats.iter().find_map(|(pt, format)| Some((*pt, format, recognise(kind, format)?)));
        let Some((payload_type, format, codec)) = known else { return Ok(None) };
        let rtx = formats.iter().find(|(_, other)| {
            other.name.eq_ignore_ascii_case("rtx")
                && other.parameters.get("apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
        });
        Ok(Some(Self {
            mid: mid.clone(),
            kind,
            direction: direction(session, media),
            codec,
            payload_type: PayloadType(payload_type),
            parameters: format.parameters.clone(),
            rtx: rtx.map(|(pt, _)| PayloadType(*pt)),
            feedback: format.feedback.clone(),
            extensions: extension::read(session, media, mixed)?,
            encodings: encodings::read(media)?,
            reduced_size: media.has_attribute("rtcp-rsize"),
            stream: stream(media),
        }))
    }
}

/// What an m= line may say where it means SRTP keyed by DTLS (RFC 8829, section 5.1.2).
const PROTOCOLS: [&str; 5] =
    ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP", "RTP/SAVPF"];

fn read_mid(text: &str) -> Result<Mid, OfferError> {
    let is_token = |b: u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&b);
    if (1..=16).contains(&text.len()) && text.bytes().all(is_token) {
        return Ok(Mid(text.to_owned()));
    }
    Err(OfferError::BadMid(clip(text)))
}

/// The mids of the first `BUNDLE` group; none where there is none.
fn bundle(session: &Session) -> Result<Vec<String>, OfferError> {
    for group in session.attributes_typed::<Group>() {
        let group = group.map_err(|err| OfferError::attribute("group", err))?;
        if group.semantics.as_str().eq_ignore_ascii_case("BUNDLE") {
            return Ok(group.mid_tags);
        }
    }
    Ok(Vec::new())
}

/// The direction, `sendrecv` where nothing is said (RFC 8866, section 6.7).
fn direction(session: &Session, media: &Media) -> OfferedDirection {
    let of = |name: &str| match name {
        "sendrecv" | "sendonly" => Some(OfferedDirection::Send),
        "recvonly" => Some(OfferedDirection::Receive),
        "inactive" => Some(OfferedDirection::Inactive),
        _ => None,
    };
    let own = media.attributes.iter().find_map(|a| of(&a.attribute));
    own.or_else(|| session.attributes.iter().find_map(|a| of(&a.attribute))).unwrap_or(OfferedDirection::Send)
}

fn stream(media: &Media) -> Option<String> {
    let msid = media.get_first_attribute_value("msid").flatten()?;
    let stream = msid.split(' ').next().unwrap_or(msid);
    (stream != "-" && !stream.is_empty()).then(|| stream.chars().take(64).collect())
}

fn claim(used: &mut BTreeMap<u8, &'static str>, pt: PayloadType, format: &'static str) -> Result<(), OfferError> {
    match used.insert(pt.0, format) {
        Some(before) if before != format => Err(OfferError::PayloadTypeConflict(pt.0)),
        _ => Ok(()),
    }
}

/// The formats that an offer without anything usable lists, for its error.
fn listed(session: &Session) -> String {
    let maps = session.medias.iter().flat_map(|media| media.get_attribute_values("rtpmap").flatten());
    let names = maps.filter_map(|map| map.split_once(' ')).map(|(_, name)| name);
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "none".to_owned() } else { clip(&names.join(", ")) }
}
