//! Answers to connectivity checks (RFC 8445, 7.3; RFC 8489, 6.3).

use std::net::SocketAddr;

use stun_rs::{
    ErrorCode as Code, HMACKey, MessageClass, MessageEncoder, StunMessage, StunMessageBuilder,
    attributes::stun::{ErrorCode, Fingerprint, MessageIntegrity, UnknownAttributes, XorMappedAddress},
    methods::BINDING,
};

/// Longest answer in bytes: success to an IPv6 address needs 76, an error a few more.
pub const MAX_ANSWER: usize = 128;
const ROLE_CONFLICT: u16 = 487;
const UNKNOWN_ATTRIBUTE: u16 = 420;

/// What to answer a verified request with.
#[derive(Debug)]
pub(super) enum Answer {
    Success(SocketAddr),
    RoleConflict,
    /// Attributes that had to be understood and were not.
    Unknown(Vec<u16>),
}

impl Answer {
    /// Writes the answer to `request`; `None` where it does not fit `out`.
    pub(super) fn write(self, request: &StunMessage, key: &HMACKey, out: &mut [u8]) -> Option<usize> {
        let class = match self {
            Self::Success(_) => MessageClass::SuccessResponse,
            Self::RoleConflict | Self::Unknown(_) => MessageClass::ErrorResponse,
        };
        let builder = StunMessageBuilder::new(BINDING, class).with_transaction_id(*request.transaction_id());
        let builder = match self {
            Self::Success(mapped) => builder.with_attribute(XorMappedAddress::from(mapped)),
            Self::RoleConflict => {
                builder.with_attribute(ErrorCode::from(Code::new(ROLE_CONFLICT, "Role Conflict").ok()?))
            }
            Self::Unknown(types) => {
                let mut unknown = UnknownAttributes::default();
                types.into_iter().for_each(|kind| unknown.add(kind));
                builder.with_attribute(ErrorCode::from(Code::new(UNKNOWN_ATTRIBUTE, "").ok()?)).with_attribute(unknown)
            }
        };
        let message =
            builder.with_attribute(MessageIntegrity::new(key.clone())).with_attribute(Fingerprint::default()).build();
        MessageEncoder::default().encode(out, &message).ok()
    }
}
