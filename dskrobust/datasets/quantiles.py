"""Exact order statistics of numbers that are read in parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError
from .arrow import Table, columns_of
from .columns import counted
from .profile import numbers_of

SHIFTS = (48, 32, 16, 0)  # of the digits of 16 bits that a float64 has


class ColumnFiles:
    """Columns of a table in a temporary file, one after the other, for exact quantiles."""

    def __init__(
        self,
        table: Table,
        types: Mapping[str, Any],
        names: Sequence[str],
        fills: Mapping[str, Any] | None = None,
    ) -> None:
        self.table, self.types, self.names = table, types, tuple(names)
        self.fills = dict(fills or {})
        self.files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> ColumnFiles:
        if not self.names:
            return self
        for name in self.names:
            self.files[name] = self._stack.enter_context(tempfile.TemporaryFile())
        for first, batch in counted(self.table, {n: self.types[n] for n in self.names}):
            arrays = columns_of(batch)
            for name, file in self.files.items():
                values = numbers_of(arrays[name], name, self.table.where, first)
                empty = np.isnan(values)
                if self.fills.get(name) is None:
                    values = values[~empty]
                else:
                    values[empty] = self.fills[name]
                file.write(values.tobytes())
        for file in self.files.values():
            file.flush()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _parts(self, name: str) -> Callable[[], Iterator[NDArray[np.float64]]]:
        file = self.files[name]

        def parts() -> Iterator[NDArray[np.float64]]:
            file.seek(0)
            while chunk := file.read(8 * 2**20):
                yield np.frombuffer(chunk, np.float64)

        return parts

    def quantile(self, name: str, share: float) -> float:
        """Return a quantile, between two values linearly, as `numpy.percentile` does."""
        count = self.files[name].seek(0, 2) // 8
        place = share * (count - 1)
        low = int(place)
        ranks = (low, min(low + 1, count - 1))
        parts = self._parts(name)

        def counts(shift: int, prefix: np.uint64) -> NDArray[np.int64]:
            zeros = np.zeros(2**16, np.int64)
            return sum((digit_counts(part, shift, prefix) for part in parts()), zeros)

        a, b = (order_statistic(counts, rank) for rank in ranks)
        part = place - low
        # the two forms that numpy takes for either half, so that the bits are the same
        return float(b - (b - a) * (1 - part)) if part >= 0.5 else float(a + (b - a) * part)

    def median(self, name: str) -> float:
        """Return the median."""
        return self.quantile(name, 0.5)

    def quartiles(self, name: str) -> tuple[float, float]:
        """Return the median and the distance between the quartiles."""
        return self.median(name), self.quantile(name, 0.75) - self.quantile(name, 0.25)

    def mode(self, name: str) -> float:
        """Return the most frequent value, the least of several."""
        counts: dict[float, int] = {}
        for part in self._parts(name)():
            values, times = np.unique(part, return_counts=True)
            for value, many in zip(values.tolist(), times.tolist(), strict=True):
                counts[value] = counts.get(value, 0) + many
            if len(counts) > 2**20:
                raise InvalidDataError(
                    f"{self.table.where}: column '{name}' has over a million different values, so "
                    "its most frequent one says little",
                    Hint('give impute="median"', "give --impute median"),
                )
        return min(counts, key=lambda value: (-counts[value], value))


def order_statistic(counts: Callable[[int, np.uint64], NDArray[np.int64]], rank: int) -> float:
    """Return the value of a rank (from 0) among numbers, exactly, whoever counts them where.

    Bits of a float64 order like whole numbers once negative ones are turned around; four passes
    count 16 bits each, most significant first, of the values that share the bits found so far.

    Parameters
    ----------
    counts : callable
        From a shift and the bits found so far to the sum of `digit_counts` over all numbers.
    rank : int
    """
    prefix = np.uint64(0)
    for shift in SHIFTS:
        found = counts(shift, prefix)
        below = np.cumsum(found)
        digit = int(np.searchsorted(below, rank, side="right"))
        rank -= int(below[digit] - found[digit])
        prefix = (prefix << np.uint64(16)) | np.uint64(digit)
    top = np.uint64(1) << np.uint64(63)
    bits = prefix ^ top if prefix & top else ~prefix
    return float(np.array(bits, np.uint64).view(np.float64))


def digit_counts(values: NDArray[np.float64], shift: int, prefix: np.uint64) -> NDArray[np.int64]:
    """Count the 16 bits from `shift` on, (65,536,), of the values that begin with the prefix."""
    keys = _keys(values)
    if shift < SHIFTS[0]:
        keys = keys[keys >> np.uint64(shift + 16) == prefix]
    digits = (keys >> np.uint64(shift)) & np.uint64(2**16 - 1)
    return np.bincount(digits.astype(np.int64), minlength=2**16)


def _keys(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)  # −0.0 becomes 0.0
    top = np.uint64(1) << np.uint64(63)
    return np.where(bits & top, ~bits, bits | top)
