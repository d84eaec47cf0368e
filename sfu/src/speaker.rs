//! Who speaks: the dominant speaker by RFC 6464 audio levels.
