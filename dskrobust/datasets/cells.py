"""Cells of a CSV file, which are text, as numbers: what columns hold, and its conversion.

Many columns are looked at together: their cells are laid end to end, because a call for each
column of a very wide file would take longer than the parsing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrow import Flaw
from .dialect import GROUPS, Dialect

MISSING = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None",
    "?", "-", "--", ".", "NaT", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
    "#DIV/0!", "#VALUE!", "#NUM!", "#REF!", "#NAME?",
)  # fmt: skip
TRUE, FALSE = ("true", "yes"), ("false", "no")
LARGEST_EXACT = 2**53
LARGEST_WHOLE = 2.0**63
WHOLE = r"^[+-]?\d+$"
DAY_FIRST = r"^\d{1,2}\.\d{1,2}\.\d{4}$"
# a number with a sign of currency before or behind it, %, ‰ or °, or a word behind a blank
WITH_UNIT = (
    r"^(?P<sign>[+-]?)(?P<before>\p{Sc}?)\s*(?P<number>[+-]?[.,]?\d(?:[\d.,'’ \x{A0}\x{202F}]*\d)?)"
    r"(?P<after>\s*(?:\p{Sc}|[%‰°])|\s+[\p{L}µ°%²³/]{1,12})?$"
)

EMPTY, NUMBER, GROUPED, UNIT, BOOLEAN, DATE, TEXT = range(7)


class Column(NamedTuple):
    """What a column of a CSV file holds.

    Attributes
    ----------
    kind : int
        NUMBER, GROUPED (numbers with a thousands separator), BOOLEAN, DATE or TEXT.
    type : pyarrow.DataType
        int64, float64, bool, timestamp[s] or string.
    flaw : Flaw, optional
        Why it is no numbers, where it has some; or which number cannot be held.
    unit : str
        What stands before or behind every number, as € or kg.
    """

    kind: int
    type: Any
    flaw: Flaw | None = None
    unit: str = ""


class Cells(NamedTuple):
    """Cells of several columns end to end, without blanks around them; missing ones are null."""

    values: Any
    rows: int

    @classmethod
    def of(cls, columns: Sequence[Any]) -> Cells:
        """Join columns, string arrays of one length."""
        import pyarrow as pa
        import pyarrow.compute as pc

        joined = pc.utf8_trim_whitespace(pa.concat_arrays(columns))
        missing = pc.is_in(joined, value_set=pa.array(MISSING))
        return cls(pc.if_else(missing, pa.scalar(None, pa.string()), joined), len(columns[0]))

    def all_rows(self, found: Any) -> NDArray[np.bool_]:
        """Return for every column whether something holds for all of its cells that are there."""
        flat = np.asarray(found.fill_null(True).to_numpy(zero_copy_only=False), bool)
        return np.logical_and.reduce(flat.reshape(-1, self.rows), axis=1)


def numbers(values: Any, dialect: Dialect, grouped: bool = False) -> Any:
    """Return trimmed cells as float64.

    Raises
    ------
    pyarrow.ArrowInvalid
        Where one is no number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if grouped:
        values = pc.replace_substring(values, dialect.thousands, "")
    if dialect.decimal == ",":
        if pc.any(pc.match_substring(values, ".")).as_py():
            raise pa.ArrowInvalid("a point among numbers with a decimal comma")
        values = pc.replace_substring(values, ",", ".")
    return pc.cast(values, pa.float64())


class Units(NamedTuple):
    """Trimmed cells of a column taken apart: numbers as they are written, and their unit.

    Attributes
    ----------
    numbers : pyarrow.StringArray
    unit : str
        The one of all cells that are there; "" where one has none, another one, or is no number.
    """

    numbers: Any
    unit: str

    @classmethod
    def of(cls, values: Any) -> Units:
        """Take cells apart."""
        import pyarrow.compute as pc

        parts = pc.extract_regex(values, WITH_UNIT)
        sign, number = pc.struct_field(parts, "sign"), pc.struct_field(parts, "number")
        units = _units(parts)
        there = units.drop_null().unique().to_pylist()
        if units.null_count > values.null_count or len(there) != 1:
            return cls(values, "")
        return cls(pc.binary_join_element_wise(sign, number, ""), there[0])


