"""Writing a new store: a stream of blocks, arrays, or links to arrays; and appending to one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..credentials import without_credentials
from ..errors import InvalidDataError, StoreError
from ..ids import as_kept, plain_ids
from ..labels import decoded, infer_label_kind
from ..paths import behind_links, expand, local_path
from . import writing
from .claims import at_work
from .dataset import Store, encode, open_store
from .diagnosis import diagnose
from .diagnosis.equal_rows import PART_ROWS, RECORD
from .spec import Block, StoreSpec, TaskRows
from .state import Link, Names
from .writing import Layout, SegmentWriter, StorageOptions, Written

COPIES = 7  # of the rows of one write: blocks, joined, packed, read again for the notes
SORTED = 4  # copies of the hashes of a part's rows, by which equal ones are found
LIBRARIES = 64 * 2**20  # loaded while a store is written
Progress = Callable[[int], None]
Parts = tuple[Any, Any, Any, Any]  # some rows of features, labels, split and ids, read or not
Coding = tuple[tuple[Any, ...] | None, tuple[Any, ...] | None, Any]  # classes, groups, ids' dtype


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
    return _looked_at(url, storage_options)


def writing_memory(block: Block, rows: int | None = None) -> int:
    """Return how many bytes `write_store` holds at most, of rows like those of a block.

    Parameters
    ----------
    block : Block
    rows : int, optional
        How many there are, where that is known.
    """
    layout = Layout.of(block.features, block.labels, block.ids)
    held = layout.write_rows if rows is None else min(rows, layout.write_rows)
    hashed = PART_ROWS if rows is None else min(rows, PART_ROWS)
    row = block.features.nbytes // len(block.features)
    return COPIES * held * row + SORTED * hashed * RECORD.itemsize + LIBRARIES


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
    return _looked_at(place, store.storage_options)


def write_arrays(
    url: str,
    arrays: Arrays,
    spec: StoreSpec,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
) -> Store:
    """Write arrays into a new store; Dask arrays block by block, by their workers."""
    layout = arrays.layout
    step = layout.write_rows
    with writing.new_store(url, layout, storage_options, overwrite=overwrite) as writer:
        writer.grow(arrays.rows)
        names = arrays.classes, arrays.groups, layout.id_dtype
        tasks = [
            delayed(_write_part)(writer, a, arrays.cut(a, a + step), names)
            for a in range(0, arrays.rows, step)
        ]
        written = compute(*tasks) if arrays.lazy else _now(tasks)
        ids = layout.id_dtype is not None
        writing.commit_new(writer, spec, written, overwrite=overwrite, ids=ids)
    return _looked_at(url, storage_options, by_workers=arrays.lazy)


def link_arrays(
    url: str,
    arrays: Arrays,
    spec: StoreSpec,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
) -> Store:
    """Make a store that refers to Zarr arrays, after one pass of checks over them."""
    linked = {"features": arrays.X, "labels": arrays.y}
    if arrays.split is not None:
        linked["split"] = arrays.split
    if isinstance(arrays.ids, zarr.Array):
        linked["ids"] = arrays.ids
    links = {name: Link(url=_url_of(a, name)) for name, a in linked.items()}
    for name, link in links.items():
        _refuse_own(url, name, link.url)
    if arrays.groups is not None:
        values = tuple(_plain(g) for g in arrays.groups)
        links["split"] = Link(url=links["split"].url, values=values)
    layout = arrays.layout
    names = arrays.classes, arrays.groups, layout.id_dtype
    with writing.new_store(
        url, layout, storage_options, overwrite=overwrite, links=tuple(links)
    ) as writer:
        writer.grow(arrays.rows)
        written = []
        for a in range(0, arrays.rows, layout.write_rows):
            part = arrays.cut(a, min(a + layout.write_rows, arrays.rows))
            written.append(writer.write(a, _make_block(part, names, a)))
        ids = layout.id_dtype is not None
        writing.commit_new(writer, spec, written, overwrite=overwrite, ids=ids, links=links)
    return _looked_at(url, storage_options)


def _looked_at(url: str, storage_options: StorageOptions, *, by_workers: bool = False) -> Store:
    """Open a store that was written just now, by whom it was written, with notes on its data."""
    store = open_store(url, storage_options)
    with at_work(store.address, "a store's data is looked at"):
        diagnose(store, scheduler=None if by_workers else "synchronous")  # memory of one
    return store


def default_spec(url: str, y: Any) -> StoreSpec:
    """Return the spec of a new store for labels (anything with shape and dtype)."""
    kind = infer_label_kind(np.dtype("U1" if y.dtype.kind in "UTOS" else y.dtype), len(y.shape))
    return StoreSpec(name=str(url).rstrip("/").rsplit("/", 1)[-1], label_kind=kind)


@dataclass(frozen=True)
class Arrays:
    """The checked arrays that a new store is made of.

    Attributes
    ----------
    X : array (n, d)
        NumPy, Dask or Zarr, or `LazyRows`.
    y : array (n,) or (n, m)
    split : array (n,), optional
    classes, groups : tuple, optional
        The distinct values of text labels and of `split`.
    ids : array (n,), optional
    """

    X: Any
    y: Any
    split: Any
    classes: tuple[Any, ...] | None
    groups: tuple[Any, ...] | None
    ids: Any = None

    @classmethod
    def of(cls, X: Any, y: Any, split: Any = None, ids: Any = None) -> Arrays:
        """Find the classes and groups of arrays that were checked."""
        classes = _distinct(y) if y.dtype.kind in "UTOS" else None
        return cls(X, y, split, classes, None if split is None else _distinct(split), ids)

    @property
    def rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def lazy(self) -> bool:
        """Whether rows only exist after Dask computed them."""
        parts = (self.X, self.y, self.split, self.ids)
        return any(isinstance(a, (da.Array, TaskRows)) for a in parts)

    @property
    def layout(self) -> Layout:
        dtype = np.int64 if self.classes else self.y.dtype
        return Layout.of(self.X, np.empty((0, *self.y.shape[1:]), dtype), self.ids)

    def name(self, spec: StoreSpec) -> StoreSpec:
        """Return the spec with the names of these classes and groups."""
        return replace(
            spec,
            classes=tuple(str(c) for c in self.classes) if self.classes else spec.classes,
            groups=tuple(str(g) for g in self.groups) if self.groups else ("all",),
        )

    def cut(self, lo: int, hi: int) -> Parts:
        """Rows lo:hi of all arrays: delayed values of Dask arrays, `_Rows` of the others."""
        X, y, split, ids = (_rows_of(a, lo, hi) for a in (self.X, self.y, self.split, self.ids))
        return X, y, split, ids


def _rows_of(array: Any, lo: int, hi: int) -> Any:
    if array is None:
        return None
    if isinstance(array, da.Array):
        part = array[lo:hi].rechunk(-1)
        return part.to_delayed().ravel()[0]
    if isinstance(array, TaskRows):
        return array.task(lo, min(hi, len(array)))
    if isinstance(array, np.ndarray):
        return _Rows(array[lo:hi], 0, hi - lo)  # a task of a cluster takes no more along
    return _Rows(array, lo, hi)


class _Rows:
    """Rows of an array that are read when a task asks for them."""

    def __init__(self, array: Any, lo: int, hi: int) -> None:
        self.array, self.lo, self.hi = array, lo, hi

    def read(self) -> NDArray[Any]:
        return np.asarray(self.array[self.lo : self.hi])


def _now(tasks: list[Any]) -> Iterator[Written]:
    for task in tasks:
        yield task.compute(scheduler="sync")


def _write_part(writer: SegmentWriter, start: int, parts: Parts, names: Coding) -> Written:
    block = _make_block(parts, names, start)
    try:
        return writer.write(start, block)
    except FileNotFoundError as error:
        raise StoreError(
            f"{writer.url} is not there on {platform.node()}, where a worker writes it; choose a "
            "path that all workers share, or an fsspec URL"
        ) from error


def _make_block(parts: Parts, names: Coding, start: int) -> Block:
    """Read what is lazy and encode text labels and the split; the first row has number `start`."""
    features, labels, split, ids = (p.read() if isinstance(p, _Rows) else p for p in parts)
    classes, groups, kept = names
    labels = labels if classes is None else encode(labels, classes, "labels")
    if split is None:
        split = np.zeros(len(features), np.int16)
    else:
        assert groups is not None
        split = encode(split, groups, "split")
    features, labels = (
        v.astype(np.uint8) if v.dtype.kind == "b" else v for v in (features, labels)
    )
    ids = None if ids is None else _kept_ids(ids, len(features), kept, start)
    return Block(np.ascontiguousarray(features), np.ascontiguousarray(labels), split, ids)


def _stream(
    writer: SegmentWriter,
    layout: Layout,
    blocks: Iterable[Block],
    groups: int,
    progress: Progress | None,
) -> list[Written]:
    """Write blocks one after another in whole units."""
    written: list[Written] = []
    at = 0
    for block in _regroup(blocks, layout, groups, writer.first):
        writer.grow(at + len(block.features))
        written.append(writer.write(at, block))
        at += len(block.features)
        if progress:
            progress(len(block.features))
    return written


def _regroup(blocks: Iterable[Block], layout: Layout, groups: int, first: int) -> Iterator[Block]:
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
                yield _join(held)
                held, count = [], 0
    if held:
        yield _join(held)


def _slice(block: Block, rows: slice) -> Block:
    ids = None if block.ids is None else block.ids[rows]
    return Block(block.features[rows], block.labels[rows], block.split[rows], ids)


def _join(held: list[Block]) -> Block:
    features, labels, split = (np.concatenate([block[k] for block in held]) for k in range(3))
    ids = [block.ids for block in held if block.ids is not None]  # of all of them, or of none
    return Block(features, labels, split, np.concatenate(ids) if ids else None)


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
    return _kept_ids(block.ids, len(block.features), kept, first)


def _kept_ids(ids: Any, rows: int, kept: np.dtype[Any], first: int) -> NDArray[Any]:
    """Return the ids of some rows, whose first one has number `first`, as a store keeps them."""
    ids = as_kept(plain_ids(ids, first), kept, first)
    if len(ids) != rows:
        raise InvalidDataError(f"there are {len(ids)} ids for {rows} rows from row {first} on")
    return ids


def _chain(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


def _distinct(values: Any) -> tuple[Any, ...]:
    if isinstance(values, da.Array):
        distinct = da.unique(values).compute()
    else:
        values = np.asarray(values[:])
        distinct = np.unique(decoded(values, "labels") if values.dtype.kind == "S" else values)
    return tuple(_plain(v) for v in distinct)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def open_array(url: str) -> Any:
    """Open a Zarr array at a path or fsspec URL, for `create_store`.

    Raises
    ------
    StoreError
        Where there is none.
    """
    try:
        return zarr.open_array(expand(url), mode="r")
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"there is no Zarr array at {url}: {error}") from error


def _url_of(array: Any, name: str) -> str:
    """Return the path or URL of a Zarr array, which the store keeps for whoever opens it.

    Raises
    ------
    StoreError
        For one in memory, of foreign byte order, or whose URL holds a key.
    """
    url = _address_of(array, name)
    if without_credentials(url) != url:
        raise StoreError(
            f"the address of {name}, {without_credentials(url)}, holds a key, which a store does "
            "not keep; give keys to the file system by its configuration, or copy the array "
            "(link=False)"
        )
    return url


def _refuse_own(url: str, name: str, link: str) -> None:
    """Refuse a link to what the store itself holds, which goes when it is replaced."""
    store, array = local_path(url), local_path(link)
    if store is not None and array is not None:
        own = behind_links(store)
        if own in (behind_links(array), *behind_links(array).parents):
            raise StoreError(f"{name} lies in {url} itself; copy it (link=False)")


def _address_of(array: Any, name: str) -> str:
    if not isinstance(array, zarr.Array):
        raise StoreError(f"link=True needs Zarr arrays; {name} is a {type(array).__name__}")
    store = array.store_path.store
    root = getattr(store, "root", None) or getattr(store, "path", None)
    if root is None:
        raise StoreError(
            f"{name} lies in a {type(store).__name__}, which has no address to link to"
        )
    if not array.dtype.isnative:
        raise StoreError(f"{name} is stored in foreign byte order; copy it (link=False)")
    if isinstance(root, Path):
        root = root.resolve()
    path = "/".join(p for p in (str(root).rstrip("/"), array.store_path.path) if p)
    protocol = getattr(getattr(store, "fs", None), "protocol", None)
    if protocol and "://" not in path:
        scheme = protocol if isinstance(protocol, str) else protocol[0]
        return path if scheme in ("file", "local") else f"{scheme}://{path}"
    return path
