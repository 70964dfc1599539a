"""Creating and extending a store: from streams of blocks, from arrays, or by reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidDataError, StoreError
from ..labels import infer_label_kind
from . import writing
from .dataset import Store, encode, open_store
from .spec import Block, LazyRows, StoreSpec
from .writing import Layout, Written

Progress = Callable[[int], None]


def write_store(
    url: str,
    spec: StoreSpec,
    blocks: Iterable[Block],
    *,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
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
    with writing.staged(url, options, overwrite=overwrite) as target:
        writing.create_empty(target, spec, layout, overwrite=True, options=options)
        for part in _append(target, layout, 0, _chain(first, pieces), len(spec.groups), options):
            written.append(part)
            if progress:
                progress(part.summary.rows)
        writing.commit_segment(target, written, options)
    return open_store(url, options)


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
    for part in _append(store.url, layout, store.rows, blocks, count, store.options):
        written.append(part)
        if progress:
            progress(part.summary.rows)
    names = {"groups": groups or store.groups, "classes": classes or store.spec.classes}
    for name, values in names.items():
        old = getattr(store.spec, name)
        if old is not None and (values is None or values[: len(old)] != old):
            raise InvalidDataError(f"{name} may only get new names behind the old ones {old}")
    writing.commit_segment(store.url, written, store.options, names=names)
    return open_store(store.url, store.options)


def create_store(
    url: str,
    X: Any,
    y: Any,
    split: ArrayLike | None = None,
    *,
    spec: StoreSpec | None = None,
    overwrite: bool = False,
    link: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Store:
    """Create a store from NumPy, Dask or Zarr arrays.

    Parameters
    ----------
    url : str
        A path or fsspec URL for the new store.
    X : array_like, shape (n, d)
        Features of any real dtype. Dask arrays are written block by block by their workers.
    y : array_like, shape (n,) or (n, m)
        Labels: numbers or text (classes).
    split : array_like, shape (n,), optional
        Group of every row (text or numbers). One group, "all", without it.
    spec : StoreSpec, optional
        Name, scale, image shape, label kind and so on; inferred where not given. Its groups and
        classes are replaced by those found in `split` and in text labels.
    overwrite : bool
    link : bool
        Use Zarr arrays where they lie: only checksums, results and metadata are written.

    Raises
    ------
    InvalidDataError
        For lengths that differ, NaN or infinite values (row and column named), object dtypes.
    StoreError
        Where a store is already there, or `link` is asked for arrays that are not in Zarr.
    """
    url = str(url)
    X, y = _as_array(X, "X"), _as_array(y, "y")
    if len(X.shape) != 2 or not y.shape or X.shape[0] != y.shape[0]:
        raise InvalidDataError(f"X has shape {X.shape}, y {y.shape}; rows must agree")
    split = None if split is None else _as_array(split, "split")
    if split is not None and split.shape != (X.shape[0],):
        raise InvalidDataError(f"split has shape {split.shape}, not ({X.shape[0]},)")
    if split is not None and isinstance(split, np.ndarray):
        check_names(split)
    classes = _distinct(y) if y.dtype.kind in "UTOS" else None
    groups = None if split is None else _distinct(split)
    base = spec or default_spec(url, y)
    spec = replace(
        base,
        classes=tuple(str(c) for c in classes) if classes else base.classes,
        groups=tuple(str(g) for g in groups) if groups else ("all",),
    )
    parts = _Parts(X, y, split, classes, groups)
    if link:
        return _link(url, spec, parts, overwrite, options)
    layout = Layout.of(X, parts.labels_like())
    step = layout.write_rows
    with writing.staged(url, options, overwrite=overwrite) as target:
        writing.create_empty(target, spec, layout, overwrite=True, options=options)
        writing.grow(target, 0, X.shape[0], options)
        tasks = [
            delayed(_write_part)(target, a, *parts.delayed(a, a + step), classes, groups, options)
            for a in range(0, X.shape[0], step)
        ]
        writing.commit_segment(target, compute(*tasks) if parts.lazy else _now(tasks), options)
    return open_store(url, options)


def default_spec(url: str, y: Any) -> StoreSpec:
    """Return the spec of a new store for labels (anything with shape and dtype)."""
    kind = infer_label_kind(np.dtype("U1" if y.dtype.kind in "UTOS" else y.dtype), len(y.shape))
    return StoreSpec(name=str(url).rstrip("/").rsplit("/", 1)[-1], label_kind=kind)


@dataclass(frozen=True)
class _Parts:
    """The arrays that a new store is made of, cut by rows."""

    X: Any
    y: Any
    split: Any
    classes: tuple[Any, ...] | None
    groups: tuple[Any, ...] | None

    @property
    def lazy(self) -> bool:
        return any(isinstance(a, da.Array) for a in (self.X, self.y, self.split))

    def labels_like(self) -> NDArray[Any]:
        shape = (0, *self.y.shape[1:])
        return np.empty(shape, np.int64 if self.classes else self.y.dtype)

    def delayed(self, lo: int, hi: int) -> tuple[Any, Any, Any]:
        """Rows lo:hi: a delayed value for Dask arrays, (array, lo, hi) for the others."""
        return tuple(_rows_of(a, lo, hi) for a in (self.X, self.y, self.split))


def check_names(split: NDArray[Any]) -> None:
    """Refuse group names that are missing.

    Raises
    ------
    InvalidDataError
        Naming the row.
    """
    missing = np.array([v is None or v != v for v in split.ravel()], dtype=bool)
    if missing.any():
        raise InvalidDataError(f"split row {int(missing.argmax())} has no group name")


def _rows_of(array: Any, lo: int, hi: int) -> Any:
    if array is None:
        return None
    if isinstance(array, da.Array):
        part = array[lo:hi].rechunk(-1)
        return part.to_delayed().ravel()[0]
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
    url: str,
    start: int,
    features: Any,
    labels: Any,
    split: Any,
    classes: tuple[Any, ...] | None,
    groups: tuple[Any, ...] | None,
    options: Mapping[str, Any] | None,
) -> Written:
    return writing.write_rows(
        url, start, _make_block(features, labels, split, classes, groups), options
    )


def _make_block(
    features: Any,
    labels: Any,
    split: Any,
    classes: tuple[Any, ...] | None,
    groups: tuple[Any, ...] | None,
) -> Block:
    """Read what is lazy and encode text labels and the split."""
    features, labels, split = (
        part.read() if isinstance(part, _Rows) else part for part in (features, labels, split)
    )
    layout = Layout.of(features, labels if classes is None else np.empty(0))
    labels = labels if classes is None else encode(labels, classes, "labels")
    if split is None:
        split = np.zeros(len(features), np.int16)
    else:
        assert groups is not None
        split = encode(split, groups, "split")
    dtype = layout.feature_dtype
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    return Block(np.ascontiguousarray(features, dtype), np.ascontiguousarray(labels), split)


def _link(
    url: str,
    spec: StoreSpec,
    parts: _Parts,
    overwrite: bool,
    options: Mapping[str, Any] | None,
) -> Store:
    """Make a store that refers to Zarr arrays, after one pass of checks over them."""
    given = {"features": parts.X, "labels": parts.y}
    if parts.split is not None:
        given["split"] = parts.split
    links: dict[str, Any] = {name: {"url": _url_of(a, name)} for name, a in given.items()}
    if parts.groups is not None:
        links["split"]["values"] = [_plain(g) for g in parts.groups]
    rows = parts.X.shape[0]
    layout = Layout.of(parts.X, parts.labels_like())
    with writing.staged(url, options, overwrite=overwrite) as target:
        writing.create_empty(target, spec, layout, overwrite=True, options=options, links=links)
        if parts.split is None:
            codes = writing.open_group(target, options, "r+")["split"]
            assert isinstance(codes, zarr.Array)
            codes.resize((rows,))
            codes[:] = 0
        written = []
        for a in range(0, rows, layout.write_rows):
            lazy = parts.delayed(a, min(a + layout.write_rows, rows))
            block = _make_block(*lazy, parts.classes, parts.groups)
            written.append(writing.record_rows(a, block, layout.unit_rows))
        writing.commit_segment(target, written, options)
    return open_store(url, options)


def _append(
    url: str,
    layout: Layout,
    start: int,
    blocks: Iterable[Block],
    groups: int,
    options: Mapping[str, Any] | None,
) -> Iterator[Written]:
    """Write blocks one after another in whole units."""
    at = start
    for block in _regroup(blocks, layout, groups):
        writing.grow(url, start, at + len(block.features), options)
        yield writing.write_rows(url, at, block, options)
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
        _cast(features, layout.feature_dtype, "features"),
        _cast(labels, layout.label_dtype, "labels"),
        split.astype(np.int16),
    )


def _cast(values: NDArray[Any], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Cast only where no value changes."""
    if values.dtype == dtype:
        return values
    if np.can_cast(values.dtype, dtype, "safe"):
        return values.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype)
    if not np.array_equal(cast, values, equal_nan=values.dtype.kind == "f"):
        raise InvalidDataError(
            f"{what} of dtype {values.dtype} do not fit the store's {dtype} without loss"
        )
    return cast


def _chain(first: Block, rest: Iterator[Block]) -> Iterator[Block]:
    yield first
    yield from rest


def _as_array(value: Any, name: str) -> Any:
    """Return something with shape, dtype and row slicing; object arrays only if they are text."""
    if isinstance(value, (da.Array, zarr.Array, LazyRows)):
        return value
    value = np.asarray(value)
    if value.dtype.kind == "O":
        if not all(isinstance(v, str) for v in value.ravel()):
            raise InvalidDataError(f"{name} has dtype object; convert it to numbers or text first")
        value = value.astype(str)
    return value


def _distinct(values: Any) -> tuple[Any, ...]:
    if isinstance(values, da.Array):
        found = da.unique(values).compute()
    else:
        found = np.unique(np.asarray(values[:]))
    return tuple(_plain(v) for v in found)


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
