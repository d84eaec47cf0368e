//! What a client sends to the server: any text gets a message or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = halloo_protocol::parse_client_message(text);
});
