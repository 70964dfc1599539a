"""Where tiles read rows from when there is no store: arrays in this process, or a scratch store."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets import FrameRows, take
from ..errors import InvalidDataError, StoreError
from ..store import (
    Block,
    LazyRows,
    SourceAddress,
    StoreSpec,
    Written,
    check_names,
    commit_segment,
    create_empty,
    grow,
    is_zarr,
    layout_of,
    open_store,
    write_rows,
)
from .graph import Graph, Key
from .sources import ArraySource


@dataclass(frozen=True)
class GivenArrays:
    """Arrays as a caller gave them, checked, with classes and groups as codes.

    Attributes
    ----------
    X, y : arrays
    split : ndarray (n,) int16
    groups : tuple of str
    classes : tuple of str, optional
        Names of the codes in `y`, where labels were text.
    """

    X: Any
    y: Any
    split: NDArray[np.int16]
    groups: tuple[str, ...]
    classes: tuple[str, ...] | None = None

    @property
    def named(self) -> bool:
        """Whether labels were text, which makes them classes."""
        return self.classes is not None

    @property
    def lazy(self) -> bool:
        """Whether rows only exist after Dask computed them."""
        return isinstance(self.X, da.Array) or isinstance(self.y, da.Array)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.X.shape[0]), int(self.X.shape[1])

    def source(self) -> ArraySource:
        return ArraySource(self.X, self.y, self.split)


def check_arrays(X: Any, y: Any, split: ArrayLike | None) -> GivenArrays:
    """Check what can be checked without computing anything (but lengths of Dask frames).

    X may also be what `create_store` takes, with the names of labels and groups.

    Raises
    ------
    InvalidDataError
        For shapes that do not fit, unknown chunk sizes, dtypes that are not numbers.
    """
    taken = take(X, y, split)
    X, y, split = _given(taken.X, "X"), _given(taken.y, "y"), taken.split
    if len(X.shape) != 2 or X.shape[1] == 0:
        raise InvalidDataError(f"X must have the shape (samples, columns), not {tuple(X.shape)}")
    if any(np.isnan(k) for k in (*X.shape, *y.shape)):
        raise InvalidDataError("X or y has unknown chunk sizes; call compute_chunk_sizes() first")
    if X.shape[0] == 0:
        raise InvalidDataError("X has no rows; robustness needs two samples at least")
    if len(y.shape) not in (1, 2) or y.shape[0] != X.shape[0]:
        raise InvalidDataError(
            f"X has {X.shape[0]} rows and y has shape {tuple(y.shape)}; they must be equally long"
        )
    classes = None
    if y.dtype.kind in "UTS":
        if isinstance(y, da.Array):
            raise InvalidDataError(
                "text labels in a Dask array have to be known before the graph is built; give "
                "them as NumPy array or integers, or use create_store"
            )
        known, codes = np.unique(np.asarray(y[:]), return_inverse=True)
        y, classes = codes.astype(np.int64), tuple(str(name) for name in known)
    layout_of(X, y)
    if split is None:
        return GivenArrays(X, y, np.zeros(X.shape[0], np.int16), ("all",), classes)
    if isinstance(split, da.Array):
        raise InvalidDataError(
            "split is a Dask array, but group names have to be known before the graph is built; "
            "give it as NumPy array, or use create_store"
        )
    check_names(np.asarray(split))
    names, codes = np.unique(np.asarray(split), return_inverse=True)
    if codes.shape != (X.shape[0],):
        raise InvalidDataError(f"split has shape {codes.shape}, not ({X.shape[0]},)")
    groups = tuple(str(name) for name in names)
    return GivenArrays(X, y, codes.astype(np.int16), groups, classes)


def _given(value: Any, name: str) -> Any:
    if isinstance(value, FrameRows):
        return value[:]  # many small columns are slow to gather for every tile
    if isinstance(value, (da.Array, LazyRows)) or is_zarr(value):
        return value
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        value = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InvalidDataError(f"{name} is no array: {error}") from error
    if value.dtype.kind == "O":
        if value.ndim == 1 and all(isinstance(v, str) for v in value):
            return value.astype(str)
        raise InvalidDataError(f"{name} has dtype object; convert it to numbers or text first")
    return value


def scratch_graph(
    given: GivenArrays, spec: StoreSpec, folder: str | None
) -> tuple[Graph, Key, list[Any], str]:
    """Tasks that write arrays into a scratch store, for workers in other processes.

    Returns
    -------
    graph : dict
    key : of the finished store's address
    dependencies : list of collections
    url : str
    """
    layout = layout_of(given.X, given.y)
    rows, step = given.shape[0], layout.write_rows
    cuts = tuple(min(step, rows - a) for a in range(0, rows, step))
    X = _as_dask(given.X, cuts)
    y = _as_dask(given.y, cuts)
    token = uuid.uuid4().hex  # never shared: two computations must not write to one store
    url = str(Path(folder or tempfile.gettempdir()) / f"dskrobust-scratch-{token}.zarr")
    if folder is None:  # not sooner: tasks of persisted arrays may still be reading it
        atexit.register(shutil.rmtree, url, ignore_errors=True)
    graph: Graph = {f"scratch-{token}": (_create_scratch, url, spec, layout, rows)}
    writes: list[Key] = []
    for k, a in enumerate(range(0, rows, step)):
        key = (f"write-{token}", k)
        y_key = (y.name, k) if y.ndim == 1 else (y.name, k, 0)
        split = given.split[a : a + step]
        graph[key] = (_write_scratch, f"scratch-{token}", a, (X.name, k, 0), y_key, split)
        writes.append(key)
    done = f"scratched-{token}"
    graph[done] = (_commit_scratch, f"scratch-{token}", rows, writes)
    return graph, done, [X, y], url


def _as_dask(array: Any, cuts: tuple[int, ...]) -> da.Array:
    chunks = (cuts, *((size,) for size in array.shape[1:]))
    if isinstance(array, da.Array):
        return array.rechunk(chunks)
    return da.from_array(array, chunks=chunks)


def _create_scratch(url: str, spec: StoreSpec, layout: Any, rows: int) -> str:
    """Make the store, or find it: Dask runs a task again when its worker was lost."""
    if not Path(url).exists():
        create_empty(url, spec, layout)
        grow(url, 0, rows)
    return url


def _write_scratch(url: str, start: int, X: Any, y: Any, split: NDArray[np.int16]) -> Written:
    features = np.asarray(X)
    if features.dtype.kind == "b":
        features = features.astype(np.uint8)
    return write_rows(url, start, Block(features, np.asarray(y), split))


def _commit_scratch(url: str, rows: int, written: list[Written]) -> SourceAddress:
    try:
        return open_store(url).address
    except StoreError:  # not committed yet
        commit_segment(url, written)
        return open_store(url).address


def scratch_spec(groups: tuple[str, ...], scale: float, kind: str) -> StoreSpec:
    """A store's description for arrays that have none."""
    return replace(StoreSpec(name="scratch", label_kind=kind), groups=groups, scale=scale)
