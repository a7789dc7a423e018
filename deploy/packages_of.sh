#!/bin/sh
# Make an environment in FOLDER that says it has what an image has: the packages' metadata without their code.
#
#   packages_of.sh IMAGE FOLDER
set -eu
if [ $# -ne 2 ]; then
    sed -n '2,4p' "$0" >&2
    exit 2
fi
python3 -m venv --clear --without-pip "$2"
docker run --rm --network none "$1" sh -c 'cd /opt/venv/lib/python3*/site-packages && tar -c *.dist-info' |
    tar -x -C "$2"/lib/python3*/site-packages
