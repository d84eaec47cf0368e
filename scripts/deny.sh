#!/usr/bin/env bash
# Checks licences, banned crates and sources of all dependencies against deny.toml. Advisories need a network database, and are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "==> installing cargo-deny (once, some minutes)"
    env -u CARGO_TARGET_DIR cargo install cargo-deny --locked --quiet
fi
cargo deny --log-level warn check bans licenses sources
