"""The only builder of block-pair graphs: tiles, then partial results, then a tree of merges.

Features are never a Dask dependency (`tiles`). Partial results are merged by an operator that is
associative, commutative and idempotent: neither chunking, tile size, worker count, a retry nor a
duplicate can change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.tokenize import tokenize
from numpy.typing import NDArray

from ..kernels import sample_pieces
from ..store import ResultTables, SourceAddress
from .cache import BlockCache
from .plan import SPLIT_EVERY, Plan
from .prefixes import cut_parts, finish
from .sources import Source
from .spec import NeighbourSpec, PairSpec, TileSpec, TileTask, make_context, store_context
from .tasks import (
    choose_prefixes,
    load_tables,
    make_prefixes,
    merge_neighbours,
    merge_summaries,
    merge_tables,
    run_neighbours,
    run_tile,
    summarise_rows,
    take_sample,
)

MOST_SAMPLES = 4  # parts of a sample; one worker puts them together

Key = Hashable
Graph = dict[Key, Any]


@dataclass
class PairGraph:
    """A graph whose last layer holds the finished tables of every block.

    Attributes
    ----------
    graph : dict
    token : str
    blocks : tuple of (first row, last row + 1)
    source, context : keys of the source and the context
    tables : list of keys, one a block
    tiles : list of keys
    dependencies : collections whose graphs this one needs
    """

    graph: Graph
    token: str
    blocks: tuple[tuple[int, int], ...]
    source: Key
    context: Key
    tables: list[Key] = field(default_factory=list)
    tiles: list[Key] = field(default_factory=list)
    dependencies: list[Any] = field(default_factory=list)


def build(
    prepared: PairGraph,
    spec: TileSpec,
    plan: Plan,
    *,
    memo_names: Mapping[tuple[int, int], str] | None = None,
    base: ResultTables | None = None,
) -> PairGraph:
    """Add tiles and merges to a graph that already holds the source and the context.

    Parameters
    ----------
    prepared : PairGraph
        From `start_graph`.
    plan : Plan
    memo_names : mapping, optional
        Tile → name under which it is memoised.
    base : ResultTables, optional
        A finished result of the first rows: its pairs are not computed again.
    """
    pairs, graph = prepared, prepared.graph
    shared = f"spec-{pairs.token}"  # one key: a Mahalanobis matrix would be in every task else
    graph[shared] = spec
    parts: dict[int, list[tuple[Key, int]]] = {k: [] for k in range(len(plan.blocks))}
    tiles = set(plan.tiles)
    known: dict[int, Key] = {}  # what tiles off the diagonal start from
    for k, (lo, hi) in enumerate(plan.blocks):
        if base is not None and hi <= base.rows:
            known[k] = (f"known-{pairs.token}", k)
            graph[known[k]] = (load_tables, base, lo, hi, len(spec.pairs.groups))
            parts[k].append((known[k], 0))
        elif (k, k) in tiles:
            known[k] = (f"tile-{pairs.token}", k, k)
    prefixes = _add_prefixes(pairs, shared, spec, plan)
    kept = None
    if plan.kept_bytes:
        kept = f"blocks-{pairs.token}"
        graph[kept] = (BlockCache, plan.kept_bytes)
    for i, j in plan.tiles:
        key = (f"tile-{pairs.token}", i, j)
        name = memo_names[i, j] if memo_names else ""
        task = TileTask(plan.blocks[i], plan.blocks[j], name, pairs.token, sum(plan.segments))
        start = [] if i == j else [known.get(i), known.get(j)]
        needs = shared, pairs.source, pairs.context, prefixes, kept
        graph[key] = (run_tile, task, *needs, start)
        pairs.tiles.append(key)
        parts[i].append((key, 0))
        if i != j:
            parts[j].append((key, 1))
    for k, found in parts.items():
        pairs.tables.append(_merge_tree(graph, pairs.token, k, found))
    return pairs


def _add_prefixes(pairs: PairGraph, shared: Key, spec: TileSpec, plan: Plan) -> Key | None:
    """Add the tasks that choose and make prefixes, where they may pay; the key of all of them."""
    if not spec.pairs.prefixed:
        return None
    rows = sum(plan.segments)
    if not sample_pieces(rows, spec.pairs.columns, spec.budget):
        return None
    graph, token = pairs.graph, pairs.token
    workers = plan.resources.workers * plan.resources.threads
    given, count = (shared, pairs.source, pairs.context), min(workers, MOST_SAMPLES)
    samples: list[Key] = [(f"sample-{token}", k) for k in range(count)]
    own: tuple[Any, ...] = given
    if isinstance(source := graph.get(pairs.source), SourceAddress):
        # Dask runs tasks where what they need is; such that need nothing go to all workers
        own = spec, source, (store_context, source, spec.pairs)
    for k, sample in enumerate(samples):
        graph[sample] = (take_sample, *own, rows, (k, count))
    graph[f"basis-{token}"] = (choose_prefixes, *given, rows, samples)
    parts: list[Key] = []
    for k, (lo, hi) in enumerate(cut_parts(plan.segments, plan.unit_rows, 4 * workers)):
        parts.append((f"prefix-{token}", k))
        graph[parts[-1]] = (make_prefixes, *given, f"basis-{token}", lo, hi)
    graph[f"prefixes-{token}"] = (finish, f"basis-{token}", parts)
    return f"prefixes-{token}"


def build_neighbours(
    prepared: PairGraph,
    spec: NeighbourSpec,
    plan: Plan,
    codes: tuple[NDArray[np.int16], NDArray[np.int16]],
    *,
    memo_names: Mapping[tuple[int, int], str] | None = None,
) -> PairGraph:
    """Add a search for nearest rows: a tile for every pair of plan.tiles, (queries, references).

    Parameters
    ----------
    prepared : PairGraph
        From `start_graph`.
    spec : NeighbourSpec
    plan : Plan
    codes : two arrays (n,) int16
        Queries are 0 in the first; the second has the part of every reference row. −1: no part.
    memo_names : mapping, optional
        Tile → name under which it is memoised.
    """
    pairs, graph = prepared, prepared.graph
    shared, tiles = f"spec-{pairs.token}", f"tiles-{pairs.token}"
    graph[shared], graph[tiles] = spec, spec.tiles
    prefixes = _add_prefixes(pairs, tiles, spec.tiles, plan)
    first: dict[int, Key] = {}  # what later tiles of the same queries start from
    parts: dict[int, list[Key]] = {}
    for i, j in plan.tiles:
        sides: list[Key] = []
        for side, block in ((0, i), (1, j)):
            sides.append((f"codes-{pairs.token}", side, block))
            lo, hi = plan.blocks[block]
            graph[sides[-1]] = codes[side][lo:hi].copy()
        key = (f"tile-{pairs.token}", i, j)
        memo = memo_names[i, j] if memo_names else ""
        task = TileTask(plan.blocks[i], plan.blocks[j], memo, pairs.token, sum(plan.segments))
        needs = shared, pairs.source, pairs.context, prefixes
        graph[key] = (run_neighbours, task, *needs, sides, first.get(i))
        first.setdefault(i, key)
        parts.setdefault(i, []).append(key)
        pairs.tiles.append(key)
    for i, found in parts.items():
        name = f"merge-{pairs.token}", i
        pairs.tables.append(_tree(graph, name, found, lambda s: (merge_neighbours, s), lambda k: k))
    return pairs


def _merge_tree(graph: Graph, token: str, block: int, parts: list[tuple[Key, int]]) -> Key:
    """Add merges of tables; parts are tiles or tables, and which side of a tile is meant."""

    def merge(some: list[tuple[Key, int]]) -> Any:
        return merge_tables, [key for key, _ in some], tuple(side for _, side in some)

    return _tree(graph, (f"merge-{token}", block), parts, merge, lambda key: (key, 0))


def _tree(
    graph: Graph,
    name: tuple[Any, ...],
    parts: list[Any],
    merge: Callable[[list[Any]], Any],
    part_of: Callable[[Key], Any],
) -> Key:
    """Add merges of at most SPLIT_EVERY parts a task; return the key of the last one.

    merge: makes a task of some parts; part_of: makes a part of such a task's key.
    """
    level = 0
    while True:
        keys: list[Key] = []
        for a in range(0, len(parts), SPLIT_EVERY):
            keys.append((*name, level, a // SPLIT_EVERY))
            graph[keys[-1]] = merge(parts[a : a + SPLIT_EVERY])
        if len(keys) == 1:
            return keys[0]
        parts, level = [part_of(key) for key in keys], level + 1


def start_graph(
    source: Source | SourceAddress | Key,
    spec: PairSpec,
    blocks: tuple[tuple[int, int], ...],
    *,
    graph: Graph | None = None,
    source_is_key: bool = False,
    salt: Any = None,
) -> PairGraph:
    """Start a graph with the source and the context that all tiles share.

    salt: what results depend on besides, so that no two graphs share a key by mistake.

    Stores carry their summary with them; other sources are summed up block by block, as tasks.
    """
    token = tokenize(source, spec, blocks, salt)
    graph = {} if graph is None else graph
    key: Any = source if source_is_key else f"source-{token}"
    if not source_is_key:
        graph[key] = source
    context = f"context-{token}"
    if source_is_key or isinstance(source, SourceAddress):
        graph[context] = (store_context, key, spec)
        return PairGraph(graph, token, blocks, key, context)
    parts: list[Key] = []
    for k, (lo, hi) in enumerate(blocks):
        parts.append((f"summary-{token}", k))
        graph[parts[-1]] = (summarise_rows, key, lo, hi)
    level = 0
    while len(parts) > 1:
        level += 1
        groups = [parts[a : a + SPLIT_EVERY] for a in range(0, len(parts), SPLIT_EVERY)]
        parts = [(f"summary-{token}", level, k) for k in range(len(groups))]
        graph.update(zip(parts, ((merge_summaries, g) for g in groups), strict=True))
    graph[context] = (make_context, parts[0], spec)
    return PairGraph(graph, token, blocks, key, context)
