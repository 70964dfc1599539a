"""Columns of Arrow record batches as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from .arrow import Table

LARGEST_EXACT = 2**53


def matrix(batch: Any, names: Sequence[str], dtype: Any, where: str, first: int) -> NDArray[Any]:
    """Return columns of a record batch, whose first row has number `first`, as (b, len(names))."""
    out = np.empty((batch.num_rows, len(names)), dtype)
    for k, name in enumerate(names):
        column = _numeric(batch.column(name))
        if column.null_count and out.dtype.kind != "f":
            raise _missing(column.is_null(), name, where, first)
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind in "iu" and values.size:
            largest = max(abs(int(values.min())), abs(int(values.max())))
            if largest > LARGEST_EXACT:
                raise InvalidDataError(
                    f"{where}: column '{name}' has the value {largest}, which float64 cannot hold; "
                    "if it is an identifier, drop it, or save it as text for labels"
                )
        out[:, k] = values
    return out


def _numeric(column: Any) -> Any:
    """Return a column as one of numbers that NumPy has."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_boolean(column.type):
        return column.cast(pa.uint8())
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


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
    values = np.array([v if isinstance(v, str) else str(v) for v in column.to_pylist()], dtype=str)
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
