#!/usr/bin/env bash
# Runs each fuzz target for the given seconds, on stable Rust (no sanitizer).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "==> installing cargo-fuzz (once)"
    env -u CARGO_TARGET_DIR cargo install cargo-fuzz --locked --quiet --debug
fi
for target in $(cargo fuzz list); do
    echo "==> $target"
    cargo fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -max_len=4096 -print_final_stats=0 -verbosity=0
done
