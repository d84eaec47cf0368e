//! RTP headers and extensions, read and written in place.
