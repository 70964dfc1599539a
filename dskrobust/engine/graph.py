"""The only builder of block-pair graphs: tiles, then partial results, then a tree of merges.

Features are never a Dask dependency (`tasks`). Partial results are merged by an operator that is
associative and commutative, and idempotent where tiles start from what others know: neither
chunking, tile size, worker count nor a retry can change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from dask.tokenize import tokenize

from ..kernels import sample_pieces
from ..store import ResultTables, SourceAddress
from .cache import BlockCache
from .plan import Plan
from .prefixes import cut_parts, finish
from .rounds import Tile, cut_waves, last_rounds, round_of
from .sources import Source
from .spec import PairSpec, StateAddress, TileSpec, TileTask, Turn, make_context, store_context
from .tasks import (
    choose_prefixes,
    largest_norm,
    load_state,
    make_prefixes,
    merge_states,
    merge_summaries,
    run_tile,
    side_of,
    state_at,
    summarise_rows,
    take_sample,
)
from .workload import SPLIT_EVERY

MOST_SAMPLES = 4  # parts of a sample; one worker puts them together

Key = Hashable
Graph = dict[Key, Any]


class BlockCodes(Protocol):
    """Which part every row lies in, found block by block."""

    def task(self, lo: int, hi: int) -> tuple[Any, ...]:
        """Return the task that finds the parts (hi - lo,) int16; −1 for rows that take no part."""


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
    waves : list of lists of tiles, where graphs of these have to run before (`waves`)
    """

    graph: Graph
    token: str
    blocks: tuple[tuple[int, int], ...]
    source: Key
    context: Key
    states: list[Key] = field(default_factory=list)
    tiles: list[Key] = field(default_factory=list)
    dependencies: list[Any] = field(default_factory=list)
    waves: list[list[Tile]] = field(default_factory=list)


@dataclass(frozen=True)
class Choices:
    """What tiles are given beside their rows, where it is not all rows by their groups.

    Attributes
    ----------
    memo_names : mapping, optional
        Tile → name under which it is memoised.
    block_names : sequence of str
        Where tiles run in rounds: the names under which the states of blocks are memoised.
    base : ResultTables, optional
        A finished result of the first rows: its pairs are not computed again.
    codes : (BlockCodes, BlockCodes), optional
        The parts of rows as rows and as columns of a tile.
    radii : sequence of keys, optional
        The radii of every block's rows, for `CountWithin`.
    """

    memo_names: Mapping[tuple[int, int], str] | None = None
    base: ResultTables | None = None
    codes: tuple[BlockCodes, BlockCodes] | None = None
    radii: Sequence[Key] = ()
    block_names: Sequence[str] = ()


def build(
    prepared: PairGraph, spec: TileSpec, plan: Plan, choices: Choices | None = None
) -> PairGraph:
    """Add tiles and merges to a graph from `start_graph`, which holds source and context."""
    run = RunGraph(prepared, spec, plan, choices or Choices())
    if plan.in_rounds:
        _add_rounds(run)
    else:
        _add_tree(run)
    return prepared


class RunGraph:
    """A graph that tiles are added to: what all of them share, and what each is given.

    Parameters
    ----------
    pairs : PairGraph
    spec : TileSpec
    plan : Plan
    choices : Choices
    """

    def __init__(self, pairs: PairGraph, spec: TileSpec, plan: Plan, choices: Choices) -> None:
        self.pairs, self.plan, self.choices = pairs, plan, choices
        self.spec = replace(spec, need=plan.footprint)
        self.shared = f"spec-{pairs.token}"  # one key: a Mahalanobis matrix is in no task else
        pairs.graph[self.shared] = self.spec
        self._codes = _CodeKeys(pairs, plan, choices.codes)

    @cached_property
    def _needs(self) -> list[Key]:
        """Keys of what all tiles are given."""
        pairs, cache = self.pairs, None
        if self.plan.kept_bytes:
            cache = f"blocks-{pairs.token}"
            pairs.graph[cache] = (BlockCache, self.plan.kept_bytes)
        prefixes = _add_prefixes(pairs, self.shared, self.spec, self.plan)
        return [self.shared, pairs.source, pairs.context, prefixes, cache]

    def add_tile(self, tile: tuple[int, int], start: list[Any], turn: Turn | None = None) -> Key:
        """Add a tile that starts from what is known of its blocks; return its key."""
        (i, j), pairs, plan, choices = tile, self.pairs, self.plan, self.choices
        key = (f"tile-{pairs.token}", i, j)
        name = choices.memo_names[tile] if choices.memo_names and turn is None else ""
        task = TileTask(plan.blocks[i], plan.blocks[j], name, pairs.token, sum(plan.segments), turn)
        radii = [choices.radii[k] for k in tile] if choices.radii else []
        pairs.graph[key] = (run_tile, task, self._needs, start, self._codes.of(i, j), radii)
        pairs.tiles.append(key)
        return key

    def add_base(self) -> dict[int, Key]:
        """Add what a finished result says of the first blocks; block → key."""
        pairs, base = self.pairs, self.choices.base
        known: dict[int, Key] = {}
        for k, (lo, hi) in enumerate(self.plan.blocks):
            if base is not None and hi <= base.rows:
                known[k] = (f"known-{pairs.token}", k)
                pairs.graph[known[k]] = (load_state, base, lo, hi, self.spec.pairs.parts)
        return known

    def add_wave(self, tiles: Sequence[Tile], known: Mapping[int, Key]) -> dict[int, Key]:
        """Add tiles, each going on from what the one before left of its blocks.

        known: block → key of the state to begin with, or of its address. What is returned is the
        same for the end.
        """
        pairs, names, ends = self.pairs, self.choices.block_names, dict[int, tuple[Any, int]]()
        for tile in tiles:
            sides = sorted(set(tile))
            turn = Turn(
                round_of(tile, len(self.plan.blocks)), tuple(names[k] for k in sides if names)
            )
            start = [(side_of, *ends[k]) if k in ends else known.get(k) for k in sides]
            key = self.add_tile(tile, start, turn)
            ends |= {k: (key, side) for side, k in enumerate(sides)}
        states: dict[int, Key] = {}
        for k, (key, side) in ends.items():  # names that no other graph of the run has
            states[k] = (f"state-{pairs.token}", k, *key[1:])
            pairs.graph[states[k]] = (side_of, key, side)
        return states

    def add_finished(self, rounds: Mapping[int, int], known: Mapping[int, Key]) -> dict[int, Key]:
        """Add where the memo has the states of blocks after the given rounds."""
        pairs, found = self.pairs, dict(known)
        for k, number in rounds.items():
            found[k] = (f"finished-{pairs.token}", k, number)
            pairs.graph[found[k]] = StateAddress(self.choices.block_names[k], number)
        return found


