#!/usr/bin/env bash
# Make or refresh .venv in the repository root: scripts/setup_env.sh [EXTRAS], e.g. "dev,bench"; none: the plain package.
# Installs only when pyproject.toml or the constraints changed. PYTHON names the interpreter to use instead of python3.
set -euo pipefail

extras="${1:-}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
python="${PYTHON:-python3}"

if ! command -v "$python" >/dev/null; then
    echo "dskrobust: no interpreter '$python' found. Install Python 3.11 or newer, or name one: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "dskrobust needs Python 3.11 or newer, but '$python' is $("$python" --version 2>&1)." \
        "Name another one: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
fi

# An environment survives neither a move nor another interpreter; other changes are installed over it.
maker="$root $("$python" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)')"
inputs="$("$python" - pyproject.toml scripts/constraints.txt <<'PY'
import hashlib, pathlib, sys
print(hashlib.sha256(b"".join(pathlib.Path(name).read_bytes() for name in sys.argv[1:])).hexdigest())
PY
)"
holds() { [[ -f "$1" && "$(<"$1")" == "$2" ]]; }

stamp=".venv/.installed-${extras//,/-}"
if [[ ! -x .venv/bin/python ]] || ! holds .venv/.maker "$maker"; then
    echo "dskrobust: making .venv with $("$python" --version 2>&1); this takes a minute or two" >&2
    if ! "$python" -m venv --clear .venv >/dev/null 2>&1; then
        # Some distributions ship no ensurepip: let the interpreter's own pip fill the environment.
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet --disable-pip-version-check pip
    fi
    echo "$maker" >.venv/.maker
elif holds "$stamp" "$inputs"; then
    exit 0
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -c scripts/constraints.txt -e ".${extras:+[$extras]}"
# Kernels for tables are compiled once; without it the first run on a large one waits for them.
echo "dskrobust: compiling kernels; this takes another minute" >&2
.venv/bin/python -m dskrobust.kernels.families --reductions scores nearest --dtypes float64 >/dev/null
echo "$inputs" >.venv/.installed-  # any set of extras includes the plain package
echo "$inputs" >"$stamp"
