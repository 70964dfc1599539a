"""Searches over pairs that are no scores: any reduction, symmetric or one-sided."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .clients import current_client, shares_process
from .cluster.workers import ask, found_resources, memory_here, workers_of
from .engine.graph import Choices, Key, PairGraph, build
from .engine.plan import Blocks, Plan, Resources
from .engine.search_plan import make_search_plan
from .engine.spec import PairSpec, TileSpec
from .engine.waves import Waves
from .row_sets import Parts
from .runs import PairData, RunOptions, block_names, memo_names, plan_work
from .store import TileMemo


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
    parts: Parts | None,
    options: RunOptions,
    radii: Radii | None = None,
) -> Search:
    """Set up a search of rows among themselves: every pair once, for both.

    parts: of the rows that take part; None for all rows by their groups.
    """
    work = data.workload(spec)
    plan = plan_work(replace(work, resumable=work.resumable and radii is None), options)
    if parts is None:
        rows = [hi - lo for lo, hi in plan.blocks]
        return _search(data, spec, _Cut(plan, rows), options, radii)
    cut = _only_blocks_with(plan, parts.count(plan.blocks))
    return _search(data, spec, replace(cut, codes=(parts, parts)), options, radii)


def one_sided_search(
    data: PairData,
    spec: PairSpec,
    queries: Parts,
    references: Parts,
    options: RunOptions,
) -> Search:
    """Set up a search of queries, which are one part, among references."""
    rows: list[int] = []

    def cuts(most: int, most_references: int) -> tuple[Blocks, Blocks]:
        blocks, rows[:] = queries.pieces(most)
        return tuple(blocks), tuple(references.pieces(most_references)[0])

    plan = make_search_plan(
        data.workload(spec),
        options.resources or bounded(found_resources()),
        (queries.total, references.total),
        cuts,
        block_rows=options.block_rows,
        panel_rows=options.panel_rows,
    )
    return _search(data, spec, _Cut(plan, rows, (queries, references), one_sided=True), options)


@contextlib.contextmanager
def searching(several: Iterable[Search | None], **kwargs: Any) -> Iterator[None]:
    """Compile what searches of one graph need, and run what goes before; then drop what is left.

    several: None where nothing is searched. kwargs: of the computation by Dask that follows.
    """
    searches = [search for search in several if search is not None]
    for search in searches[:1]:
        search.spec.warm_up()
    try:
        for search in searches[:1]:
            if search.waves is not None:
                search.waves.run(**kwargs)
        yield
    finally:
        for search in searches:
            if search.scratch is not None:
                shutil.rmtree(search.scratch, ignore_errors=True)
    for search in searches[:1]:
        forget(search)


def forget(search: Search) -> None:
    """Drop the finished tiles of a search that is done."""
    if search.memo is not None:
        with contextlib.suppress(OSError, KeyError):  # read only, or cleared by another run
            search.memo.clear()


@dataclass(frozen=True)
class _Cut:
    """A plan, how many rows ask in every block, and the parts of either side's rows."""

    plan: Plan
    rows: Sequence[int]
    codes: tuple[Parts, Parts] | None = None
    one_sided: bool = False


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
    cut: _Cut,
    options: RunOptions,
    radii: Radii | None = None,
) -> Search:
    plan, sides = cut.plan, cut.codes or ()
    asked = [side.identity for side in sides]
    identity = _digest(spec, asked, radii.token if radii else "", cut.one_sided)
    memo = names = None
    if (
        data.memoised and data.store is not None and radii is None
    ):  # nobody would tidy up after a count
        memo, names = TileMemo(data.store.address, f"search-{identity}"), memo_names(data, plan)
    spec = replace(spec, plain=data.workload(spec).plain)
    tiles = TileSpec(spec, plan.panel_rows, memo, plan.panel_bytes, cut.one_sided)
    salt = identity, plan.panel_rows, plan.tiles
    start, scratch = data.start(spec, plan, options, salt)
    keys = radii.add_to(start) if radii is not None else ()
    blocks = block_names(data, plan) if memo else ()
    choices = Choices(names, codes=cut.codes, radii=keys, block_names=blocks)
    graph = build(start, tiles, plan, choices)
    waves = Waves.of(graph, tiles, plan, choices)
    return Search(spec, plan, graph, tuple(cut.rows), memo, scratch, waves)


def _only_blocks_with(plan: Plan, rows: Sequence[int]) -> _Cut:
    """Cut a plan to the blocks that hold some of the rows."""
    held = [k for k, count in enumerate(rows) if count]
    place = {k: p for p, k in enumerate(held)}
    tiles = tuple((place[i], place[j]) for i, j in plan.tiles if i in place and j in place)
    plan = replace(plan, blocks=tuple(plan.blocks[k] for k in held), tiles=tiles)
    return _Cut(plan, [rows[k] for k in held])


def bounded(resources: Resources) -> Resources:
    """Plan for half of the free memory, of the workers' machines, where workers have no limit."""
    if resources.memory_limit is not None:
        return resources
    limits = _free_of_workers() or [_free_here(resources.workers)]
    return replace(resources, memory_limit=min(limits))


def _free_of_workers() -> list[int]:
    """Return what each worker of the cluster may take, if there is one."""
    client = None if shares_process() else current_client()
    if client is None:
        return []
    hosts = {address: worker["host"] for address, worker in workers_of(client).items()}
    sharing = Counter(hosts.values())
    found = ask(client, memory_here)
    return [
        free // 2 // sharing[hosts[address]] + held
        for address, (free, held) in found.items()
        if address in hosts
    ]


def _free_here(workers: int) -> int:
    free, held = memory_here()
    return free // 2 // workers + held


def _digest(spec: PairSpec, *parts: Any) -> str:
    """Name of what a search asks for."""
    found = hashlib.sha256(repr(sorted(spec.parameters().items(), key=str)).encode())
    found.update(repr((spec.reduction, spec.parts, *parts)).encode())
    return found.hexdigest()[:16]
