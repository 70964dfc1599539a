#!/usr/bin/env bash
# Submit all steps from a file to a page to SLURM, each after the one before: ingest, compute, issues, report.
#
#   scripts/jobs/slurm_steps.sh SOURCE STORE [OPTIONS of dskrobust ingest]
#
# SOURCE is what `dskrobust ingest` reads, STORE where the store shall be, on a file system that all nodes see.
# ASK holds options of sbatch for the step on many nodes, SMALL those of the steps on one, such as
#   ASK="--ntasks=16 --partition=long" SMALL="--mem=8G --partition=short" scripts/jobs/slurm_steps.sh …
# A step whose predecessor failed is taken out of the queue. Submitted again with the store there, `ingest` refuses to
# overwrite it: go on with `sbatch scripts/jobs/slurm.sbatch STORE`.
set -euo pipefail

source=$1 store=$2
shift 2
jobs="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
read -ra ask <<<"${ASK:-}"
read -ra small <<<"${SMALL:---ntasks=1 --cpus-per-task=2 --mem=4G --time=04:00:00}"
environment=${DSKROBUST_ENV:-$PWD/.venv}

step() { # NAME AFTER COMMAND …: a step on one node
    local name=$1 after=$2
    shift 2
    sbatch --parsable --job-name="dskrobust-$name" --output="dskrobust-$name-%j.log" \
        ${after:+--dependency=afterok:$after --kill-on-invalid-dep=yes} "${small[@]}" <<SCRIPT
#!/bin/bash
set -euo pipefail
if [[ -r $(printf %q "$environment")/bin/activate ]]; then source $(printf %q "$environment")/bin/activate; fi
$(printf '%q ' "$@")
SCRIPT
}
ingest=$(step ingest "" dskrobust ingest "$source" --out "$store" "$@")
compute=$(sbatch --parsable --dependency="afterok:$ingest" --kill-on-invalid-dep=yes "${ask[@]}" \
    "$jobs/slurm.sbatch" "$store")
issues=$(step issues "$compute" dskrobust issues "$store" --out "${store%.zarr}-issues.csv")
report=$(step report "$issues" dskrobust report "$store" --out "${store%.zarr}.html" --overwrite)
echo "ingest $ingest, compute $compute, issues $issues, report $report"
