"""What writers tell of the rows that they wrote, and how it becomes one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from . import arrays
from .spec import Block, Summary, summarise

FOLDED = 16  # parts that become one at a time, always the same: so sums have the same last bits


@dataclass(frozen=True)
class Written:
    """What a writer tells of its rows: start, per unit checksums and digests, and a summary."""

    start: int
    checksums: NDArray[np.uint32]
    digests: tuple[str, ...]
    summary: Summary


def record_rows(start: int, block: Block, unit_rows: int, first: int = 0) -> Written:
    """Check a block and take the checksums and digests of its units.

    The digests are of what results depend on, which ids are not. `first` is the number of the row
    that `start` counts from.
    """
    summary = summarise(block, first + start)
    sums, digests = [], []
    known = [values for values in block if values is not None]
    for a in range(0, len(block.features), unit_rows):
        parts = [np.ascontiguousarray(values[a : a + unit_rows]) for values in known]
        sums.append([arrays.checksum(part) for part in parts])
        digests.append(arrays.digest([part.tobytes() for part in parts[:3]]))
    table = np.array(sums, np.uint32).reshape(-1, len(known))
    return Written(start, table, tuple(digests), summary)


def folded(parts: Sequence[Written]) -> Written:
    """Return what several writers tell of consecutive rows as if it were one."""
    summary = parts[0].summary
    for part in parts[1:]:
        summary = summary.merge(part.summary)
    checksums = np.concatenate([part.checksums for part in parts])
    digests = tuple(digest for part in parts for digest in part.digests)
    return Written(parts[0].start, checksums, digests, summary)


def fold(parts: Iterable[Written]) -> Written:
    """Fold what writers tell, in the order of their rows: a tree, of which few parts are held.

    It has the shape of the tree of tasks that `creation` makes of as many parts.
    """
    levels: list[list[Written]] = []
    for part in parts:
        for level in levels:
            level.append(part)
            if len(level) < FOLDED:
                break
            part = folded(level)
            level.clear()
        else:
            levels.append([part])
    last: list[Written] = []
    for level in levels:
        last = [folded([*level, *last])] if level or last else []
    if not last:
        raise InvalidDataError("there are no rows to store")
    return last[0]
