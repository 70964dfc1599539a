"""Which rows of a store are in a subset: found by tasks, span by span, and kept beside the data.

A task does a run of spans and returns how many rows it found in each, so neither a task nor the
client's process ever holds all row numbers of a subset; but for those that a caller has given as
an array, which are here anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dask.array as da
import numpy as np
from dask.base import compute, persist
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from ..row_sets import RowSet
from ..store import SPAN, EvaluationRecords, SourceAddress

RUN = 16  # spans that one task does

Rows = NDArray[np.int64]
Run = tuple[int, int]  # spans, the last one not included


class RowSource(Protocol):
    """What knows the rows of a subset."""

    def saving(self, records: EvaluationRecords, key: str) -> list[Any]:
        """Return tasks that write the rows of a run of spans under a key, and count them.

        Or what such a task returns, (spans,) int64, where the rows are written already.
        """


@dataclass(frozen=True)
class GroupRows:
    """The rows of a group, or all rows.

    Attributes
    ----------
    address : SourceAddress
    code : int, optional
        Position of the group; None for all rows.
    """

    address: SourceAddress
    code: int | None

    def saving(self, records: EvaluationRecords, key: str) -> list[Any]:
        """Return tasks that read who is in the group."""
        return [delayed(_save_group)(records, key, self.code, run) for run in runs_of(records)]


@dataclass(frozen=True)
class UnionRows:
    """The rows of some sets together.

    Attributes
    ----------
    sets : tuple of RowSet
        By their addresses.
    """

    sets: tuple[RowSet, ...]

    def saving(self, records: EvaluationRecords, key: str) -> list[Any]:
        """Return tasks that read who is in the sets."""
        return [delayed(_save_union)(records, key, self.sets, run) for run in runs_of(records)]


@dataclass(frozen=True, eq=False)
class ListedRows:
    """Row numbers that a caller has given.

    Attributes
    ----------
    rows : ndarray (k,) int64
        Rising.
    """

    rows: Rows

    def saving(self, records: EvaluationRecords, key: str) -> list[Any]:
        """Write the rows from this process, which has them."""
        runs = runs_of(records)
        return [_save_run(records, key, run, _within(self.rows, run)) for run in runs]


@dataclass(frozen=True, eq=False)
class LazyRows:
    """Row numbers in any order, as a Dask array.

    Attributes
    ----------
    rows : dask.array.Array (k,) int64
    limit : int
        Rows of the store.
    """

    rows: da.Array
    limit: int

    def saving(self, records: EvaluationRecords, key: str) -> list[Any]:
        """Return tasks that compute the rows."""
        runs = zip(runs_of(records), self._by_run(), strict=True)
        return [delayed(_save_run)(records, key, run, rows) for run, rows in runs]

    def _by_run(self) -> list[Any]:
        """Delayed rows of every run of spans, rising."""
        runs = _runs(self.limit)
        parts = [delayed(_cut, nout=len(runs))(part, self.limit)
                 for part in self.rows.to_delayed().ravel()]  # fmt: skip
        return [delayed(_joined)([part[k] for part in parts]) for k in range(len(runs))]

    def key(self) -> str:
        """Return the digest of the sorted rows: they come here run by run."""
        found = hashlib.sha256()
        for run in persist(*self._by_run()):
            found.update(np.ascontiguousarray(run.compute()).tobytes())
        return found.hexdigest()[:16]


def save_rows(records: EvaluationRecords, sources: Mapping[str, RowSource]) -> None:
    """Keep the rows of subsets under keys that say which they are, unless they are there."""
    listed = [key for key in sources if records.counts(key) is not None]
    checks = [[delayed(_is_whole)(records, key, run) for run in runs_of(records)] for key in listed]
    whole = [key for key, found in zip(listed, compute(*checks), strict=True) if all(found)]
    missing = {key: source for key, source in sources.items() if key not in whole}
    counts = compute(*(source.saving(records, key) for key, source in missing.items()))
    for key, found in zip(missing, counts, strict=True):
        records.save_counts(key, np.concatenate(found))


def runs_of(records: EvaluationRecords) -> list[Run]:
    """Return the runs of spans that a store's rows are cut into, one a task."""
    return _runs(records.address.rows)


def _runs(rows: int) -> list[Run]:
    spans = -(-rows // SPAN)
    return [(k, min(k + RUN, spans)) for k in range(0, spans, RUN)]


# -- tasks -------------------------------------------------------------------------------------


def _is_whole(records: EvaluationRecords, key: str, run: Run) -> bool:
    return all(records.has_span(key, span) for span in range(*run))


def _save_run(records: EvaluationRecords, key: str, run: Run, rows: Rows) -> NDArray[np.int64]:
    counts = [records.save_span(key, span, _within(rows, (span, span + 1))) for span in range(*run)]
    return np.array(counts, np.int64)


def _save_group(
    records: EvaluationRecords, key: str, code: int | None, run: Run
) -> NDArray[np.int64]:
    lo, hi = run[0] * SPAN, min(run[1] * SPAN, records.address.rows)
    rows = np.arange(lo, hi)
    if code is not None:
        rows = rows[records.address.open().read("split", lo, hi) == code]
    return _save_run(records, key, run, rows)


def _save_union(
    records: EvaluationRecords, key: str, sets: tuple[RowSet, ...], run: Run
) -> NDArray[np.int64]:
    lo, hi = run[0] * SPAN, min(run[1] * SPAN, records.address.rows)
    rows = np.unique(np.concatenate([one.within(lo, hi) for one in sets]))
    return _save_run(records, key, run, rows)


def _within(rows: Rows, run: Run) -> Rows:
    """Return which of rising rows lie in a run of spans."""
    a, b = np.searchsorted(rows, [run[0] * SPAN, run[1] * SPAN])
    return rows[a:b]


def _cut(rows: Rows, limit: int) -> list[Rows]:
    """Return the rows of every run, rising.

    Raises
    ------
    InvalidOptionError
        For rows that do not exist.
    """
    rows = np.sort(np.asarray(rows)).astype(np.int64)
    check_exist(rows, limit)
    return [_within(rows, run) for run in _runs(limit)]


def _joined(parts: Sequence[Rows]) -> Rows:
    rows = np.sort(np.concatenate(parts))
    check_single(rows)
    return rows


def check_exist(rows: Rows, limit: int) -> None:
    """Refuse row numbers beyond a store's; they are given rising."""
    if len(rows) and (rows[0] < 0 or rows[-1] >= limit):
        row = rows[0] if rows[0] < 0 else rows[-1]
        raise InvalidOptionError(f"there is no row {row}; rows go from 0 to {limit - 1}")


def check_single(rows: Rows) -> None:
    """Refuse row numbers that are there twice; they are given rising."""
    if (rows[1:] == rows[:-1]).any():
        row = rows[1:][rows[1:] == rows[:-1]][0]
        raise InvalidOptionError(f"row {row} is there twice; give every row once")
