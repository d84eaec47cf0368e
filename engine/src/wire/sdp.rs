//! Reads what a local and a remote session description agreed on (RFC 8866, RFC 8829, RFC 3264).
//!
//! Pure: text in, stream configurations out. A description that passes [`read`] has a fingerprint that can be
//! checked and ICE credentials; [`negotiate`] then gives the streams of the sections that both sides accepted.

use super::error::WireError;
use halloo_transport::{
    Mid, PayloadType, RecvStream, SendStream, Ssrc,
    session::{ExtensionIds, MediaKind, Rtx},
};
use rtc::sdp::{MediaDescription, SessionDescription};
use std::io::Cursor;

/// Longest description taken: an offer with every codec and 25 sections stays under a third of it.
const MAX_LEN: usize = 64 * 1024;
/// Most media sections taken: what a room can have of sources and slots, and some.
const MAX_SECTIONS: usize = 64;

pub(super) const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
pub(super) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const ABS_SEND_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
pub(super) const AUDIO_LEVEL_URI: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(super) const DEPENDENCY_DESCRIPTOR_URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// What a description says of the media this engine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// The ICE user name fragment; a new one is an ICE restart.
    pub(super) ice_ufrag: String,
    /// The audio and video sections, in the description's order.
    pub(super) sections: Vec<Section>,
}

/// One media section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: MediaKind,
    pub(super) mid: Mid,
    /// Port zero: not wanted.
    pub(super) rejected: bool,
    /// Whether the describing side intends to send.
    pub(super) sends: bool,
    /// Whether the describing side is willing to receive.
    pub(super) receives: bool,
    /// Opus or AV1, where listed.
    pub(super) codec: Option<Codec>,
    pub(super) extensions: ExtensionIds,
    /// The first declared source.
    pub(super) ssrc: Option<Ssrc>,
    /// The source that repairs it (`ssrc-group:FID`).
    pub(super) rtx_ssrc: Option<Ssrc>,
}

/// A codec as one side numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) payload_type: PayloadType,
    pub(super) clock_rate: u32,
    /// The retransmission format that names it in `apt` (RFC 4588, section 8.1).
    pub(super) rtx: Option<PayloadType>,
    /// `rtcp-fb nack` (RFC 4585).
    pub(super) nack: bool,
}

/// The streams of a finished negotiation.
#[derive(Clone, Debug, Default)]
pub(super) struct Negotiated {
    pub(super) send: Vec<SendStream>,
    pub(super) recv: Vec<RecvStream>,
}

impl Description {
    /// The first section of this kind.
    pub(super) fn section(&self, kind: MediaKind) -> Option<&Section> {
        self.sections.iter().find(|s| s.kind == kind)
    }

    /// Whether the first section of this kind is there, not rejected, and has a codec this engine speaks.
    pub(super) fn accepts(&self, kind: MediaKind) -> bool {
        self.section(kind).is_some_and(Section::is_accepted)
    }

    /// The first audio and the first video section alone: all that a call between two has.
    pub(super) fn first_of_each_kind(mut self) -> Self {
        let mut seen = Vec::new();
        self.sections.retain(|section| {
            let first = !seen.contains(&section.kind);
            seen.push(section.kind);
            first
        });
        self
    }
}

impl Section {
    /// Whether it is not rejected and has a codec that this engine speaks.
    pub(super) fn is_accepted(&self) -> bool {
        !self.rejected && self.codec.is_some()
    }
}

