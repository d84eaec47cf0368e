#!/usr/bin/env bash
# Builds and runs the example crate outside of the workspace, as an embedder would: sound alone, then with all defaults.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
# The same target folder and profile, so that the C libraries are not built again.
cargo run --release --quiet --manifest-path examples/embedder/Cargo.toml --target-dir "$target" --no-default-features
cargo run --release --quiet --manifest-path examples/embedder/Cargo.toml --target-dir "$target"
