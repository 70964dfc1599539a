"""Reference sets: named, overlapping sets of rows, cut into parts that lie in the same sets.

One pass over the pairs gives the results against every part, and a result against a set is merged
from those of its parts. Reference groups are one case of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .engine.spec import ReferenceSets
from .errors import InvalidOptionError
from .runs import PairData

Rows = NDArray[np.int64]


def reference_sets(
    data: PairData, references: Mapping[str, Any]
) -> tuple[ReferenceSets, NDArray[np.int16]]:
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
    codes : ndarray (n,) int16
        The part that every row lies in.

    Raises
    ------
    InvalidOptionError
        For a name that is a group's, or rows that do not exist.
    """
    split = np.asarray(data.split)
    for name in references:
        if name in data.groups:
            raise InvalidOptionError(
                f"reference set {name!r} has the name of a group, which is scored against anyway"
            )
    subsets = {name: np.flatnonzero(split == code) for code, name in enumerate(data.groups)}
    subsets |= {name: row_numbers(data, rows, name) for name, rows in references.items()}
    codes, parts = cut_parts(data.rows, subsets)
    digest = hashlib.sha256(codes.tobytes() + repr(list(parts.items())).encode()).hexdigest()[:16]
    names = tuple(subsets)
    members = tuple(tuple(parts[name]) for name in names)
    return ReferenceSets(names, members, int(codes.max()) + 1, digest), codes


def row_numbers(data: PairData, rows: Any, name: str) -> Rows:
    """Return row numbers: of a group by its name, of a subset, or as they are given.

    Raises
    ------
    InvalidOptionError
        For an unknown group, or numbers that are no rows of the data.
    """
    if isinstance(rows, str):
        if rows not in data.groups:
            raise InvalidOptionError(
                f"there is no group {rows!r}; the groups are {', '.join(data.groups)}"
            )
        return np.flatnonzero(np.asarray(data.split) == data.groups.index(rows))
    return checked_rows(data.rows, np.asarray(rows), name)


def checked_rows(rows: int, numbers: ArrayLike, name: str) -> Rows:
    """Return row numbers as they were given, checked."""
    numbers = np.asarray(numbers)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        raise InvalidOptionError(f"{name} must be row numbers, at least one, in one dimension")
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        raise InvalidOptionError(
            f"{name} has row {numbers[wrong][0]}, but there are the rows 0 to {rows - 1:,}"
        )
    return numbers.astype(np.int64)


def cut_parts(
    rows: int, subsets: Mapping[str, Rows]
) -> tuple[NDArray[np.int16], dict[str, list[int]]]:
    """Cut overlapping subsets into parts that lie in the same subsets.

    Returns
    -------
    codes : ndarray (rows,) int16
        Part of every row, -1 for rows in no subset.
    parts : dict
        Subset → its parts.

    Raises
    ------
    InvalidOptionError
        Where subsets overlap in more than 32,767 ways.
    """
    code, covered = np.zeros(rows, np.int64), np.zeros(rows, bool)
    for numbers in subsets.values():
        inside = np.zeros(rows, np.int64)
        inside[numbers] = 1
        covered[numbers] = True
        code = np.unique(2 * code + inside, return_inverse=True)[1]
    known, dense = np.unique(code[covered], return_inverse=True)
    if len(known) > np.iinfo(np.int16).max:
        raise InvalidOptionError(
            f"the {len(subsets)} subsets overlap in {len(known):,} ways; evaluate fewer at once"
        )
    codes = np.full(rows, -1, np.int16)
    codes[covered] = dense
    return codes, {name: np.unique(codes[numbers]).tolist() for name, numbers in subsets.items()}


def same_rows(one: Sequence[int] | Rows, other: Sequence[int] | Rows) -> bool:
    """Whether two lists hold the same rows."""
    return np.array_equal(np.unique(one), np.unique(other))
