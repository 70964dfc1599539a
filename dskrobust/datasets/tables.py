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
from .preparation import Fit, Preparation, PreparationOptions, fit
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
    fitted, types = _features(table, [n for n in table.names if n not in taken], options)
    stream = _TableStream(table, labels, types, fitted, split, options.id or fitted.id)
    left_out = sorted({*options.drop, *fitted.left_out, *([options.id] if options.id else [])})
    more = {"left_out": left_out, **({"id": stream.id} if stream.id else {})}
    spec = StoreSpec(
        name=name,
        label_kind=labels.kind,
        groups=stream.groups,
        classes=labels.classes,
        feature_names=fitted.preparation.names if fitted.preparation else tuple(types),
        preparation=fitted.preparation.to_json() if fitted.preparation else None,
        decisions=fitted.decisions,
        provenance=provenance(reader, paths, target=labels.name, **more),
    )
    if isinstance(options.scale, str):
        options = replace(options, scale=None)
    return StreamReader(options.apply(spec), labels.rows, stream)


def _features(
    table: Table, names: Sequence[str], options: ReaderOptions
) -> tuple[Fit, dict[str, Any]]:
    """Return the fitted columns, and the Arrow types of those that are read."""
    known: Preparation | None = options.preparation
    if known is not None:
        missing = [c.name for c in known.columns if c.name not in names]
        if missing:
            raise InvalidDataError(f"{table.where} lacks the column '{missing[0]}'")
        names = [column.name for column in known.columns]
    types = column_types(table, names)
    if known is not None:
        return Fit(known, ()), types
    if not names:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    scale = options.scale if isinstance(options.scale, str) else None
    asked = PreparationOptions(options.impute, options.encode, scale, options.prepare)
    fitted = fit(table, types, asked, options.id)
    out = {*fitted.left_out, options.id}
    return fitted, {name: kind for name, kind in types.items() if name not in out}


@dataclass(frozen=True)
class _TableStream:
    """The blocks of a table."""

    table: Table
    labels: Labels
    types: Mapping[str, Any]
    fitted: Fit
    split: str | None
    id: str | None

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
        read = {**self.types, self.labels.name: self.labels.type}
        if self.split is not None:
            read[self.split] = self._split_type
        if self.id is not None:
            read[self.id] = id_type(self.table, self.id)
        prepared = self.fitted.preparation
        dtype = None if prepared else feature_dtype(self.types)
        codes = {group: code for code, group in enumerate(self.groups)}
        where = self.table.where
        for first, batch in counted(self.table, read):
            if prepared:
                x = prepared.transform(batch, where, first)
            else:
                x = matrix(batch, tuple(self.types), dtype, where, first)
            y = self.labels.read(batch, where, first)
            if self.split is None:
                in_group = constant_split(len(x), 0)
            else:
                in_group = encode(texts(batch, self.split, where, first), codes, np.int16)
            names = None if self.id is None else _ids(batch, self.id, where, first)
            at = 0
            for block in array_blocks(x, y, in_group):
                end = at + len(block.features)
                yield block if names is None else block._replace(ids=names[at:end])
                at = end


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


def feature_types(table: Table, names: Sequence[str]) -> tuple[dict[str, Any], np.dtype[Any]]:
    """Return the Arrow types of columns of numbers, and their common dtype."""
    if not names:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    types = {name: table.types[name] for name in names}
    for name, kind in types.items():
        if kind_of(kind) != NUMBER:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {kind}, not numbers; "
                "drop it or encode it first"
            )
    return types, feature_dtype(types)


def feature_dtype(types: Mapping[str, Any]) -> np.dtype[Any]:
    """Return the common NumPy dtype of columns of numbers."""
    import pyarrow as pa

    dtypes = []
    for kind in types.values():
        whole = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        plain = np.dtype(kind.to_pandas_dtype()) if whole else np.dtype(np.float64)
        dtypes.append(np.dtype(np.uint8) if pa.types.is_boolean(kind) else plain)
    return np.result_type(*dtypes)
