"""Tables with a label column: what the columns are, and the reader of any table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import Block, StoreSpec
from .arrow import INDEX, FlatTable, Table, columns_of
from .columnar import ARROW_ENDS, PARQUET_ENDS, ColumnarFile, PartedTable
from .delimited import CsvTable
from .places import Place
from .reader import (
    MOST_CLASSES,
    MOST_GROUPS,
    PARTS,
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
SHOWN_ROWS = 5
UNNAMED = re.compile(r"Unnamed: (\d+)")  # what pandas and `CsvTable` call a column without a name

# -- columns to arrays -------------------------------------------------------------------------


def matrix(batch: Any, names: Sequence[str], dtype: Any, where: str, first: int) -> NDArray[Any]:
    """Return columns of a record batch, whose first row has number `first`, as (b, len(names))."""
    from pyarrow import types, uint8

    out = np.empty((batch.num_rows, len(names)), dtype)
    columns = columns_of(batch)
    for k, name in enumerate(names):
        column = columns[name]
        if types.is_boolean(column.type):
            column = column.cast(uint8())
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


def _refuse_infinite(where: str, names: Sequence[str], values: NDArray[Any], first: int) -> None:
    """Name the first infinite one of values, shape (b, len(names))."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row, k = np.argwhere(~np.isfinite(values))[0].tolist()
        raise InvalidDataError(
            f"{where}: row {first + row} of column '{names[k]}' is {values[row, k]}; drop the row "
            "or put a number there"
        )


def refuse_missing(table: Table, types: Mapping[str, Any], batch: Any) -> None:
    """Raise the error for the first column in which a batch has no value."""
    columns = columns_of(batch)
    for name, kind in types.items():
        if _has_blank(columns[name]):
            raise missing_values(table, name, kind)


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


def missing_values(table: Table, name: str, kind: Any) -> InvalidDataError:
    """Return the error for a column with missing values: how many, and in which rows."""
    rows: list[int] = []
    count = 0
    for first, batch in counted(table, {name: kind}):
        empty = np.flatnonzero(_blank(batch.column(name)))
        count += empty.size
        rows += (first + empty[: SHOWN_ROWS - len(rows)]).tolist()
    listed = f"row{'s' if count > 1 else ''} {', '.join(map(str, rows))}"
    listed += ", …" if count > len(rows) else ""
    return InvalidDataError(
        f"{table.where}: column '{name}' has no value in {count:,} of {table.rows:,} rows "
        f"({listed}); drop these rows or fill the values in"
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
    """Find the label column and what it holds; of text by a pass over this column alone."""
    import pyarrow as pa
    from pyarrow import types

    name = _target(table, options)
    kind = table.types[name]
    if table.sniffed and types.is_boolean(kind):
        kind = pa.string()  # yes and no are names of classes
    if options.labels == "real" and table.flaw(name):
        raise InvalidDataError(f"{table.where}: column '{name}' {table.flaw(name)}")
    if types.is_integer(kind) or types.is_boolean(kind):
        return Labels(name, kind, "categorical", table.rows)
    if types.is_floating(kind):
        return Labels(name, kind, "real", table.rows)
    value = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(value) or types.is_large_string(value)):
        raise InvalidDataError(f"{table.where}: column '{name}' holds {kind}; labels cannot")
    if options.labels not in (None, "categorical"):
        raise InvalidDataError(
            f"{table.where}: column '{name}' holds text, so its labels are not {options.labels}"
        )
    classes = tuple(sorted(_distinct_texts(table, name, kind, MOST_CLASSES)))
    return Labels(name, kind, "categorical", table.rows, classes)


def _distinct_texts(table: Table, name: str, kind: Any, most: int) -> tuple[str, ...]:
    def parts() -> Iterator[NDArray[np.str_]]:
        for first, batch in counted(table, {name: kind}):
            refuse_missing(table, {name: kind}, batch)
            yield texts(batch, name, table.where, first)

    return distinct(parts(), most, f"{table.where}: column '{name}'")


def _target(table: Table, options: ReaderOptions) -> str:
    names = table.names
    if options.target is None:
        likely = [name for name in names if name.lower() in TARGET_NAMES and name != options.split]
        if len(likely) == 1:
            return likely[0]
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

CSV_ENDS = tuple(
    f".{end}{packed}" for end in ("csv", "tsv") for packed in ("", ".gz", ".bz2", ".zst")
)
TABLE_ENDS = (*CSV_ENDS, *PARQUET_ENDS, *ARROW_ENDS)


@reads(*CSV_ENDS)
def open_csv(path: Path | Place, options: ReaderOptions) -> StreamReader:
    """Return the reader of a CSV file; features are float64.

    Raises
    ------
    SourceFileError
        For a file without header, with rows of different lengths, or no CSV at all.
    InvalidDataError
        For a feature column that is not numeric; the message names it, a value and its row.
    """
    options.allow("a CSV file", "target", "split", "csv")
    place = Place.of(path, options.source_options)
    return open_table(CsvTable.open(place, options.csv), Source.of(place, "csv"), options)


