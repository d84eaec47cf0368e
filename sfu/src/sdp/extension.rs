//! The header extensions that are forwarded or acted on (RFC 8285), and their ids within the bundle.

use super::error::{OfferError, clip};
use crate::rtp::ExtensionIds;
use sdp_types::{ExtMap, Media, Session};

/// Extensions looked at in one section.
const MAX_EXTENSIONS: usize = 64;

/// A header extension that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// RFC 9143.
    Mid,
    /// RFC 8852.
    Rid,
    /// RFC 8852.
    RepairedRid,
    /// Transport-wide sequence numbers.
    TransportCc,
    /// Absolute send time.
    AbsSendTime,
    /// RFC 6464.
    AudioLevel,
    /// AV1's dependency descriptor.
    DependencyDescriptor,
    /// Which way up the picture is (3GPP TS 26.114).
    VideoOrientation,
}

impl Extension {
    const ALL: [Self; 8] = [
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::TransportCc,
        Self::AbsSendTime,
        Self::AudioLevel,
        Self::DependencyDescriptor,
        Self::VideoOrientation,
    ];

    /// As `a=extmap` names it.
    pub fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Self::VideoOrientation => "urn:3gpp:video-orientation",
        }
    }

    fn of(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.uri() == uri)
    }

    fn slot(self, ids: &mut ExtensionIds) -> &mut Option<u8> {
        match self {
            Self::Mid => &mut ids.mid,
            Self::Rid => &mut ids.rid,
            Self::RepairedRid => &mut ids.repaired_rid,
            Self::TransportCc => &mut ids.transport_cc,
            Self::AbsSendTime => &mut ids.abs_send_time,
            Self::AudioLevel => &mut ids.audio_level,
            Self::DependencyDescriptor => &mut ids.dependency_descriptor,
            Self::VideoOrientation => &mut ids.video_orientation,
        }
    }
}

/// The known extensions of a section, in its order.
///
/// # Errors
/// [`OfferError::BadAttribute`], or [`OfferError::Extension`] for an id that cannot be sent: 0, 15 (RFC 8285, section
/// 4.2), or above 14 where one-byte and two-byte headers may not be mixed.
pub(super) fn read(session: &Session, media: &Media, mixed: bool) -> Result<Vec<(u8, Extension)>, OfferError> {
    let mut found: Vec<(u8, Extension)> = Vec::new();
    let lines = session.attributes_typed::<ExtMap>().chain(media.attributes_typed::<ExtMap>());
    for line in lines.take(MAX_EXTENSIONS) {
        let line = line.map_err(|err| OfferError::attribute("extmap", err))?;
        let Some(extension) = Extension::of(&line.uri) else { continue };
        let refuse = |problem| OfferError::Extension { id: line.id, uri: clip(&line.uri), problem };
        if line.id == 0 || line.id == 15 {
            return Err(refuse("this id is reserved"));
        }
        if line.id > 14 && !mixed {
            return Err(refuse("above 14 a=extmap-allow-mixed is needed"));
        }
        if !found.iter().any(|(_, known)| *known == extension) {
            found.push((line.id, extension));
        }
    }
    Ok(found)
}

/// The one table of the bundle.
#[derive(Clone, Debug, Default)]
pub(super) struct BundleExtensions {
    ids: ExtensionIds,
    used: Vec<(u8, Extension)>,
}

impl BundleExtensions {
    /// Adds a section's extensions.
    ///
    /// # Errors
    /// [`OfferError::Extension`] where an id or an extension means something else in a section before.
    pub(super) fn add(&mut self, section: &[(u8, Extension)]) -> Result<(), OfferError> {
        for &(id, extension) in section {
            let clash = self.used.iter().find(|(i, e)| (*i == id) != (*e == extension));
            if clash.is_some() {
                let problem = "within a bundle an id means one extension, and an extension has one id";
                return Err(OfferError::Extension { id, uri: extension.uri().to_owned(), problem });
            }
            self.used.push((id, extension));
            *extension.slot(&mut self.ids) = Some(id);
        }
        Ok(())
    }

    pub(super) fn ids(&self) -> ExtensionIds {
        self.ids
    }
}
