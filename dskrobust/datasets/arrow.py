"""Tables as Arrow record batches: what all of them have, those in memory, and columns of lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..errors import DskrobustError, InvalidDataError, SourceFileError
from .reader import block_rows, source_errors

if TYPE_CHECKING:
    import pyarrow as pa

MOST_NAMED = 500_000  # columns that are told apart by names
UNNAMED = re.compile(r"Unnamed: (\d+)(\.\d+)?")  # pandas and `CsvTable`: a column without a name
INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name in Parquet


class Flaw(NamedTuple):
    """Why a column is no numbers, or which of them cannot be held, where its type does not say.

    Attributes
    ----------
    said : str
    text : bool
        Whether it is just text, which may be encoded; otherwise the user has to say more.
    """

    said: str
    text: bool = False


class Table(Protocol):
    """Named columns of a source, read batch by batch."""

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns."""
        ...

    @property
    def rows(self) -> int: ...

    @property
    def sniffed(self) -> bool:
        """Whether the types are only what the values look like: then all numbers are float64."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What nobody said but the source showed, a line each."""
        ...

    def flaw(self, name: str) -> Flaw | None:
        """Return what is wrong with a column; None where all is well."""
        ...

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, with the given Arrow types."""
        ...


@dataclass(frozen=True)
class MemoryTable:
    """An Arrow table in memory."""

    where: str
    table: pa.Table
    remarks: tuple[str, ...] = ()
    sniffed = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.table.column_names)

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns."""
        return dict(zip(self.table.schema.names, self.table.schema.types, strict=True))

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    def part(self, lo: int, hi: int) -> MemoryTable:
        """Return the table of rows lo:hi."""
        return MemoryTable(self.where, self.table.slice(lo, hi - lo))

    def flaw(self, name: str) -> None:
        """Return None: types of columns in memory are what they are."""

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns."""
        picked = self.table.select(list(columns))
        yield from picked.to_batches(max_chunksize=block_rows(8 * len(columns)))


def columns_of(batch: Any) -> dict[str, Any]:
    """Return the columns of a batch by name; asking it for one after the other takes longer."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def refuse_index(table: Table, name: str) -> None:
    """Refuse as a feature a column without a name, and pandas' row index."""
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


def type_as_written(table: Table, name: str) -> Any:
    """Return the type as which groups are read: as they are written, where that is known."""
    import pyarrow as pa

    return pa.string() if table.sniffed else table.types[name]


def unit_of(table: Any, name: str) -> str:
    """Return what stands beside every number of a column, as € or kg; only text has such."""
    return str(table.unit(name)) if table.sniffed else ""


# -- columns of lists --------------------------------------------------------------------------


