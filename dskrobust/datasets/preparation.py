"""How the columns of a table become features: filled, encoded, scaled; fitted once and kept.

A store keeps the fitted `Preparation`, so that rows which come later are treated as those that were
there, and values can be shown in the units they came in. Fitting reads a table in passes that keep
a few numbers a column; medians are exact (see `order_statistics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, InvalidOptionError
from ..store import is_id_name
from .arrow import Table, columns_of, refuse_index, type_as_written
from .columns import missing_text
from .profile import (
    DATE,
    MOST_TEXTS,
    NUMBER,
    SECONDS_A_DAY,
    TEXT,
    ColumnProfile,
    kind_of,
    numbers_of,
    profile_of,
    texts_of,
)
from .quantiles import ColumnFiles

IMPUTE = ("median", "most-frequent", "error")
ENCODE = ("onehot", "ordinal")
SCALE = ("standard", "minmax", "robust", "none")
UNEQUAL = 100.0  # spreads of columns farther apart than this are scaled unless told otherwise
FEW_TEXTS = 100  # a text column of more different values is left out unless told otherwise
GAP = "(missing)"  # category of text that is missing, where nothing else was asked for


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
        known = {"impute": IMPUTE, "encode": ENCODE, "scale": SCALE}
        for name, choices in known.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise InvalidOptionError(f"{name} is one of {', '.join(choices)}, not {value!r}")
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
    """

    name: str
    kind: str
    fill: float | str | None = None
    categories: tuple[str, ...] = ()
    encode: str | None = None
    center: float = 0.0
    spread: float = 1.0
    scale: str = "none"

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
        """Return what a store keeps of it."""
        return asdict(self)

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


# -- fitting ---------------------------------------------------------------------------------


def fit(
    table: Table,
    types: Mapping[str, Any],
    options: PreparationOptions,
    id_column: str | None,
    has_ids: bool = False,
) -> tuple[Preparation, tuple[str, ...]]:
    """Fit what a table's feature columns need or were asked for.

    Parameters
    ----------
    table : Table
    types : mapping of str to pyarrow.DataType
        Of all columns but labels, groups and dropped ones, in their order.
    options : PreparationOptions
    id_column : str, optional
        The column that names the rows, where the user says so.
    has_ids : bool
        Whether something else than a column names the rows, as the index of a frame does.

    Returns
    -------
    preparation : Preparation
    decisions : tuple of str
        What was decided, a line each.

    Raises
    ------
    InvalidDataError
        For a column that cannot become features, an infinite value, a missing value with
        impute="error", or where no column is left.
    """
    kinds: dict[str, str] = {}
    for name, type_ in types.items():
        kind = kind_of(type_)
        flaw = table.flaw(name)
        if flaw and not flaw.text and name != id_column:
            raise InvalidDataError(f"{table.where}: column '{name}' {flaw.said}", _drop(name))
        if kind is None and name != id_column:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {type_}, which cannot become features",
                _drop(name),
            )
        if name != id_column and kind is not None:
            kinds[name] = kind
    fitter = _Fitter(table, types, profile_of(table, types, kinds), options)
    chosen, id_column = fitter.choose(kinds, id_column, has_ids)
    if not chosen:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    for name in chosen:
        refuse_index(table, name)
    columns = fitter.fill_in([fitter.column(name, kinds[name]) for name in chosen])
    columns = fitter.scale(columns)
    kept = frozenset(chosen)
    left_out = tuple(name for name in types if name not in kept)
    return Preparation(tuple(columns), left_out, id_column), tuple(fitter.decisions)


def _drop(name: str) -> Hint:
    return Hint(f"leave it out with drop=[{name!r}]", f"leave it out with --drop {quote(name)}")


