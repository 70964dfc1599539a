"""What the columns of a table hold, found in one pass that keeps a few numbers a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrow import Table
from .columns import counted, matrix

NUMBER, DATE, TEXT = "number", "date", "text"
MOST_TEXTS = 4_096  # different values of a text column that are counted
SECONDS_A_DAY = 86_400.0


def numbers_of(batch: Any, name: str, where: str, first: int) -> NDArray[np.float64]:
    """Return a column of numbers or dates, shape (b,), NaN where a value is missing."""
    import pyarrow as pa

    column = batch.column(name)
    if pa.types.is_temporal(column.type):
        seconds = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
        values = np.asarray(seconds.to_numpy(zero_copy_only=False), np.float64)
        return values / SECONDS_A_DAY
    return matrix(batch, [name], np.float64, where, first)[:, 0]


def texts_of(batch: Any, name: str) -> Any:
    """Return a text column as an Arrow array, null where it is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    column = column.cast(pa.large_string())
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.large_string()), column)


@dataclass(frozen=True)
class ColumnProfile:
    """What a pass over a column leaves behind.

    Attributes
    ----------
    rows, missing : int
    first : tuple of int
        The first rows without a value.
    mean, squares : float
        Of the numbers that are there: mean and sum of squared deviations.
    low, high : float
    rising : bool
        Whether all are whole numbers, each larger than the one before.
    texts : dict of str to int, optional
        Counts of the different texts; None once there are too many.
    """

    rows: int
    missing: int
    first: tuple[int, ...]
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    rising: bool = False
    texts: dict[str, int] | None = None

    @property
    def spread(self) -> float:
        """Standard deviation of the numbers that are there."""
        return float(np.sqrt(self.squares / max(1, self.rows - self.missing)))


class _Gaps:
    """How many values of every column are missing, and where the first ones are."""

    def __init__(self, columns: int) -> None:
        self.rows, self.missing = 0, np.zeros(columns, np.int64)
        self.first: list[tuple[int, ...]] = [()] * columns

    def add(self, empty: NDArray[np.bool_], first: int) -> None:
        counts = empty.sum(axis=0)
        for k in np.flatnonzero(counts):
            rows = first + np.flatnonzero(empty[:, k])[: 3 - len(self.first[k])]
            self.first[k] += tuple(rows.tolist())
        self.missing += counts
        self.rows += len(empty)


class _Numbers:
    """Moments of columns of numbers, over batches."""

    def __init__(self, columns: int) -> None:
        self.gaps = _Gaps(columns)
        self.mean, self.squares = np.zeros((2, columns))
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self.rising, self.last = np.ones(columns, bool), np.full((1, columns), -np.inf)

    def add(self, values: NDArray[np.float64], first: int) -> None:
        """Add a batch, shape (b, columns), NaN where a value is missing."""
        before = self.gaps.rows - self.gaps.missing
        there = ~np.isnan(values)
        self.gaps.add(~there, first)
        count = there.sum(axis=0)
        mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        shift, share = mean - self.mean, count / np.maximum(before + count, 1)
        self.squares += (np.where(there, values - mean, 0.0) ** 2).sum(axis=0)
        self.squares += shift * shift * before * share
        self.mean += shift * share
        self.low = np.minimum(self.low, np.where(there, values, np.inf).min(axis=0))
        self.high = np.maximum(self.high, np.where(there, values, -np.inf).max(axis=0))
        if self.rising.any():
            known = np.concatenate([self.last, values])
            whole = (values == np.trunc(values)).all(axis=0)
            self.rising &= (known[1:] > known[:-1]).all(axis=0) & whole
            self.last = values[-1:]

    def column(self, k: int) -> ColumnProfile:
        """Return what is known of a column."""
        return ColumnProfile(
            self.gaps.rows, int(self.gaps.missing[k]), self.gaps.first[k], float(self.mean[k]),
            float(self.squares[k]), float(self.low[k]), float(self.high[k]), bool(self.rising[k]),
        )  # fmt: skip


def profile_of(
    table: Table, types: Mapping[str, Any], kinds: Mapping[str, str]
) -> dict[str, ColumnProfile]:
    """Read all columns once; return what is known of each."""
    texts = [name for name, kind in kinds.items() if kind == TEXT]
    numbers = [name for name, kind in kinds.items() if kind != TEXT]
    gaps, moments = _Gaps(len(texts)), _Numbers(len(numbers))
    counts: dict[str, dict[str, int] | None] = {name: {} for name in texts}
    for first, batch in counted(table, {name: types[name] for name in kinds}):
        if numbers:
            values = [numbers_of(batch, name, table.where, first) for name in numbers]
            moments.add(np.stack(values, axis=1), first)
        columns = [texts_of(batch, name) for name in texts]
        if columns:
            gaps.add(np.stack([np.asarray(c.is_null()) for c in columns], axis=1), first)
        for name, column in zip(texts, columns, strict=True):
            counts[name] = _count_texts(counts[name], column)
    seen = {name: moments.column(k) for k, name in enumerate(numbers)}
    for k, name in enumerate(texts):
        missing = int(gaps.missing[k])
        seen[name] = ColumnProfile(gaps.rows, missing, gaps.first[k], texts=counts[name])
    return seen


def _count_texts(counts: dict[str, int] | None, column: Any) -> dict[str, int] | None:
    """Add a batch's texts to their counts; None once there are too many."""
    if counts is None:
        return None
    for pair in column.drop_null().value_counts().to_pylist():
        counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
    return counts if len(counts) <= MOST_TEXTS else None


def kind_of(type_: Any) -> str | None:
    """Return what a column of an Arrow type holds, None where it cannot become features."""
    import pyarrow as pa

    of = pa.types
    value = type_.value_type if of.is_dictionary(type_) else type_
    if of.is_boolean(value) or of.is_integer(value) or of.is_floating(value):
        return NUMBER
    if of.is_decimal(value):
        return NUMBER
    if of.is_timestamp(value) or of.is_date(value):
        return DATE
    if of.is_string(value) or of.is_large_string(value):
        return TEXT
    return None
