//! Payload formats of a media section (RFC 8866, sections 6.6 and 6.15; RFC 4585, section 4.2).

use super::error::OfferError;
use sdp_types::{Fmtp, Media, RtcpFb, RtcpFbCcm, RtcpFbNack, RtcpFbPt, RtcpFbVal, RtpMap};
use std::{collections::BTreeMap, fmt};

/// Formats looked at in one section; browsers list up to 40.
const MAX_FORMATS: usize = 64;

/// One payload type's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// As in `a=rtpmap`.
    pub(super) name: String,
    /// Ticks in a second.
    pub(super) clock_rate: u32,
    /// 1 where not said.
    pub(super) channels: u8,
    /// Of `a=fmtp`.
    pub(super) parameters: Parameters,
    /// Of `a=rtcp-fb`, those that are known here.
    pub(super) feedback: Vec<Feedback>,
}

/// RTCP feedback that the SFU gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Transport-wide congestion control feedback.
    TransportCc,
    /// Full intra requests (RFC 5104).
    CcmFir,
    /// Generic NACK (RFC 4585).
    Nack,
    /// Picture loss indication (RFC 4585).
    NackPli,
}

impl Feedback {
    /// As `a=rtcp-fb` has it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::TransportCc => "transport-cc",
            Self::CcmFir => "ccm fir",
            Self::Nack => "nack",
            Self::NackPli => "nack pli",
        }
    }

    fn read(value: &RtcpFbVal) -> Option<Self> {
        match value {
            RtcpFbVal::TransportCc => Some(Self::TransportCc),
            RtcpFbVal::Ccm(RtcpFbCcm::Fir) => Some(Self::CcmFir),
            RtcpFbVal::Nack(None) => Some(Self::Nack),
            RtcpFbVal::Nack(Some(RtcpFbNack::Pli)) => Some(Self::NackPli),
            _ => None,
        }
    }
}

/// The `key=value` pairs of an `a=fmtp` line, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Reads what follows the format's number; what is no pair is kept with an empty value.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split(';').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let pairs = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        Self(pairs.filter(|(key, _)| !key.is_empty()).collect())
    }

    /// A parameter's value; keys are compared without case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    pub(super) fn push(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { ";" };
            match value.is_empty() {
                true => write!(f, "{separator}{key}")?,
                false => write!(f, "{separator}{key}={value}")?,
            }
        }
        Ok(())
    }
}

/// The formats of a section, in its order of preference.
///
/// # Errors
/// [`OfferError::BadAttribute`] where an `a=rtpmap` line cannot be read.
pub(super) fn read(media: &Media) -> Result<Vec<(u8, Format)>, OfferError> {
    let mut maps = BTreeMap::new();
    for map in media.attributes_typed::<RtpMap>().take(MAX_FORMATS) {
        let map = map.map_err(|err| OfferError::attribute("rtpmap", err))?;
        maps.entry(map.payload_type).or_insert(map);
    }
    let mut parameters: BTreeMap<u8, Parameters> = BTreeMap::new();
    for fmtp in media.attributes_typed::<Fmtp>().take(MAX_FORMATS).filter_map(Result::ok) {
        let pairs = fmtp.format_specific_params.iter();
        let pairs = pairs.map(|p| (p.param.trim(), p.val.as_deref().unwrap_or_default().trim()));
        parameters.entry(fmtp.fmt).or_insert_with(|| Parameters::of(pairs.filter(|(key, _)| !key.is_empty())));
    }
    let feedback: Vec<RtcpFb> =
        media.attributes_typed::<RtcpFb>().take(4 * MAX_FORMATS).filter_map(Result::ok).collect();
    let listed = media.fmt.split(' ').filter_map(|pt| pt.parse::<u8>().ok()).filter(|pt| *pt < 128);
    let mut formats: Vec<(u8, Format)> = Vec::new();
    for pt in listed.take(MAX_FORMATS) {
        let Some(map) = maps.remove(&pt) else { continue };
        let mut known = Vec::new();
        for line in &feedback {
            let applies = matches!(line.pt, RtcpFbPt::Wildcard) || matches!(line.pt, RtcpFbPt::Fmt(f) if f == pt);
            if let Some(value) = Feedback::read(&line.val).filter(|value| applies && !known.contains(value)) {
                known.push(value);
            }
        }
        let format = Format {
            name: map.encoding_name,
            clock_rate: map.clock_rate,
            channels: map.encoding_params.and_then(|p| p.parse().ok()).unwrap_or(1),
            parameters: parameters.remove(&pt).unwrap_or_default(),
            feedback: known,
        };
        formats.push((pt, format));
    }
    Ok(formats)
}
