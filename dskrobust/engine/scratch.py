"""Where tiles read rows from when there is no store: arrays in this process, or a scratch store."""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from ..datasets.labelled import LabelledArrays
from ..datasets.mapped import mapped
from ..errors import InvalidOptionError, StoreError
from ..store import (
    Block,
    Layout,
    SegmentWriter,
    SourceAddress,
    StoreSpec,
    Written,
    begin_scratch,
    commit_new,
    fold,
    layout_of,
    open_store,
)
from .graph import Graph, Key


def scratch_graph(
    data: LabelledArrays, spec: StoreSpec, folder: str | None
) -> tuple[Graph, Key, list[Any], str]:
    """Tasks that write arrays into a scratch store, for workers in other processes.

    Returns
    -------
    graph : dict
    key : of the finished store's address
    dependencies : list of collections
    url : str
    """
    layout = layout_of(data.X, data.y)
    rows, step = data.shape[0], layout.write_rows
    cuts = tuple(min(step, rows - a) for a in range(0, rows, step))
    X = _as_dask(data.X, cuts)
    y = _as_dask(data.y, cuts)
    token = uuid.uuid4().hex  # never shared: two computations must not write to one store
    url = str(Path(folder or tempfile.gettempdir()) / f"dskrobust-scratch-{token}.zarr")
    if folder is None:  # not sooner: tasks of persisted arrays may still be reading it
        atexit.register(_remove, url, os.getpid())
    graph: Graph = {f"scratch-{token}": (_create_scratch, url, layout, rows)}
    writes: list[Key] = []
    for k, a in enumerate(range(0, rows, step)):
        key = (f"write-{token}", k)
        y_key = (y.name, k) if y.ndim == 1 else (y.name, k, 0)
        split = data.split[a : a + step]
        graph[key] = (_write_scratch, f"scratch-{token}", a, (X.name, k, 0), y_key, split)
        writes.append(key)
    done = f"scratched-{token}"
    graph[done] = (_commit_scratch, f"scratch-{token}", spec, writes)
    return graph, done, [X, y], url


def _remove(url: str, process: int) -> None:
    """Remove a scratch store, unless this is a child that was forked from its process."""
    if os.getpid() == process:
        shutil.rmtree(url, ignore_errors=True)


def _as_dask(array: Any, cuts: tuple[int, ...]) -> da.Array:
    chunks = (cuts, *((size,) for size in array.shape[1:]))
    if isinstance(array, da.Array):
        return array.rechunk(chunks)
    return da.from_array(mapped(array), chunks=chunks)  # workers open the file


def _create_scratch(url: str, layout: Layout, rows: int) -> SegmentWriter:
    """Make the store, or find it: Dask runs a task again when its worker was lost."""
    Path(url).mkdir(mode=0o700, exist_ok=True)  # rows are nobody else's
    return begin_scratch(url, layout, rows)


def _write_scratch(
    writer: SegmentWriter, start: int, X: Any, y: Any, split: NDArray[np.int16]
) -> Written:
    block = Block(np.asarray(X), np.asarray(y), split)
    try:
        return writer.write(start, block)
    except FileNotFoundError as error:  # a worker that came after the others were asked
        raise InvalidOptionError(
            f"{Path(writer.url).parent} on {platform.node()} is not the scratch folder of the "
            "other workers; name one that all share: options=RunOptions(scratch=FOLDER)"
        ) from error


def _commit_scratch(
    writer: SegmentWriter, spec: StoreSpec, written: list[Written]
) -> SourceAddress:
    try:
        return open_store(writer.url).address
    except StoreError:  # not committed yet
        commit_new(writer, spec, fold(written), overwrite=False)
        return open_store(writer.url).address


def scratch_spec(groups: tuple[str, ...], scale: float, kind: str) -> StoreSpec:
    """A store's description for arrays that have none."""
    return replace(StoreSpec(name="scratch", label_kind=kind), groups=groups, scale=scale)
