"""The k nearest rows of some rows of a store, in any number of subsets at once.

The second reduction of the pair engine: the same tiles, screens and proofs, but every query keeps
a list of its nearest instead of one witness. Subsets that overlap are cut into *parts* (rows that
lie in the same subsets), a list is kept per part, and the list of a subset is merged from those of
its parts: one pass over queries × references serves all subsets.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import psutil
from dask.base import compute
from dask.delayed import Delayed
from numpy.typing import ArrayLike, NDArray

from .cluster.workers import found_resources
from .engine.graph import PairGraph, build_neighbours, start_graph
from .engine.plan import MIB, USABLE, Plan, Resources, choose_block_rows, make_plan, tile_bytes
from .engine.spec import NeighbourSpec, PairSpec, TileSpec
from .errors import InvalidOptionError
from .kernels import NOBODY
from .labels import LabelMap
from .metrics import Metric
from .robustness import RunOptions, make_workload, pair_spec
from .store import Store, TileMemo, open_store

LISTS_SHARE = 4  # lists may take this part of a worker's usable memory


@dataclass(frozen=True)
class NearestRows:
    """The nearest rows in one subset.

    Attributes
    ----------
    distance : ndarray (q, k) float64
        Ascending; infinite where the subset has fewer than k rows.
    index : ndarray (q, k) int64
        Row numbers in the store, the lower one first at equal distances; -1 where there is none.
    """

    distance: NDArray[np.float64]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class NearestNeighbours:
    """The search for nearest rows, lazy.

    Attributes
    ----------
    queries : ndarray (q,) int64
        Row numbers, in the order they were given.
    parts : mapping
        Subset → the parts that make it up.
    blocks : tuple of Delayed
        The lists (`kernels.Neighbours`) of every block of queries, by ascending row number.
    plan : Plan
    memo : TileMemo
        Where finished tiles are kept until the search is done.
    spec : PairSpec
    """

    queries: NDArray[np.int64]
    parts: Mapping[str, list[int]]
    blocks: tuple[Delayed, ...]
    plan: Plan
    memo: TileMemo
    spec: PairSpec

    def compute(self, **kwargs: Any) -> dict[str, NearestRows]:
        """Search, and return the nearest rows of every query in every subset.

        Finished tiles are kept in the store until then: an interrupted search goes on.
        """
        self.spec.warm_up_neighbours()
        blocks = compute(*self.blocks, **kwargs)
        with contextlib.suppress(OSError, KeyError):  # read only, or cleared by another run
            self.memo.clear()
        rows = np.concatenate([block.rows for block in blocks])
        places = np.searchsorted(rows, self.queries)
        found = {}
        for name, parts in self.parts.items():
            lists = [block.union(parts) for block in blocks]
            distance = np.concatenate([d for d, _ in lists])[places]
            index = np.concatenate([i for _, i in lists])[places]
            found[name] = NearestRows(distance, np.where(index == NOBODY, -1, index))
        return found


def nearest_neighbours(
    data: Store | str,
    queries: ArrayLike,
    references: Mapping[str, ArrayLike],
    k: int = 1,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    options: RunOptions | None = None,
) -> NearestNeighbours:
    """Search the k nearest rows of some rows of a store; nothing is computed yet.

    Distances are float64 and exact, whatever the screens; at equal distances the lower row number
    comes first. A query that is itself a reference row finds itself.

    Parameters
    ----------
    data : Store or str
    queries : array_like (q,) int
        Row numbers.
    references : mapping of str to array_like (n,) int
        Subset → row numbers.
    k : int
        At most the size of the smallest subset.
    metric : str, Metric or callable
    options : RunOptions, optional

    Raises
    ------
    InvalidOptionError
        For row numbers that the store does not have, or a k larger than a subset.
    MemoryPlanError
    """
    store, options = open_store(data), options or RunOptions()
    wanted = _rows_of(store, "queries", queries)
    subsets = {name: _rows_of(store, name, rows) for name, rows in references.items()}
    if not subsets:
        raise InvalidOptionError("there is no reference subset to search in")
    for name, rows in subsets.items():
        if not 1 <= k <= len(rows):
            raise InvalidOptionError(
                f"cannot find {k} neighbours in {name}, which has {len(rows):,} rows; "
                f"k may be 1 to {len(rows):,}"
            )
    codes, parts = cut_parts(store.rows, subsets)
    asked = np.full(store.rows, -1, np.int16)
    asked[wanted] = 0
    spec = pair_spec(store, metric, LabelMap("categorical"))
    spec = replace(spec, require_labels=())
    size = int(codes.max()) + 1
    plan = _plan(store, spec, (asked, codes), (size, k), options)
    memo = TileMemo(store.address, _digest(spec, asked, codes, k))
    tiles = TileSpec(spec, plan.panel_rows, memo, plan.panel_bytes)
    names = {(i, j): "{}-{}.{}-{}".format(*plan.blocks[i], *plan.blocks[j]) for i, j in plan.tiles}
    salt = memo.run, plan.panel_rows, plan.tiles
    start = start_graph(store.address, spec, plan.blocks, salt=salt)
    graph = build_neighbours(
        start, NeighbourSpec(tiles, k, size), plan, (asked, codes), memo_names=names
    )
    return NearestNeighbours(wanted, parts, _delayed(graph), plan, memo, spec)


def _rows_of(store: Store, name: str, rows: ArrayLike) -> NDArray[np.int64]:
    """Row numbers as they were given, checked."""
    numbers = np.asarray(rows)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        raise InvalidOptionError(f"{name} must be row numbers, at least one, in one dimension")
    wrong = (numbers < 0) | (numbers >= store.rows)
    if wrong.any():
        raise InvalidOptionError(
            f"{name} has row {numbers[wrong][0]}, but {store.url} has the rows 0 to "
            f"{store.rows - 1:,}"
        )
    return numbers.astype(np.int64)


def cut_parts(
    rows: int, subsets: Mapping[str, NDArray[np.int64]]
) -> tuple[NDArray[np.int16], dict[str, list[int]]]:
    """Cut overlapping subsets into parts that lie in the same subsets.

    Returns
    -------
    codes : ndarray (rows,) int16
        Part of every row, -1 for rows in no subset.
    parts : dict
        Subset → its parts.

    Raises
    ------
    InvalidOptionError
        Where subsets overlap in more than 32,767 ways.
    """
    code = np.zeros(rows, np.int64)
    for numbers in subsets.values():
        inside = np.zeros(rows, np.int64)
        inside[numbers] = 1
        code = np.unique(2 * code + inside, return_inverse=True)[1]
    covered = np.zeros(rows, bool)
    for numbers in subsets.values():
        covered[numbers] = True
    found, dense = np.unique(code[covered], return_inverse=True)
    if len(found) > np.iinfo(np.int16).max:
        raise InvalidOptionError(
            f"the {len(subsets)} subsets overlap in {len(found):,} ways; evaluate fewer at once"
        )
    codes = np.full(rows, -1, np.int16)
    codes[covered] = dense
    return codes, {name: np.unique(codes[numbers]).tolist() for name, numbers in subsets.items()}


def _plan(
    store: Store,
    spec: PairSpec,
    codes: tuple[NDArray[np.int16], NDArray[np.int16]],
    lists: tuple[int, int],
    options: RunOptions,
) -> Plan:
    """Plan tiles of (queries, references), so that lists of (parts, k) take little memory."""
    resources = options.resources or _bounded(found_resources())
    segments = tuple(rows for rows, _ in store.segments)
    dtype, unit = store.row_shape("features")[1], store.unit_rows
    work = make_workload(spec, segments, dtype, unit)
    work = replace(work, groups=lists[0], tables=lists[1], leaves=False)
    lean = replace(work, groups=1, tables=1)
    size = options.block_rows or choose_block_rows(lean, resources)
    chosen = [np.flatnonzero(code >= 0) for code in codes]
    spread = len(chosen[0]) // (2 * resources.workers * resources.threads)
    mine = min(size, _most_rows(work, resources), max(spread, 256))
    blocks = cut_selected(chosen[0], mine), cut_selected(chosen[1], size)
    first = len(blocks[0])
    tiles = tuple((i, first + j) for i in range(first) for j in range(len(blocks[1])))
    # what a tile holds beside its panels: the lists of its queries
    extra = max(0, tile_bytes(work, mine) - tile_bytes(lean, size)) * resources.threads
    limit = resources.memory_limit
    planned = make_plan(
        lean,
        replace(resources, memory_limit=limit and limit - ceil(extra / USABLE)),
        block_rows=size,
        panel_rows=options.panel_rows,
    )
    return replace(
        planned,
        blocks=blocks[0] + blocks[1],
        tiles=tiles,
        tasks=len(tiles) + 2 * first,
        bytes_read=(len(chosen[0]) * len(blocks[1]) + first * len(chosen[1]))
        * spec.columns
        * dtype.itemsize,
        operations=2.0 * spec.columns * len(chosen[0]) * len(chosen[1]),
        peak_bytes=planned.peak_bytes + extra,
        resources=resources,
    )


def _bounded(resources: Resources) -> Resources:
    """Plan for half of this machine's free memory where workers have no limit."""
    if resources.memory_limit is not None:
        return resources
    free = psutil.virtual_memory().available // 2 // resources.workers
    return replace(resources, memory_limit=free + psutil.Process().memory_info().rss)


def cut_selected(rows: NDArray[np.int64], size: int) -> tuple[tuple[int, int], ...]:
    """Cut ascending row numbers into ranges of rows that hold at most `size` of them each."""
    step = ceil(len(rows) / ceil(len(rows) / size))
    parts = (rows[k : k + step] for k in range(0, len(rows), step))
    return tuple((int(part[0]), int(part[-1]) + 1) for part in parts)


def _most_rows(work: Any, resources: Resources) -> int:
    """Queries of a block whose lists take no more than their share of the memory."""
    limit = resources.memory_limit or 2**10 * MIB * resources.threads
    share = int(limit * USABLE) // resources.threads // LISTS_SHARE
    a_row = tile_bytes(work, 2) - tile_bytes(work, 1)
    return max(1, share // max(1, a_row))


def _digest(spec: PairSpec, *parts: Any) -> str:
    """Name under which the tiles of a search are kept."""
    found = hashlib.sha256(repr(sorted(spec.parameters().items(), key=str)).encode())
    for part in parts:
        found.update(np.asarray(part).tobytes())
    return "nearest-" + found.hexdigest()[:16]


def _delayed(graph: PairGraph) -> tuple[Delayed, ...]:
    return tuple(Delayed(key, graph.graph) for key in graph.tables)
