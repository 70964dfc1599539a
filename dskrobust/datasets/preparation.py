"""How the columns of a table become features: filled, encoded, scaled; fitted once and kept.

A store keeps the fitted `Preparation`, so that rows which come later are treated as those that were
there, and values can be shown in the units they came in. Fitting reads a table in passes that keep
a few numbers a column; medians are exact (see `order_statistics`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, InvalidOptionError
from .arrow import Table
from .profile import (
    DATE,
    MOST_TEXTS,
    NUMBER,
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
ID_NAME = re.compile(
    r"(^|[\W_])(id|uuid|guid|index|rowid|row)$|[a-z]I[dD]$|^unnamed: 0$", re.IGNORECASE
)
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
    """

    name: str
    kind: str
    fill: float | str | None = None
    categories: tuple[str, ...] = ()
    encode: str | None = None
    center: float = 0.0
    spread: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features that it becomes."""
        if self.encode == "onehot":
            return tuple(f"{self.name}={category}" for category in self.categories)
        return (self.name,)


@dataclass(frozen=True)
class Preparation:
    """The fitted columns of a table, in the order of its features."""

    columns: tuple[PreparedColumn, ...]

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
        at = 0
        for column in self.columns:
            width = len(column.names)
            if column.kind == TEXT:
                out[:, at : at + width] = _encoded(batch, column, where, first)
            else:
                values = numbers_of(batch, column.name, where, first)
                empty = np.isnan(values)
                if empty.any():
                    if column.fill is None:
                        raise _missing(column.name, where, first + int(np.argmax(empty)))
                    values[empty] = column.fill
                out[:, at] = values
            if width == 1:
                out[:, at] -= column.center
                out[:, at] /= column.spread
            at += width
        return out

    def restore(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return features, shape (..., d), in the units they had; categories stay 0 and 1."""
        center = [c.center for c in self.columns for _ in c.names]
        spread = [c.spread for c in self.columns for _ in c.names]
        return np.asarray(values, np.float64) * spread + center

    def to_json(self) -> list[dict[str, Any]]:
        """Return what a store keeps of it."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Sequence[Mapping[str, Any]]) -> Preparation:
        """Rebuild what a store keeps."""
        made = ({**c, "categories": tuple(c["categories"])} for c in columns)
        return cls(tuple(PreparedColumn(**column) for column in made))


def _encoded(batch: Any, column: PreparedColumn, where: str, first: int) -> NDArray[np.float64]:
    """Return a text column's codes, (b, 1), or indicators, (b, categories)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = texts_of(batch, column.name)
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


@dataclass(frozen=True)
class Fit:
    """A fitted preparation and what was decided.

    Attributes
    ----------
    preparation : Preparation, optional
        None where the columns need nothing.
    decisions : tuple of str
        A line each.
    left_out : tuple of str
        Columns that are no features.
    id : str, optional
        The column that names the rows.
    """

    preparation: Preparation | None
    decisions: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    id: str | None = None


def fit(
    table: Table, types: Mapping[str, Any], options: PreparationOptions, id_column: str | None
) -> Fit:
    """Fit what a table's feature columns need or were asked for.

    Parameters
    ----------
    table : Table
    types : mapping of str to pyarrow.DataType
        Of all columns but labels, groups and dropped ones, in their order.
    options : PreparationOptions
    id_column : str, optional
        The column that names the rows, where the user says so.

    Raises
    ------
    InvalidDataError
        For a column that cannot become features, a missing value with impute="error", or where
        no column is left.
    """
    types = {name: kind for name, kind in types.items() if name != id_column}
    kinds: dict[str, str] = {}
    for name, type_ in types.items():
        kind = kind_of(type_)
        if kind is None:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {type_}, which cannot become features",
                Hint(f"leave it out with drop=[{name!r}]", f"leave it out with --drop {name!r}"),
            )
        kinds[name] = kind
    seen = profile_of(table, types, kinds)
    decisions: list[str] = []
    chosen, id_column = _choose(table, kinds, seen, options, id_column, decisions)
    left_out = tuple(name for name in kinds if name not in chosen)
    if not chosen:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    columns = [_column(table, name, kinds[name], seen[name], options, decisions) for name in chosen]
    columns = _fill_in(table, types, columns, seen, options, decisions)
    columns = _scale(table, types, columns, seen, options, decisions)
    plain = all(c == PreparedColumn(c.name, NUMBER) for c in columns)
    return Fit(
        None if plain else Preparation(tuple(columns)), tuple(decisions), left_out, id_column
    )


