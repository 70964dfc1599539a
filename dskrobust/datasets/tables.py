"""Tables with a label column: what the columns are, and the reader of any table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..display import meant
from ..errors import Hint, InvalidDataError, InvalidOptionError, SourceFileError
from ..store import Block, StoreSpec
from .arrow import FlatTable, Table, refuse_index, type_as_written, unit_of
from .columnar import ARROW_ENDS, PARQUET_ENDS, ColumnarFile, PartedTable
from .columns import counted, matrix, refuse_infinite, refuse_missing, texts
from .delimited import CsvTable
from .fitting import fit
from .places import Place
from .preparation import Preparation, PreparationOptions
from .profile import NUMBER, kind_of
from .reader import (
    MOST_CLASSES,
    MOST_GROUPS,
    PARTS,
    ReaderOptions,
    StreamReader,
    array_blocks,
    coded_classes,
    constant_split,
    distinct,
    encode,
    provenance,
    reads,
)
from .splits import RowKeys, group_keys

TARGET_NAMES = ("y", "label", "target", "class")
EMPTY: Mapping[str, Sequence[str]] = MappingProxyType({})
TABLE_OPTIONS = ("target", "split", "id", "drop", "impute", "encode", "group")

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
    codes : mapping
        The position of the class of every text: of both True and TRUE the same.
    """

    name: str
    type: Any
    kind: str
    rows: int
    classes: tuple[str, ...] | None = None
    codes: Mapping[str, int] = field(default_factory=dict)

    def read(self, batch: Any, where: str, first: int) -> NDArray[Any]:
        """Return the labels of a batch, shape (b,): int64 codes or numbers, or float64."""
        if self.classes is not None:
            return encode(texts(batch, self.name, where, first), self.codes, np.int64)
        dtype = np.float64 if self.kind == "real" else np.int64
        return matrix(batch, [self.name], dtype, where, first)[:, 0]


def find_labels(
    table: Table, options: ReaderOptions, known: Mapping[str, Sequence[str]] = EMPTY
) -> Labels:
    """Find the label column and what it holds; of text by a pass over this column alone.

    Names of classes that are `known` for a column are in their order.
    """
    import pyarrow as pa
    from pyarrow import types

    name = _target(table, options)
    kind = table.types[name]
    flaw, unit = table.flaw(name), unit_of(table, name)
    if table.sniffed and (types.is_boolean(kind) or types.is_timestamp(kind) or unit):
        kind = pa.string()  # yes and no are names of classes
    if options.labels == "real" and unit:
        raise InvalidDataError(
            f"{table.where}: column '{name}' holds numbers with {unit!r}, and labels have no unit; "
            "write it as plain numbers"
        )
    if options.labels == "real" and flaw:
        raise InvalidDataError(f"{table.where}: column '{name}' {flaw.said}")
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
    where = f"{table.where}: column '{name}'"
    found = known.get(name) or _distinct_texts(table, name, kind, MOST_CLASSES)
    classes, codes = coded_classes(found, where, in_order=name in known)
    return Labels(name, kind, "categorical", table.rows, classes, codes)


def _distinct_texts(table: Table, name: str, kind: Any, most: int) -> tuple[str, ...]:
    def parts() -> Iterator[NDArray[np.str_]]:
        for first, batch in counted(table, {name: kind}):
            refuse_missing(table, {name: kind}, batch)
            yield texts(batch, name, table.where, first)

    return distinct(parts(), most, f"{table.where}: column '{name}'")


def _target(table: Table, options: ReaderOptions) -> str:
    names = table.names
    if options.target is None:
        beside = (options.split, options.drawn.group)
        likely = [name for name in names if name.lower() in TARGET_NAMES and name not in beside]
        if len(likely) == 1:
            return likely[0]
        raise InvalidOptionError(
            f"{table.where}: which column holds the labels? There are {_listed(names)} (one that "
            f"is called {', '.join(TARGET_NAMES)} would be taken){_uncut(table)}",
            Hint("name it with target=COLUMN", "name it with --target COLUMN"),
        )
    return known_column(table, options.target, "target")


def known_column(table: Table, name: str, option: str) -> str:
    if name not in table.names:
        raise InvalidOptionError(
            f"{table.where} has no column '{name}' (option {option}) but {_listed(table.names)}"
            f"{meant(name, table.names)}{_uncut(table)}"
        )
    return name


def _uncut(table: Table) -> str:
    """Say what else a single column of a text file may be."""
    if not table.sniffed or len(table.names) > 1:
        return ""
    return "; if that is several, say what separates them with the option delimiter"


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
    options.allow("a CSV file", *TABLE_OPTIONS, "csv")
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
    table, options = opened(partial(ColumnarFile.open, place), options)
    options.allow(f"{'an' if table.form == 'Arrow' else 'a'} {table.form} file", *TABLE_OPTIONS)
    return open_table(table, Source.of(place, table.form.lower()), options)