@dataclass(frozen=True)
class _Fitter:
    """Decides what becomes of the columns of a table, and keeps a line for every decision."""

    table: Table
    types: Mapping[str, Any]
    profiles: Mapping[str, ColumnProfile]
    options: PreparationOptions
    decisions: list[str] = field(default_factory=list)

    @property
    def auto(self) -> bool:
        return self.options.prepare == "auto"

    # -- which columns -----------------------------------------------------------------------

    def choose(
        self, kinds: Mapping[str, str], id_column: str | None, has_ids: bool
    ) -> tuple[list[str], str | None]:
        """Return the columns that become features, and the one that names the rows."""
        chosen = []
        for name, kind in kinds.items():
            if self.auto and self._names_rows(name, kind):
                free = id_column is None and not has_ids
                what = "names the rows" if free else "left out, it counts the rows"
                id_column = name if free else id_column
                self.decisions.append(f"{name}: {what} (rising whole numbers); no feature")
            elif why := self._reason_to_leave(name, kind):
                self.decisions.append(f"{name}: left out, {why}")
            else:
                chosen.append(name)
        return chosen, id_column

    def _names_rows(self, name: str, kind: str) -> bool:
        profile = self.profiles[name]
        return kind == NUMBER and profile.rows > 1 and profile.rising and is_id_name(name)

    def _reason_to_leave(self, name: str, kind: str) -> str:
        profile = self.profiles[name]
        if self.auto and not profile.there:
            return "it has no values"
        if kind != TEXT or self.options.encode is not None:
            return ""
        flaw = self.table.flaw(name)
        if not self.auto:
            raise InvalidDataError(
                f"{self.table.where}: column '{name}' {flaw.said if flaw else 'holds text'}",
                Hint('drop it, or give encode="onehot"', "drop it, or give --encode onehot"),
            )
        count = MOST_TEXTS + 1 if profile.texts is None else len(profile.texts)
        if count <= FEW_TEXTS and 2 * count <= profile.there:
            return ""
        told = f"over {MOST_TEXTS:,}" if profile.texts is None else f"{count:,}"
        seen = f" ({flaw.said.removeprefix('holds text, ')})" if flaw else ""
        return f"text of {told} different values in {profile.there:,} rows{seen}"

    def column(self, name: str, kind: str) -> PreparedColumn:
        """Return a column with its categories; what is missing is not filled in yet."""
        profile = self.profiles[name]
        if kind == DATE:
            self.decisions.append(f"{name}: dates as days since 1970")
        if kind != TEXT:
            return PreparedColumn(name, kind)
        if profile.texts is None:
            raise InvalidDataError(
                f"{self.table.where}: column '{name}' has more than {MOST_TEXTS:,} different texts",
                _drop(name),
            )
        encode = self.options.encode or "onehot"
        own = (GAP,) if profile.missing and self.options.impute is None and self.auto else ()
        categories = (*sorted({*profile.texts} - {*own}), *own)
        what = "a column each" if encode == "onehot" else "numbers in the order of the alphabet"
        self.decisions.append(f"{name}: {len(categories)} categories, {what}")
        return PreparedColumn(name, kind, GAP if own else None, categories, encode)

    # -- gaps --------------------------------------------------------------------------------

    def fill_in(self, columns: list[PreparedColumn]) -> list[PreparedColumn]:
        """Find what stands for missing values."""
        how = self.options.impute or ("median" if self.auto else "error")
        gaps = [c for c in columns if self.profiles[c.name].missing]
        if gaps and how == "error":
            raise self._missing(gaps[0].name)
        numbers = [c.name for c in gaps if c.kind != TEXT]
        fills: dict[str, float | str] = {}
        with ColumnFiles(self.table, self.types, numbers) as files:
            for name in numbers:
                fills[name] = files.median(name) if how == "median" else files.mode(name)
        for column in gaps:
            texts = self.profiles[column.name].texts
            if column.kind == TEXT and texts and column.fill is None:
                fills[column.name] = max(sorted(texts), key=texts.__getitem__)
            self._tell_filled(column, fills.get(column.name), how)
        return [replace(c, fill=fills.get(c.name, c.fill)) for c in columns]

    def _missing(self, name: str) -> InvalidDataError:
        profile = self.profiles[name]
        return InvalidDataError(
            missing_text(self.table.where, name, profile.missing, profile.rows, profile.first),
            Hint(
                'drop the rows, or give impute="median"', "drop the rows, or give --impute median"
            ),
        )

    def _tell_filled(self, column: PreparedColumn, value: float | str | None, how: str) -> None:
        count = self.profiles[column.name].missing
        gaps = "1 missing value" if count == 1 else f"{count:,} missing values"
        if value is None:
            self.decisions.append(f"{column.name}: {gaps} made a category of their own")
            return
        word = "median" if column.kind != TEXT and how == "median" else "most frequent"
        told = f"{value:.6g}" if isinstance(value, float) else repr(value)
        self.decisions.append(f"{column.name}: {gaps} filled with the {word}, {told}")

    # -- scales ------------------------------------------------------------------------------

    def scale(self, columns: list[PreparedColumn]) -> list[PreparedColumn]:
        """Find center and spread of numbers, dates and ordinal codes."""
        scaled = [c for c in columns if c.encode != "onehot"]
        how = self.options.scale or self._needed_scale(columns)
        if how == "none" or not scaled:
            return columns
        if self.options.scale:
            self.decisions.append(f"numbers are scaled: {how}, over all rows")
        numbers = [c for c in scaled if c.kind != TEXT]
        moments = {c.name: _code_moments(c, self.profiles[c.name], how) for c in scaled
                   if c.kind == TEXT}  # fmt: skip
        if how == "robust":
            fills = {c.name: c.fill for c in numbers}
            with ColumnFiles(self.table, self.types, [c.name for c in numbers], fills) as files:
                moments |= {c.name: files.quartiles(c.name) for c in numbers}
        else:
            moments |= {c.name: _moments(c, self.profiles[c.name], how) for c in numbers}
        return [
            replace(c, center=moments[c.name][0], spread=moments[c.name][1] or 1.0, scale=how)
            if c.name in moments
            else c
            for c in columns
        ]

    def _needed_scale(self, columns: Sequence[PreparedColumn]) -> str:
        """Return the scale that the columns need, where nothing was asked for."""
        spreads = {c.name: self.profiles[c.name].spread for c in columns if c.kind != TEXT}
        spreads = {name: spread for name, spread in spreads.items() if spread > 0}
        if not spreads or not self.auto:
            return "none"
        wide, narrow = (end(spreads, key=spreads.__getitem__) for end in (max, min))
        ratio = spreads[wide] / spreads[narrow]
        if ratio > UNEQUAL:
            why = f"'{wide}' spreads {ratio:,.0f} times as far as '{narrow}' and would decide"
        elif any(c.kind != NUMBER for c in columns):
            why = "they stand beside categories or dates"
        else:
            return "none"
        self.decisions.append(
            f"numbers are scaled to mean 0 and standard deviation 1, over all rows: {why}"
        )
        return "standard"


