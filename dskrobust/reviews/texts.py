"""What is shown of rows beside their features: texts of an array or a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError, SourceFileError
from ..paths import check_regular, expand_path

LONGEST = 20_000  # characters of a text that are shown
ENDS = (".csv", ".parquet")
Texts = dict[int, tuple[tuple[str, str], ...]]  # row → (column, text)


def texts_of(source: Any, rows: Iterable[int], total: int) -> Texts:
    """Return the texts of some rows; of a file, which is read once, nothing else is held.

    Parameters
    ----------
    source : str, Path or array_like (total,)
        A file may have several columns, all of which are shown.
    rows : iterable of int
    total : int
        Rows that there must be.

    Raises
    ------
    InvalidDataError
        Where there are more or fewer.
    InvalidOptionError
        For a file of another kind.
    SourceFileError
        Where a file cannot be read.
    """
    wanted = np.array(sorted(set(rows)), np.int64)
    check_texts(source)
    if isinstance(source, (str, Path)):
        return _of_file(expand_path(source), wanted, total)
    _check_count(len(source), total, "texts")
    values = source.iloc if hasattr(source, "iloc") else source
    return {row: (("text", _short(values[row])),) for row in wanted.tolist()}


def check_texts(source: Any) -> None:
    """Refuse what holds no texts before anything is done for it; see `texts_of`."""
    if isinstance(source, (str, Path)):
        path = expand_path(source)
        if not path.name.lower().endswith(ENDS):
            raise InvalidOptionError(f"{path} must end in {', '.join(ENDS)}, which says its format")
        check_regular(path)
    elif not hasattr(source, "__len__"):
        raise InvalidOptionError("texts must be a file, or an array with a text per row")


def _of_file(path: Path, wanted: NDArray[np.int64], total: int) -> Texts:
    found: Texts = {}
    first = 0
    for batch in _batches(path):
        a, b = np.searchsorted(wanted, (first, first + batch.num_rows))
        here = wanted[a:b] - first
        lines = batch.take(here).to_pylist() if b > a else []
        for row, line in zip(wanted[a:b].tolist(), lines, strict=True):
            found[row] = tuple((name, _short(value)) for name, value in line.items())
        first += batch.num_rows
    _check_count(first, total, str(path))
    return found


def _batches(path: Path) -> Iterator[Any]:
    """Yield a file's rows piece by piece."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.name.lower().endswith(".parquet"):
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches()
            return
        lines = csv.ParseOptions(newlines_in_values=True)
        with csv.open_csv(path, parse_options=lines) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise SourceFileError(f"{path} cannot be read: {error}") from error


def _check_count(found: int, total: int, what: str) -> None:
    if found != total:
        raise InvalidDataError(f"{what} has {found:,} rows, but the store {total:,}")


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
