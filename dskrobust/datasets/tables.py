"""Tables with a label column: what the columns are, and the reader of any table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import Block, StoreSpec
from .arrow import ColumnTypeError, CsvTable, ParquetTable, Table
from .columns import counted, matrix, texts
from .preparation import Preparation, PreparationOptions, fit
from .profile import NUMBER, kind_of
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
TABLE_OPTIONS = ("target", "split", "id", "drop", "impute", "encode")

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
    options.allow("a CSV file", *TABLE_OPTIONS)
    return open_table(CsvTable.open(path), path.name.split(".")[0], [path], "csv", options)


@reads(".parquet")
def open_parquet(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of a Parquet file; features have the columns' common dtype."""
    options.allow("a Parquet file", *TABLE_OPTIONS)
    return open_table(ParquetTable.open(path), path.stem, [path], "parquet", options)


def open_table(
    table: Table,
    name: str,
    paths: list[Path],
    reader: str,
    options: ReaderOptions,
) -> StreamReader:
    """Return the reader of any table: one column are labels, one may be the split."""
    split = known_column(table, options.split, "split") if options.split else None
    for option, column in (*(("drop", column) for column in options.drop), ("id", options.id)):
        if column is not None:
            known_column(table, column, option)
    labels = find_labels(table, options)
    if not labels.rows:
        raise SourceFileError(f"{table.where} has no rows")
    taken = {labels.name, split, *options.drop}
    types = column_types(table, [name for name in table.names if name not in taken])
    prepared, decisions = _prepared(table, types, options)
    stream = _TableStream(table, labels, types, prepared, split)
    left_out = (*options.drop, *prepared.left_out)
    needed = left_out or not prepared.plain
    spec = StoreSpec(
        name=name,
        label_kind=labels.kind,
        groups=stream.groups,
        classes=labels.classes,
        feature_names=prepared.names,
        preparation=prepared.to_json() if needed else None,
        decisions=decisions,
        provenance=provenance(reader, paths, target=labels.name),
    )
    if isinstance(options.scale, str):
        options = replace(options, scale=None)
    return StreamReader(options.apply(spec), labels.rows, stream)


def _prepared(
    table: Table, types: Mapping[str, Any], options: ReaderOptions
) -> tuple[Preparation, tuple[str, ...]]:
    """Return what becomes of the columns, and what was decided: nothing where it is known."""
    known: Preparation | None = options.preparation
    if known is None:
        scale = options.scale if isinstance(options.scale, str) else None
        asked = PreparationOptions(options.impute, options.encode, scale, options.prepare)
        return fit(table, types, asked, options.id)
    needed = [column.name for column in known.columns] + [known.id] * (known.id is not None)
    missing = [name for name in needed if name not in types]
    if missing:
        raise InvalidDataError(f"{table.where} lacks the column '{missing[0]}'")
    return known, ()


@dataclass(frozen=True)
class _TableStream:
    """The blocks of a table."""

    table: Table
    labels: Labels
    types: Mapping[str, Any]
    prepared: Preparation
    split: str | None

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups in the order of their first appearance."""
        if self.split is None:
            return ("all",)
        return _distinct_texts(self.table, self.split, self._split_type, MOST_GROUPS)

    @property
    def _split_type(self) -> Any:
        import pyarrow as pa

        return self.table.types.get(self.split or "", pa.string())

    def __call__(self) -> Iterator[Block]:
        names, where = self.prepared.names, self.table.where
        types = {column.name: self.types[column.name] for column in self.prepared.columns}
        read = {**types, self.labels.name: self.labels.type}
        if self.split is not None:
            read[self.split] = self._split_type
        if self.prepared.id is not None:
            read[self.prepared.id] = id_type(self.table, self.prepared.id)
        plain = self.prepared.plain
        dtype = feature_dtype(self.table, types) if plain else np.dtype(np.float64)
        codes = {group: code for code, group in enumerate(self.groups)}
        for first, batch in counted(self.table, read):
            if plain:
                x = matrix(batch, names, dtype, where, first)
            else:
                x = self.prepared.transform(batch, where, first)
            y = self.labels.read(batch, where, first)
            if self.split is None:
                in_group = constant_split(len(x), 0)
            else:
                in_group = encode(texts(batch, self.split, where, first), codes, np.int16)
            id_column = self.prepared.id
            ids = None if id_column is None else _ids(batch, id_column, where, first)
            yield from array_blocks(x, y, in_group, ids)


def id_type(table: Table, name: str) -> Any:
    """Return as what an id column is read: whole numbers as such, all else as text."""
    import pyarrow as pa

    kind = table.types.get(name)
    if kind is not None:
        return kind
    kind = column_types(table, [name])[name]
    if kind != pa.float64():
        return pa.string()
    try:  # numbers without a point
        for _ in table.batches({name: pa.int64()}):
            pass
    except InvalidDataError:
        return pa.string()
    return pa.int64()


def _ids(batch: Any, name: str, where: str, first: int) -> NDArray[Any]:
    """Return the ids of a batch, shape (b,): whole numbers, or text objects."""
    import pyarrow as pa

    if pa.types.is_integer(batch.column(name).type):
        return matrix(batch, [name], np.int64, where, first)[:, 0]
    return texts(batch, name, where, first).astype(object)


def column_types(table: Table, names: Sequence[str]) -> dict[str, Any]:
    """Return the Arrow types of columns: the table's own, or the first that holds all values.

    Text formats have none: numbers are tried first, then true and false, dates, and text.
    """
    import pyarrow as pa

    if table.types:
        return {name: table.types[name] for name in names}
    ladder = (pa.float64(), pa.bool_(), pa.timestamp("s"), pa.string())
    steps = dict.fromkeys(names, 0)
    for whole in (False, True):  # most columns show in the first batch what they hold
        while True:
            try:
                batches = table.batches({name: ladder[step] for name, step in steps.items()})
                for _ in batches if whole else islice(batches, 1):
                    pass
                break
            except ColumnTypeError as error:
                if error.column not in steps or steps[error.column] + 1 == len(ladder):
                    raise
                # what was no number in the first batch and turns out to be no date is text
                steps[error.column] = len(ladder) - 1 if whole else steps[error.column] + 1
    return {name: ladder[step] for name, step in steps.items()}


def feature_dtype(table: Table, types: Mapping[str, Any]) -> np.dtype[Any]:
    """Return the common NumPy dtype of columns of numbers, of these Arrow types."""
    import pyarrow as pa

    if not types:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    dtypes = []
    for name, kind in types.items():
        if kind_of(kind) != NUMBER:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {kind}, not numbers; "
                "drop it or encode it first"
            )
        known = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        plain = np.dtype(kind.to_pandas_dtype()) if known else np.dtype(np.float64)
        dtypes.append(np.dtype(np.uint8) if pa.types.is_boolean(kind) else plain)
    return np.result_type(*dtypes)
