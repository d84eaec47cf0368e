#!/usr/bin/env bash
# Checks licences, banned crates and sources of all dependencies against deny.toml. Advisories need a network database, and are left out.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "==> installing cargo-deny (once, some minutes)"
    # Unoptimised: it runs for a second, and takes minutes less to build.
    env -u CARGO_TARGET_DIR cargo install cargo-deny --locked --quiet --debug
fi
cargo deny --log-level warn check bans licenses sources
