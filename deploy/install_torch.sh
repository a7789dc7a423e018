#!/bin/sh
# Install PyTorch without the CUDA libraries that PyPI's Linux build brings (several gigabytes).
#
#   install_torch.sh PYTHON cpu|cuda REQUIREMENT...      e.g. install_torch.sh python3 cpu torch==2.13.0
#
# cpu: the CPU build that pip, as it is configured here, already knows; else the one that PyTorch publishes,
# which uv knows how to find; else, with a warning, whatever pip finds. cuda: whatever pip finds.
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,7p' "$0" >&2
    exit 2
fi
python=$1
backend=$2
shift 2

case $backend in
cuda) exec "$python" -m pip install "$@" ;;
cpu) ;;
*)
    echo "install_torch.sh: the backend is cpu or cuda, not '$backend'" >&2
    exit 2
    ;;
esac
if [ "$(uname -s)" != Linux ]; then # elsewhere PyPI's build has no CUDA in it
    exec "$python" -m pip install "$@"
fi

marked=
for requirement in "$@"; do
    marked="$marked $requirement+cpu"
done
# shellcheck disable=SC2086 # one word a requirement
if "$python" -m pip install --quiet $marked 2>/dev/null; then
    echo "installed the CPU build that pip is configured for:$marked"
    exit 0
fi
"$python" -m pip install --quiet uv
if "$python" -m uv pip install --python "$python" --torch-backend=cpu "$@"; then
    exit 0
fi
echo "install_torch.sh: no CPU build of $* can be reached; installing the one with CUDA (several GB)" >&2
exec "$python" -m pip install "$@"
