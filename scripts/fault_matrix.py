"""The fault matrix: kills, pairs, flipped bits, cut files, full disks; one table of how each ended.

    python scripts/fault_matrix.py [--only kills flips …] [--seed 17 …] [--short] [--out FILE]

Without options all parts run in one go: some 3,000 tries, which take about 6,000 processor seconds
by samples of every part, so less than 90 minutes on two cores without other work. Stores are small
and of random numbers.
Commands that are killed, run at once or meet a full disk are processes of their own, the others run
in a few long-lived children. Every try that is wrong or hangs is listed with what repeats it; then
the exit code is 1. FILE is .md or .json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults import found, matrix  # noqa: E402  (found below tests/)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", nargs="+", choices=matrix.PARTS, default=list(matrix.PARTS),
                        help="these parts")  # fmt: skip
    parser.add_argument("--seed", nargs="+", type=int, help="these tries of each part")
    parser.add_argument("--first", type=int, help="so many tries of each part")
    parser.add_argument("--short", action="store_true", help="a few tries of each part")
    parser.add_argument("--lanes", type=int, default=2, help="tries at the same time (2)")
    parser.add_argument("--limit", type=float, default=180, help="seconds until it hangs (180)")
    parser.add_argument("--out", type=Path, help="the table as .md, or all tries as .json")
    return parser.parse_args()


def written(rows: list[found.Row], out: Path, facts: str) -> None:
    """Write the table, or all tries."""
    if out.suffix == ".json":
        tries = [{"part": r.part, "seed": r.seed, **r.found._asdict()} for r in rows]
        out.write_text(json.dumps(tries, indent=1) + "\n", encoding="utf-8")
    else:
        text = f"{found.table(rows)}\n\n{facts}\n\n```\n{found.repeats(rows)}\n```\n"
        out.write_text(text, encoding="utf-8")


def main() -> int:
    """Run, print, and return the exit code."""
    asked = arguments()

    def chosen(part: matrix.Part, bench: matrix.Bench) -> Iterable[int]:
        every = asked.seed or matrix.seeds(part, bench, asked.short)
        return list(every)[: asked.first]

    def hear(row: found.Row) -> None:
        note = f": {' '.join(row.found.note.split())}" if row.bad else ""
        fault, command, outcome, _ = row.found
        line = f"{row.part} {row.seed} {fault}, {command}: {outcome}{note}"
        print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)

    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        matrix.benches(Path(folder), asked.lanes, asked.limit) as benches,
    ):
        told = matrix.run(asked.only, benches, chosen, asked.lanes, hear)
    facts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in told.seconds.items())
    print(f"{found.table(told.rows)}\n\n{facts}\n\n{found.repeats(told.rows)}")
    if asked.out:
        written(told.rows, asked.out, facts)
    return int(any(row.bad for row in told.rows))


if __name__ == "__main__":
    sys.exit(main())
