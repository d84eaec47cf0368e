//! ICE-lite (RFC 8445): answers connectivity checks.