@dataclass(frozen=True)
class FlatTable:
    """A table whose columns of lists are as many columns of numbers: col[0], col[1] and so on.

    Attributes
    ----------
    table : Table
    shapes : mapping
        How many values the lists of a column have, all of them the same: of lists of lists, which
        become col[0][0], col[0][1] and so on, at every level.
    first : int
        Number of the first row, in messages.
    """

    table: Any
    shapes: Mapping[str, tuple[int, ...]]
    first: int = 0

    @classmethod
    def of(cls, table: Table, keep: Sequence[str] = ()) -> Table:
        """Return a table without columns of lists; those in `keep` stay.

        Lists of a type without a length are as long as the first one.
        """
        shapes = {}
        for name, kind in table.types.items():
            if name in keep or isinstance(table, FlatTable) or not _of_values(kind):
                continue
            shapes[name] = _shape(table, name, kind)
            if 0 in shapes[name] and table.rows:
                raise InvalidDataError(
                    f"{table.where}: column '{name}' holds lists without a value; drop the column"
                )
        return cls(table, shapes) if shapes else table

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.table.where)

    @property
    def sniffed(self) -> bool:
        """As the table's own."""
        return bool(self.table.sniffed)

    @property
    def remarks(self) -> tuple[str, ...]:
        """As the table's own."""
        return tuple(self.table.remarks)

    @property
    def rows(self) -> int:
        """As the table's own."""
        return int(self.table.rows)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.types)

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns."""
        found: dict[str, Any] = {}
        for name, kind in self.table.types.items():
            if name in self.shapes:
                found |= dict.fromkeys(_parts(name, self.shapes[name]), _levels(kind)[-1])
            else:
                found[name] = kind
        check_distinct(self.where, [*found, *(n for n in self.shapes if n in found)])
        return found

    @cached_property
    def _origin(self) -> Mapping[str, tuple[str, int]]:
        """The list column and the position in it of every new column."""
        return {
            part: (name, k)
            for name, shape in self.shapes.items()
            for k, part in enumerate(_parts(name, shape))
        }

    def part(self, lo: int, hi: int) -> FlatTable:
        """Return the table of rows lo:hi, where the table has such a part."""
        return replace(self, table=self.table.part(lo, hi), first=self.first + lo)

    def unit(self, name: str) -> str:
        """As the table's own."""
        return "" if name in self._origin else unit_of(self.table, name)

    def flaw(self, name: str) -> Flaw | None:
        """As the table's own."""
        found: Flaw | None = None if name in self._origin else self.table.flaw(name)
        return found

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, of no more rows than these many columns allow."""
        wanted = {}
        for name, kind in columns.items():
            origin = self._origin.get(name, (name, 0))[0]
            wanted[origin] = self.table.types[origin] if name in self._origin else kind
        first, step = self.first, block_rows(8 * len(columns))
        for whole in self.table.batches(wanted):
            for a in range(0, whole.num_rows, step):
                yield self._flat(whole.slice(a, step), list(columns), first + a)
            first += whole.num_rows

    def _flat(self, batch: Any, names: Sequence[str], first: int) -> Any:
        """Return a batch, whose first row has number `first`, with lists as columns."""
        import pyarrow as pa

        held = columns_of(batch)
        wide = {n: self._matrix(held[n], n, first) for n in held if n in self.shapes}
        arrays = []
        for name in names:
            origin, k = self._origin.get(name, (name, -1))
            arrays.append(held[origin] if k < 0 else pa.array(wide[origin][:, k]))
        return pa.record_batch(arrays, names=names)

    def _matrix(self, lists: Any, name: str, first: int) -> Any:
        """Return the values of lists, shape (b, values)."""
        import pyarrow.compute as pc

        values, each = lists, 1
        for width in self.shapes[name]:
            lengths = pc.fill_null(pc.list_value_length(values), -1).to_numpy(zero_copy_only=False)
            wrong = np.flatnonzero(lengths != width)
            if wrong.size:
                found = int(lengths[wrong[0]])
                raise InvalidDataError(
                    f"{self.where}: row {first + int(wrong[0]) // each} has "
                    f"{f'{found} values' if found >= 0 else 'no value'} in column '{name}', whose "
                    f"lists have {width}; all rows must have as many"
                )
            values, each = values.flatten(), each * width
        if values.null_count:
            row = int(np.argmax(np.asarray(values.is_null()))) // each
            raise InvalidDataError(
                f"{self.where}: row {first + row} has a list with a missing value in column "
                f"'{name}'; drop the row or fill the value in"
            )
        return values.to_numpy(zero_copy_only=False).reshape(len(lists), each)


def _parts(name: str, shape: Sequence[int]) -> list[str]:
    return [f"{name}{''.join(f'[{k}]' for k in index)}" for index in np.ndindex(*shape)]


def _levels(kind: Any) -> list[Any]:
    """Return the types of lists of lists from the outermost to that of their values."""
    from pyarrow import types

    found = [kind]
    while any(
        holds(found[-1]) for holds in (types.is_list, types.is_large_list, types.is_fixed_size_list)
    ):
        found.append(found[-1].value_type)
    return found


def _of_values(kind: Any) -> bool:
    """Return whether a type is one of lists, and these hold neither records nor bytes."""
    from pyarrow import types

    *lists, value = _levels(kind)
    return bool(lists) and not (types.is_nested(value) or types.is_binary(value))


def _shape(table: Table, name: str, kind: Any) -> tuple[int, ...]:
    """Return how many values lists have at every level: as their type says, or the first row."""
    from pyarrow import types

    lists = _levels(kind)[:-1]
    if all(types.is_fixed_size_list(level) for level in lists):
        return tuple(level.list_size for level in lists)
    for batch in table.batches({name: kind}):
        found = next((value.as_py() for value in batch.column(name) if value.is_valid), None)
        if found is not None:
            return _lengths(found, len(lists))
    return (0,) * len(lists)


def _lengths(value: Any, levels: int) -> tuple[int, ...]:
    shape = []
    for _ in range(levels):
        shape.append(len(value or ()))
        value = value[0] if value else None
    return tuple(shape)


# -- what files share --------------------------------------------------------------------------


def without_index(schema: Any) -> tuple[list[str], tuple[str, ...]]:
    """Return the names of a schema's columns, and those that pandas says are its row index."""
    described = schema.pandas_metadata or {}
    index = [name for name in described.get("index_columns", ()) if isinstance(name, str)]
    index += [name for name in schema.names if INDEX.fullmatch(name)]
    found = tuple(name for name in schema.names if name in index)
    return [name for name in schema.names if name not in found], found


def index_remarks(index: Sequence[str]) -> tuple[str, ...]:
    """Say that pandas' row index is no feature."""
    names = ", ".join(f"'{name}'" for name in index)
    return (f"{names} is pandas' row index and is left out",) if index else ()


@contextmanager
def arrow_errors(where: str, form: str) -> Iterator[None]:
    """Name the file in what Arrow and the file system raise."""
    from pyarrow import ArrowException

    with source_errors(where, form):
        try:
            yield
        except DskrobustError:
            raise
        except (ArrowException, UnicodeError) as error:
            text = " ".join(str(error).split())
            text = text if len(text) <= 200 else f"{text[:200]}…"
            raise SourceFileError(f"{where} is no {form} file, or a damaged one: {text}") from error


def check_distinct(where: str, names: Sequence[str]) -> None:
    """Refuse two columns of one name, and more columns than a table has."""
    if len(names) > MOST_NAMED:
        raise SourceFileError(
            f"{where} has {len(names):,} columns, more than the {MOST_NAMED:,} of a table; save "
            "the numbers as arrays X and y of an .npz or HDF5 file"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceFileError(f"{where}: two columns are called '{twice[0]}'; rename one")
