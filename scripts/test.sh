#!/usr/bin/env bash
# Set up .venv, if need be, then lint, check types and test: scripts/test.sh [--quick] [OPTIONS of pytest]
# Every check runs, pytest last; the exit code is not 0 if any of them failed. --quick leaves out what tests/slow.txt
# names, clusters and types: less than two minutes on two cores once the kernels are compiled. With CI set, and not
# --quick, the last line says what share of the code ran.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
quick=()
if [[ "${1:-}" == --quick ]]; then
    quick=(--quick)
    shift
fi
scripts/setup_env.sh dev,bench
bin=.venv/bin

failed=()
check() {
    echo "== $*"
    "$bin/$@" || failed+=("$*")
}
check ruff check .
check ruff format --check .
check codespell
check validate-pyproject pyproject.toml
coverage=()
if ((!${#quick[@]})); then
    check mypy dskrobust
    if [[ -n "${CI:-}" ]]; then
        coverage=(--cov --cov-report=)
    fi
fi
if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
fi
check pytest -n 2 --dist loadfile "${quick[@]}" "${coverage[@]}" "$@"  # two processes, a file in one
if ((${#coverage[@]})); then
    echo "coverage: $("$bin/coverage" report --format=total || echo unknown) % of the lines that Numba does not compile"
fi
((${#failed[@]} == 0))
