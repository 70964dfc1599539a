"""A store without some rows of another, and with new labels of others.

Chunks of features, split and ids that stay as they are become hard links: both stores then share
the bytes on the disk, and either may be removed. They stay as they are up to the write in which the
first row is left out, as all rows behind that one move up. Links need one segment, one file system
of this machine, and chunks as this version cuts them; else rows are copied. Arrays that the store
only refers to are referred to by the new one, too, unless rows are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError
from ..paths import absolute, behind_links, expand, local_path
from . import arrays, writing
from .creation import Progress, looked_at, regroup
from .dataset import Store
from .small_results import keep_small, read_small
from .spec import Block, StoreSpec
from .writing import Layout, SegmentWriter, StorageOptions
from .written import Written, fold


@dataclass(frozen=True)
class RowChanges:
    """What becomes of single rows.

    Attributes
    ----------
    labels : mapping of int to int or float
        Row number → its new label, as stored.
    dropped : ndarray (k,) int64
        Rows that are left out, rising.
    """

    labels: Mapping[int, int | float]
    dropped: NDArray[np.int64]

    def block(self, store: Store, lo: int, hi: int) -> Block:
        """Return what is left of rows lo:hi, with their new labels."""
        features, labels, split = store.read_block(lo, hi)[:3]
        ids = store.read("ids", lo, hi) if store.has_ids else None
        for row in (row for row in self.labels if lo <= row < hi):
            labels[row - lo] = self.labels[row]
        a, b = np.searchsorted(self.dropped, (lo, hi))
        if a == b:
            return Block(features, labels, split, ids)
        stays = np.ones(hi - lo, bool)
        stays[self.dropped[a:b] - lo] = False
        kept = ids if ids is None else ids[stays]
        return Block(features[stays], labels[stays], split[stays], kept)

    def new_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what number rows of the old store have in the new one; -1 where they are gone."""
        before = np.searchsorted(self.dropped, rows)
        gone = np.isin(rows, self.dropped) | (rows < 0)
        return np.where(gone, -1, rows - before)


class CleanedStore(NamedTuple):
    """A store that was made of another, and how many bytes of its chunks are shared with that."""

    store: Store
    linked_bytes: int


def write_cleaned(
    url: str,
    store: Store,
    changes: RowChanges,
    spec: StoreSpec,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
    progress: Progress | None = None,
) -> CleanedStore:
    """Make a store of another one's rows with some changes; see the module for what is linked.

    Raises
    ------
    InvalidDataError
        Where no row is left.
    InvalidOptionError
        Where `url` is the store itself.
    StoreError
        Where something is there already.
    """
    if behind(url) == behind(store.url):
        raise InvalidOptionError(f"{url} is the store itself; name a new one")
    if len(changes.dropped) >= store.rows:
        raise InvalidDataError(f"all {store.rows:,} rows of {store.url} are dropped; none is left")
    ids = store.row_shape("ids")[1] if store.has_ids else None
    layout = Layout(*store.row_shape("features"), *store.row_shape("labels"), ids)
    whole = not len(changes.dropped)
    links = {name: link for name, link in store.state.links.items() if whole and name != "labels"}
    with writing.new_store(
        url, layout, storage_options, overwrite=overwrite, links=tuple(links)
    ) as writer:
        writer.grow(store.rows - len(changes.dropped))
        shared = _Shared.of(writer, store, changes, layout)
        written = fold(_write(writer, shared, store, changes, layout, progress))
        writing.commit_new(
            writer, spec, written, overwrite=overwrite, ids=store.has_ids, links=links
        )
    return CleanedStore(looked_at(url, storage_options), shared.bytes)


def keep_dropped(made: Store, source: Store, changes: RowChanges) -> None:
    """Keep with a cleaned store which rows of its source it lacks."""
    keep_small(made, _dropped_of(source), {"dropped": changes.dropped})


def dropped_rows(made: Store, source: Store) -> NDArray[np.int64] | None:
    """Return which rows of its source a cleaned store lacks; None where that is not known."""
    kept = read_small(made, _dropped_of(source))
    return None if kept is None else kept["dropped"]


def _dropped_of(source: Store) -> dict[str, Any]:
    return {"of": "dropped rows", "source": [digest for _, digest in source.segments]}


def behind(url: str) -> str:
    """Return where an address leads to."""
    path = local_path(url)
    return absolute(expand(url)) if path is None else str(behind_links(path).absolute())


def _write(
    writer: SegmentWriter,
    shared: _Shared,
    store: Store,
    changes: RowChanges,
    layout: Layout,
    progress: Progress | None,
) -> Iterator[Written]:
    """Write rows after rows, of shared arrays only those behind what is shared."""
    step, at = layout.write_rows, 0
    own = tuple(name for name in writer.names if name not in shared.names)
    blocks = (
        changes.block(store, lo, min(lo + step, store.rows)) for lo in range(0, store.rows, step)
    )
    for block in regroup(blocks, layout, len(store.groups), 0):
        yield (replace(writer, names=own) if at < shared.rows else writer).write(at, block)
        at += len(block.features)
        if progress:
            progress(len(block.features))


class _Shared(NamedTuple):
    """The arrays of which the first rows' chunks are links, how many rows, how many bytes."""

    names: tuple[str, ...] = ()
    rows: int = 0
    bytes: int = 0

    @classmethod
    def of(
        cls, writer: SegmentWriter, store: Store, changes: RowChanges, layout: Layout
    ) -> _Shared:
        """Link the chunks that stay as they are; none where one cannot be linked."""
        rows, step = store.rows, layout.write_rows
        if len(changes.dropped):
            rows = int(changes.dropped[0]) // step * step
        folders = local_path(writer.url), local_path(store.url)
        segments = store.state.segments
        if not rows or None in folders or len(segments) > 1 or not segments[0].path:
            return cls()
        names = tuple(n for n in writer.names if n != "labels" and n not in store.state.links)
        found = [_chunks(writer, store, name, rows) for name in names]
        if None in found:
            return cls()
        size = _link(folders, [pair for pairs in found for pair in pairs or ()])
        return cls() if size is None else cls(names, rows, size)


def _link(folders: Sequence[Path | None], chunks: Sequence[tuple[str, str]]) -> int | None:
    """Make hard links of chunks by their new and old keys; return their bytes, None without any."""
    made: list[Path] = []
    target, source = (behind_links(folder) for folder in folders if folder is not None)
    try:
        for new, old in chunks:
            path = target / new
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / old, path)
            made.append(path)
        return sum(path.stat().st_size for path in made)
    except OSError:  # another file system, or one without links, or somebody else's files
        for path in made:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return None


def _chunks(
    writer: SegmentWriter, store: Store, name: str, rows: int
) -> list[tuple[str, str]] | None:
    """Return the keys of an array's chunks of the first rows, new and old; None of other chunks."""
    path = store.state.segments[0].path
    array = arrays.open_writable(writer.objects, f"{writer.path}/{name}")
    if {**arrays.metadata_of(array), "shape": [0, *array.shape[1:]]} != store.state.arrays[name]:
        return None
    keys = (f"{name}/c/{k}{'/0' * (array.ndim - 1)}" for k in range(-(-rows // array.chunks[0])))
    return [(f"{writer.path}/{key}", f"{path}/{key}") for key in keys]
