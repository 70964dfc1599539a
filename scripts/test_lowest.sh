#!/usr/bin/env bash
# Test the lowest versions that pyproject.toml declares: scripts/test_lowest.sh [TESTS of pytest]. Makes build/lowest, an
# environment with the oldest release of every direct dependency, those of the extra full included, and runs what says
# most in a few minutes. PYTHON names the interpreter; the lowest that is declared is meant.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3.11}"
place=build/lowest
tests=("$@")
if ((!${#tests[@]})); then
    tests=(tests/test_robustness.py tests/test_edges.py tests/test_estimator.py tests/store/test_resume.py
        tests/store/test_store.py tests/engine/test_plan.py tests/datasets/test_preparation.py tests/cli/test_cli.py
        tests/report/test_report_figures.py tests/evaluation/test_evaluation.py tests/cluster/test_cluster.py)
fi
stamp="$place/.installed"
if [[ ! -f $stamp || pyproject.toml -nt $stamp ]]; then
    "$python" -m venv --clear "$place"
    "$place/bin/python" -m pip install --quiet --disable-pip-version-check uv
    # What tests need besides is as new as it is, but for what it shares with the package.
    "$place/bin/python" -m uv pip compile --quiet --resolution lowest-direct --python "$place/bin/python" \
        --extra full pyproject.toml -o "$place/lowest.txt"
    "$place/bin/python" -m uv pip install --quiet --python "$place/bin/python" -r "$place/lowest.txt" -e . \
        pytest pytest-timeout hypothesis dask-ml polars
    touch "$stamp"
fi
"$place/bin/python" -m uv pip check --python "$place/bin/python"
# Old releases call what others have deprecated since.
"$place/bin/python" -m pytest -q -p no:cacheprovider -W ignore::DeprecationWarning "${tests[@]}"
