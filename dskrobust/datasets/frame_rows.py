"""Columns of frames as features, labels and groups: as they are, or prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..store import LazyRows
from .arrow import FlatTable, MemoryTable, Table
from .columns import counted, matrix, texts
from .containers import NamedArrays
from .fitting import fit
from .preparation import Preparation, PreparationOptions
from .reader import ReaderOptions
from .tables import feature_dtype, find_labels, known_column

Named = tuple[Any, Any, Any]  # labels, groups and ids: arrays, or the names of columns


@dataclass(frozen=True)
class FrameRows(LazyRows):
    """Columns of an Arrow table as an array (n, d)."""

    table: MemoryTable | FlatTable
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        part = self.table.part(lo, hi)
        parts = [
            matrix(batch, self.names, self.dtype, part.where, lo + first)
            for first, batch in counted(part, dict.fromkeys(self.names))
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)), self.dtype)


@dataclass(frozen=True)
class PreparedRows(LazyRows):
    """Columns of an Arrow table as prepared features (n, d)."""

    table: MemoryTable | FlatTable
    preparation: Preparation
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        part = self.table.part(lo, hi)
        names = dict.fromkeys(column.name for column in self.preparation.columns)
        parts = [
            self.preparation.transform(batch, part.where, lo + first)
            for first, batch in counted(part, names)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]))


class Features(NamedTuple):
    """What a frame's columns become.

    Attributes
    ----------
    names : tuple of str
        Of the features.
    preparation : Preparation, optional
        None where all columns stay as they are.
    decisions : tuple of str
    """

    names: tuple[str, ...]
    preparation: Preparation | None = None
    decisions: tuple[str, ...] = ()

    def check(self, table: Table) -> None:
        """Refuse a table that lacks a column, or where it holds something else than it did."""
        if self.preparation is not None:
            self.preparation.check(table)
            return
        missing = [name for name in self.names if name not in table.names]
        if missing:
            raise InvalidDataError(f"{table.where} lacks the column '{missing[0]}'")

    @classmethod
    def of(
        cls, table: Table, names: Sequence[str], options: PreparationOptions | None, has_ids: bool
    ) -> Features:
        """Fit what columns need; one that names the rows does so where they have no ids."""
        if options is None:
            return cls(tuple(names))
        types = {name: table.types[name] for name in names}
        fitted, decisions = fit(table, types, options, None, has_ids)
        needed = fitted.left_out or not fitted.plain
        return cls(fitted.names, fitted if needed else None, decisions)


def rows_of(table: MemoryTable | FlatTable, features: Features) -> FrameRows | PreparedRows:
    """Return the features of a table's rows, (n, d), read when they are sliced."""
    features.check(table)
    shape = (table.rows, len(features.names))
    if features.preparation is not None and not features.preparation.plain:
        return PreparedRows(table, features.preparation, shape)
    return FrameRows(table, features.names, shape, feature_dtype(table, features.names))


def features_of(table: Table, named: Named) -> list[str]:
    """Return the names of all columns that are neither labels, groups nor ids."""
    options = zip(("y", "split", "ids"), named, strict=True)
    used = [known_column(table, v, k) for k, v in options if isinstance(v, str)]
    return [name for name in table.names if name not in used]


def column(table: MemoryTable, name: str, as_text: bool = False) -> NDArray[Any]:
    """Return a column's values, shape (n,): text, int64 or float64.

    Raises
    ------
    InvalidDataError
        Where one is missing (the message names the row), or they are neither text nor numbers.
    """
    labels = find_labels(table, ReaderOptions(target=name))
    parts = counted(table, {name: labels.type})
    if as_text:
        return joined(texts(batch, name, table.where, first) for first, batch in parts)
    values = joined(labels.read(batch, table.where, first) for first, batch in parts)
    return values if labels.classes is None else np.array(labels.classes)[values]


def named_arrays(
    rows: Any, table: MemoryTable, named: Named, features: Features, ids: Any
) -> NamedArrays:
    """Return features with labels and groups, which are given or columns of a table."""
    y, split, _ = named
    return NamedArrays(
        rows,
        column(table, y) if isinstance(y, str) else y,
        column(table, split, as_text=True) if isinstance(split, str) else split,
        features.names,
        ids=ids,
        preparation=features.preparation,
        decisions=features.decisions,
    )


def joined(parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
    arrays = list(parts)
    if not arrays:
        raise InvalidDataError("the frame has no rows")
    return np.concatenate(arrays)