def _add_tree(run: RunGraph) -> None:
    """Add all tiles, and for every block a tree that merges what tiles say of it."""
    pairs, spec, plan = run.pairs, run.spec, run.plan
    known = run.add_base()
    parts: dict[int, list[tuple[Key, int]]] = {k: [(key, 0)] for k, key in known.items()}
    diagonal = {i for i, j in plan.tiles if i == j}
    known |= {k: (f"tile-{pairs.token}", k, k) for k in diagonal - set(known)}
    for i, j in plan.tiles:
        start = [] if i == j or not spec.pairs.reduction.warm else [known.get(i), known.get(j)]
        key = run.add_tile((i, j), start)
        parts.setdefault(i, []).append((key, 0))
        if spec.one_sided:
            known.setdefault(i, key)  # what later tiles of the same queries start from
        elif i != j:
            parts.setdefault(j, []).append((key, 1))
    for k in sorted(parts):
        pairs.states.append(_merge_tree(pairs.graph, pairs.token, k, parts[k]))


def _add_rounds(run: RunGraph) -> None:
    """Add tiles in rounds; where these are several graphs, what reads the states that they keep."""
    pairs, waves, base = run.pairs, cut_waves(run.plan), run.add_base()
    if len(waves) == 1:
        ends = {**base, **run.add_wave(waves[0], base)}
    else:
        pairs.waves = waves
        ends = run.add_finished(last_rounds(run.plan, waves), base)
    for k in sorted(ends):
        pairs.states.append((f"last-{pairs.token}", k))
        pairs.graph[pairs.states[-1]] = (state_at, run.shared, ends[k])


class _CodeKeys:
    """Keys of the parts of every block's rows, one task a block and side."""

    def __init__(
        self, pairs: PairGraph, plan: Plan, codes: tuple[BlockCodes, BlockCodes] | None
    ) -> None:
        self._pairs, self._plan, self._codes = pairs, plan, codes

    def of(self, i: int, j: int) -> list[Key]:
        """Keys of a tile's two sides; None for all rows by their groups."""
        return [self._key(0, i), self._key(1, j)]

    def _key(self, side: int, block: int) -> Key:
        if self._codes is None:
            return None
        side = 0 if self._codes[0] is self._codes[1] else side
        key = (f"codes-{self._pairs.token}", side, block)
        if key not in self._pairs.graph:
            self._pairs.graph[key] = self._codes[side].task(*self._plan.blocks[block])
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
        graph[sample] = (take_sample, *own, rows, (k, count), token)
    graph[f"basis-{token}"] = (choose_prefixes, *given, rows, samples)
    parts: list[Key] = []
    for k, (lo, hi) in enumerate(cut_parts(plan.segments, plan.unit_rows, 4 * workers)):
        parts.append((f"prefix-{token}", k))
        graph[parts[-1]] = (make_prefixes, *given, f"basis-{token}", lo, hi, token)
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
            own, sides = zip(*some, strict=True)
            graph[keys[-1]] = (merge_states, list(own), list(sides), token)
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
    norms = _add_norms(graph, token, key, spec, blocks)
    if source_is_key or isinstance(source, SourceAddress):
        graph[context] = (store_context, key, spec, norms)
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
    graph[context] = (make_context, parts[0], spec, norms)
    return PairGraph(graph, token, blocks, key, context)


def _add_norms(
    graph: Graph, token: str, source: Key, spec: PairSpec, blocks: tuple[tuple[int, int], ...]
) -> list[Key]:
    """Add tasks that find the largest label norm of every block, which no summary knows."""
    if spec.labels.own_norm is None or spec.rule != "different":
        return []
    keys: list[Key] = [(f"norms-{token}", k) for k in range(len(blocks))]
    for key, block in zip(keys, blocks, strict=True):
        graph[key] = (largest_norm, source, spec.labels, *block)
    return keys
