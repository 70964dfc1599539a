"""The only builder of block-pair graphs: tiles, then partial results, then a tree of merges.

Features are never a Dask dependency (`tasks`). Partial results are merged by an operator that is
associative and commutative, and idempotent where tiles start from what others know: neither
chunking, tile size, worker count nor a retry can change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from .spec import PairSpec, TileSpec, TileTask, make_context, store_context
from .tasks import (
    choose_prefixes,
    load_state,
    make_prefixes,
    merge_states,
    merge_summaries,
    run_tile,
    summarise_rows,
    take_sample,
)

MOST_SAMPLES = 4  # parts of a sample; one worker puts them together

Key = Hashable
Graph = dict[Key, Any]
Cells = NDArray[np.int16]


@dataclass
class PairGraph:
    """A graph whose last layer holds the finished states of every block.

    Attributes
    ----------
    graph : dict
    token : str
    blocks : tuple of (first row, last row + 1)
    source, context : keys of the source and the context
    states : list of keys, one a block (of a one-sided search: a block of queries)
    tiles : list of keys
    dependencies : collections whose graphs this one needs
    """

    graph: Graph
    token: str
    blocks: tuple[tuple[int, int], ...]
    source: Key
    context: Key
    states: list[Key] = field(default_factory=list)
    tiles: list[Key] = field(default_factory=list)
    dependencies: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Choices:
    """What tiles are given beside their rows, where it is not all rows by their groups.

    Attributes
    ----------
    memo_names : mapping, optional
        Tile → name under which it is memoised.
    base : ResultTables, optional
        A finished result of the first rows: its pairs are not computed again.
    codes : (ndarray (n,), ndarray (n,)) int16, optional
        The part of every row as a row and as a column of a tile; −1 where it takes no part.
    radii : sequence of keys, optional
        The radii of every block's rows, for `CountWithin`.
    """

    memo_names: Mapping[tuple[int, int], str] | None = None
    base: ResultTables | None = None
    codes: tuple[Cells, Cells] | None = None
    radii: Sequence[Key] = ()


def build(
    prepared: PairGraph, spec: TileSpec, plan: Plan, choices: Choices | None = None
) -> PairGraph:
    """Add tiles and merges to a graph from `start_graph`, which holds source and context."""
    pairs, graph, choices = prepared, prepared.graph, choices or Choices()
    shared = f"spec-{pairs.token}"  # one key: a Mahalanobis matrix would be in every task else
    graph[shared] = replace(spec, need=plan.footprint)
    cache = f"blocks-{pairs.token}" if plan.kept_bytes else None
    if cache:
        graph[cache] = (BlockCache, plan.kept_bytes)
    prefixes = _add_prefixes(pairs, shared, spec, plan)
    needs = [shared, pairs.source, pairs.context, prefixes, cache]
    parts: dict[int, list[tuple[Key, int]]] = {}
    known = _add_known(pairs, spec, plan, choices.base, parts)
    codes = _CodeKeys(pairs, plan, choices.codes)
    for i, j in plan.tiles:
        key = (f"tile-{pairs.token}", i, j)
        name = choices.memo_names[i, j] if choices.memo_names else ""
        task = TileTask(plan.blocks[i], plan.blocks[j], name, pairs.token, sum(plan.segments))
        start = [] if i == j or not spec.pairs.reduction.warm else [known.get(i), known.get(j)]
        radii = [choices.radii[k] for k in (i, j)] if choices.radii else []
        graph[key] = (run_tile, task, needs, start, codes.of(i, j), radii)
        pairs.tiles.append(key)
        parts.setdefault(i, []).append((key, 0))
        if spec.one_sided:
            known.setdefault(i, key)  # what later tiles of the same queries start from
        elif i != j:
            parts.setdefault(j, []).append((key, 1))
    for k in sorted(parts):
        pairs.states.append(_merge_tree(graph, pairs.token, k, parts[k]))
    return pairs


def _add_known(
    pairs: PairGraph,
    spec: TileSpec,
    plan: Plan,
    base: ResultTables | None,
    parts: dict[int, list[tuple[Key, int]]],
) -> dict[int, Key]:
    """Block → what tiles off the diagonal start from: its own tile, or a finished result."""
    known: dict[int, Key] = {}
    for k, (lo, hi) in enumerate(plan.blocks):
        if base is not None and hi <= base.rows:
            known[k] = (f"known-{pairs.token}", k)
            pairs.graph[known[k]] = (load_state, base, lo, hi, spec.pairs.parts)
            parts[k] = [(known[k], 0)]
        elif (k, k) in set(plan.tiles):
            known[k] = (f"tile-{pairs.token}", k, k)
    return known


class _CodeKeys:
    """Keys of the parts of every block's rows, one task a block and side."""

    def __init__(self, pairs: PairGraph, plan: Plan, codes: tuple[Cells, Cells] | None) -> None:
        self._pairs, self._plan, self._codes = pairs, plan, codes

    def of(self, i: int, j: int) -> list[Key]:
        """Keys of a tile's two sides; None for all rows by their groups."""
        return [self._key(0, i), self._key(1, j)]

    def _key(self, side: int, block: int) -> Key:
        if self._codes is None:
            return None
        side = 0 if self._codes[0] is self._codes[1] else side
        key = (f"codes-{self._pairs.token}", side, block)
        lo, hi = self._plan.blocks[block]
        self._pairs.graph.setdefault(key, self._codes[side][lo:hi].copy())
        return key


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


def _merge_tree(graph: Graph, token: str, block: int, parts: list[tuple[Key, int]]) -> Key:
    """Add merges of at most SPLIT_EVERY parts a task; return the key of the last one.

    parts: tiles or states, and which side of a tile is meant.
    """
    level = 0
    while True:
        keys: list[Key] = []
        for a in range(0, len(parts), SPLIT_EVERY):
            some = parts[a : a + SPLIT_EVERY]
            keys.append((f"merge-{token}", block, level, a // SPLIT_EVERY))
            graph[keys[-1]] = (merge_states, [key for key, _ in some], [side for _, side in some])
        if len(keys) == 1:
            return keys[0]
        parts, level = [(key, 0) for key in keys], level + 1


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
