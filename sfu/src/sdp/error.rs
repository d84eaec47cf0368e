//! Why an offer cannot be answered, in words that its author can act on.

use halloo_transport::Mid;

/// An offer that gets no answer. Every variant is the client's to put right; nothing of the session was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// Longer than is read.
    #[error("the offer has {len} bytes, at most {max} are taken: list fewer codecs, or ask for fewer slots")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes taken.
        max: usize,
    },
    /// Not a session description (RFC 8866).
    #[error("the offer is no session description: {0}")]
    Grammar(String),
    /// An attribute that matters here is there, but cannot be read.
    #[error("the offer's a={name} line cannot be read: {reason}")]
    BadAttribute {
        /// The attribute's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// More media sections than one participant can use.
    #[error("the offer has {count} media sections, at most {max} are taken")]
    TooManySections {
        /// Sections given.
        count: usize,
        /// Sections taken.
        max: usize,
    },
    /// A section without `a=mid`, counted from 0.
    #[error("media section {0} has no mid: with BUNDLE every section needs one (RFC 9143)")]
    NoMid(usize),
    /// Above 16 characters it fits no one-byte header extension; other than token characters it is no mid.
    #[error("the mid {0:?} cannot be used: 1 to 16 token characters are taken")]
    BadMid(String),
    /// Two sections with one mid.
    #[error("two media sections have the mid {:?}: each needs its own", .0.0)]
    DuplicateMid(Mid),
    /// No `a=group:BUNDLE`, or one that leaves sections out which are to be used.
    #[error("the section with mid {:?} is not bundled: everything is sent over one transport (a=group:BUNDLE)", .0.0)]
    NotBundled(Mid),
    /// RTCP on a port of its own.
    #[error("the section with mid {:?} has no a=rtcp-mux: RTP and RTCP share one transport", .0.0)]
    NoRtcpMux(Mid),
    /// Not media over DTLS-SRTP.
    #[error("the section with mid {mid:?} is for {proto}: only SRTP keyed by DTLS is taken (UDP/TLS/RTP/SAVPF)")]
    Protocol {
        /// Which section.
        mid: String,
        /// What its m= line says.
        proto: String,
    },
    /// Keys in the description itself (SDES, RFC 4568), with or without an MKI.
    #[error("the section with mid {:?} has a=crypto keys: only keys agreed on by DTLS are taken", .0.0)]
    SdesKeys(Mid),
    /// Nothing to check the certificate against.
    #[error("the offer has no a=fingerprint: the certificate could not be checked")]
    NoFingerprint,
    /// Fingerprints, but none by SHA-256, which every implementation can make (RFC 8122, section 5).
    #[error("the offer has no sha-256 fingerprint, but {0}")]
    FingerprintHash(String),
    /// A section of the bundle that contradicts the others about the one transport.
    #[error("the section with mid {mid:?} gives another {what} than the first: a bundle has one transport")]
    TransportMismatch {
        /// Which section.
        mid: String,
        /// What differs.
        what: &'static str,
    },
    /// No ICE user name fragment or password, or one outside RFC 8839, section 5.4.
    #[error(
        "the offer's {what} is missing or malformed: 4 to 256 (ice-ufrag) or 22 to 256 (ice-pwd) ice-chars are needed"
    )]
    IceCredentials {
        /// `ice-ufrag` or `ice-pwd`.
        what: &'static str,
    },
    /// `setup:passive` or `setup:holdconn`: the SFU is the DTLS server.
    #[error("the offer says a=setup:{0}: offer actpass or active, since the server waits for the client's handshake")]
    SetupRole(String),
    /// One extension id for two extensions within the bundle (RFC 9143, section 14), or an id that cannot be sent.
    #[error("the header extension id {id} is used for {uri}: {problem}")]
    Extension {
        /// The id.
        id: u8,
        /// What it is said to be.
        uri: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A payload type that stands for two different formats within the bundle (RFC 9143, section 9.1).
    #[error("payload type {0} stands for different formats in different sections of the bundle")]
    PayloadTypeConflict(u8),
    /// No section has a codec that is known.
    #[error("the offer has no media that can be taken: Opus audio and AV1 video (profile 0) are; it lists {0}")]
    NothingUsable(String),
    /// A later offer that drops, reorders or changes what was agreed on.
    #[error("media section {index} was {before:?} and now is {now:?}: later offers may only add sections")]
    SectionsChanged {
        /// Which one, from 0.
        index: usize,
        /// Its mid before.
        before: String,
        /// Its mid now.
        now: String,
    },
}

impl OfferError {
    pub(super) fn attribute(name: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::BadAttribute { name, reason: clip(&reason.to_string()) }
    }
}

/// What somebody else wrote, short enough to be repeated in an error.
pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
