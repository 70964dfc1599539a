"""Searches over pairs that are no scores: any reduction, symmetric or one-sided."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from .cluster.workers import found_resources
from .engine.graph import Choices, Key, PairGraph, build
from .engine.plan import Plan, Resources
from .engine.search_plan import make_search_plan
from .engine.spec import PairSpec, TileSpec
from .engine.waves import Waves
from .runs import PairData, RunOptions, block_names, memo_names, plan_work
from .store import TileMemo

Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Search:
    """A search that is set up: its plan and its graph.

    Attributes
    ----------
    spec : PairSpec
    plan : Plan
    graph : PairGraph
    rows : tuple of int
        Queries of every block, in the order of the graph's states.
    memo : TileMemo, optional
        Where finished tiles are kept until the search is done.
    scratch : str, optional
        Store that arrays are written to first.
    waves : Waves, optional
        Graphs that run first, where one would not hold all tiles.
    """

    spec: PairSpec
    plan: Plan
    graph: PairGraph
    rows: tuple[int, ...]
    memo: TileMemo | None
    scratch: str | None
    waves: Waves | None = None


def symmetric_search(
    data: PairData,
    spec: PairSpec,
    codes: Codes | None,
    options: RunOptions,
    radii: Radii | None = None,
) -> Search:
    """Set up a search of rows among themselves: every pair once, for both.

    codes (n,): part of every row, −1 where it takes no part; None for all rows by their groups.
    """
    work = data.workload(spec)
    plan = plan_work(replace(work, resumable=work.resumable and radii is None), options)
    if codes is not None and (codes < 0).any():
        inside = np.flatnonzero(codes >= 0)
        plan = _only_blocks_of(plan, inside)
    both = None if codes is None else (codes, codes)
    return _search(data, spec, plan, both, options, radii, one_sided=False)


def one_sided_search(
    data: PairData,
    spec: PairSpec,
    codes: tuple[Codes, Codes],
    options: RunOptions,
    radii: Radii | None = None,
) -> Search:
    """Set up a search of queries among references.

    codes: the queries are part 0 in the first; the second has the part of every reference row.
    """
    resources = options.resources or _bounded(found_resources())
    chosen = [np.flatnonzero(code >= 0) for code in codes]
    plan = make_search_plan(
        replace(data.workload(spec), leaves=False),
        resources,
        (len(chosen[0]), len(chosen[1])),
        lambda queries, references: (
            cut_selected(chosen[0], queries),
            cut_selected(chosen[1], references),
        ),
        block_rows=options.block_rows,
        panel_rows=options.panel_rows,
    )
    return _search(data, spec, plan, codes, options, radii, one_sided=True)


@dataclass(frozen=True)
class Radii:
    """The radius of every row, for a count: a function of the plan, as its blocks cut it.

    Attributes
    ----------
    values : array (n,) float64
        NumPy or Dask.
    token : str
        What tells these radii from others.
    """

    values: Any
    token: str

    def add_to(self, graph: PairGraph) -> list[Key]:
        """Add the radii of every block to a graph; return their keys."""
        keys: list[Key] = []
        if isinstance(self.values, np.ndarray):
            for k, (lo, hi) in enumerate(graph.blocks):
                keys.append((f"radii-{graph.token}", k))
                graph.graph[keys[-1]] = self.values[lo:hi].copy()
            return keys
        for lo, hi in graph.blocks:
            part = self.values[lo:hi].rechunk(-1)
            graph.dependencies.append(part)
            keys.append((part.name, 0))
        return keys


def _search(
    data: PairData,
    spec: PairSpec,
    plan: Plan,
    codes: tuple[Codes, Codes] | None,
    options: RunOptions,
    radii: Radii | None,
    *,
    one_sided: bool,
) -> Search:
    identity = _digest(spec, codes or (), radii.token if radii else "", one_sided)
    memo = names = None
    if data.store is not None and radii is None:  # nobody would tidy up after a count
        memo, names = TileMemo(data.store.address, f"search-{identity}"), memo_names(data, plan)
    tiles = TileSpec(spec, plan.panel_rows, memo, plan.panel_bytes, one_sided)
    salt = identity, plan.panel_rows, plan.tiles
    start, scratch = data.start(spec, plan, options, salt)
    keys = radii.add_to(start) if radii is not None else ()
    blocks = block_names(data, plan) if memo else ()
    choices = Choices(names, codes=codes, radii=keys, block_names=blocks)
    graph = build(start, tiles, plan, choices)
    waves = Waves.of(graph, tiles, plan, choices)
    first = len(graph.states)
    rows = [_count(codes, block) for block in plan.blocks[:first]]
    return Search(spec, plan, graph, tuple(rows), memo, scratch, waves)


def _count(codes: tuple[Codes, Codes] | None, block: tuple[int, int]) -> int:
    lo, hi = block
    return hi - lo if codes is None else int(np.count_nonzero(codes[0][lo:hi] >= 0))


def _only_blocks_of(plan: Plan, rows: NDArray[np.int64]) -> Plan:
    """Cut a plan to the blocks that hold some rows."""
    held = [k for k, (lo, hi) in enumerate(plan.blocks) if np.any((rows >= lo) & (rows < hi))]
    place = {k: p for p, k in enumerate(held)}
    tiles = tuple((place[i], place[j]) for i, j in plan.tiles if i in place and j in place)
    return replace(plan, blocks=tuple(plan.blocks[k] for k in held), tiles=tiles)


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


def _digest(spec: PairSpec, codes: Sequence[Codes], *parts: Any) -> str:
    """Name of what a search asks for."""
    found = hashlib.sha256(repr(sorted(spec.parameters().items(), key=str)).encode())
    found.update(repr((spec.reduction, spec.parts, *parts)).encode())
    for code in codes:
        found.update(code.tobytes())
    return found.hexdigest()[:16]
