#!/usr/bin/env bash
# Set up .venv, if need be, then lint, check types and test: scripts/test.sh [--quick] [OPTIONS of pytest]
# Every check runs, pytest last; the exit code is not 0 if any of them failed. --quick leaves out what tests/slow.txt
# names, clusters and types: less than two minutes on two cores once the kernels are compiled. With CI set, and not
# --quick, the last line says what share of the code ran at least (tests/tracing.py).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Hundreds of processes are started, each of which would compile the package's source anew.
export PYTHONDONTWRITEBYTECODE=
# Processes of tests share the cores: threads of theirs that wait do not spin.
export OMP_WAIT_POLICY=passive OPENBLAS_THREAD_TIMEOUT=4
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
        # sees every line once; before Python 3.12 tests/tracing.py has coverage look away instead
        if "$bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
            export COVERAGE_CORE=sysmon
        fi
        # not below coverage, which makes compiling 1.4 times as long
        check python -m dskrobust.kernels.families
    fi
fi
if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
fi
# One process more than two cores, as some tests wait for others; a file in one; the longest files first
# (tests/seconds.txt), not those of most tests.
check pytest -n 3 --dist loadfile --no-loadscope-reorder "${quick[@]}" "${coverage[@]}" "$@"
if ((${#coverage[@]})); then
    echo "coverage: $("$bin/coverage" report --format=total || echo unknown) % of the lines that Numba does not compile"
fi
((${#failed[@]} == 0))
