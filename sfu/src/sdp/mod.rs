//! The one offer and answer of a participant.
