//! Packets of pictures in any order, cut anywhere, to the frame buffer: no panic, bounded work.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    halloo_engine::fuzz::frame_buffer(data);
});
