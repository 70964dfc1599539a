"""Files that hold columns with types: Parquet, Arrow IPC (Feather), and folders of such parts."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from os import SEEK_END
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import InvalidDataError, SourceFileError
from .arrow import arrow_errors, check_distinct, columns_of, index_remarks, without_index
from .places import Place
from .reader import block_rows

PARQUET_ENDS = (".parquet", ".parq", ".pq")
ARROW_ENDS = (".feather", ".arrow", ".ipc")
PART_ENDS = (*PARQUET_ENDS, *ARROW_ENDS)
MADV_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)  # not on every system
STREAM = b"\xff\xff\xff\xff"  # begins every message of an Arrow stream, and so the stream
HIVE_MISSING = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class ColumnarFile:
    """A Parquet file, or an Arrow one of either format, file or stream.

    Attributes
    ----------
    place : Place
    form : str
        "Parquet" or "Arrow".
    types : mapping
        Arrow types of the columns, dictionaries as their values.
    rows : int
    index : tuple of str
        Columns that pandas says are the row index; they are left out unless `keep` names them.
    pieces : tuple of int
        Rows of its row groups (Parquet) or record batches (Arrow), each of which is read as a
        whole; empty for a stream, where they are only found one behind the other.
    first : int
        Row of the file that is the first one here.
    """

    place: Place
    form: str
    types: Mapping[str, Any]
    rows: int
    index: tuple[str, ...] = ()
    pieces: tuple[int, ...] = ()
    first: int = 0
    sniffed = False

    @classmethod
    def open(cls, place: Place, keep: Sequence[str | None] = ()) -> ColumnarFile:
        """Read the schema."""
        place.check()
        form = "Arrow" if place.name.lower().endswith(ARROW_ENDS) else "Parquet"
        with arrow_errors(str(place), form):
            if form == "Parquet":
                with _parquet(place) as handle:
                    schema, rows = handle.schema_arrow, handle.metadata.num_rows
                    groups = range(handle.num_row_groups)
                    pieces = tuple(handle.metadata.row_group(k).num_rows for k in groups)
            else:
                with _arrow(place) as (schema, batches, streamed):
                    sizes = tuple(batch.num_rows for batch in batches())
                    rows, pieces = sum(sizes), () if streamed else sizes
        check_distinct(str(place), schema.names)
        index = tuple(name for name in without_index(schema)[1] if name not in keep)
        types = {
            name: _plain(kind)
            for name, kind in zip(schema.names, schema.types, strict=True)
            if name not in index
        }
        return cls(place, form, types, rows, index, pieces)

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.place)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.types)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what is left out."""
        return index_remarks(self.index)

    def flaw(self, name: str) -> None:
        """Return None: the types are what the file says."""

    def part(self, lo: int, hi: int) -> ColumnarFile:
        """Return the table of rows lo:hi."""
        return replace(self, rows=hi - lo, first=self.first + lo)

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns."""
        step, names = block_rows(8 * len(columns)), list(columns)
        with arrow_errors(self.where, self.form):
            for whole in self._rows(names, step):
                for a in range(0, whole.num_rows, step):
                    yield _cast(whole.select(names).slice(a, step), self.types)

    def _rows(self, names: list[str], step: int) -> Iterator[Any]:
        """Yield batches of some columns, cut to the rows of this part."""
        last = self.first + self.rows
        ends = list(accumulate(self.pieces))
        held = [k for k, end in enumerate(ends)
                if end > self.first and end - self.pieces[k] < last]  # fmt: skip
        at = ends[held[0]] - self.pieces[held[0]] if held else 0
        if self.form == "Parquet":
            with _parquet(self.place) as handle:
                batches = handle.iter_batches(step, held, columns=names, use_threads=False)
                yield from _cut(batches, at, self.first, last)
        else:
            with _arrow(self.place) as (_, batches, streamed):
                some = batches() if streamed or len(held) == len(ends) else batches(held)
                yield from _cut(some, at, self.first, last)


def _cut(batches: Iterator[Any], at: int, lo: int, hi: int) -> Iterator[Any]:
    """Yield what batches have of the rows lo:hi; the first of them is row `at`."""
    for batch in batches:  # to the end of a whole file, which may be cut there
        if at >= hi:
            return
        a, b = max(lo - at, 0), min(hi - at, batch.num_rows)
        if a < b:
            yield batch.slice(a, b - a)
        at += batch.num_rows


@contextmanager
def _parquet(place: Place) -> Iterator[Any]:
    from pyarrow import parquet

    if place.local:
        path = Path(place.address).absolute()  # http:x.parquet is a URL to Arrow
        with parquet.ParquetFile(path) as handle:
            yield handle
    else:
        with place.open() as file, parquet.ParquetFile(file) as handle:
            yield handle


@contextmanager
def _arrow(place: Place) -> Iterator[tuple[Any, Callable[..., Iterator[Any]], bool]]:
    """Open an Arrow file or stream: its schema, what yields its batches, and whether it is one.

    Of a file those of some numbers can be asked for; a stream has them one after the other. A
    local one is mapped into memory, so that only columns that are looked at are read.
    """
    import pyarrow as pa

    view = _mapped(place) if place.local else None
    with pa.PythonFile(place.open(), "r") if view is None else pa.BufferReader(view) as file:
        streamed = file.read(len(STREAM)) == STREAM
        file.seek(0)
        handle = pa.ipc.open_stream(file) if streamed else pa.ipc.open_file(file)

        def batches(numbers: Iterable[int] | None = None) -> Iterator[Any]:
            if streamed:
                found = _streamed(handle, file)
            else:
                every = range(handle.num_record_batches)
                found = map(handle.get_batch, every if numbers is None else numbers)
            return found if view is None else _released(found, view)

        yield handle.schema, batches, streamed


def _mapped(place: Place) -> mmap.mmap:
    with Path(place.address).open("rb") as file:
        if not file.seek(0, SEEK_END):
            raise EOFError
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _released(batches: Iterator[Any], view: mmap.mmap) -> Iterator[Any]:
    """Yield batches of a mapped file; pages that were read would count as memory to the end."""
    for batch in batches:
        yield batch
        if MADV_DONTNEED is not None:
            view.madvise(MADV_DONTNEED)


def _streamed(stream: Any, file: Any) -> Iterator[Any]:
    """Yield the batches of a stream, which a mark must end: it may be cut between two batches.

    Raises
    ------
    EOFError
        Where the file ends before.
    """
    from pyarrow import ArrowInvalid

    while True:
        at = file.tell()
        try:
            batch = stream.read_next_batch()
        except StopIteration:
            if file.tell() == at:
                raise EOFError from None
            return
        except (ArrowInvalid, OSError):
            if file.tell() == file.size():
                raise EOFError from None
            raise
        yield batch


def _plain(kind: Any) -> Any:
    """Return the type of a dictionary's values, and of text that has two forms.

    A library's own type, which is there only where it is imported, is what it is stored as.
    """
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def _cast(batch: Any, types: Mapping[str, Any]) -> Any:
    """Return a batch whose columns have certain types."""
    import pyarrow as pa

    wanted = pa.schema([(name, types[name]) for name in batch.schema.names])
    return batch if batch.schema.equals(wanted) else batch.cast(wanted)


# -- folders -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartedTable:
    """Files of the same columns, one after the other, and the columns that their folders name.

    Attributes
    ----------
    where : str
        The folder.
    parts : tuple of ColumnarFile
    constants : tuple of mapping
        Values that the folders' names give to all rows of a part (``year=2024``).
    types : mapping
    """

    where: str
    parts: tuple[ColumnarFile, ...]
    constants: tuple[Mapping[str, Any], ...]
    types: Mapping[str, Any]
    sniffed = False

    @classmethod
    def open(cls, folder: Place, keep: Sequence[str | None] = ()) -> PartedTable:
        """Read the schemas of all parts."""
        files = part_files(folder)
        if not files:
            raise SourceFileError(f"{folder} holds no Parquet or Arrow files")
        parts = tuple(ColumnarFile.open(place, keep) for _, place in files)
        constants, kinds = _constants([_keys(name) for name, _ in files], str(folder))
        types = common_types(parts)
        check_distinct(str(folder), [*types, *kinds])
        return cls(str(folder), parts, constants, {**types, **kinds})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, those of the folders last."""
        return tuple(self.types)

    @property
    def index(self) -> tuple[str, ...]:
        """Columns that pandas says are the row index, and that are left out."""
        return self.parts[0].index

    @cached_property
    def rows(self) -> int:
        """How many all parts have."""
        return sum(part.rows for part in self.parts)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say what is left out."""
        return index_remarks(self.index)

    def flaw(self, name: str) -> None:
        """Return None: the types are what the files say."""

    @property
    def pieces(self) -> tuple[int, ...]:
        """Rows of what is read as a whole; empty where a part is a stream."""
        streams = any(part.rows and not part.pieces for part in self.parts)
        return () if streams else tuple(rows for part in self.parts for rows in part.pieces)

    def part(self, lo: int, hi: int) -> PartedTable:
        """Return the table of rows lo:hi, of the files that hold them."""
        ends = list(accumulate(part.rows for part in self.parts))
        starts = [end - part.rows for end, part in zip(ends, self.parts, strict=True)]
        held = [k for k in range(len(ends)) if ends[k] > lo and starts[k] < hi]
        parts = tuple(
            self.parts[k].part(max(lo - starts[k], 0), min(hi, ends[k]) - starts[k]) for k in held
        )
        return replace(self, parts=parts, constants=tuple(self.constants[k] for k in held))

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, part by part."""
        with arrow_errors(self.where, "Parquet"):
            yield from self._batches(columns)

    def _batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        import pyarrow as pa

        for part, constants in zip(self.parts, self.constants, strict=True):
            inside = {name: part.types[name] for name in columns if name not in constants}
            # Where only the folders' columns are wanted, any other one tells how many rows.
            for batch in part.batches(inside or {part.names[0]: part.types[part.names[0]]}):
                held = columns_of(batch)
                arrays = [
                    pa.repeat(pa.scalar(constants[name], self.types[name]), batch.num_rows)
                    if name in constants
                    else held[name].cast(self.types[name])
                    for name in columns
                ]
                yield pa.record_batch(arrays, names=list(columns))


