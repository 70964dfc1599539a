"""Dask frames as arrays whose blocks are made of partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..ids import counted_from, id_dtype, plain_ids
from ..store import lossless
from .arrow import MemoryTable
from .arrow_frames import as_table
from .columns import counted, matrix
from .containers import NamedArrays
from .frame_rows import Features, Named, features_of, joined, named_arrays
from .preparation import Preparation, PreparationOptions
from .tables import feature_dtype

if TYPE_CHECKING:
    import dask.array as da

WHERE = "the Dask frame"


@dataclass(frozen=True)
class PartitionTable:
    """A Dask frame whose partitions are computed and read one after the other, to fit columns."""

    frame: Any
    types: Mapping[str, Any]
    rows: int
    where = WHERE
    sniffed = False
    remarks = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.types)

    def flaw(self, name: str) -> None:
        """Return None: the types are what the meta declares."""

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, those of a partition at a time."""
        for part in self.frame[list(columns)].to_delayed():
            yield from MemoryTable(WHERE, as_table(part.compute(), WHERE)).batches(columns)


def from_dask(frame: Any, named: Named, options: PreparationOptions | None) -> NamedArrays:
    """Turn partitions into blocks of an array; their lengths, labels and groups are computed."""
    y, split, ids = named
    meta = MemoryTable(WHERE, as_table(frame._meta, WHERE))
    names = features_of(meta, named)
    picked = list(dict.fromkeys(v for v in (y, split) if isinstance(v, str)))
    known = (frame.map_partitions(of, meta=(None, np.int64)) for of in (len, _counted_from))
    try:
        lengths, first_rows, small = compute(*known, frame[picked])
    except (AttributeError, KeyError, ValueError) as error:  # as Dask compares them
        said = " ".join(str(error).split())
        raise InvalidDataError(f"{WHERE} is not what its meta declares: {said}") from error
    if not sum(lengths):
        raise InvalidDataError(f"{WHERE} has no rows")
    row_ids = _dask_ids(frame, [*lengths], [*first_rows], ids)
    table = PartitionTable(frame, meta.types, int(sum(lengths)))
    features = Features.of(table, names, options, row_ids is not None)
    kept = features.preparation
    if kept is not None and kept.id is not None:
        row_ids = _dask_ids(frame, [*lengths], [*first_rows], kept.id)
    held = MemoryTable(WHERE, as_table(small, WHERE))
    return named_arrays(_blocks(frame, meta, features, lengths), held, named, features, row_ids)


def rows_of_partitions(frame: Any, features: Features) -> da.Array:
    """Return the features of a Dask frame, (n, d), whose lengths are computed."""
    meta = MemoryTable(WHERE, as_table(frame._meta, WHERE))
    features.check(meta)
    return _blocks(frame, meta, features, frame.map_partitions(len, meta=(None, int)).compute())


def _blocks(frame: Any, meta: MemoryTable, features: Features, lengths: Sequence[int]) -> da.Array:
    """Return the features, (n, d), a block a partition."""
    import dask.array as da

    kept = features.preparation
    if kept is not None and not kept.plain:
        names, dtype = [column.name for column in kept.columns], np.dtype(np.float64)
        make: Any = delayed(partial(_prepared_rows, preparation=kept))
    else:
        names, dtype = list(features.names), feature_dtype(meta, features.names)
        make = delayed(partial(_plain_rows, names=features.names, dtype=dtype))
    starts = np.cumsum([0, *lengths])
    parts = zip(frame[names].to_delayed(), lengths, starts, strict=False)
    width = len(features.names)
    blocks = [
        da.from_delayed(make(part, first=int(first)), (rows, width), dtype)
        for part, rows, first in parts
        if rows
    ]
    return da.concatenate(blocks)


def _dask_ids(frame: Any, lengths: Sequence[int], first_rows: Sequence[int], ids: Any) -> Any:
    """Return ids as given, of a column, or of an index that does more than count the rows."""
    import dask.array as da

    if ids is not None and not isinstance(ids, str):
        return ids
    name: str | None = ids
    if name is None:
        first, starts = np.array(first_rows), np.cumsum([0, *lengths])[:-1]
        held = np.array(lengths) > 0
        if any((first[held] == counted).all() for counted in (0, starts[held])):
            return None  # files that were read one by one count from 0 each
    columns = frame[[name] if name is not None else list(frame.columns)[:1]]
    dtype = id_dtype((frame.index if name is None else frame[name]).dtype)
    parts = zip(columns.to_delayed(), lengths, np.cumsum([0, *lengths]), strict=False)
    made = ((delayed(_part_ids)(part, name, int(at)), rows) for part, rows, at in parts if rows)
    return da.concatenate([da.from_delayed(part, (rows,), dtype) for part, rows in made])


def _counted_from(part: Any) -> int:
    start = counted_from(getattr(part, "index", None))
    return -1 if start is None else start


def _part_ids(part: Any, name: str | None, first: int) -> NDArray[Any]:
    return plain_ids(part.index if name is None else part[name], first)


def _prepared_rows(part: Any, first: int, preparation: Preparation) -> NDArray[Any]:
    """Return the prepared rows of a partition, whose first one has number `first`."""
    names = dict.fromkeys(column.name for column in preparation.columns)
    batches = counted(MemoryTable(WHERE, as_table(part, WHERE)), names)
    return joined(preparation.transform(batch, WHERE, first + a) for a, batch in batches)


def _plain_rows(
    part: Any, first: int, names: tuple[str, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the rows of a partition, whose first one has number `first`."""
    table = MemoryTable(WHERE, as_table(part, WHERE))
    missing = [name for name in names if name not in table.names]
    if missing:
        raise InvalidDataError(
            f"{WHERE}: the partition from row {first:,} lacks column '{missing[0]}', which its "
            "meta declares"
        )
    found = feature_dtype(table, names)
    # gaps among whole numbers are NaN: those are named later
    own = found if dtype.kind != "f" else np.result_type(found, dtype)
    batches = counted(table, dict.fromkeys(names))
    values = joined(matrix(batch, names, own, WHERE, first + a) for a, batch in batches)
    cast = lossless(values, dtype)
    if cast is None:
        raise InvalidDataError(
            f"{WHERE}: the partition from row {first:,} is {found}, but its meta declares {dtype}, "
            "in which its values would change; tell map_partitions the right meta"
        )
    return cast
