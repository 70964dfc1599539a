"""Tables with a label column: what the columns are, and the reader of any table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import Block, StoreSpec
from .arrow import CsvTable, ParquetTable, Table
from .reader import (
    MOST_CLASSES,
    MOST_GROUPS,
    ReaderOptions,
    StreamReader,
    array_blocks,
    constant_split,
    distinct,
    encode,
    provenance,
    reads,
)

TARGET_NAMES = ("y", "label", "target", "class")
LARGEST_EXACT = 2**53

# -- columns to arrays -------------------------------------------------------------------------


def matrix(batch: Any, names: Sequence[str], dtype: Any, where: str, first: int) -> NDArray[Any]:
    """Return columns of a record batch, whose first row has number `first`, as (b, len(names))."""
    out = np.empty((batch.num_rows, len(names)), dtype)
    for k, name in enumerate(names):
        column = batch.column(name)
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


# -- the label column --------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """How the label column becomes an array.

    Attributes
    ----------
    name : str
    type : pyarrow.DataType
        As which it is read.
    kind : {"categorical", "real"}
        What labels of this type are, unless an option says otherwise.
    rows : int
    classes : tuple of str, optional
        Of text labels, sorted.
    """

    name: str
    type: Any
    kind: str
    rows: int
    classes: tuple[str, ...] | None = None

    def read(self, batch: Any, where: str, first: int) -> NDArray[Any]:
        """Return the labels of a batch, shape (b,): int64 codes or numbers, or float64."""
        if self.classes is not None:
            codes = {name: code for code, name in enumerate(self.classes)}
            return encode(texts(batch, self.name, where, first), codes, np.int64)
        dtype = np.float64 if self.kind == "real" else np.int64
        return matrix(batch, [self.name], dtype, where, first)[:, 0]


def find_labels(table: Table, options: ReaderOptions) -> Labels:
    """Find the label column and what it holds, by passes over this column alone."""
    from pyarrow import types

    name = _target(table, options)
    kind, rows = _type_and_rows(table, name, options)
    if types.is_integer(kind) or types.is_boolean(kind):
        return Labels(name, kind, "categorical", rows)
    if types.is_floating(kind):
        return Labels(name, kind, "real", rows)
    value = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(value) or types.is_large_string(value)):
        raise InvalidDataError(f"{table.where}: column '{name}' holds {kind}; labels cannot")
    if options.labels not in (None, "categorical"):
        raise InvalidDataError(
            f"{table.where}: column '{name}' holds text, so its labels are not {options.labels}"
        )
    classes = tuple(sorted(_distinct_texts(table, name, kind, MOST_CLASSES)))
    return Labels(name, kind, "categorical", rows, classes)


def _type_and_rows(table: Table, name: str, options: ReaderOptions) -> tuple[Any, int]:
    """Return the column's type and length; for CSV the narrowest type that holds all of it."""
    import pyarrow as pa

    if table.types:
        return table.types[name], sum(b.num_rows for b in table.batches({name: table.types[name]}))
    for kind in (pa.int64(), pa.float64(), pa.string()):
        try:
            return kind, sum(batch.num_rows for batch in table.batches({name: kind}))
        except InvalidDataError:  # a value that is not of this type
            if options.labels == "real" and kind == pa.float64():
                raise
    raise InvalidDataError(f"{table.where}: column '{name}' is neither numbers nor text")


def _distinct_texts(table: Table, name: str, kind: Any, most: int) -> tuple[str, ...]:
    parts = (texts(batch, name, table.where, a) for a, batch in counted(table, {name: kind}))
    return distinct(parts, most, f"{table.where}: column '{name}'")


def _target(table: Table, options: ReaderOptions) -> str:
    names = table.names
    if options.target is None:
        likely = [name for name in names if name.lower() in TARGET_NAMES and name != options.split]
        if len(likely) == 1:
            return likely[0]
        if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
            raise InvalidOptionError(
                f"{table.where}: its only column is called {names[0]!r}; save it with commas "
                "between the columns"
            )
        raise InvalidOptionError(
            f"{table.where}: which column holds the labels? There are {_listed(names)} (one that "
            f"is called {', '.join(TARGET_NAMES)} would be taken)",
            Hint("name it with target=COLUMN", "name it with --target COLUMN"),
        )
    return known_column(table, options.target, "target")


def known_column(table: Table, name: str, option: str) -> str:
    if name not in table.names:
        raise InvalidOptionError(
            f"{table.where} has no column '{name}' (option {option}) but {_listed(table.names)}"
        )
    return name


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -- the reader --------------------------------------------------------------------------------


@reads(".csv", ".csv.gz")
def open_csv(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of a CSV file with a header; features are float64.

    Raises
    ------
    SourceFileError
        For a file without header, with rows of different lengths, or no CSV at all.
    InvalidDataError
        For a feature column that is not numeric; the message names it and the line.
    """
    options.allow("a CSV file", "target", "split")
    return open_table(CsvTable.open(path), path.name.split(".")[0], [path], "csv", options)


@reads(".parquet")
def open_parquet(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of a Parquet file; features have the columns' common dtype."""
    options.allow("a Parquet file", "target", "split")
    return open_table(ParquetTable.open(path), path.stem, [path], "parquet", options)


def open_table(
    table: Table, name: str, paths: list[Path], reader: str, options: ReaderOptions
) -> StreamReader:
    """Return the reader of any table: one column are labels, one may be the split."""
    import pyarrow as pa

    split = known_column(table, options.split, "split") if options.split else None
    labels = find_labels(table, options)
    if not labels.rows:
        raise SourceFileError(f"{table.where} has no rows")
    features = [n for n in table.names if n not in (labels.name, split)]
    types, dtype = feature_types(table, features)
    types[labels.name] = labels.type
    groups: tuple[str, ...] = ("all",)
    if split:
        types[split] = table.types.get(split, pa.string())
        groups = _distinct_texts(table, split, types[split], MOST_GROUPS)
    codes = {group: code for code, group in enumerate(groups)}

    def stream() -> Iterator[Block]:
        for first, batch in counted(table, types):
            x = matrix(batch, features, dtype, table.where, first)
            y = labels.read(batch, table.where, first)
            if split is None:
                in_group = constant_split(len(x), 0)
            else:
                in_group = encode(texts(batch, split, table.where, first), codes, np.int16)
            yield from array_blocks(x, y, in_group)

    spec = StoreSpec(
        name=name,
        label_kind=labels.kind,
        groups=groups,
        classes=labels.classes,
        feature_names=tuple(features),
        provenance=provenance(reader, paths, target=labels.name),
    )
    return StreamReader(options.apply(spec), labels.rows, stream)


def feature_types(table: Table, names: Sequence[str]) -> tuple[dict[str, Any], np.dtype[Any]]:
    """Return the features' Arrow types and the common dtype."""
    import pyarrow as pa

    if not names:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    if not table.types:
        return dict.fromkeys(names, pa.float64()), np.dtype(np.float64)
    dtypes = []
    for name in names:
        kind = table.types[name]
        if pa.types.is_boolean(kind):
            dtypes.append(np.dtype(np.uint8))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
            dtypes.append(np.dtype(kind.to_pandas_dtype()))
        else:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {kind}, not numbers; "
                "drop it or encode it first"
            )
    return {name: table.types[name] for name in names}, np.result_type(*dtypes)