def part_files(folder: Place) -> list[tuple[str, Place]]:
    """Return (path from the folder, file) of the Parquet files below, or of the Arrow files."""
    below = folder.below()
    for ends in (PARQUET_ENDS, ARROW_ENDS):
        found = [(name, place) for name, place in below if name.lower().endswith(ends)]
        if found:
            return found
    return []


def _keys(name: str) -> dict[str, str]:
    """Return what the folders of a file are called in the manner of Hive: KEY=VALUE."""
    pairs = (part.split("=", 1) for part in name.split("/")[:-1] if "=" in part)
    return {unquote(key): unquote(value) for key, value in pairs}


def _constants(
    keys: Sequence[Mapping[str, str]], where: str
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Any]]:
    """Return the parts' values and the types: int64 where all are whole numbers, or text.

    Folders such as 01 and 1 are two values, so they are text.
    """
    import pyarrow as pa

    odd = next((k for k, found in enumerate(keys) if found.keys() != keys[0].keys()), None)
    if odd is not None:
        raise SourceFileError(
            f"{where}: folders of one file are named by {', '.join(keys[0]) or 'nothing'}, those "
            f"of another one by {', '.join(keys[odd]) or 'nothing'}; read them one by one"
        )
    whole = {name: _are_numbers({found[name] for found in keys}) for name in keys[0]}
    values = tuple(
        {
            name: None if text == HIVE_MISSING else int(text) if whole[name] else text
            for name, text in found.items()
        }
        for found in keys
    )
    return values, {name: pa.int64() if w else pa.string() for name, w in whole.items()}


