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
    # The peer that forwarding is compared with; without it that comparison is left out.
    if [[ $name == sfu_forwarding && ! -x /usr/bin/janus && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "==> installing Janus, to compare with" >&2
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq janus; } >/dev/null 2>&1 || true
    fi
    echo "==> $name" >&2
    # A row is a line that is a JSON object.
    cargo bench --quiet --profile release -p "$package" --bench "$name" | grep '^{' >>"$rows"
done
if [[ $found == no ]]; then
    echo "there is no benchmark called $only; there are: $(basename -s .rs benches/* sfu/benches/* | tr '\n' ' ')" >&2
    exit 1
fi
node scripts/bench-table.mjs "$rows" target/bench.json
