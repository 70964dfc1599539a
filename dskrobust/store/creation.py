"""Writing a new store: a stream of blocks, arrays, or links to arrays; and appending to one."""

from __future__ import annotations

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

from ..errors import InvalidDataError, StoreError
from ..labels import decoded, infer_label_kind
from . import writing
from .dataset import Store, encode, open_store
from .spec import Block, StoreSpec
from .writing import Layout, StorageOptions, Written

Progress = Callable[[int], None]
Parts = tuple[Any, Any, Any]  # some rows of features, labels and split, read or not
Names = tuple[tuple[Any, ...] | None, tuple[Any, ...] | None]  # classes and groups


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
    layout: Layout | None = None
    written = []
    first = next(pieces := iter(blocks), None)
    if first is None or not len(first.features):
        raise InvalidDataError("there are no rows to store")
    layout = Layout.of(first.features, first.labels)
    with writing.staged(url, storage_options, overwrite=overwrite) as target:
        writing.create_empty(target, spec, layout, overwrite=True, storage_options=storage_options)
        for part in _append(
            target, layout, 0, _chain(first, pieces), len(spec.groups), storage_options
        ):
            written.append(part)
            if progress:
                progress(part.summary.rows)
        writing.commit_segment(target, written, storage_options)
    return open_store(url, storage_options)


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
        Split codes and label codes are positions in `groups` and `classes`.
    groups, classes : tuple of str, optional
        The store's names with new ones behind them, where the rows bring any.
    progress : callable, optional
        Called with the number of rows after each write.

    Raises
    ------
    InvalidDataError
        Where columns or dtypes differ from the store's.
    StoreError
        Where the store only links to its arrays, or has grown since it was opened.
    """
    if store._meta["links"]:
        raise StoreError(f"{store.url} links to arrays elsewhere and cannot grow; copy it first")
    layout = Layout(*store.row_shape("features"), *store.row_shape("labels"))
    written = []
    count = len(groups or store.groups)
    for part in _append(store.url, layout, store.rows, blocks, count, store.storage_options):
        written.append(part)
        if progress:
            progress(part.summary.rows)
    names = {"groups": groups or store.groups, "classes": classes or store.spec.classes}
    for name, values in names.items():
        old = getattr(store.spec, name)
        if old is not None and (values is None or values[: len(old)] != old):
            raise InvalidDataError(f"{name} may only get new names behind the old ones {old}")
    writing.commit_segment(store.url, written, store.storage_options, names=names)
    return open_store(store.url, store.storage_options)


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
    with writing.staged(url, storage_options, overwrite=overwrite) as target:
        writing.create_empty(target, spec, layout, overwrite=True, storage_options=storage_options)
        writing.grow(target, 0, arrays.rows, storage_options)
        names = arrays.classes, arrays.groups
        tasks = [
            delayed(_write_part)(target, a, arrays.cut(a, a + step), names, storage_options)
            for a in range(0, arrays.rows, step)
        ]
        written = compute(*tasks) if arrays.lazy else _now(tasks)
        writing.commit_segment(target, written, storage_options)
    return open_store(url, storage_options)


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
    links: dict[str, Any] = {name: {"url": _url_of(a, name)} for name, a in linked.items()}
    if arrays.groups is not None:
        links["split"]["values"] = [_plain(g) for g in arrays.groups]
    layout, names = arrays.layout, (arrays.classes, arrays.groups)
    with writing.staged(url, storage_options, overwrite=overwrite) as target:
        writing.create_empty(
            target, spec, layout, overwrite=True, storage_options=storage_options, links=links
        )
        if arrays.split is None:
            codes = writing.open_group(target, storage_options, "r+")["split"]
            assert isinstance(codes, zarr.Array)
            codes.resize((arrays.rows,))
            codes[:] = 0
        written = []
        for a in range(0, arrays.rows, layout.write_rows):
            part = arrays.cut(a, min(a + layout.write_rows, arrays.rows))
            written.append(writing.record_rows(a, _make_block(part, names), layout.unit_rows))
        writing.commit_segment(target, written, storage_options)
    return open_store(url, storage_options)


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
    """

    X: Any
    y: Any
    split: Any
    classes: tuple[Any, ...] | None
    groups: tuple[Any, ...] | None

    @classmethod
    def of(cls, X: Any, y: Any, split: Any = None) -> Arrays:
        """Find the classes and groups of arrays that were checked."""
        classes = _distinct(y) if y.dtype.kind in "UTOS" else None
        return cls(X, y, split, classes, None if split is None else _distinct(split))

    @property
    def rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def lazy(self) -> bool:
        """Whether rows only exist after Dask computed them."""
        return any(isinstance(a, da.Array) for a in (self.X, self.y, self.split))

    @property
    def layout(self) -> Layout:
        dtype = np.int64 if self.classes else self.y.dtype
        return Layout.of(self.X, np.empty((0, *self.y.shape[1:]), dtype))

    def name(self, spec: StoreSpec) -> StoreSpec:
        """Return the spec with the names of these classes and groups."""
        return replace(
            spec,
            classes=tuple(str(c) for c in self.classes) if self.classes else spec.classes,
            groups=tuple(str(g) for g in self.groups) if self.groups else ("all",),
        )

    def cut(self, lo: int, hi: int) -> Parts:
        """Rows lo:hi of X, y and split: delayed values of Dask arrays, `_Rows` of the others."""
        return _rows_of(self.X, lo, hi), _rows_of(self.y, lo, hi), _rows_of(self.split, lo, hi)


