//! DTLS handshakes, on threads of their own: no public-key work happens on a shard.
