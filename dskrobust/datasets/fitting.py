"""What becomes of the columns of a table: decided by what they hold and what was asked for.

Fitting reads a table in passes that keep a few numbers a column; medians are exact (see
`order_statistics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any

import numpy as np

from ..errors import Hint, InvalidDataError
from ..labels import nearly_equal
from ..store import is_id_name
from .arrow import Table, refuse_index, unit_of
from .columns import missing_text
from .preparation import Preparation, PreparationOptions, PreparedColumn
from .profile import DATE, MOST_TEXTS, NUMBER, TEXT, ColumnProfile, kind_of, profile_of
from .quantiles import ColumnFiles

UNEQUAL = 100.0  # spreads of columns farther apart than this are scaled unless told otherwise
FEW_TEXTS = 100  # a text column of more different values is left out unless told otherwise
GAP = "(missing)"  # category of text that is missing, where nothing else was asked for


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
            return PreparedColumn(name, kind, unit=unit_of(self.table, name))
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
        if alike := nearly_equal(categories):
            self.decisions.append(
                f"{name}: {alike[0]!r} and {alike[1]!r} differ only in case or blanks, and are two "
                "categories"
            )
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