def _are_numbers(texts: set[str]) -> bool:
    """Return whether texts are whole numbers, all of them different."""
    whole = all(re.fullmatch(r"-?[0-9]{1,18}", text) for text in texts)
    return whole and len(set(map(int, texts))) == len(texts)


def common_types(parts: Sequence[ColumnarFile]) -> dict[str, Any]:
    """Return the types that hold the columns of all parts, which must be the same columns."""
    import pyarrow as pa

    first = parts[0]
    for part in parts[1:]:
        lacks = [name for name in first.names if name not in part.types]
        more = [name for name in part.names if name not in first.types]
        if lacks or more:
            raise InvalidDataError(
                f"{part.where} {'lacks' if lacks else 'has besides'} the column "
                f"'{(lacks or more)[0]}' of {first.where}; all parts must have the same columns"
            )
    types = {}
    for name in first.names:
        kinds = list(dict.fromkeys(part.types[name] for part in parts))
        try:
            unified = pa.unify_schemas(
                [pa.schema([(name, kind)]) for kind in kinds], promote_options="permissive"
            )
        except pa.ArrowException as error:
            other = next(part for part in parts if part.types[name] != kinds[0])
            raise InvalidDataError(
                f"column '{name}' holds {kinds[0]} in {first.where}, but {other.types[name]} in "
                f"{other.where}; save the parts with one type"
            ) from error
        types[name] = unified.field(name).type
    return types
