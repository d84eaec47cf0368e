//! A room above SRTP: participants, sources, and who gets what.
