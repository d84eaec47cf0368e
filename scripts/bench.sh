#!/usr/bin/env bash
# Runs each benchmark (or only the one named), collects the JSON rows that they print, and prints a table.
set -euo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
mkdir -p target
rows=target/bench.rows
: >"$rows"
found=no
for file in benches/*.rs; do
    name=$(basename "$file" .rs)
    [[ -z $only || $only == "$name" ]] || continue
    found=yes
    echo "==> $name" >&2
    # A row is a line that is a JSON object.
    cargo bench --quiet --profile release -p halloo --bench "$name" | grep '^{' >>"$rows"
done
if [[ $found == no ]]; then
    echo "there is no benchmark called $only; there are: $(basename -s .rs benches/*.rs | tr '\n' ' ')" >&2
    exit 1
fi
node scripts/bench-table.mjs "$rows" target/bench.json