@reads(PARTS)
def open_parts(folder: Place, options: ReaderOptions) -> StreamReader:
    """Return the reader of a folder of Parquet or Arrow files; KEY=VALUE folders are columns."""
    options.allow("a folder of Parquet files", *TABLE_OPTIONS)
    table, options = opened(partial(PartedTable.open, folder), options)
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


Columnar = TypeVar("Columnar", ColumnarFile, PartedTable)


def opened(
    opener: Callable[[Sequence[str | None]], Columnar], options: ReaderOptions
) -> tuple[Columnar, ReaderOptions]:
    """Open a table; pandas' row index, of one column, names the rows as that of a frame does."""
    known: Preparation | None = options.preparation
    row_names = options.id if known is None else known.id
    keep: Sequence[str | None] = (options.target, options.split, options.drawn.group, row_names)
    table = opener(keep)
    if row_names is None and known is None and len(table.index) == 1:
        options = replace(options, id=table.index[0])
        table = opener((*keep, options.id))
    return table, options


@dataclass(frozen=True)
class Source:
    """What a table's data set is called, where it came from, and columns' classes in order."""

    name: str
    provenance: Mapping[str, Any]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place, reader: str) -> Source:
        """Return that of a file."""
        end = next((end for end in TABLE_ENDS if place.name.lower().endswith(end)), "")
        return cls(place.name[: len(place.name) - len(end)], provenance(reader, [place]))


def open_table(table: Table, source: Source, options: ReaderOptions) -> StreamReader:
    """Return the reader of any table: one column are labels, one may be the split."""
    split = known_column(table, options.split, "split") if options.split else None
    together = options.drawn.group and known_column(table, options.drawn.group, "group")
    if not table.rows:
        raise SourceFileError(f"{table.where} has no rows")
    labels = find_labels(table, options, source.classes)
    if options.id is not None:
        known_column(table, options.id, "id")
    beside = (n for n in (split, together, options.id) if n)
    table = FlatTable.of(table, [labels.name, *beside, *_unused(table, options)])
    taken = {
        labels.name,
        split,
        together,
        *(known_column(table, name, "drop") for name in options.drop),
    }
    types = {name: kind for name, kind in table.types.items() if name not in taken}
    prepared, decisions = _prepared(table, types, options)
    stream = _TableStream(table, labels, prepared, split, _groups(table, split), together)
    changed = options.drop or together or prepared.left_out or not prepared.plain
    spec = StoreSpec(
        name=source.name,
        label_kind=labels.kind,
        groups=stream.groups,
        classes=labels.classes,
        feature_names=prepared.names,
        preparation=prepared.to_json() if changed or options.preparation else None,
        decisions=(*table.remarks, *decisions),
        provenance={**source.provenance, "target": labels.name},
    )
    if isinstance(options.scale, str):
        options = replace(options, scale=None)
    pieces = _pieces(table)
    part, grain = (stream.part, max(pieces)) if pieces else (None, 1)
    return StreamReader(
        options.apply(spec), labels.rows, stream, table.remarks, stream.keys, part, grain
    )


def _unused(table: Table, options: ReaderOptions) -> list[str]:
    """Return the columns of which no feature is made, so that their lists may be anything."""
    known: Preparation | None = options.preparation
    if known is None:
        return [*options.drop]
    names = [column.name for column in known.columns]
    lists = {name[:k] for name in names for k, mark in enumerate(name) if mark == "["}
    return [name for name in table.names if name not in lists]


def _prepared(
    table: Table, types: Mapping[str, Any], options: ReaderOptions
) -> tuple[Preparation, tuple[str, ...]]:
    """Return what becomes of the columns, and what was decided: nothing where it is known."""
    known: Preparation | None = options.preparation
    if known is None:
        scale = options.scale if isinstance(options.scale, str) else None
        asked = PreparationOptions(options.impute, options.encode, scale, options.prepare)
        return fit(table, types, asked, options.id)
    known.check(table)
    return known, ()


def _pieces(table: Table) -> tuple[int, ...]:
    """Return the rows of what is read as a whole, where any run of rows can be read by itself."""
    file = getattr(table, "table", table)
    return file.pieces if isinstance(file, ColumnarFile | PartedTable) else ()


def _groups(table: Table, split: str | None) -> tuple[str, ...]:
    """Return the names of the groups in the order of their first appearance."""
    if split is None:
        return ("all",)
    return _distinct_texts(table, split, type_as_written(table, split), MOST_GROUPS)