def _rows_of(array: Any, lo: int, hi: int) -> Any:
    if array is None:
        return None
    if isinstance(array, da.Array):
        part = array[lo:hi].rechunk(-1)
        return part.to_delayed().ravel()[0]
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


def _write_part(
    url: str, start: int, parts: Parts, names: Names, storage_options: StorageOptions
) -> Written:
    return writing.write_rows(url, start, _make_block(parts, names), storage_options)


def _make_block(parts: Parts, names: Names) -> Block:
    """Read what is lazy and encode text labels and the split."""
    features, labels, split = (p.read() if isinstance(p, _Rows) else p for p in parts)
    classes, groups = names
    labels = labels if classes is None else encode(labels, classes, "labels")
    if split is None:
        split = np.zeros(len(features), np.int16)
    else:
        assert groups is not None
        split = encode(split, groups, "split")
    features, labels = (
        v.astype(np.uint8) if v.dtype.kind == "b" else v for v in (features, labels)
    )
    return Block(np.ascontiguousarray(features), np.ascontiguousarray(labels), split)


def _append(
    url: str,
    layout: Layout,
    start: int,
    blocks: Iterable[Block],
    groups: int,
    storage_options: StorageOptions,
) -> Iterator[Written]:
    """Write blocks one after another in whole units."""
    at = start
    for block in _regroup(blocks, layout, groups):
        writing.grow(url, start, at + len(block.features), storage_options)
        yield writing.write_rows(url, at, block, storage_options)
        at += len(block.features)


def _regroup(blocks: Iterable[Block], layout: Layout, groups: int) -> Iterator[Block]:
    """Cut blocks of any sizes into blocks of one write's rows."""
    held: list[Block] = []
    count = 0
    for block in blocks:
        block = _conform(block, layout, groups)
        while len(block.features):
            take = min(layout.write_rows - count, len(block.features))
            held.append(Block(*(part[:take] for part in block)))
            block = Block(*(part[take:] for part in block))
            count += take
            if count == layout.write_rows:
                yield Block(*(np.concatenate(parts) for parts in zip(*held, strict=True)))
                held, count = [], 0
    if held:
        yield Block(*(np.concatenate(parts) for parts in zip(*held, strict=True)))


def _conform(block: Block, layout: Layout, groups: int) -> Block:
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
    )


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
        return zarr.open_array(url, mode="r")
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"there is no Zarr array at {url}: {error}") from error


def _url_of(array: Any, name: str) -> str:
    """Return the path or URL of a Zarr array."""
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
