//! The protocol as JSON Schema, the source of the TypeScript types.

use crate::envelope::{ClientMessage, ServerMessage};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

/// Everything on the wire, as one schema (draft 2020-12): `client` and `server` are the messages of each side.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "exists for its schema")]
struct HallooProtocolV1 {
    client: ClientMessage,
    server: ServerMessage,
}

/// The schema of version 1, as checked in under `protocol/schema/`.
pub fn schema() -> serde_json::Value {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<HallooProtocolV1>().to_value()
}

#[cfg(test)]
mod tests {
    /// Run with `HALLOO_BLESS=1` to write the schema anew after a change of the types.
    #[test]
    fn the_checked_in_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/halloo.v1.schema.json");
        let generated = format!("{}\n", serde_json::to_string_pretty(&super::schema()).unwrap());
        if std::env::var_os("HALLOO_BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/schema")).unwrap();
            std::fs::write(path, &generated).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == generated, "{path} is out of date: run `make generate`");
    }
}
