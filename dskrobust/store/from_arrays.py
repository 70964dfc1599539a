"""A store of arrays: copied block by block, or linked to where they lie."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from ..clients import shares_process
from ..credentials import without_credentials
from ..dask_arrays import is_dask_array
from ..display import listed
from ..errors import InvalidDataError, StoreError
from ..labels import decoded, infer_label_kind, one_spelling
from ..paths import behind_links, local_path
from . import writing
from .arrays import is_zarr
from .creation import SEEN_BY_ALL, by_workers, kept_ids, looked_at, write_block, writing_memory
from .dataset import Store
from .diagnosis.equal_rows import PART_ROWS
from .links import encode
from .spec import Block, StoreSpec, TaskRows
from .state import Link
from .writing import Layout, SegmentWriter, StorageOptions
from .written import Written, fold

if TYPE_CHECKING:
    import zarr

DISTINCT = 4  # copies of a part's values whose different ones are found: read, sorted, joined
Parts = tuple[Any, Any, Any, Any]  # some rows of features, labels, split and ids, read or not
# Values of classes, what those are called, groups, ids' dtype.
Coding = tuple[tuple[Any, ...] | None, tuple[str, ...], tuple[Any, ...] | None, Any]


def write_arrays(
    url: str,
    arrays: Arrays,
    spec: StoreSpec,
    *,
    links: Mapping[str, Link] | None = None,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
) -> Store:
    """Write arrays into a new store; Dask arrays block by block, by their workers.

    links: of the arrays that are only referred to.
    """
    layout, named = arrays.layout, tuple(links or ())
    with writing.new_store(
        url, layout, storage_options, overwrite=overwrite, links=named
    ) as writer:
        written = _write(writer, arrays, layout)
        ids = layout.id_dtype is not None
        writing.commit_new(writer, spec, written, overwrite=overwrite, ids=ids, links=links)
    return looked_at(url, storage_options, by_workers=arrays.by_workers)


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
    if is_zarr(arrays.ids):
        linked["ids"] = arrays.ids
    links = {name: Link(url=_url_of(a, name)) for name, a in linked.items()}
    for name, link in links.items():
        _refuse_own(url, name, link.url)
    if arrays.classes and arrays.called != tuple(str(c) for c in arrays.classes):
        raise InvalidDataError(
            f"y writes one label in several ways ({listed(arrays.classes)}), which a link cannot "
            "mend; copy the arrays (create_store)"
        )
    if arrays.groups is not None:
        values = tuple(_plain(g) for g in arrays.groups)
        links["split"] = Link(url=links["split"].url, values=values)
    return write_arrays(
        url, arrays, spec, links=links, overwrite=overwrite, storage_options=storage_options
    )


def _write(writer: SegmentWriter, arrays: Arrays, layout: Layout) -> Written:
    """Write what a store holds itself of arrays, and check the rest."""
    writer.grow(arrays.rows)
    names = arrays.classes, arrays.called, arrays.groups, layout.id_dtype
    step = layout.write_rows
    tasks = [
        delayed(_write_part)(writer, a, arrays.cut(a, a + step), names)
        for a in range(0, arrays.rows, step)
    ]
    if arrays.by_workers:
        return by_workers(tasks)
    return fold(task.compute(scheduler="sync") for task in tasks)  # memory of one


def linking_memory(arrays: Sequence[Any]) -> int:
    """Return how many bytes checking Zarr arrays holds at most.

    Parameters
    ----------
    arrays : sequence of zarr.Array
        Features, labels, and split and ids where there are some.
    """
    features, labels = arrays[:2]
    codes = np.empty(
        (0, *labels.shape[1:]), np.int64 if labels.dtype.kind in "UTOS" else labels.dtype
    )
    layout = Layout.of(features, codes)
    rows = int(features.shape[0])
    texts = [a.dtype.itemsize for a in arrays[1:] if a.dtype.kind in "US"]
    named = DISTINCT * min(rows, PART_ROWS) * max(texts, default=8)
    read = sum(_chunks_memory(a, min(rows, layout.write_rows)) for a in arrays)
    return writing_memory(layout, rows) + named + read


def _chunks_memory(array: zarr.Array[Any], rows: int) -> int:
    """Bytes of the chunks, encoded and decoded, that are read at once for some rows."""
    import zarr

    chunk = int(np.prod(array.chunks)) * array.dtype.itemsize
    across = int(
        np.prod([-(-n // c) for n, c in zip(array.shape[1:], array.chunks[1:], strict=True)])
    )
    touched = (-(-rows // array.chunks[0]) + 1) * across
    return 2 * chunk * min(touched, zarr.config.get("async.concurrency"))


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
    called : tuple of str
        What the class of each of `classes` is called: of both True and TRUE the same.
    ids : array (n,), optional
    """

    X: Any
    y: Any
    split: Any
    classes: tuple[Any, ...] | None
    groups: tuple[Any, ...] | None
    ids: Any = None
    called: tuple[str, ...] = ()

    @classmethod
    def of(cls, X: Any, y: Any, split: Any = None, ids: Any = None) -> Arrays:
        """Find the classes and groups of arrays that were checked."""
        classes = _distinct(y) if y.dtype.kind in "UTOS" else None
        called = tuple(one_spelling([str(c) for c in classes or ()], "y").values())
        return cls(X, y, split, classes, None if split is None else _distinct(split), ids, called)

    @property
    def rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def lazy(self) -> bool:
        """Whether rows only exist after Dask computed them."""
        parts = (self.X, self.y, self.split, self.ids)
        return any(is_dask_array(a) or isinstance(a, TaskRows) for a in parts)

    @property
    def by_workers(self) -> bool:
        """Whether tasks read the rows: they are lazy, or lie where workers see them."""
        parts = [a for a in (self.X, self.y, self.split, self.ids) if a is not None]
        return self.lazy or (not shares_process() and all(map(_has_place, parts)))

    @property
    def layout(self) -> Layout:
        dtype = np.int64 if self.classes else self.y.dtype
        return Layout.of(self.X, np.empty((0, *self.y.shape[1:]), dtype), self.ids)

    def name(self, spec: StoreSpec) -> StoreSpec:
        """Return the spec with the names of these classes and groups."""
        return replace(
            spec,
            classes=tuple(sorted(set(self.called))) if self.classes else spec.classes,
            groups=tuple(str(g) for g in self.groups) if self.groups else ("all",),
        )

    def cut(self, lo: int, hi: int) -> Parts:
        """Rows lo:hi of all arrays: delayed values of Dask arrays, `_Rows` of the others."""
        X, y, split, ids = (_rows_of(a, lo, hi) for a in (self.X, self.y, self.split, self.ids))
        return X, y, split, ids


