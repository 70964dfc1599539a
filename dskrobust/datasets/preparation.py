"""How the columns of a table become features: filled, encoded, scaled; fitted once and kept.

A store keeps the fitted `Preparation`, so that rows which come later are treated as those that were
there, and values can be shown in the units they came in. `fitting` decides what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..declared_types import check_types
from ..display import meant
from ..errors import Hint, InvalidDataError, InvalidOptionError
from .arrow import Table, columns_of, type_as_written, unit_of
from .profile import (
    DATE,
    NUMBER,
    SECONDS_A_DAY,
    TEXT,
    kind_of,
    numbers_of,
    texts_of,
)

IMPUTE = ("median", "most-frequent", "error")
ENCODE = ("onehot", "ordinal")
SCALE = ("standard", "minmax", "robust", "none")


@dataclass(frozen=True)
class PreparationOptions:
    """What is asked of a table's columns; None leaves it to what the columns need.

    Attributes
    ----------
    impute : {"median", "most-frequent", "error"}, optional
        What stands for missing values; text gets its most frequent value by either. By default
        numbers get the median, and missing text is a category of its own.
    encode : {"onehot", "ordinal"}, optional
        How text becomes numbers; one column a category by default, and text of more than 100
        different values, or of more than one in two rows, is left out.
    scale : {"standard", "minmax", "robust", "none"}, optional
        How numbers are scaled; "standard" by default where their standard deviations are more
        than 100 apart or beside categories or dates, else "none". Categories stay 0 and 1.
    prepare : {"auto", "none"}
        With "none" nothing is done that was not asked for.
    """

    impute: str | None = None
    encode: str | None = None
    scale: str | None = None
    prepare: str = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        known = {"impute": IMPUTE, "encode": ENCODE, "scale": SCALE}
        for name, choices in known.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise InvalidOptionError(
                    f"{name} is one of {', '.join(choices)}, not {value!r}{meant(value, choices)}"
                )
        if self.prepare not in ("auto", "none"):
            raise InvalidOptionError(f"prepare is auto or none, not {self.prepare!r}")


@dataclass(frozen=True)
class PreparedColumn:
    """What was fitted of one column.

    Attributes
    ----------
    name : str
    kind : {"number", "date", "text"}
    fill : float or str, optional
        What stands for a missing value; without it one is an error.
    categories : tuple of str
        Of text, sorted.
    encode : {"onehot", "ordinal"}, optional
    center, spread : float
        A feature is (value − center) / spread; dates are days since 1970.
    scale : {"standard", "minmax", "robust", "none"}
        What they are; with "minmax" the least value and the range, and rounding is scikit-learn's.
    unit : str
        What stands beside every number where it was read, as € or kg.
    """

    name: str
    kind: str
    fill: float | str | None = None
    categories: tuple[str, ...] = ()
    encode: str | None = None
    center: float = 0.0
    spread: float = 1.0
    scale: str = "none"
    unit: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features that it becomes."""
        if self.encode == "onehot":
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name,)

    def scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return numbers, shape (b,), as features."""
        if self.scale != "minmax":
            return (values - self.center) / self.spread
        factor = 1.0 / self.spread  # as scikit-learn's MinMaxScaler, which rounds out of [0, 1]
        top = np.nextafter(self.center + self.spread, np.inf)
        features = values * factor + (0.0 - self.center * factor)
        inside = (values >= self.center) & (values <= top)
        return np.where(inside, np.clip(features, 0.0, 1.0), features)

    def text(self, value: float) -> str:
        """Return what a restored number stands for, a date or category; empty for a number."""
        if self.kind == DATE:
            moment = np.datetime64(round(value * SECONDS_A_DAY), "s")
            return str(moment).replace("T00:00:00", "").replace("T", " ")
        if self.encode == "ordinal":
            return self.categories[round(value)]
        return ""


@dataclass(frozen=True)
class Preparation:
    """What becomes of the columns of a table.

    Attributes
    ----------
    columns : tuple of PreparedColumn
        In the order of the features.
    left_out : tuple of str
        Columns that are no features.
    id : str, optional
        The column that names the rows.
    """

    columns: tuple[PreparedColumn, ...]
    left_out: tuple[str, ...] = ()
    id: str | None = None

    @property
    def plain(self) -> bool:
        """Whether the features are the columns as they are."""
        return all(column == PreparedColumn(column.name, NUMBER) for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, d of them."""
        return tuple(name for column in self.columns for name in column.names)

    def transform(self, batch: Any, where: str, first: int) -> NDArray[np.float64]:
        """Return the features, (b, d) float64, of a record batch whose first row is `first`.

        Raises
        ------
        InvalidDataError
            For a missing value or a category that was not there when it was fitted.
        """
        out = np.empty((batch.num_rows, len(self.names)))
        arrays, at = columns_of(batch), 0
        for column in self.columns:
            width = len(column.names)
            if column.kind == TEXT:
                out[:, at : at + width] = _encoded(arrays[column.name], column, where, first)
            else:
                values = numbers_of(arrays[column.name], column.name, where, first)
                empty = np.isnan(values)
                if empty.any():
                    if column.fill is None:
                        raise _missing(column.name, where, first + int(np.argmax(empty)))
                    values[empty] = column.fill
                out[:, at] = values
            if width == 1:
                out[:, at] = column.scaled(out[:, at])
            at += width
        return out

    def check(self, table: Table) -> None:
        """Refuse a table that lacks a column, or where it holds something else than it did.

        Raises
        ------
        InvalidDataError
        """
        needed = [column.name for column in self.columns] + [self.id] * (self.id is not None)
        missing = [name for name in needed if name not in table.names]
        if missing:
            raise InvalidDataError(f"{table.where} lacks the column '{missing[0]}'")
        for column in self.columns:
            kind = kind_of(self.type_of(table, column))
            if kind != column.kind:
                raise InvalidDataError(
                    f"{table.where}: column '{column.name}' holds {kind or 'something else'}s, but "
                    f"{column.kind}s in the rows that the columns were prepared with; write it as "
                    "there"
                )
            unit = unit_of(table, column.name)
            if table.sniffed and column.kind == NUMBER and unit != column.unit:
                raise InvalidDataError(
                    f"{table.where}: column '{column.name}' holds numbers with "
                    f"{unit or 'no unit'}, but with {column.unit or 'no unit'} in the rows that "
                    "the columns were prepared with; write them as there"
                )

    @staticmethod
    def type_of(table: Table, column: PreparedColumn) -> Any:
        """Return the Arrow type as which a column is read; text as it is written."""
        name = column.name
        return type_as_written(table, name) if column.kind == TEXT else table.types[name]

    def restore(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return features, shape (..., d), in the units they had; categories stay 0 and 1."""
        center = [c.center for c in self.columns for _ in c.names]
        spread = [c.spread for c in self.columns for _ in c.names]
        return np.asarray(values, np.float64) * spread + center

    def to_json(self) -> dict[str, Any]:
        """Return what a store keeps of it; no units where there are none, as earlier versions."""
        kept = asdict(self)
        for column in kept["columns"]:
            if not column["unit"]:
                del column["unit"]
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Preparation:
        """Rebuild what a store keeps."""
        made = ({**c, "categories": tuple(c["categories"])} for c in kept["columns"])
        columns = tuple(PreparedColumn(**column) for column in made)
        return cls(columns, tuple(kept["left_out"]), kept["id"])


def _encoded(array: Any, column: PreparedColumn, where: str, first: int) -> NDArray[np.float64]:
    """Return a text column's codes, (b, 1), or indicators, (b, categories)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = texts_of(array)
    if values.null_count:
        if column.fill is None:
            empty = np.asarray(values.is_null())
            raise _missing(column.name, where, first + int(np.argmax(empty)))
        values = pc.fill_null(values, column.fill)
    codes = pc.index_in(values, pa.array(column.categories, pa.large_string()))
    if codes.null_count:
        k = int(np.argmax(np.asarray(codes.is_null())))
        raise InvalidDataError(
            f"{where}: row {first + k} has {values[k].as_py()!r} in column '{column.name}', which "
            "none of the rows had that the columns were prepared with; drop the row, or ingest "
            "all rows again"
        )
    rows = codes.to_numpy()
    if column.encode == "ordinal":
        return np.asarray(rows[:, None], np.float64)
    return np.asarray(np.arange(len(column.categories)) == rows[:, None], np.float64)


def _missing(name: str, where: str, row: int) -> InvalidDataError:
    return InvalidDataError(
        f"{where}: row {row} has no value in column '{name}'",
        Hint(
            'drop the row, or fill values in with impute="median"',
            "drop the row, or fill values in with --impute median",
        ),
    )
