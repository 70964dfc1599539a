"""What the subsets of an experiment have in common, counted by tasks over runs of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import EqualRowsWarning, OverlapWarning
from ..store import SHARED_ROWS, SPAN, EvaluationRecords, Store
from .membership import Run, runs_of
from .selections import SubsetRows
from .trees import merged


class Census(NamedTuple):
    """Counts of rows.

    Attributes
    ----------
    common : ndarray (train, test) int64
        Rows that a training and a test subset share.
    groups : ndarray (train + test, groups) int64
        Rows of every group in a subset; of no groups where nobody asked.
    tested : ndarray (spans,) int64
        Rows in any test subset.
    """

    common: NDArray[np.int64]
    groups: NDArray[np.int64]
    tested: NDArray[np.int64]


def take_census(
    store: Store,
    records: EvaluationRecords,
    train: Sequence[SubsetRows],
    test: Sequence[SubsetRows],
) -> Census:
    """Count the rows that subsets share; their lists must be among the records.

    Those of groups are only counted where the store's notes tell of equal rows.
    """
    keys = tuple(tuple(str(subset.key) for subset in part) for part in (train, test))
    groups = len(store.groups) if _equal_pairs(store) else 0
    parts = [delayed(_count_run)(records, keys, run, groups) for run in runs_of(records)]
    (census,) = compute(merged(parts, _merge))
    assert isinstance(census, Census)
    return census


def _count_run(
    records: EvaluationRecords, keys: tuple[tuple[str, ...], ...], run: Run, groups: int
) -> Census:
    parts = [_count_span(records, keys, span, groups) for span in range(*run)]
    return _merge(parts)


def _count_span(
    records: EvaluationRecords, keys: tuple[tuple[str, ...], ...], span: int, groups: int
) -> Census:
    first, last = span * SPAN, min((span + 1) * SPAN, records.address.rows)
    train, test = (np.zeros((len(part), last - first), np.bool_) for part in keys)
    for part, members in zip(keys, (train, test), strict=True):
        for key, inside in zip(part, members, strict=True):
            inside[records.span_rows(key, span) - first] = True
    common = [[np.count_nonzero(x & t) for t in test] for x in train]
    counts = np.zeros((len(train) + len(test), groups), np.int64)
    if groups:
        codes = records.address.open().read("split", first, last)
        for k, inside in enumerate((*train, *test)):
            counts[k] = np.bincount(codes[inside], minlength=groups)
    tested = np.array([np.count_nonzero(test.any(axis=0))])
    return Census(np.array(common, np.int64), counts, tested)


def _merge(parts: Sequence[Census]) -> Census:
    common, groups, tested = zip(*parts, strict=True)
    return Census(sum(common), sum(groups), np.concatenate(tested))


# -- warnings ----------------------------------------------------------------------------------


def overlap_warnings(
    store: Store, census: Census, train: Sequence[SubsetRows], test: Sequence[SubsetRows]
) -> Iterator[OverlapWarning]:
    """Yield a warning where a test subset has samples of a training subset, or equal ones."""
    largest = overlap(census, train, test)
    if largest is not None:
        share, trained, tested = largest
        yield OverlapWarning(
            f"{share:.0%} of the samples of {tested} are in {trained} too: LOSS and ACC on samples "
            "that a model was trained on are flattering"
        )
    equal = equal_rows(store, census, train, test)
    if equal is not None:
        rows, trained, tested = equal
        yield EqualRowsWarning(
            f"up to {rows:,} samples of {tested} equal one of {trained} in every feature: LOSS and "
            "ACC on them are flattering; keep equal rows in one group: drop repeats, or split with "
            "group=COLUMN (--group COLUMN)"
        )


def overlap(
    census: Census, train: Sequence[SubsetRows], test: Sequence[SubsetRows]
) -> tuple[float, str, str] | None:
    """Return the largest share of a test subset that a training subset has too, and their names.

    None where no sample is in two of them.
    """
    shares = [
        (int(shared) / t.size, x.name, t.name)
        for x, line in zip(train, census.common, strict=True)
        for t, shared in zip(test, line, strict=True)
    ]
    worst = max(shares, key=lambda triple: triple[0])
    return worst if worst[0] else None


def equal_rows(
    store: Store, census: Census, train: Sequence[SubsetRows], test: Sequence[SubsetRows]
) -> tuple[int, str, str] | None:
    """Return how many rows of a test subset may equal one of a training subset, and their names.

    Told by the store's note on equal rows across groups alone: exact for whole groups, an upper
    bound for selections from them. None where the note has nothing, or there is none.
    """
    pairs = _equal_pairs(store)
    if not pairs:
        return None
    trained, tested = census.groups[: len(train)], census.groups[len(train) :]
    found = []
    for chosen, within in zip(test, tested, strict=True):
        for x, groups in zip(train, trained, strict=True):
            shared = sum(
                min(rows, int(within[code]))
                for code, other, rows in pairs
                if within[code]
                and groups[other]
                and not (within[other] and groups[code])  # nothing is held out there
            )
            found.append((min(shared, chosen.size), x.name, chosen.name))
    worst = max(found, key=lambda triple: triple[0])
    return worst if worst[0] else None


def _equal_pairs(store: Store) -> list[tuple[int, int, int]]:
    """Return pairs of groups, and how many rows of the first equal one of the second."""
    return [
        (store.groups.index(a), store.groups.index(b), rows)
        for note in store.notes or ()
        if note.kind == SHARED_ROWS
        for a, b, rows in note.details["pairs"]
    ]