def _rows_of(array: Any, lo: int, hi: int) -> Any:
    if array is None:
        return None
    if is_dask_array(array):
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
        if is_zarr(self.array):
            _check_there(self.array)
        return np.asarray(self.array[self.lo : self.hi])


def _has_place(array: Any) -> bool:
    """Whether rows of an array lie where other processes may read them."""
    return is_zarr(array) and _root_of(array) is not None


def _check_there(array: zarr.Array[Any]) -> None:
    """Refuse an array that is not where it was: missing chunks would be read as zeros.

    Raises
    ------
    StoreError
    """
    import zarr

    at = array.store_path
    try:
        zarr.open_array(store=at.store, path=at.path, mode="r")
    except FileNotFoundError as error:
        raise StoreError(
            f"the Zarr array {at} is not there on {platform.node()}, where a worker reads it",
            SEEN_BY_ALL,
        ) from error


def _write_part(writer: SegmentWriter, start: int, parts: Parts, names: Coding) -> Written:
    return write_block(writer, start, _make_block(parts, names, start))


def _make_block(parts: Parts, names: Coding, start: int) -> Block:
    """Read what is lazy and encode text labels and the split; the first row has number `start`."""
    features, labels, split, ids = (p.read() if isinstance(p, _Rows) else p for p in parts)
    classes, called, groups, kept = names
    if classes is not None:
        codes = np.searchsorted(sorted(set(called)), called)  # one for True and TRUE
        labels = codes[encode(labels, classes, "labels")]
    if split is None:
        split = np.zeros(len(features), np.int16)
    else:
        assert groups is not None
        split = encode(split, groups, "split")
    features, labels = (
        v.astype(np.uint8) if v.dtype.kind == "b" else v for v in (features, labels)
    )
    ids = None if ids is None else kept_ids(ids, len(features), kept, start)
    return Block(np.ascontiguousarray(features), np.ascontiguousarray(labels), split, ids)


def _distinct(values: Any) -> tuple[Any, ...]:
    if is_dask_array(values):
        import dask.array as da

        distinct = da.unique(values).compute()
    else:
        distinct = np.empty(0, values.dtype)
        for lo in range(0, values.shape[0], PART_ROWS):
            part = np.unique(np.asarray(values[lo : lo + PART_ROWS]))
            part = decoded(part, "labels") if part.dtype.kind == "S" else part
            distinct = np.union1d(distinct, part) if lo else part
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
    import zarr

    try:
        return zarr.open_array(local_path(url) or url, mode="r")
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


def _root_of(array: zarr.Array[Any]) -> Any:
    """Return the folder or the path of a Zarr array's store; None for one in memory."""
    store = array.store_path.store
    return getattr(store, "root", None) or getattr(store, "path", None)


def _address_of(array: Any, name: str) -> str:
    if not is_zarr(array):
        raise StoreError(f"link=True needs Zarr arrays; {name} is a {type(array).__name__}")
    store, root = array.store_path.store, _root_of(array)
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
