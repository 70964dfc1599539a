"""Reference sets: named, overlapping sets of rows, cut into parts that lie in the same sets.

One pass over the pairs gives the results against every part, and a result against a set is merged
from those of its parts. Reference groups are one case of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .datasets.containers import refuse_masked
from .display import no_group
from .engine.spec import ReferenceSets
from .errors import InvalidOptionError
from .row_sets import (
    GroupRows,
    ListedRows,
    Parts,
    RecordedRows,
    RowSet,
    codes_digest,
    cut_sets,
)
from .runs import PairData


def reference_sets(data: PairData, references: Mapping[str, Any]) -> tuple[ReferenceSets, Parts]:
    """Cut the groups of some data and further sets into parts.

    Parameters
    ----------
    data : PairData
    references : mapping
        Name → a group's name, a `Subset`, or row numbers.

    Returns
    -------
    sets : ReferenceSets
        The groups first, then the references.
    parts : Parts
        That every row lies in one of.

    Raises
    ------
    InvalidOptionError
        For a name that is a group's, or rows that do not exist.
    """
    for name in references:
        if name in data.groups:
            raise InvalidOptionError(
                f"reference set {name!r} has the name of a group, which is scored against anyway"
            )
    subsets = {name: row_set(data, name, name) for name in data.groups}
    subsets |= {name: row_set(data, rows, name) for name, rows in references.items()}
    parts = cut_sets(data.rows, tuple(subsets.values())).references
    members = dict(zip(subsets, parts.members, strict=True))
    digest = codes_digest(parts, repr(list(members.items())))
    wanted = tuple(map(tuple, members.values()))
    return ReferenceSets(tuple(subsets), wanted, len(parts.names), digest), parts


def row_set(data: PairData, rows: Any, name: str) -> RowSet:
    """Return the rows of a group by its name, of a subset, or as they are given.

    Raises
    ------
    InvalidOptionError
        For an unknown group, or numbers that are no rows of the data.
    """
    if isinstance(rows, RecordedRows):
        return rows
    if not isinstance(rows, str):
        return ListedRows(checked_rows(data.rows, rows, name))
    if rows not in data.groups:
        raise InvalidOptionError(no_group(rows, data.groups))
    code = data.groups.index(rows)
    if data.store is not None:
        return GroupRows(data.store.address, code)
    return ListedRows(np.flatnonzero(np.asarray(data.split) == code))


def checked_rows(rows: int, numbers: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return row numbers as they were given, checked."""
    refuse_masked(numbers, name)
    numbers = np.asarray(numbers)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        mask = "; of a mask give np.flatnonzero(mask)" if numbers.dtype.kind == "b" else ""
        raise InvalidOptionError(
            f"{name} must be row numbers, at least one, in one dimension{mask}"
        )
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        raise InvalidOptionError(
            f"{name} has row {numbers[wrong][0]}, but there are the rows 0 to {rows - 1:,}"
        )
    return numbers.astype(np.int64)
