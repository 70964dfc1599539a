"""Writing a new store: a stream of blocks, arrays, or links to arrays; and appending to one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import persist
from dask.delayed import delayed
from numpy.typing import NDArray

from ..declared_types import checked_arguments
from ..errors import Hint, InvalidDataError, SourceFileError, StaleResultsError, StoreError
from ..ids import as_kept, plain_ids
from . import writing
from .claims import at_work
from .dataset import Store, open_store
from .diagnosis import diagnose_more
from .diagnosis.equal_rows import PART_ROWS, RECORD
from .spec import Block, StoreSpec
from .state import Names
from .writing import Layout, SegmentWriter, StorageOptions
from .written import FOLDED, Written, fold, folded

COPIES = 7  # of the rows of one write: blocks, joined, packed, read again for the notes
SORTED = 4  # copies of the hashes of a part's rows, by which equal ones are found
LIBRARIES = 64 * 2**20  # loaded while a store is written
Progress = Callable[[int], None]
SEEN_BY_ALL = Hint(
    "put it where all workers see it, or read it in this process: "
    "dask.config.set(scheduler='threads')",
    "put it where all workers see it, or leave --scheduler and --workers away",
)


@dataclass(frozen=True)
class PartedRows:
    """Rows of a source of which any run can be read by itself.

    Attributes
    ----------
    rows : int
    layout : Layout
    part : callable
        Takes lo and hi, and returns what yields the rows lo:hi, in this process or another one.
    grain : int
        Rows that are read as a whole wherever one of them is.
    """

    rows: int
    layout: Layout
    part: Callable[[int, int], Callable[[], Iterable[Block]]]
    grain: int = 1

    @property
    def task_rows(self) -> int:
        """Rows of a task: whole writes, and twice the grain, so that little is read in vain."""
        return self.layout.write_rows * -(-2 * self.grain // self.layout.write_rows)


def write_store(
    url: str,
    spec: StoreSpec,
    blocks: Iterable[Block],
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
    progress: Progress | None = None,
) -> Store:
    """Stream blocks of any sizes into a new store.

    Parameters
    ----------
    blocks : iterable of Block
        In row order; never more than one write's rows are held.
    progress : callable, optional
        Called with the number of rows after each write.
    """
    first = next(pieces := iter(blocks), None)
    if first is None or not len(first.features):
        raise InvalidDataError("there are no rows to store")
    layout = Layout.of(first.features, first.labels, first.ids)
    with writing.new_store(url, layout, storage_options, overwrite=overwrite) as writer:
        blocks = _chain(first, pieces)
        written = _stream(writer, layout, blocks, len(spec.groups), progress)
        ids = layout.id_dtype is not None
        writing.commit_new(writer, spec, written, overwrite=overwrite, ids=ids)
    return looked_at(url, storage_options)


def write_parts(
    url: str,
    spec: StoreSpec,
    source: PartedRows,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
    progress: Progress | None = None,
) -> Store:
    """Write rows that tasks of Dask read for themselves into a new store.

    The store is that of `write_store`, to the last byte.

    Parameters
    ----------
    source : PartedRows
    progress : callable, optional
        Called with the numbers of rows that were written.

    Raises
    ------
    StoreError
        Where a worker does not see the place of the store.
    """
    layout, groups = source.layout, len(spec.groups)
    with writing.new_store(url, layout, storage_options, overwrite=overwrite) as writer:
        writer.grow(source.rows)
        tasks = []
        for lo in range(0, source.rows, source.task_rows):
            part = source.part(lo, min(lo + source.task_rows, source.rows))
            writes = -(-min(source.task_rows, source.rows - lo) // layout.write_rows)
            read = delayed(_write_read)(writer, layout, lo, part, groups)
            tasks += [read[k] for k in range(writes)]
        written = by_workers(tasks, progress)
        ids = layout.id_dtype is not None
        writing.commit_new(writer, spec, written, overwrite=overwrite, ids=ids)
    return looked_at(url, storage_options, by_workers=True)


def writing_memory(layout: Layout, rows: int | None = None) -> int:
    """Return how many bytes writing rows of a layout holds at most, and looking at them after.

    Parameters
    ----------
    layout : Layout
    rows : int, optional
        How many there are, with those that the store has; where that is known.
    """
    held = layout.write_rows if rows is None else min(rows, layout.write_rows)
    hashed = PART_ROWS if rows is None else min(rows, PART_ROWS)
    row = int(np.prod(layout.feature_shape)) * layout.feature_dtype.itemsize
    row += int(np.prod(layout.label_shape)) * layout.label_dtype.itemsize
    return COPIES * held * row + SORTED * hashed * RECORD.itemsize + LIBRARIES


@checked_arguments()
def append_rows(
    store: Store,
    blocks: Iterable[Block],
    *,
    groups: tuple[str, ...] | None = None,
    classes: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Store:
    """Append blocks as one new segment; a kill leaves the store as it was.

    Parameters
    ----------
    store : Store
    blocks : iterable of Block
        Split codes and label codes are positions in `groups` and `classes`. A store with ids needs
        those of new rows; one without keeps none.
    groups, classes : tuple of str, optional
        The store's names with new ones behind them, where the rows bring any.
    progress : callable, optional
        Called with the number of rows after each write.

    Raises
    ------
    InvalidDataError
        Where columns or dtypes differ from the store's, or ids are missing.
    StoreError
        Where the store only links to its arrays, was replaced since it was opened, or others have
        added groups or classes of other names.
    """
    if store.state.links:
        raise StoreError(f"{store.url} links to arrays elsewhere and cannot grow; copy it first")
    ids = store.row_shape("ids")[1] if store.has_ids else None
    layout = Layout(*store.row_shape("features"), *store.row_shape("labels"), ids)
    names = Names(groups or store.groups, classes or store.spec.classes)
    for name, ours in names._asdict().items():
        old = getattr(store.spec, name)
        if old is not None and (ours is None or ours[: len(old)] != old):
            raise InvalidDataError(f"{name} may only get new names behind the old ones {old}")
    place = store.address.url
    with writing.more_rows(place, layout, store.rows, store.storage_options) as writer:
        written = _stream(writer, layout, blocks, len(names.groups), progress)
        writing.commit_more(writer, store.state, names, written)
    return looked_at(place, store.storage_options)


def looked_at(url: str, storage_options: StorageOptions, *, by_workers: bool = False) -> Store:
    """Open a store that was written just now, by whom it was written, with notes on its data."""
    store = open_store(url, storage_options)
    with at_work(store.address, "a store's data is looked at"), suppress(StaleResultsError):
        diagnose_more(store, scheduler=None if by_workers else "synchronous")  # memory of one
    return store


def by_workers(tasks: Sequence[Any], progress: Progress | None = None) -> Written:
    """Run tasks of writers by Dask, which folds what they tell."""
    step = FOLDED
    join = delayed(folded)
    parts = [join(tasks[k : k + step]) for k in range(0, len(tasks), step)]
    if progress is not None:
        parts = persist(*parts)
        for part in parts:
            progress(delayed(_rows_in)(part).compute())
    while len(parts) > 1:
        parts = [join(parts[k : k + step]) for k in range(0, len(parts), step)]
    written: Written = parts[0].compute()
    return written


def _rows_in(written: Written) -> int:
    return written.summary.rows


def _write_read(
    writer: SegmentWriter,
    layout: Layout,
    start: int,
    part: Callable[[], Iterable[Block]],
    groups: int,
) -> list[Written]:
    """Read rows from `start` on and write them, one write after the other."""
    written = []
    try:
        for block in regroup(part(), layout, groups, writer.first + start):
            written.append(write_block(writer, start, block))
            start += len(block.features)
    except SourceFileError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        where = f", on {platform.node()}, where a worker reads it"
        raise SourceFileError(f"{error}{where}", SEEN_BY_ALL) from error
    return written


def write_block(writer: SegmentWriter, start: int, block: Block) -> Written:
    """Write a block, wherever this process is."""
    try:
        return writer.write(start, block)
    except FileNotFoundError as error:
        raise StoreError(
            f"{writer.url} is not there on {platform.node()}, where a worker writes it; choose a "
            "path that all workers share, or an fsspec URL"
        ) from error


def _stream(
    writer: SegmentWriter,
    layout: Layout,
    blocks: Iterable[Block],
    groups: int,
    progress: Progress | None,
) -> Written:
    """Write blocks one after another in whole units."""

    def parts() -> Iterator[Written]:
        at = 0
        for block in regroup(blocks, layout, groups, writer.first):
            writer.grow(at + len(block.features))
            yield writer.write(at, block)
            at += len(block.features)
            if progress:
                progress(len(block.features))

    return fold(parts())


def regroup(blocks: Iterable[Block], layout: Layout, groups: int, first: int) -> Iterator[Block]:
    """Cut blocks of any sizes, whose first row has number `first`, into blocks of one write."""
    held: list[Block] = []
    count = 0
    for block in blocks:
        first += len(block.features)
        block = _conform(block, layout, groups, first - len(block.features))
        while len(block.features):
            take = min(layout.write_rows - count, len(block.features))
            held.append(_slice(block, slice(take)))
            block = _slice(block, slice(take, None))
            count += take
            if count == layout.write_rows:
                yield Block.joined(held)
                held, count = [], 0
    if held:
        yield Block.joined(held)


def _slice(block: Block, rows: slice) -> Block:
    ids = None if block.ids is None else block.ids[rows]
    return Block(block.features[rows], block.labels[rows], block.split[rows], ids)


def _conform(block: Block, layout: Layout, groups: int, first: int) -> Block:
    features, labels = np.asarray(block.features), np.asarray(block.labels)
    if {labels.shape[1:], layout.label_shape} == {(), (1,)}:  # a column, or its values
        labels = labels.reshape(len(labels), *layout.label_shape)
    if features.shape[1:] != layout.feature_shape or labels.shape[1:] != layout.label_shape:
        raise InvalidDataError(
            f"a block has rows of shape {features.shape[1:]} with labels {labels.shape[1:]}, the "
            f"store {layout.feature_shape} with labels {layout.label_shape}"
        )
    if not len(features) == len(labels) == len(block.split):
        raise InvalidDataError(
            f"features, labels and split have {len(features)}, {len(labels)} and "
            f"{len(block.split)} rows; they must be equally long"
        )
    split = np.asarray(block.split)
    if len(split) and not (split.min() >= 0 and split.max() < groups):
        raise InvalidDataError(
            f"split codes from {split.min()} to {split.max()} have no name among {groups} group(s)"
        )
    return Block(
        writing.cast(features, layout.feature_dtype, "features"),
        writing.cast(labels, layout.label_dtype, "labels"),
        split.astype(np.int16),
        _conform_ids(block, layout.id_dtype, first),
    )


def _conform_ids(block: Block, kept: np.dtype[Any] | None, first: int) -> NDArray[Any] | None:
    """Return ids as the store keeps them; a store without ids keeps none."""
    if kept is None:
        return None
    if block.ids is None:
        raise InvalidDataError(
            f"row {first} and those after it have no ids, but the store's rows have; give them "
            "ids, or create the store again without"
        )
    return kept_ids(block.ids, len(block.features), kept, first)


def kept_ids(ids: Any, rows: int, kept: np.dtype[Any], first: int) -> NDArray[Any]:
    """Return the ids of some rows, whose first one has number `first`, as a store keeps them."""
    ids = as_kept(plain_ids(ids, first), kept, first)
    if len(ids) != rows:
        raise InvalidDataError(f"there are {len(ids)} ids for {rows} rows from row {first} on")
    return ids


def _chain(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest
