"""Ids of rows: what their owner calls them, kept as text or as whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidDataError

TEXT = np.dtype(object)  # of str
NUMBERS = np.dtype(np.int64)
LEVELS = "/"  # between the levels of a MultiIndex
LARGEST = np.iinfo(np.int64).max


def id_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which ids of `dtype` are kept: whole numbers as int64, others as text."""
    return NUMBERS if dtype.kind in "iu" else TEXT


def plain_ids(values: Any, first_row: int = 0) -> NDArray[Any]:
    """Return ids, shape (n,), as int64 or as an object array of str.

    Parameters
    ----------
    values : array_like (n,)
        Whole numbers, text, or anything whose text is an id; a pandas index, of which levels are
        joined as in ``a/b``.
    first_row : int
        Row number of the first id, for messages.

    Raises
    ------
    InvalidDataError
        Where an id is missing, is no valid text or is too large; the message names the row.
    """
    if getattr(values, "nlevels", 1) > 1:
        values = _joined(values)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        values = np.array(values.tolist(), TEXT)  # None where one is masked
    if isinstance(values, (list, tuple)) and any(isinstance(value, str) for value in values):
        values = np.array(values, TEXT)  # NumPy's own texts lose a NUL at their end
    values = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if values.ndim != 1:
        raise InvalidDataError(f"ids must have the shape (samples,), not {values.shape}")
    if values.dtype.kind in "iu":
        above = values > LARGEST if values.dtype.kind == "u" else np.zeros(0, bool)
        if above.any():
            row = int(above.argmax())
            raise InvalidDataError(
                f"ids row {first_row + row} is {values[row]}, beyond 64 bits; give the ids as text"
            )
        return values.astype(NUMBERS)
    out = np.empty(len(values), TEXT)
    out[:] = [_text(value, first_row + k) for k, value in enumerate(_items(values))]
    return out


def as_kept(ids: NDArray[Any], kept: np.dtype[Any], first_row: int = 0) -> NDArray[Any]:
    """Return plain ids as a store keeps them: text or whole numbers.

    Raises
    ------
    InvalidDataError
        For text that is to be a whole number and is none.
    """
    if ids.dtype == kept:
        return ids
    if kept == TEXT:
        return ids.astype(str).astype(TEXT)
    for k, text in enumerate(ids):
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or str(number) != text or not -LARGEST - 1 <= number <= LARGEST:
            raise InvalidDataError(
                f"ids row {first_row + k} is {text!r}, but the store's ids are whole numbers; "
                "give new rows such ids, or create the store again with ids as text"
            )
    return ids.astype(NUMBERS)


def index_ids(frame: Any) -> NDArray[Any] | None:
    """Return the ids that a pandas frame's index holds; None where it only counts the rows."""
    return None if counted_from(frame.index) == 0 else plain_ids(frame.index)


def counted_from(index: Any) -> int | None:
    """Return where a pandas index begins that only counts its rows, else None."""
    if type(index).__name__ == "RangeIndex" and index.step == 1:
        return int(index.start)
    return None


def held_ids(ids: Any) -> Any:
    """Return ids that can be read by rows: those of a Dask frame are computed."""
    return np.asarray(ids.compute()) if hasattr(ids, "compute") else ids


def ids_of(ids: Any, rows: Any) -> NDArray[Any]:
    """Return the ids of rows, shape (k,) object: str or int, None for a row of -1.

    Parameters
    ----------
    ids : array (n,)
        Read by what holds the rows asked for, such as ``store.ids``.
    rows : array_like (k,) of int
    """
    rows = np.asarray(rows, np.int64)
    there = rows >= 0
    out = np.full(len(rows), None, TEXT)
    out[there] = np.asarray(ids[rows[there]]).tolist()
    return out


def _joined(index: Any) -> list[str]:
    return [LEVELS.join(_text(value, row) for value in levels) for row, levels in enumerate(index)]


def _items(values: NDArray[Any]) -> Any:
    """Values as Python has them; dates as NumPy writes them."""
    return values.astype(str) if values.dtype.kind in "mM" else values.tolist()


def _text(value: Any, row: int) -> str:
    if value is None or value != value or str(value) in ("NaT", "<NA>"):
        raise InvalidDataError(f"ids row {row} is missing; fill it in or leave the ids out")
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDataError(f"ids row {row} is {text!r}, which is no valid text") from error
    return text
