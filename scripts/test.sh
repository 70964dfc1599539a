#!/usr/bin/env bash
# Set up .venv, if need be, then lint, check types and test: scripts/test.sh [OPTIONS of pytest]
# Every check runs, pytest last; the exit code is not 0 if any of them failed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_env.sh dev,bench
bin=.venv/bin

failed=()
check() {
    echo "== $*"
    "$bin/$@" || failed+=("$*")
}
check ruff check .
check ruff format --check .
check mypy dskrobust
if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
fi
check pytest -n 2 --dist loadfile "$@"  # two processes, a file in one
((${#failed[@]} == 0))
