#!/usr/bin/env bash
# Set up the plain package in .venv, if need be, and run the demonstration: scripts/demo.sh [OPTIONS of dskrobust demo]
set -euo pipefail

scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
"$scripts/setup_env.sh"
exec "$scripts/../.venv/bin/dskrobust" demo "$@"