def _choose(
    table: Table,
    kinds: Mapping[str, str],
    seen: Mapping[str, ColumnProfile],
    options: PreparationOptions,
    id_column: str | None,
    decisions: list[str],
) -> tuple[list[str], str | None]:
    """Return the columns that become features, and the one that names the rows."""
    chosen = []
    for name, kind in kinds.items():
        there, auto = seen[name].rows - seen[name].missing, options.prepare == "auto"
        named = ID_NAME.search(name) is not None
        if (
            auto
            and id_column is None
            and kind == NUMBER
            and named
            and there > 1
            and (seen[name].rising and not seen[name].missing)
        ):
            id_column = name
            decisions.append(f"{name}: names the rows (rising whole numbers); no feature")
        elif there == 0 and auto:
            decisions.append(f"{name}: left out, it has no values")
        elif kind == TEXT and auto and options.encode is None and _is_free(seen[name]):
            texts = seen[name].texts
            count = f"{len(texts):,}" if texts is not None else f"over {MOST_TEXTS:,}"
            decisions.append(
                f"{name}: left out, text of {count} different values in {there:,} rows"
            )
        elif kind == TEXT and options.encode is None and not auto:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds text",
                Hint('drop it, or give encode="onehot"', "drop it, or give --encode onehot"),
            )
        else:
            chosen.append(name)
    return chosen, id_column


def _is_free(seen: ColumnProfile) -> bool:
    """Whether text says something else in nearly every row."""
    if seen.texts is None or len(seen.texts) > FEW_TEXTS:
        return True
    return 2 * len(seen.texts) > seen.rows - seen.missing


def _column(
    table: Table,
    name: str,
    kind: str,
    seen: ColumnProfile,
    options: PreparationOptions,
    decisions: list[str],
) -> PreparedColumn:
    """Return a column with its categories; what is missing is not filled in yet."""
    if kind == DATE:
        decisions.append(f"{name}: dates as days since 1970")
    if kind != TEXT:
        return PreparedColumn(name, kind)
    if seen.texts is None:
        raise InvalidDataError(
            f"{table.where}: column '{name}' has more than {MOST_TEXTS:,} different texts",
            Hint(f"leave it out with drop=[{name!r}]", f"leave it out with --drop {name!r}"),
        )
    encode = options.encode or "onehot"
    own = (GAP,) if seen.missing and options.impute is None and options.prepare == "auto" else ()
    categories = (*sorted(seen.texts), *own)
    what = "a column each" if encode == "onehot" else "numbers in the order of the alphabet"
    decisions.append(f"{name}: {len(categories)} categories, {what}")
    return PreparedColumn(name, kind, GAP if own else None, categories, encode)


def _fill_in(
    table: Table,
    types: Mapping[str, Any],
    columns: list[PreparedColumn],
    seen: Mapping[str, ColumnProfile],
    options: PreparationOptions,
    decisions: list[str],
) -> list[PreparedColumn]:
    """Find what stands for missing values."""
    how = options.impute or ("median" if options.prepare == "auto" else "error")
    gaps = [c for c in columns if seen[c.name].missing and c.fill is None]
    if gaps and how == "error":
        name, one = gaps[0].name, seen[gaps[0].name]
        rows = ", ".join(map(str, one.first))
        raise InvalidDataError(
            f"{table.where}: column '{name}' has no value in {one.missing:,} of {one.rows:,} rows "
            f"(first rows: {rows})",
            Hint(
                'drop the rows, or give impute="median"', "drop the rows, or give --impute median"
            ),
        )
    numbers = [c.name for c in gaps if c.kind != TEXT]
    fills: dict[str, float | str] = {}
    with ColumnFiles(table, types, numbers) as held:
        for name in numbers:
            fills[name] = held.median(name) if how == "median" else held.mode(name)
    for column in gaps:
        texts = seen[column.name].texts
        if column.kind == TEXT and texts:
            fills[column.name] = max(sorted(texts), key=texts.__getitem__)
        value, count = fills[column.name], seen[column.name].missing
        word = "most frequent" if column.kind == TEXT or how != "median" else "median"
        told = f"{value:.6g}" if isinstance(value, float) else repr(value)
        decisions.append(f"{column.name}: {_gaps(count)} filled with the {word}, {told}")
    for column in columns:
        if column.fill == GAP:
            count = seen[column.name].missing
            decisions.append(f"{column.name}: {_gaps(count)} made a category of their own")
    return [replace(c, fill=fills.get(c.name, c.fill)) for c in columns]


