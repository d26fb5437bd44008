#!/usr/bin/env bash
# Make or re-use a virtual environment of this checkout, with ooclearn installed editable in it.
#
#     ci/venv.sh NAME [--minimum] [EXTRA ...] [-- GROUP ...]
#
# NAME is the folder under .venvs/, EXTRA the optional dependencies and GROUP the dependency groups of
# pyproject.toml to install; --minimum holds every package named there to its lowest version. Prints the path
# of the environment's python. Needs Python 3.11 or later (python3, or what PYTHON names) and pip's index.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=${1:?usage: ci/venv.sh NAME [--minimum] [EXTRA ...] [-- GROUP ...]}
shift
python=${PYTHON:-python3}
venv=$root/.venvs/$name
minimum=
extras=
requirements=()
kind=extra
for argument in "$@"; do
    case $kind,$argument in
        *,--minimum) minimum=yes ;;
        *,--) kind=group ;;
        extra,*) extras+=${extras:+,}$argument ;;
        group,*) requirements+=(--group "$root/pyproject.toml:$argument") ;;
    esac
done
requirements+=(--editable "$root${extras:+[$extras]}")

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "ci/venv.sh: ooclearn needs Python 3.11 or later, and $python is $("$python" -V 2>&1);" \
        "name another: PYTHON=python3.12 $0 ..." >&2
    exit 1
}

# All that an installed environment depends on. A moved or copied checkout is another one: its path is in it.
wanted=$(cd "$root" && "$python" - "$root" "$*" <<'END'
import hashlib, pathlib, re, sys
version = re.search(r'^__version__ = .*$', pathlib.Path("ooclearn/__init__.py").read_text(), re.MULTILINE)
parts = [sys.version, *sys.argv[1:], version.group(), pathlib.Path("pyproject.toml").read_text()]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
END
)

mkdir -p "$root/.venvs"
if command -v flock >/dev/null; then
    # Two runs at once: the second waits, and finds the environment made.
    exec 9>"$root/.venvs/$name.lock"
    flock 9
fi

# The stamp is written last, so an environment whose making was interrupted has none.
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$wanted" ] || ! "$venv/bin/python" -c 'import ooclearn' 2>/dev/null; then
    echo "ci/venv.sh: making .venvs/$name" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv" >&2 || {
        echo "ci/venv.sh: $python cannot make an environment; on Debian, install the package python3-venv" >&2
        exit 1
    }
    pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq)
    # Dependency groups need pip 25.1.
    "${pip[@]}" install --upgrade 'pip>=25.1' >&2
    if [ -n "$minimum" ]; then
        "$venv/bin/python" "$root/ci/minimum.py" >"$venv/minimum.txt"
        requirements+=(--constraint "$venv/minimum.txt")
    fi
    "${pip[@]}" install "${requirements[@]}" >&2
    echo "$wanted" >"$venv/stamp"
fi
echo "$venv/bin/python"