/// Reads a description, local or remote.
///
/// # Errors
/// [`WireError::BadSdp`], [`WireError::NoFingerprint`], [`WireError::BadFingerprint`].
pub(super) fn read(text: &str) -> Result<Description, WireError> {
    if text.len() > MAX_LEN {
        return Err(WireError::BadSdp(format!("{} bytes are too many, {MAX_LEN} are taken", text.len())));
    }
    let parsed =
        SessionDescription::unmarshal(&mut Cursor::new(text)).map_err(|err| WireError::BadSdp(err.to_string()))?;
    check_fingerprints(&parsed)?;
    let ice_ufrag = session_or_media(&parsed, "ice-ufrag")
        .ok_or_else(|| WireError::BadSdp("it has no ICE user name fragment".into()))?
        .to_owned();
    if session_or_media(&parsed, "ice-pwd").is_none() {
        return Err(WireError::BadSdp("it has no ICE password".into()));
    }
    let mut sections: Vec<Section> = Vec::new();
    for media in &parsed.media_descriptions {
        let kind = match media.media_name.media.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => continue,
        };
        let mid = value(media, "mid").filter(|mid| !mid.is_empty());
        let mid = mid.ok_or_else(|| WireError::BadSdp("a media section has no mid".into()))?;
        if sections.len() == MAX_SECTIONS {
            return Err(WireError::BadSdp(format!("it has more than {MAX_SECTIONS} media sections")));
        }
        sections.push(read_section(media, kind, mid));
    }
    Ok(Description { ice_ufrag, sections })
}

/// Reads a description and negotiates it with itself, for fuzzers: each stream must be of a section that was read.
pub(crate) fn fuzz(text: &str) {
    let Ok(description) = read(text) else { return };
    let streams = negotiate(&description, &description);
    let mids = || description.sections.iter().map(|section| Some(&section.mid));
    assert!(streams.send.iter().all(|stream| mids().any(|mid| mid == stream.mid.as_ref())), "a stream of no section");
    assert!(streams.recv.iter().all(|stream| mids().any(|mid| mid == stream.mid.as_ref())), "a stream of no section");
    // What is left for the connection stack must still be a description.
    let (left, _) = split_tcp_candidates(&without_tracks(text));
    assert_eq!(read(&left).map(|left| left.ice_ufrag).ok(), Some(description.ice_ufrag));
}

/// The same description without the peer's tracks: no `ssrc`, `ssrc-group`, `msid`, `rid` or `simulcast` lines.
///
/// Received packets are taken below the connection stack's own tracks. Naming tracks to it would only make it keep
/// receivers that never see a packet, and refuse a description that declares none.
pub(super) fn without_tracks(text: &str) -> String {
    const TRACK_LINES: [&str; 5] = ["a=ssrc:", "a=ssrc-group:", "a=msid:", "a=rid:", "a=simulcast:"];
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !TRACK_LINES.iter().any(|prefix| line.starts_with(prefix))) {
        kept.push_str(line);
        kept.push_str("\r\n");
    }
    kept
}

/// Takes the candidates over TCP out of a description: what is left, and each of them as `candidate:...`, once.
///
/// The connection stack pairs those that stand in a description but never connects to them.
pub(super) fn split_tcp_candidates(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut over_tcp) = (String::with_capacity(text.len()), Vec::new());
    for line in text.lines() {
        match line.strip_prefix("a=").filter(|rest| rest.starts_with("candidate:") && is_over_tcp(rest)) {
            Some(candidate) if over_tcp.iter().any(|known| known == candidate) => {}
            Some(candidate) => over_tcp.push(candidate.to_owned()),
            None => {
                kept.push_str(line);
                kept.push_str("\r\n");
            }
        }
    }
    (kept, over_tcp)
}

/// Whether a candidate (`candidate:FOUNDATION COMPONENT TRANSPORT ...`, RFC 8839, section 5.1) is one over TCP.
pub(super) fn is_over_tcp(candidate: &str) -> bool {
    candidate.split(' ').nth(2).is_some_and(|transport| transport.eq_ignore_ascii_case("tcp"))
}

/// Whether a candidate is one over TCP to which the other side connects (RFC 6544, section 4.5).
pub(super) fn takes_tcp_connections(candidate: &str) -> bool {
    is_over_tcp(candidate) && candidate.ends_with(" tcptype passive") | candidate.contains(" tcptype passive ")
}

