"""Columns of Arrow record batches as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from .arrow import Table, columns_of

LARGEST_EXACT = 2**53
SHOWN_ROWS = 5


def matrix(batch: Any, names: Sequence[str], dtype: Any, where: str, first: int) -> NDArray[Any]:
    """Return columns of a record batch, whose first row has number `first`, as (b, len(names))."""
    out = np.empty((batch.num_rows, len(names)), dtype)
    columns = columns_of(batch)
    for k, name in enumerate(names):
        out[:, k] = numeric_values(columns[name], name, where, first, out.dtype)
    return out


def numeric_values(
    column: Any, name: str, where: str, first: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the numbers, shape (b,), of an Arrow array, which float64 can hold."""
    import pyarrow as pa

    what = f"{where}: column '{name}'"
    column = _decoded(column)
    if column.null_count and dtype.kind != "f":
        raise _missing(column.is_null(), name, where, first)
    if pa.types.is_decimal(column.type):
        return _decimals(column, what)
    if column.null_count and pa.types.is_integer(column.type):  # which NumPy takes as floats
        refuse_inexact(column.drop_null().to_numpy(zero_copy_only=False), what)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    refuse_inexact(values, what)
    return values


def refuse_inexact(values: NDArray[Any], what: str) -> None:
    """Refuse whole numbers that float64 may not hold; what: what messages call all of them.

    Raises
    ------
    InvalidDataError
    """
    if values.dtype.kind in "iu" and values.size:
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest > LARGEST_EXACT:
            raise _inexact(largest, what)


def _inexact(value: int, what: str) -> InvalidDataError:
    return InvalidDataError(
        f"{what} has the value {value}, which float64 cannot hold; if it is an identifier, drop "
        "it, or save it as text for labels"
    )


def _decoded(column: Any) -> Any:
    """Return a column as one of numbers: categories as their values, truth as 0 and 1."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column


def _decimals(column: Any, what: str) -> NDArray[np.float64]:
    """Return decimal numbers as float64, NaN where one is missing; whole ones are exact."""
    import pyarrow as pa

    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(np.abs(values) >= LARGEST_EXACT).tolist():
        number = column[row].as_py()
        if number == number.to_integral_value() and int(number) != int(values[row]):
            raise _inexact(int(number), what)
    return values


def _missing(empty: Any, name: str, where: str, first: int) -> InvalidDataError:
    row = first + int(np.argmax(np.asarray(empty)))
    return InvalidDataError(
        f"{where}: row {row} has no value in column '{name}'; drop the row or fill the value in"
    )


def texts(batch: Any, name: str, where: str, first: int) -> NDArray[np.str_]:
    """Return a column of a record batch as text, shape (b,); an empty one is an error."""
    column = batch.column(name)
    if column.null_count:
        raise _missing(column.is_null(), name, where, first)
    held = [v if isinstance(v, str) else str(v) for v in column.to_pylist()]
    if ended := next((k for k, v in enumerate(held, 1) if v.endswith("\0")), 0):
        raise InvalidDataError(
            f"{where}: row {first + ended - 1} ends in NUL in column '{name}', which NumPy's text "
            "loses; name it anew"
        )
    values = np.array(held, dtype=str)
    if (values == "").any():
        raise _missing(values == "", name, where, first)
    return values


def counted(table: Table, columns: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """Yield (number of the first row, batch)."""
    first = 0
    for batch in table.batches(columns):
        if batch.num_rows:
            yield first, batch
        first += batch.num_rows


# -- values that no number can be --------------------------------------------------------------


def refuse_infinite(where: str, names: Sequence[str], values: NDArray[Any], first: int) -> None:
    """Name the first infinite one of values, shape (b, len(names)).

    It would spread over its whole column by a scale.
    """
    if values.dtype.kind == "f" and np.isinf(values).any():
        row, k = np.argwhere(np.isinf(values))[0].tolist()
        raise InvalidDataError(
            f"{where}: row {first + row} of column '{names[k]}' is {values[row, k]}; drop the row "
            "or put a number there"
        )


def refuse_missing(table: Table, types: Mapping[str, Any], batch: Any) -> None:
    """Raise the error for the first of some columns in which a batch has no value."""
    columns = columns_of(batch)
    for name, kind in types.items():
        if _has_blank(columns[name]):
            raise _missing_values(table, name, kind)


def _has_blank(column: Any) -> bool:
    from pyarrow import types

    kind = column.type
    if column.null_count or types.is_integer(kind) or types.is_boolean(kind):
        return bool(column.null_count)
    return bool(_blank(column).any())


def _blank(column: Any) -> NDArray[np.bool_]:
    """Return which cells, shape (b,), hold no value: null, NaN, or text without a character."""
    import pyarrow.compute as pc
    from pyarrow import types

    empty = pc.is_null(column, nan_is_null=True)
    if types.is_string(column.type) or types.is_large_string(column.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(column, ""), True))
    return np.asarray(empty)


def _missing_values(table: Table, name: str, kind: Any) -> InvalidDataError:
    """Return the error for a column with missing values: how many, and in which rows."""
    rows: list[int] = []
    count = 0
    for first, batch in counted(table, {name: kind}):
        empty = np.flatnonzero(_blank(batch.column(name)))
        count += empty.size
        rows += (first + empty[: SHOWN_ROWS - len(rows)]).tolist()
    said = missing_text(table.where, name, count, table.rows, rows)
    return InvalidDataError(f"{said}; drop these rows or fill the values in")


def missing_text(where: str, name: str, count: int, of: int, first: Sequence[int]) -> str:
    """Say how many of a column's values are missing, and in which rows the first of them."""
    listed = f"row{'s' if count > 1 else ''} {', '.join(map(str, first))}"
    listed += ", …" if count > len(first) else ""
    return f"{where}: column '{name}' has no value in {count:,} of {of:,} rows ({listed})"
