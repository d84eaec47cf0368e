//! What is known of a codec: how to recognise it in an offer and what to agree on. The rest of the SFU sees payload types.
//!
//! A new codec is one more value of [`Codec`] in [`KNOWN`].

use super::format::{Feedback, Format, Parameters};
use halloo_transport::session::MediaKind;

/// A codec that can be forwarded.
pub trait Codec: Sync {
    /// Its name in `a=rtpmap`, compared without case.
    fn name(&self) -> &'static str;

    /// What it codes.
    fn kind(&self) -> MediaKind;

    /// Ticks of its RTP clock in a second.
    fn clock_rate(&self) -> u32;

    /// Channels in `a=rtpmap`; 1 where it says none.
    fn channels(&self) -> u8;

    /// Whether a format of this name and clock with these `a=fmtp` parameters is one that others here can decode.
    fn accepts(&self, offered: &Parameters) -> bool;

    /// The parameters to answer with.
    fn answer(&self, offered: &Parameters) -> Parameters;

    /// The RTCP feedback that makes sense for it, of which an answer has what was offered.
    fn feedback(&self) -> &'static [Feedback];
}

/// Every codec there is, the preferred ones first.
pub(super) const KNOWN: [&dyn Codec; 2] = [&Opus, &Av1];

/// The codec of this format, if it is known and acceptable.
pub(super) fn recognise(kind: MediaKind, format: &Format) -> Option<&'static dyn Codec> {
    KNOWN.into_iter().find(|codec| {
        codec.kind() == kind
            && format.name.eq_ignore_ascii_case(codec.name())
            && format.clock_rate == codec.clock_rate()
            && format.channels == codec.channels()
            && codec.accepts(&format.parameters)
    })
}

/// Opus (RFC 7587).
#[derive(Debug)]
struct Opus;

impl Codec for Opus {
    fn name(&self) -> &'static str {
        "opus"
    }

    fn kind(&self) -> MediaKind {
        MediaKind::Audio
    }

    fn clock_rate(&self) -> u32 {
        48_000
    }

    fn channels(&self) -> u8 {
        2
    }

    fn accepts(&self, _: &Parameters) -> bool {
        true
    }

    /// Each side's parameters say what it likes to receive (RFC 7587, section 7.1); whoever listens behind the SFU decodes
    /// anything, and in-band FEC helps all of them.
    fn answer(&self, _: &Parameters) -> Parameters {
        Parameters::of([("minptime", "10"), ("useinbandfec", "1")])
    }

    fn feedback(&self) -> &'static [Feedback] {
        &[Feedback::TransportCc, Feedback::Nack]
    }
}

/// AV1 (AOM "RTP Payload Format For AV1", section 7).
#[derive(Debug)]
struct Av1;

/// The parameters that tell AV1 streams apart.
const AV1_PARAMETERS: [&str; 3] = ["level-idx", "profile", "tier"];

impl Codec for Av1 {
    fn name(&self) -> &'static str {
        "AV1"
    }

    fn kind(&self) -> MediaKind {
        MediaKind::Video
    }

    fn clock_rate(&self) -> u32 {
        90_000
    }

    fn channels(&self) -> u8 {
        1
    }

    /// The Main profile at any level: levels say what a receiver can take, and the layers it is sent are chosen by size.
    /// `profile-id` is what older implementations write.
    fn accepts(&self, offered: &Parameters) -> bool {
        offered.get("profile").or_else(|| offered.get("profile-id")).is_none_or(|profile| profile == "0")
    }

    /// As offered, since some implementations compare the text; nothing where nothing was offered.
    fn answer(&self, offered: &Parameters) -> Parameters {
        Parameters::of(AV1_PARAMETERS.into_iter().filter_map(|key| offered.get(key).map(|value| (key, value))))
    }

    fn feedback(&self) -> &'static [Feedback] {
        &[Feedback::TransportCc, Feedback::CcmFir, Feedback::Nack, Feedback::NackPli]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str, clock_rate: u32, channels: u8, fmtp: &str) -> Format {
        let parameters = Parameters::parse(fmtp);
        Format { name: name.into(), clock_rate, channels, parameters, feedback: Vec::new() }
    }

    #[test]
    fn av1_is_taken_in_its_main_profile_at_any_level() {
        for fmtp in ["", "profile=0", "level-idx=5;profile=0;tier=0", "level-idx=8; tier=1", "profile-id=0"] {
            assert!(recognise(MediaKind::Video, &format("av1", 90_000, 1, fmtp)).is_some(), "{fmtp}");
        }
        for fmtp in ["profile=1", "level-idx=5;profile=2;tier=0"] {
            assert!(recognise(MediaKind::Video, &format("AV1", 90_000, 1, fmtp)).is_none(), "{fmtp}");
        }
    }

    #[test]
    fn a_format_is_known_by_kind_name_clock_and_channels_together() {
        assert!(recognise(MediaKind::Audio, &format("OPUS", 48_000, 2, "")).is_some());
        assert!(recognise(MediaKind::Audio, &format("red", 48_000, 2, "")).is_none());
        assert!(recognise(MediaKind::Audio, &format("opus", 16_000, 2, "")).is_none());
        assert!(recognise(MediaKind::Video, &format("opus", 48_000, 2, "")).is_none());
        assert!(recognise(MediaKind::Video, &format("VP8", 90_000, 1, "")).is_none());
    }

    #[test]
    fn av1_parameters_are_answered_as_they_were_offered() {
        let answer = |fmtp: &str| Av1.answer(&Parameters::parse(fmtp)).to_string();
        assert_eq!(answer("level-idx=5;profile=0;tier=0"), "level-idx=5;profile=0;tier=0");
        assert_eq!(answer("profile=0;x-secret=1"), "profile=0");
        assert_eq!(answer(""), "");
    }
}
