"""The plan of a one-sided search: blocks of queries against blocks of references; arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

from .footprint import USABLE
from .plan import (
    Blocks,
    Plan,
    Resources,
    choose_block_rows,
    make_plan,
    most_rows,
    with_waiting,
)
from .workload import Workload, tile_bytes, waiting_bytes

STATES_SHARE = 0.25  # of usable memory, for states of queries


def make_search_plan(
    work: Workload,
    resources: Resources,
    counts: tuple[int, int],
    cuts: Callable[[int, int], tuple[Blocks, Blocks]],
    *,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> Plan:
    """Plan a one-sided search: every block of queries against every block of references.

    Parameters
    ----------
    work : Workload
        Its `state_bytes` are those of a query; references keep nothing.
    resources : Resources
    counts : (int, int)
        How many queries and references there are.
    cuts : callable
        From the most queries and the most references of a block to the blocks of either.
    block_rows, panel_rows : int, optional
        Fixed sizes in rows instead of chosen ones.

    Raises
    ------
    MemoryPlanError
        Where not even the smallest panels fit the memory limit.
    """
    lean = replace(work, state_bytes=16, resumable=False)  # one graph has all of it
    size = block_rows or choose_block_rows(lean, resources)
    spread = counts[0] // (2 * resources.workers * resources.threads)
    queries = min(size, most_rows(work, resources, STATES_SHARE), max(spread, 256))
    blocks = cuts(queries, size)
    first = len(blocks[0])
    tiles = tuple((i, first + j) for i in range(first) for j in range(len(blocks[1])))
    # what a tile holds beside its panels: the states of its queries
    states = max(0, tile_bytes(work, queries) - tile_bytes(lean, size)) * resources.threads
    limit = resources.memory_limit
    planned = make_plan(
        lean,
        replace(resources, memory_limit=limit and limit - ceil(states / USABLE)),
        block_rows=size,
        panel_rows=panel_rows,
    )
    peak = planned.peak_bytes + states
    waiting = waiting_bytes(counts[0] * work.state_bytes, len(blocks[1]), resources.workers)
    values = counts[0] * len(blocks[1]) + first * counts[1]
    return replace(
        planned,
        blocks=blocks[0] + blocks[1],
        tiles=tiles,
        tasks=len(tiles) + 2 * first,
        bytes_read=values * work.columns * work.stored_bytes,
        operations=2.0 * work.columns * counts[0] * counts[1],
        peak_bytes=with_waiting(peak, waiting, resources),
        resources=resources,
    )
