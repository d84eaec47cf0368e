//! Why a connection could not be negotiated, in words for the person who reads the log.

use halloo_transport::session::MediaKind;

/// Why an operation on a [`super::Wire`] failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// No socket could be opened, or the connection's task did not start.
    #[error("could not open a connection on {bind}: {reason}")]
    Open {
        /// What was asked for.
        bind: String,
        /// What the system said.
        reason: String,
    },
    /// The session description does not parse, or lacks what every description has.
    #[error("the peer's session description is malformed: {0}")]
    BadSdp(String),
    /// No certificate fingerprint: the peer could not be authenticated.
    #[error("the peer's session description carries no certificate fingerprint, so it cannot be authenticated")]
    NoFingerprint,
    /// A fingerprint that cannot be checked.
    #[error("the peer's certificate fingerprint `{0}` cannot be checked: sha-256 with 32 bytes is needed")]
    BadFingerprint(String),
    /// Nothing both sides can encode and decode.
    #[error("the peer offers no {} codec that this side has ({})", kind_name(*media), kind_codec(*media))]
    NoCommonCodec {
        /// Which medium.
        media: MediaKind,
    },
    /// A remote candidate that does not parse.
    #[error("the peer's ICE candidate `{candidate}` is malformed: {reason}")]
    BadCandidate {
        /// As received, shortened.
        candidate: String,
        /// What is wrong.
        reason: String,
    },
    /// The peer sent more candidates than any machine has.
    #[error("the peer sent more than {limit} ICE candidates; the rest are ignored")]
    TooManyCandidates {
        /// How many are taken.
        limit: usize,
    },
    /// Called in an order that negotiation does not allow (RFC 9429, section 3.2).
    #[error("cannot {attempted} while {state}")]
    WrongState {
        /// The call.
        attempted: &'static str,
        /// Where negotiation stands.
        state: &'static str,
    },
    /// The connection stack refused a step that the checks above let through.
    #[error("could not {attempted}: {reason}")]
    Negotiation {
        /// The step.
        attempted: &'static str,
        /// What the stack said.
        reason: String,
    },
    /// The wire has been closed.
    #[error("the connection is closed")]
    Closed,
}

fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

fn kind_codec(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "Opus at 48 kHz",
        MediaKind::Video => "AV1, main profile",
    }
}
