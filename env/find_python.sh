#!/usr/bin/env bash
# Print the path of a Python of one of the given versions (`env/find_python.sh 3.11 3.12`), first come first served; fail if
# there is none. Looks on PATH, then where pyenv and uv keep theirs.
for version in "$@"; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python \
        "$HOME"/.local/share/uv/python/cpython-"$version".*/bin/python; do
        # A pyenv shim exists for versions that are not selected, too: only a Python that answers counts.
        found=$("$candidate" -c 'import sys; print(sys.executable, "%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if [ "${found##* }" = "$version" ]; then
            echo "${found% *}"
            exit 0
        fi
    done
done
exit 1