def _gaps(count: int) -> str:
    return "1 missing value" if count == 1 else f"{count:,} missing values"


def _scale(
    table: Table,
    types: Mapping[str, Any],
    columns: list[PreparedColumn],
    seen: Mapping[str, ColumnProfile],
    options: PreparationOptions,
    decisions: list[str],
) -> list[PreparedColumn]:
    """Find center and spread of numbers, dates and ordinal codes."""
    scaled = [c for c in columns if c.encode != "onehot"]
    how = options.scale or _needed_scale(columns, seen, options, decisions)
    if how == "none" or not scaled:
        return columns
    if options.scale:
        decisions.append(f"numbers are scaled: {how}, over all rows")
    found: dict[str, tuple[float, float]] = {}
    codes = [c.name for c in scaled if c.kind == TEXT]
    if how == "robust":
        fills = {c.name: c.fill for c in scaled}
        with ColumnFiles(table, types, [c.name for c in scaled if c.kind != TEXT], fills) as held:
            found = {c.name: held.quartiles(c.name) for c in scaled if c.kind != TEXT}
    else:
        for column in scaled:
            if column.kind != TEXT:
                found[column.name] = _moments(column, seen[column.name], how)
    for name in codes:
        column = next(c for c in scaled if c.name == name)
        found[name] = _code_moments(column, seen[name], how)
    return [
        replace(c, center=found[c.name][0], spread=found[c.name][1] or 1.0)
        if c.name in found
        else c
        for c in columns
    ]


def _needed_scale(
    columns: Sequence[PreparedColumn],
    seen: Mapping[str, ColumnProfile],
    options: PreparationOptions,
    decisions: list[str],
) -> str:
    """Return the scale that the columns need, where nothing was asked for."""
    if options.prepare == "none":
        return "none"
    spreads = {c.name: seen[c.name].spread for c in columns if c.kind != TEXT}
    spreads = {name: spread for name, spread in spreads.items() if spread > 0}
    if not spreads:
        return "none"
    wide, narrow = max(spreads, key=spreads.__getitem__), min(spreads, key=spreads.__getitem__)
    ratio = spreads[wide] / spreads[narrow]
    if ratio > UNEQUAL:
        why = f"'{wide}' spreads {ratio:,.0f} times as far as '{narrow}' and would decide"
    elif any(c.kind != NUMBER for c in columns):
        why = "they stand beside categories or dates"
    else:
        return "none"
    decisions.append(f"numbers are scaled to mean 0 and standard deviation 1, over all rows: {why}")
    return "standard"


def _moments(column: PreparedColumn, seen: ColumnProfile, how: str) -> tuple[float, float]:
    """Return center and spread of a column after its gaps are filled."""
    fill = seen.mean if column.fill is None else float(column.fill)
    if how == "minmax":
        low, high = (min(seen.low, fill), max(seen.high, fill)) if seen.missing else (
            seen.low, seen.high)  # fmt: skip
        return float(low), float(high - low)
    there, shift = seen.rows - seen.missing, fill - seen.mean
    mean = seen.mean + shift * seen.missing / seen.rows
    squares = seen.squares + shift * shift * there * seen.missing / seen.rows
    return mean, float(np.sqrt(squares / seen.rows))


def _code_moments(column: PreparedColumn, seen: ColumnProfile, how: str) -> tuple[float, float]:
    """Return center and spread of ordinal codes, from the counts of their texts."""
    texts = dict(seen.texts or {})
    if seen.missing:
        texts[str(column.fill)] = texts.get(str(column.fill), 0) + seen.missing
    codes = np.arange(len(column.categories))
    counts = np.array([texts.get(category, 0) for category in column.categories])
    if how == "minmax":
        return 0.0, float(len(codes) - 1)
    if how == "robust":
        low, middle, high = np.percentile(np.repeat(codes, counts), [25, 50, 75])
        return float(middle), float(high - low)
    mean = float(np.average(codes, weights=counts))
    return mean, float(np.sqrt(np.average((codes - mean) ** 2, weights=counts)))
