//! Two sessions joined by a model of a network, on virtual time.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and stops where something is wrong")]

pub(crate) mod link;
pub(crate) mod pair;
