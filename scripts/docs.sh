#!/usr/bin/env bash
# Build the documentation site: scripts/docs.sh [FOLDER], build/docs by default. A warning is an error; nothing is fetched.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:-build/docs}"
python="${DOCS_PYTHON:-}"  # an interpreter that has the extra docs; .venv without it
if [[ -z "$python" ]]; then
    scripts/setup_env.sh docs
    python=.venv/bin/python
fi
"$python" -m sphinx --builder html --fail-on-warning --keep-going --quiet --fresh-env --write-all --doctree-dir "$out/.doctrees" notebooks "$out"
rm -rf "$out/.doctrees" "$out/.buildinfo"
echo "The documentation is in $out/index.html"