def _moments(column: PreparedColumn, profile: ColumnProfile, how: str) -> tuple[float, float]:
    """Return center and spread of a column of numbers whose gaps are filled."""
    fill = profile.low if column.fill is None else float(column.fill)
    low, high = min(profile.low, fill), max(profile.high, fill)
    if how == "minmax" or low == high:
        return low, high - low
    shift, missing = fill - profile.mean, profile.missing / profile.rows
    variance = profile.spread**2 * (1 - missing) + shift * shift * missing * (1 - missing)
    if not np.isfinite(variance):
        raise InvalidDataError(
            f"column '{column.name}' goes from {low:.6g} to {high:.6g}, too far to be scaled by "
            "its standard deviation; divide its values by a power of ten first",
            _drop(column.name),
        )
    return profile.mean + shift * missing, float(np.sqrt(variance))


def _code_moments(column: PreparedColumn, profile: ColumnProfile, how: str) -> tuple[float, float]:
    """Return center and spread of ordinal codes, from the counts of their texts."""
    texts = dict(profile.texts or {})
    if profile.missing:
        texts[str(column.fill)] = texts.get(str(column.fill), 0) + profile.missing
    codes = np.arange(len(column.categories))
    counts = np.array([texts.get(category, 0) for category in column.categories])
    if how == "minmax":
        return 0.0, float(len(codes) - 1)
    if how == "robust":
        low, middle, high = np.percentile(np.repeat(codes, counts), [25, 50, 75])
        return float(middle), float(high - low)
    mean = float(np.average(codes, weights=counts))
    return mean, float(np.sqrt(np.average((codes - mean) ** 2, weights=counts)))
