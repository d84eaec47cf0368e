//! What the server sends to a client: any text gets a message or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(message) = serde_json::from_str::<halloo_protocol::ServerMessage>(text) {
        // What was read can be written, and reads back the same.
        let text = serde_json::to_string(&message).expect("a message is JSON");
        let again = serde_json::from_str::<halloo_protocol::ServerMessage>(&text).expect("and reads back");
        assert_eq!(message, again);
    }
});