def _units(parts: Any) -> Any:
    """Return the unit of every cell that is a number with at most one; of parts of cells."""
    import pyarrow as pa
    import pyarrow.compute as pc

    before = pc.struct_field(parts, "before")
    after = pc.utf8_trim_whitespace(pc.struct_field(parts, "after"))
    one = pc.or_(pc.equal(before, ""), pc.equal(after, ""))
    none = pa.scalar(None, pa.string())
    return pc.if_else(one, pc.binary_join_element_wise(before, after, ""), none)


def dates(values: Any) -> Any:
    """Return trimmed cells as seconds since 1970: dates as ISO 8601 or as day.month.year has them.

    Raises
    ------
    pyarrow.ArrowInvalid
        Where one is no date.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.match_substring_regex(values, DAY_FIRST)).as_py():
        return pc.strptime(values, format="%d.%m.%Y", unit="s")
    try:
        found = pc.cast(values, pa.timestamp("us"))
    except pa.ArrowInvalid:
        found = pc.cast(values, pa.timestamp("us", "UTC"))  # with zone offsets
    return pc.cast(found, pa.timestamp("s"), safe=False)


def convert(columns: Sequence[Any], column: Column, dialect: Dialect) -> list[Any]:
    """Return string arrays as arrays of the type of a column that they all are like."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.kind == TEXT:  # the one rule of text: only an empty cell is missing
        joined = pa.concat_arrays(columns)
        empty = pc.equal(pc.utf8_trim_whitespace(joined), "")
        done = pc.if_else(empty, pa.scalar(None, pa.string()), joined)
    else:
        cells = Cells.of(columns).values
        cells = Units.of(cells).numbers if column.unit else cells
        if column.kind == BOOLEAN:
            done = pc.if_else(pc.is_valid(cells), _is_among(cells, TRUE), None)
        elif column.kind == DATE:
            done = dates(cells)
        elif column.type == pa.int64():
            if column.kind == GROUPED:
                cells = pc.replace_substring(cells, dialect.thousands, "")
            done = pc.cast(pc.utf8_ltrim(cells, characters="+"), pa.int64())
        else:
            done = numbers(cells, dialect, column.kind == GROUPED)
    rows = len(columns[0])
    return [done.slice(k * rows, rows) for k in range(len(columns))]


