#!/usr/bin/env bash
# Set up the package with all that its commands need in .venv, if need be, and run the demonstration: scripts/demo.sh [OPTIONS of dskrobust demo]
set -euo pipefail

scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
"$scripts/setup_env.sh" full
exec "$scripts/../.venv/bin/dskrobust" demo "$@"