/// The streams that `local` and `remote` agreed on. Each side numbers what it wants to *receive*, so packets are sent with
/// the remote side's payload types and received with the local ones; extension ids must be listed by both.
pub(super) fn negotiate(local: &Description, remote: &Description) -> Negotiated {
    let mut streams = Negotiated::default();
    for ours in local.sections.iter().filter(|s| !s.rejected) {
        let Some(theirs) = remote.sections.iter().find(|s| s.mid == ours.mid && s.kind == ours.kind && !s.rejected)
        else {
            continue;
        };
        let (Some(our_codec), Some(their_codec)) = (ours.codec, theirs.codec) else { continue };
        let extensions = common_extensions(ours.extensions, theirs.extensions);
        let both_rtx = our_codec.rtx.zip(their_codec.rtx);
        if let Some(ssrc) = ours.ssrc.filter(|_| ours.sends && theirs.receives) {
            let rtx = both_rtx.zip(ours.rtx_ssrc);
            streams.send.push(SendStream {
                kind: ours.kind,
                ssrc,
                payload_type: their_codec.payload_type,
                clock_rate: their_codec.clock_rate,
                mid: Some(ours.mid.clone()),
                rtx: rtx.map(|((_, payload_type), ssrc)| Rtx { ssrc: Some(ssrc), payload_type }),
                extensions,
            });
        }
        if ours.receives && theirs.sends {
            streams.recv.push(RecvStream {
                kind: ours.kind,
                ssrc: theirs.ssrc,
                payload_type: our_codec.payload_type,
                clock_rate: our_codec.clock_rate,
                mid: Some(ours.mid.clone()),
                rtx: both_rtx.map(|(payload_type, _)| Rtx { ssrc: theirs.rtx_ssrc, payload_type }),
                nack: our_codec.nack && their_codec.nack,
                extensions,
            });
        }
    }
    streams
}

fn common_extensions(a: ExtensionIds, b: ExtensionIds) -> ExtensionIds {
    let both = |x: Option<u8>, y: Option<u8>| x.filter(|_| x == y);
    ExtensionIds {
        transport_cc: both(a.transport_cc, b.transport_cc),
        mid: both(a.mid, b.mid),
        abs_send_time: both(a.abs_send_time, b.abs_send_time),
        audio_level: both(a.audio_level, b.audio_level),
        dependency_descriptor: both(a.dependency_descriptor, b.dependency_descriptor),
    }
}

fn read_section(media: &MediaDescription, kind: MediaKind, mid: &str) -> Section {
    let (sends, receives) = direction(media);
    let (ssrc, rtx_ssrc) = sources(media);
    Section {
        kind,
        mid: Mid(mid.to_owned()),
        rejected: media.media_name.port.value == 0,
        sends,
        receives,
        codec: find_codec(media, kind),
        extensions: extensions(media),
        ssrc,
        rtx_ssrc,
    }
}

/// The direction attribute, `sendrecv` where absent (RFC 8866, section 6.7).
fn direction(media: &MediaDescription) -> (bool, bool) {
    for attribute in &media.attributes {
        match attribute.key.as_str() {
            "sendrecv" => return (true, true),
            "sendonly" => return (true, false),
            "recvonly" => return (false, true),
            "inactive" => return (false, false),
            _ => {}
        }
    }
    (true, true)
}

