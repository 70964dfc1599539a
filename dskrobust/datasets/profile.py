"""What the columns of a table hold, found in one pass that keeps a few numbers a column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrow import Table, columns_of
from .columns import SHOWN_ROWS, counted, numeric_values, refuse_infinite

NUMBER, DATE, TEXT = "number", "date", "text"
MOST_TEXTS = 4_096  # different values of a text column that are counted
SECONDS_A_DAY = 86_400.0


def numbers_of(column: Any, name: str, where: str, first: int) -> NDArray[np.float64]:
    """Return a column of numbers or dates, shape (b,), NaN where a value is missing."""
    import pyarrow as pa

    if pa.types.is_temporal(column.type):
        seconds = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
        values = np.asarray(seconds.to_numpy(zero_copy_only=False), np.float64)
        return values / SECONDS_A_DAY
    float64 = np.dtype(np.float64)
    return np.array(numeric_values(column, name, where, first, float64), float64)


def texts_of(column: Any) -> Any:
    """Return a text column as an Arrow array, null where it is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

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
    mean, spread : float
        Of the numbers that are there: mean and standard deviation, 0 where all are equal.
    low, high : float
    rising : bool
        Whether all are there and whole numbers, each larger than the one before.
    texts : dict of str to int, optional
        Counts of the different texts; None once there are too many.
    """

    rows: int
    missing: int
    first: tuple[int, ...]
    mean: float = 0.0
    spread: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    rising: bool = False
    texts: dict[str, int] | None = None

    @property
    def there(self) -> int:
        """How many values are there."""
        return self.rows - self.missing


class _Gaps:
    """How many values of every column are missing, and where the first ones are."""

    def __init__(self, columns: int) -> None:
        self.rows, self.missing = 0, np.zeros(columns, np.int64)
        self.first: list[tuple[int, ...]] = [()] * columns

    def add(self, empty: NDArray[np.bool_], first: int) -> None:
        counts = empty.sum(axis=0)
        for k in np.flatnonzero(counts):
            rows = first + np.flatnonzero(empty[:, k])[: SHOWN_ROWS - len(self.first[k])]
            self.first[k] += tuple(rows.tolist())
        self.missing += counts
        self.rows += len(empty)


class _Numbers:
    """Moments, ranges and order of columns of numbers, over batches."""

    def __init__(self, columns: int) -> None:
        from sklearn.preprocessing import StandardScaler

        self.gaps, self.moments = _Gaps(columns), StandardScaler()
        self.low, self.high = np.full((2, columns), np.nan)
        self.rising, self.last = np.ones(columns, bool), np.full((1, columns), -np.inf)

    def add(self, values: NDArray[np.float64], first: int) -> None:
        """Add a batch, shape (b, columns), NaN where a value is missing."""
        self.gaps.add(np.isnan(values), first)
        with np.errstate(invalid="ignore", over="ignore"):  # no value yet, or huge ones
            self.moments.partial_fit(values)
        self.low = np.fmin(self.low, np.fmin.reduce(values))
        self.high = np.fmax(self.high, np.fmax.reduce(values))
        if self.rising.any():
            before = np.concatenate([self.last, values[:-1]])
            whole = (values == np.trunc(values)).all(axis=0)
            self.rising &= (values > before).all(axis=0) & whole
            self.last = values[-1:]

    def column(self, k: int) -> ColumnProfile:
        """Return what is known of a column."""
        low, high = float(self.low[k]), float(self.high[k])
        spread = 0.0 if low == high else float(np.sqrt(self.moments.var_[k]))
        return ColumnProfile(
            self.gaps.rows, int(self.gaps.missing[k]), self.gaps.first[k],
            float(self.moments.mean_[k]), spread, low, high, bool(self.rising[k]),
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
        arrays = columns_of(batch)
        if numbers:
            parts = [numbers_of(arrays[name], name, table.where, first) for name in numbers]
            values = np.stack(parts, axis=1)
            refuse_infinite(table.where, numbers, values, first)
            moments.add(values, first)
        columns = [texts_of(arrays[name]) for name in texts]
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
