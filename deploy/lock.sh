#!/bin/sh
# Write deploy/requirements.lock: what the image installs beside PyTorch, each release with its digests.
#
#   lock.sh UV [OPTION...]      e.g. lock.sh uv, or, with PyTorch's CPU wheel in a folder: lock.sh uv --find-links FOLDER
#
# PyTorch is resolved, so that what it needs is locked too, and left out: its CPU build is another file on each
# platform, and comes from wherever deploy/install_torch.sh finds it.
set -eu
if [ $# -lt 1 ]; then
    sed -n '2,7p' "$0" >&2
    exit 2
fi
uv=$1
shift
if [ $# -eq 0 ]; then
    set -- --torch-backend cpu
fi
cd "$(dirname "$0")/.."
"$uv" pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
    --extra tracing --python-version 3.11 --python-platform linux --constraint deploy/torch_version.txt \
    --no-emit-package torch --custom-compile-command "make lock" \
    --output-file deploy/requirements.lock "$@" pyproject.toml deploy/build.in
if grep -E '^(nvidia|triton|cuda)' deploy/requirements.lock; then
    echo "lock.sh: resolved for the CUDA build of PyTorch, of which the lines above are parts" >&2
    exit 1
fi
