"""What tries find, and the table of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from .commands import ERROR, OUTCOMES, RIGHT


class Found(NamedTuple):
    """How one try ended."""

    fault: str
    command: str
    outcome: str
    note: str = ""


class Row(NamedTuple):
    """One try of a part, by the seed that repeats it."""

    part: str
    seed: int
    found: Found

    @property
    def bad(self) -> bool:
        """Whether it must not be so."""
        return self.found.outcome not in (RIGHT, ERROR)


def table(rows: Iterable[Row]) -> str:
    """The matrix in Markdown: fault, command, tries, and how they ended."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        key = (f"{row.part}: {row.found.fault}", row.found.command)
        counts.setdefault(key, Counter())[row.found.outcome] += 1
    lines = [
        f"| fault | command | tries | {' | '.join(OUTCOMES)} |",
        "|---|---|---:|" + "---:|" * len(OUTCOMES),
    ]
    total: Counter[str] = Counter()
    for (fault, command), count in sorted(counts.items()):
        total += count
        lines.append(_line(fault, command, count))
    return "\n".join([*lines, _line("**all**", "", total)])


def _line(fault: str, command: str, count: Counter[str]) -> str:
    numbers = [count.total(), *(count[outcome] for outcome in OUTCOMES)]
    return f"| {fault} | {command} | {' | '.join(map(str, numbers))} |"


def repeats(rows: Iterable[Row]) -> str:
    """How to repeat every try that is wrong or hangs."""
    return "\n".join(
        f"--only {row.part} --seed {row.seed}: {row.found.fault}, {row.found.command}: "
        f"{row.found.outcome}, {' '.join(row.found.note.split())}"
        for row in rows
        if row.bad
    )
