//! A peer's session description as text: read or refused, never a panic, and what is agreed belongs to a section.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| halloo_engine::fuzz::session_description(text));
