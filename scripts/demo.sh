#!/usr/bin/env bash
# Set up the package and its reports in .venv, if need be, and run the demonstration: scripts/demo.sh [OPTIONS of dskrobust demo]
set -euo pipefail

scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
"$scripts/setup_env.sh" report
exec "$scripts/../.venv/bin/dskrobust" demo "$@"