def _is_among(cells: Any, words: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(pc.utf8_lower(cells), value_set=pa.array(words))


def _are_dates(cells: Any) -> bool:
    from pyarrow import ArrowInvalid

    try:
        return len(dates(cells)) > cells.null_count
    except ArrowInvalid:
        return False


@dataclass
class Inspection:
    """What the columns of a CSV file hold, as far as rows were seen.

    Attributes
    ----------
    dialect : Dialect
    rows : int
        Seen so far.
    kinds : ndarray of int8, shape (d,)
    whole : ndarray of bool, shape (d,)
        Whether all numbers were written without a decimal mark.
    largest : ndarray of float64, shape (d,)
        Largest finite absolute value.
    inexact, flaws : dict
        Of a column's position: a whole number that float64 cannot hold; why it became text.
    units : dict
        Of the position of a column of numbers with a unit: the unit, and the inspection of the
        numbers alone.
    """

    dialect: Dialect
    rows: int
    kinds: NDArray[np.int8]
    whole: NDArray[np.bool_]
    largest: NDArray[np.float64]
    inexact: dict[int, Flaw] = field(default_factory=dict)
    flaws: dict[int, Flaw] = field(default_factory=dict)
    units: dict[int, tuple[str, Inspection]] = field(default_factory=dict)

    @classmethod
    def start(cls, dialect: Dialect, columns: int) -> Inspection:
        """Return the inspection of a file of which no row was seen."""
        return cls(
            dialect, 0, np.full(columns, EMPTY, np.int8), np.ones(columns, bool), np.zeros(columns)
        )

    def look(self, columns: Sequence[Any]) -> None:
        """Look at the next rows: string arrays of all columns."""
        if not len(columns[0]):
            return
        plain = np.flatnonzero(self.kinds <= NUMBER).tolist()
        if plain:
            self._plain(plain, [columns[k] for k in plain])
        for k in np.flatnonzero((self.kinds > NUMBER) & (self.kinds < TEXT)).tolist():
            if k not in plain:
                self._odd(k, Cells.of([columns[k]]))
        self.rows += len(columns[0])

    def columns(self) -> list[Column]:
        """Return what the columns hold, at the end."""
        import pyarrow as pa

        found = []
        for k, kind in enumerate(self.kinds.tolist()):
            if kind == TEXT:
                found.append(Column(TEXT, pa.string(), self.flaws.get(k)))
            elif kind == BOOLEAN:
                found.append(Column(BOOLEAN, pa.bool_()))
            elif kind == DATE:
                found.append(Column(DATE, pa.timestamp("s")))
            elif kind == UNIT:
                unit, inner = self.units[k]
                found.append(inner.columns()[0]._replace(unit=unit))
            elif kind == EMPTY:
                found.append(Column(NUMBER, pa.float64()))
            elif not self.whole[k]:
                found.append(Column(kind, pa.float64(), self.inexact.get(k)))
            elif self.largest[k] < LARGEST_WHOLE:
                found.append(Column(kind, pa.int64()))
            else:
                found.append(Column(TEXT, pa.string(), self.inexact.get(k)))
        return found

    def _plain(self, at: list[int], columns: list[Any]) -> None:
        """Look at columns that held numbers, or nothing, so far; halve them where some do not."""
        from pyarrow import ArrowInvalid

        cells = Cells.of(columns)
        try:
            values = numbers(cells.values, self.dialect)
        except ArrowInvalid:
            if len(at) == 1:
                self._odd(at[0], cells)
                return
            middle = len(at) // 2
            self._plain(at[:middle], columns[:middle])
            self._plain(at[middle:], columns[middle:])
            return
        self._measure(at, cells, values)

    def _measure(self, at: list[int], cells: Cells, values: Any, grouped: bool = False) -> None:
        """Take note of how large numbers are, and whether they are whole."""
        import pyarrow.compute as pc

        found = values.to_numpy(zero_copy_only=False).reshape(len(at), cells.rows)
        there = ~np.isnan(found).all(axis=1)
        where = np.array(at)
        self.kinds[where[there]] = GROUPED if grouped else NUMBER
        sizes = np.where(np.isfinite(found), np.abs(found), 0.0)
        self.largest[where] = np.maximum(self.largest[where], sizes.max(axis=1))
        for k in np.flatnonzero((sizes >= LARGEST_EXACT).any(axis=1)).tolist():
            if at[k] not in self.inexact:
                self._exact(at[k], cells.values.slice(k * cells.rows, cells.rows), found[k])
        if not self.whole[where].any():
            return
        text = cells.values
        if grouped:
            text = pc.replace_substring(text, self.dialect.thousands, "")
        self.whole[where] &= cells.all_rows(pc.match_substring_regex(text, WHOLE))

    def _exact(self, k: int, texts: Any, found: NDArray[np.float64]) -> None:
        """Look for a whole number that is another one as float64."""
        for row in np.flatnonzero(np.isfinite(found) & (np.abs(found) >= LARGEST_EXACT)).tolist():
            text = texts[row].as_py().replace(self.dialect.thousands or " ", "")
            if re.fullmatch(WHOLE, text) and int(text) != int(found[row]):
                self.inexact[k] = Flaw(
                    f"has the value {int(text)} in row {self.rows + row}, which float64 cannot hold"
                )
                return

    def _odd(self, k: int, cells: Cells) -> None:
        """Look at a column whose cells are not all plain numbers."""
        import pyarrow.compute as pc
        from pyarrow import ArrowInvalid

        kind, dialect = self.kinds[k], self.dialect
        said = pc.or_(pc.is_null(cells.values), _is_among(cells.values, TRUE + FALSE))
        if kind in (EMPTY, BOOLEAN) and pc.all(said).as_py():
            if cells.values.null_count < len(cells.values):
                self.kinds[k] = BOOLEAN
            return
        if kind in (EMPTY, DATE) and _are_dates(cells.values):
            self.kinds[k] = DATE
            return
        if kind in (EMPTY, UNIT) and self._with_unit(k, cells.values):
            return
        if kind not in (UNIT, BOOLEAN, DATE) and dialect.thousands:
            regular = self.largest[k] < 1000 or kind == GROUPED
            if dialect.grouping_given or (
                regular and pc.all(pc.match_substring_regex(cells.values, self._group())).as_py()
            ):
                try:
                    values = numbers(cells.values, dialect, grouped=True)
                except ArrowInvalid:
                    pass
                else:
                    self._measure([k], cells, values, grouped=True)
                    return
        self.flaws[k] = self._why(k, cells.values)
        self.kinds[k] = TEXT

    def _with_unit(self, k: int, values: Any) -> bool:
        """Look at a column of numbers that all have the same unit; tell whether it is one."""
        numbers, unit = Units.of(values)
        known, inner = self.units.get(k) or (unit, Inspection.start(self.dialect, 1))
        if values.null_count == len(values):
            return self.kinds[k] == UNIT
        if not unit or unit != known:
            return False
        inner.rows = self.rows
        inner.look([numbers])
        if inner.kinds[0] not in (NUMBER, GROUPED):
            return False
        self.kinds[k], self.units[k] = UNIT, (unit, inner)
        return True

    def _other_unit(self, unit: str, values: Any) -> Flaw:
        """Say which cell is no number with a unit, as others are."""
        import pyarrow.compute as pc

        units = _units(pc.extract_regex(values, WITH_UNIT))
        other = pc.and_(pc.is_valid(values), pc.fill_null(pc.not_equal(units, unit), True))
        rows = np.flatnonzero(other)
        row = int(rows[0]) if len(rows) else 0  # all of this unit, and not the numbers of one kind
        text = values[row].as_py() or ""
        said = f"holds text, as {text[:40]!r} in row {self.rows + row} beside numbers with {unit!r}"
        return Flaw(said, text=True)

    def _group(self) -> str:
        mark, point = re.escape(self.dialect.thousands), re.escape(self.dialect.decimal)
        return f"^({GROUPS.format(mark=mark)}|[+-]?\\d{{1,3}})({point}\\d*)?$"

    def _why(self, k: int, values: Any) -> Flaw:
        """Say which cell is no number, and which option might make it one."""
        from pyarrow import ArrowInvalid

        row, end = 0, len(values)  # of no row before the first one is any wrong
        while end - row > 1:
            middle = (row + end) // 2
            try:
                numbers(values.slice(row, middle - row), self.dialect)
            except ArrowInvalid:
                end = middle
            else:
                row = middle
        text, dialect = values[row].as_py() or "", self.dialect
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        unit = self.units[k][0] if k in self.units else Units.of(values.slice(row, 1)).unit
        if unit:
            return self._other_unit(unit, values)
        said = f"holds text, as {shown!r} in row {self.rows + row}"
        mark = dialect.thousands
        if mark and (self.kinds[k] == GROUPED or re.fullmatch(self._group(), text, re.A)):
            return Flaw(
                f"has numbers with and without the thousands separator {mark!r}, as {shown!r} in "
                f"row {self.rows + row}; if it is one, say so with the option thousands"
            )
        other = "," if dialect.decimal == "." else "."
        if re.fullmatch(rf"[+-]?\d*{re.escape(other)}\d+", text):
            return Flaw(
                f"{said}; where {other!r} is the decimal mark, say so with the option decimal"
            )
        return Flaw(said, text=True)