@dataclass(frozen=True)
class _TableStream:
    """The blocks of a table, or of the rows lo:hi of one that has such parts."""

    table: Table
    labels: Labels
    prepared: Preparation
    split: str | None
    groups: tuple[str, ...]
    together: str | None = None  # column whose equal values a split must not part
    rows: tuple[int, int] | None = None

    def part(self, lo: int, hi: int) -> _TableStream:
        """Return the blocks of the rows lo:hi."""
        return replace(self, rows=(lo, hi))

    def _batches(self, types: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
        if self.rows is None:
            yield from counted(self.table, types)
            return
        part = self.table.part(*self.rows)  # type: ignore[attr-defined]
        for first, batch in counted(part, types):
            yield self.rows[0] + first, batch

    def __call__(self) -> Iterator[Block]:
        table, prepared = self.table, self.prepared
        names = [column.name for column in prepared.columns]
        types = {column.name: prepared.type_of(table, column) for column in prepared.columns}
        whole = {self.labels.name: self.labels.type}  # columns without a missing value
        if self.split is not None:
            whole[self.split] = type_as_written(table, self.split)
        if prepared.id is not None:
            whole[prepared.id] = _id_type(table, prepared.id)
        dtype = np.dtype(np.float64)
        if prepared.plain:
            dtype = feature_dtype(table, names)
            whole = {**types, **whole}
        codes = {group: code for code, group in enumerate(self.groups)}
        for first, batch in self._batches({**types, **whole}):
            refuse_missing(table, whole, batch)
            if prepared.plain:
                x = matrix(batch, names, dtype, table.where, first)
                refuse_infinite(table.where, names, x, first)
            else:
                x = prepared.transform(batch, table.where, first)
            y = self.labels.read(batch, table.where, first)
            refuse_infinite(table.where, [self.labels.name], y[:, None], first)
            ids = None if prepared.id is None else _ids(batch, prepared.id, table.where, first)
            yield from array_blocks(x, y, self._codes(batch, codes, first), ids)

    def keys(self) -> Iterator[RowKeys]:
        """Yield what a split is drawn by; only these columns are read."""
        table, column = self.table, self.together
        types = {self.labels.name: self.labels.type}
        if column is not None:
            types[column] = type_as_written(table, column)
        for first, batch in counted(table, types):
            refuse_missing(table, types, batch)
            y = self.labels.read(batch, table.where, first)
            named = None if column is None else texts(batch, column, table.where, first)
            yield RowKeys(y, None if named is None else group_keys(named))

    def _codes(self, batch: Any, codes: Mapping[str, int], first: int) -> NDArray[np.int16]:
        """Return the split codes of a batch, shape (b,)."""
        if self.split is None:
            return constant_split(batch.num_rows, 0)
        return encode(texts(batch, self.split, self.table.where, first), codes, np.int16)


def _id_type(table: Table, name: str) -> Any:
    """Return as what an id column is read: whole numbers as such, all else as it is written."""
    import pyarrow as pa

    whole = pa.types.is_integer(table.types[name]) and not unit_of(table, name)
    return table.types[name] if whole else type_as_written(table, name)


def _ids(batch: Any, name: str, where: str, first: int) -> NDArray[Any]:
    """Return the ids of a batch, shape (b,): whole numbers, or text objects."""
    import pyarrow as pa

    column = batch.column(name)
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
    return texts(batch, name, where, first).astype(object)


def feature_dtype(table: Table, names: Sequence[str]) -> np.dtype[Any]:
    """Return the common NumPy dtype of columns of numbers.

    Raises
    ------
    InvalidDataError
        Where there are none, and for the first that holds no numbers, or pandas' row index.
    """
    import pyarrow as pa

    if not names:
        raise InvalidDataError(f"{table.where} has no columns besides the labels")
    dtypes: set[np.dtype[Any]] = {np.dtype(np.float64)} if table.sniffed else set()
    for name in names:
        kind = table.types[name]
        refuse_index(table, name)
        if flaw := table.flaw(name):
            raise InvalidDataError(
                f"{table.where}: column '{name}' {flaw.said}; features must be numbers: drop the "
                "column or encode it first"
            )
        if kind_of(kind) != NUMBER:
            raise InvalidDataError(
                f"{table.where}: column '{name}' holds {kind}, not numbers; drop it or encode it "
                "first (create_store with preparation=PreparationOptions() does)"
            )
        known = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        plain = np.dtype(kind.to_pandas_dtype()) if known else np.dtype(np.float64)
        dtypes.add(np.dtype(np.uint8) if pa.types.is_boolean(kind) else plain)
    return np.result_type(*dtypes)