@reads(*PARQUET_ENDS, *ARROW_ENDS)
def open_columnar(path: Path | Place, options: ReaderOptions) -> StreamReader:
    """Return the reader of a Parquet or Arrow file, or of a folder of such files.

    Features have the columns' common dtype.
    """
    place = Place.of(path, options.source_options)
    if place.is_folder():
        return open_parts(place, options)
    table = ColumnarFile.open(place, (options.target, options.split))
    options.allow(f"{'an' if table.form == 'Arrow' else 'a'} {table.form} file", "target", "split")
    return open_table(table, Source.of(place, table.form.lower()), options)


@reads(PARTS)
def open_parts(folder: Place, options: ReaderOptions) -> StreamReader:
    """Return the reader of a folder of Parquet or Arrow files; KEY=VALUE folders are columns."""
    options.allow("a folder of Parquet files", "target", "split")
    table = PartedTable.open(folder, (options.target, options.split))
    source = Source(
        folder.name.split(".")[0],
        {
            "reader": table.parts[0].form.lower(),
            "folder": folder.name,
            "parts": len(table.parts),
            "bytes": sum(part.place.size or 0 for part in table.parts),
        },
    )
    return open_table(table, source, options)


@dataclass(frozen=True)
class Source:
    """What a table's data set is called, and where it came from."""

    name: str
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, place: Place, reader: str) -> Source:
        """Return that of a file."""
        end = next((end for end in TABLE_ENDS if place.name.lower().endswith(end)), "")
        return cls(place.name[: len(place.name) - len(end)], provenance(reader, [place]))


def open_table(table: Table, source: Source, options: ReaderOptions) -> StreamReader:
    """Return the reader of any table: one column are labels, one may be the split."""
    split = known_column(table, options.split, "split") if options.split else None
    if not table.rows:
        raise SourceFileError(f"{table.where} has no rows")
    labels = find_labels(table, options)
    table = FlatTable.of(table, [labels.name, *([split] if split else [])])
    features = [n for n in table.names if n not in (labels.name, split)]
    types, dtype = feature_types(table, features)
    types[labels.name] = labels.type
    groups: tuple[str, ...] = ("all",)
    if split:
        types[split] = _as_text(table, split)
        groups = _distinct_texts(table, split, types[split], MOST_GROUPS)
    codes = {group: code for code, group in enumerate(groups)}

    def stream() -> Iterator[Block]:
        for first, batch in counted(table, types):
            refuse_missing(table, types, batch)
            x = matrix(batch, features, dtype, table.where, first)
            y = labels.read(batch, table.where, first)
            _refuse_infinite(table.where, features, x, first)
            _refuse_infinite(table.where, [labels.name], y[:, None], first)
            if split is None:
                in_group = constant_split(len(x), 0)
            else:
                in_group = encode(texts(batch, split, table.where, first), codes, np.int16)
            yield from array_blocks(x, y, in_group)

    spec = StoreSpec(
        name=source.name,
        label_kind=labels.kind,
        groups=groups,
        classes=labels.classes,
        feature_names=tuple(features),
        provenance={
            **source.provenance,
            "target": labels.name,
            **({"remarks": list(table.remarks)} if table.remarks else {}),
        },
    )
    return StreamReader(options.apply(spec), labels.rows, stream, table.remarks)


def _as_text(table: Table, name: str) -> Any:
    """Return the type as which groups are read: as they are written, where that is known."""
    import pyarrow as pa

    return pa.string() if table.sniffed else table.types[name]


def feature_types(table: Table, names: Sequence[str]) -> tuple[dict[str, Any], np.dtype[Any]]:
    """Return the features' Arrow types and the common dtype."""
    from pyarrow import types

    if not names:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    dtypes: set[np.dtype[Any]] = {np.dtype(np.float64)} if table.sniffed else set()
    for name in names:
        kind = table.types[name]
        if unnamed := UNNAMED.fullmatch(name):
            raise InvalidDataError(
                f"{table.where}: column {int(unnamed[1]) + 1} has no name ('{name}'; pandas' row "
                "index?), so it is no feature; name it, or drop it"
            )
        if INDEX.fullmatch(name):
            raise InvalidDataError(
                f"{table.where}: column '{name}' is pandas' row index and no feature; rename it, "
                "or drop it"
            )
        if flaw := table.flaw(name):
            raise InvalidDataError(
                f"{table.where}: column '{name}' {flaw}; features must be numbers: drop the column "
                "or encode it first"
            )
        if types.is_boolean(kind):
            dtypes.add(np.dtype(np.uint8))
        elif types.is_integer(kind) or types.is_floating(kind):
            dtypes.add(np.dtype(kind.to_pandas_dtype()))
        else:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {kind}, not numbers; "
                "drop it or encode it first"
            )
    return {name: table.types[name] for name in names}, np.result_type(*dtypes)
