#!/usr/bin/env bash
# Runs each benchmark (or only the one named), collects the JSON rows that they print, and prints a table.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
mkdir -p target
rows=target/bench.rows
: >"$rows"
found=no
for bench in benches/* sfu/benches/*; do
    name=$(basename "$bench" .rs)
    package=halloo
    [[ $bench == sfu/* ]] && package=halloo-sfu
    [[ -z $only || $only == "$name" ]] || continue
    found=yes
    echo "==> $name" >&2
    # A row is a line that is a JSON object.
    cargo bench --quiet --profile release -p "$package" --bench "$name" | grep '^{' >>"$rows"
done
if [[ $found == no ]]; then
    echo "there is no benchmark called $only; there are: $(basename -s .rs benches/* sfu/benches/* | tr '\n' ' ')" >&2
    exit 1
fi
node scripts/bench-table.mjs "$rows" target/bench.json