fn find_codec(media: &MediaDescription, kind: MediaKind) -> Option<Codec> {
    let formats = media.media_name.formats.iter().filter_map(|f| f.parse::<u8>().ok()).filter(|f| *f < 128);
    let payload_type = formats.clone().find(|&format| is_ours(media, kind, format))?;
    let rtx = formats.clone().find(|&format| {
        rtpmap(media, format).is_some_and(|map| map.to_ascii_lowercase().starts_with("rtx/"))
            && parameter(media, format, "apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
    });
    Some(Codec {
        payload_type: PayloadType(payload_type),
        clock_rate: match kind {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        },
        rtx: rtx.map(PayloadType),
        nack: feedback(media, payload_type).any(|fb| fb == "nack"),
    })
}

fn is_ours(media: &MediaDescription, kind: MediaKind, format: u8) -> bool {
    let Some(map) = rtpmap(media, format).map(str::to_ascii_lowercase) else { return false };
    match kind {
        MediaKind::Audio => map == "opus/48000/2",
        MediaKind::Video => map == "av1/90000" && parameter(media, format, "profile").unwrap_or("0") == "0",
    }
}

fn rtpmap(media: &MediaDescription, format: u8) -> Option<&str> {
    of_format(media, "rtpmap", format).next()
}

fn feedback(media: &MediaDescription, format: u8) -> impl Iterator<Item = &str> {
    of_format(media, "rtcp-fb", format)
}

/// A parameter of the format's `fmtp` line (RFC 8866, section 6.15).
fn parameter<'a>(media: &'a MediaDescription, format: u8, name: &str) -> Option<&'a str> {
    of_format(media, "fmtp", format)
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The rest of each `a=KEY:FORMAT rest` line.
fn of_format<'a>(media: &'a MediaDescription, key: &'static str, format: u8) -> impl Iterator<Item = &'a str> {
    values(media, key).filter_map(move |line| {
        let (number, rest) = line.split_once(' ')?;
        (number == "*" || number.parse() == Ok(format)).then_some(rest.trim())
    })
}

fn extensions(media: &MediaDescription) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for line in values(media, "extmap") {
        let Some((id, rest)) = line.split_once(' ') else { continue };
        // `1/sendonly uri attributes` (RFC 8285, section 8).
        let Ok(id) = id.split('/').next().unwrap_or(id).parse::<u8>() else { continue };
        if !(1..=14).contains(&id) {
            continue;
        }
        match rest.split(' ').next().unwrap_or(rest) {
            TRANSPORT_CC_URI => ids.transport_cc = Some(id),
            MID_URI => ids.mid = Some(id),
            ABS_SEND_TIME_URI => ids.abs_send_time = Some(id),
            AUDIO_LEVEL_URI => ids.audio_level = Some(id),
            DEPENDENCY_DESCRIPTOR_URI => ids.dependency_descriptor = Some(id),
            _ => {}
        }
    }
    ids
}

/// The first source and what repairs it (RFC 5576, sections 4.1 and 4.2).
fn sources(media: &MediaDescription) -> (Option<Ssrc>, Option<Ssrc>) {
    for line in values(media, "ssrc-group") {
        let mut words = line.split(' ');
        if words.next() != Some("FID") {
            continue;
        }
        let mut numbers = words.filter_map(|word| word.parse().ok()).map(Ssrc);
        if let Some(ssrc) = numbers.next() {
            return (Some(ssrc), numbers.next());
        }
    }
    let first = values(media, "ssrc").find_map(|line| line.split(' ').next()?.parse().ok());
    (first.map(Ssrc), None)
}

fn values<'a>(media: &'a MediaDescription, key: &'static str) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref())
}

fn value<'a>(media: &'a MediaDescription, key: &'static str) -> Option<&'a str> {
    values(media, key).next()
}

fn session_or_media<'a>(parsed: &'a SessionDescription, key: &'static str) -> Option<&'a str> {
    let session = parsed.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.as_deref());
    session.or_else(|| parsed.media_descriptions.iter().find_map(|media| value(media, key)))
}

/// Every fingerprint must be checkable (RFC 8122, section 5), and at least one present.
fn check_fingerprints(parsed: &SessionDescription) -> Result<(), WireError> {
    let session = parsed.attributes.iter().filter(|a| a.key == "fingerprint").filter_map(|a| a.value.as_deref());
    let media = parsed.media_descriptions.iter().flat_map(|media| values(media, "fingerprint"));
    let mut any = false;
    for line in session.chain(media) {
        any = true;
        let valid = line.split_once(' ').is_some_and(|(algorithm, hex)| {
            algorithm == "sha-256"
                && hex.split(':').count() == 32
                && hex.split(':').all(|byte| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok())
        });
        if !valid {
            return Err(WireError::BadFingerprint(line.chars().take(120).collect()));
        }
    }
    if any { Ok(()) } else { Err(WireError::NoFingerprint) }
}

#[cfg(test)]
#[path = "sdp_tests.rs"]
mod tests;
