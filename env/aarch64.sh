#!/usr/bin/env bash
# Build an AArch64 environment that runs on this processor: env/aarch64.sh PYTHON VENV (PYTHON has pip)
#
# VENV/bin/python is an AArch64 Python with the packages of env/aarch64.txt, VENV/bin/run runs any program of that processor, both in
# QEMU's user mode. Nothing is installed: the distribution's packages (QEMU, and for AArch64 Python and the C library) are unpacked
# into the same cache as every other environment's. AARCH64_SOURCES names where apt finds AArch64, if not where it finds everything
# else: a line such as "deb https://HOST/PATH SUITE main universe".
set -euo pipefail
python=$(realpath -s "$1") venv=$2
cd "$(dirname "$0")/.."
requirements=env/aarch64.txt
key=$( { uname -sm; cat /etc/os-release "$requirements" env/aarch64.sh; } | sha256sum | cut -c1-12)
base=${XDG_CACHE_HOME:-$HOME/.cache}/sj2lava/aarch64-$key
mkdir -p "$base"

# Unpack packages of one architecture, and what they need, into a folder: unpack ARCHITECTURE FOLDER PACKAGE...
unpack() {
    local architecture=$1 folder=$2 apt=$base/apt-$1
    shift 2
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$folder"
    touch "$apt/status"
    local options=(
        -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Install-Recommends=false
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt"
        -o Dir::Cache::archives="$apt/archives" -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User=
    )
    if [ "$architecture" = arm64 ] && [ -n "${AARCH64_SOURCES:-}" ]; then
        echo "$AARCH64_SOURCES" > "$apt/sources.list"
        options+=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=-)
    fi
    apt-get "${options[@]}" update
    apt-get "${options[@]}" --yes --download-only install "$@"
    for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$folder"; done
    rm -rf "$apt"
}

exec 9>"$base.lock"
flock 9
if [ ! -e "$base/complete" ]; then
    echo "Building the AArch64 environment in $base: this happens once."
    rm -rf "${base:?}"
    mkdir -p "$base"
    unpack "$(dpkg --print-architecture)" "$base/qemu" qemu-user-static
    unpack arm64 "$base/root" python3-minimal libpython3-stdlib libstdc++6
    version=$(basename "$(ls -d "$base"/root/usr/lib/python3.*/)")
    platforms=()
    for glibc in {17..39}; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
    "$python" -m pip install -qq --progress-bar off --target "$base/site" --only-binary :all: --implementation cp \
        --python-version "${version#python}" --platform manylinux2014_aarch64 "${platforms[@]}" -r "$requirements"
    # onnxruntime reads what processor it is on from these files and falls over this machine's; under -L they go before them.
    mkdir -p "$base/root/proc" "$base/root/sys/devices/system/cpu"
    printf '%s\n' "processor : 0" "Features : fp asimd aes pmull sha1 sha2 crc32 cpuid" "CPU implementer : 0x41" "CPU architecture: 8" \
        "CPU variant : 0x0" "CPU part : 0xd08" "CPU revision : 3" | sed 's/ *: */\t: /' > "$base/root/proc/cpuinfo"
    for list in possible present online; do echo 0 > "$base/root/sys/devices/system/cpu/$list"; done
    touch "$base/complete"
fi
flock -u 9

qemu=$(find "$base/qemu/usr/bin" -name 'qemu-aarch64*' ! -name '*_be*' | sort | tail -n 1)
interpreter=$(find "$base/root/usr/bin" -name 'python3.*' | sort | head -n 1)
rm -rf "$venv"
mkdir -p "$venv/bin"
cat > "$venv/bin/run" <<END
#!/bin/sh
# An AArch64 program, in QEMU; a Cortex-A72, the oldest of the processors that people have.
QEMU_CPU=cortex-a72 exec "$qemu" -L "$base/root" "\$@"
END
cat > "$venv/bin/python" <<END
#!/bin/sh
PYTHONPATH="\${PYTHONPATH:+\$PYTHONPATH:}$base/site" exec "\$(dirname "\$0")/run" "$interpreter" "\$@"
END
chmod +x "$venv/bin/run" "$venv/bin/python"
