//! Packets of sound in any order and of any content to the jitter buffer and Opus: each block is a block of numbers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| halloo_engine::fuzz::jitter_buffer(data));
