"""From the size of the work and of the workers: blocks, panels, tasks, bytes and peak memory.

Pure arithmetic: no Dask, no Zarr, nothing is read; only whether xarray is installed is looked up,
as it makes every worker larger. Rows are cut into *blocks*; a pair of blocks is a *tile*, the work
of one task; inside a tile *panels* of rows are held in memory. Blocks follow from the time that a
task should last, panels from the memory it may use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np

from .. import display
from ..declared_types import check_types
from ..errors import Hint, InvalidDataError, InvalidOptionError, MemoryPlanError
from ..whole_numbers import check_whole
from .footprint import USABLE, Footprint
from .workload import (
    SPLIT_EVERY,
    Workload,
    cut_blocks,
    panel_bytes,
    tile_bytes,
    waiting_bytes,
)

MIB = 2**20
BASE_BYTES = 245 * MIB  # a worker with dask, zarr, the compiled kernels and BLAS buffers (measured)
XARRAY_BYTES = 75 * MIB  # Dask imports it, with pandas and pyarrow, wherever it is installed
TILE_SECONDS = 3.0  # tasks should last 0.5 to 60 s (FACTS: a task costs about 4 ms end to end)
PAIRS_OVERHEAD = 2e-9  # seconds a pair costs beside its arithmetic
FLOPS = 5e10  # multiply-adds of a core in float32, times two
PREPARE = 4e-9  # seconds to read, check and round a value (measured)
WRITE = 1e-8  # seconds to pack and write a byte of a state (measured)
RESULTS = 4  # times a row's state: what is written of it in the end
NARROW = 20  # a product of so few columns takes twice its time (measured)
PREFIX_COLUMNS = 80  # of rows that are screened by prefixes, about
LONGEST_TILE = 45.0  # seconds of arithmetic, before there are more blocks than MOST_BLOCKS
MOST_BLOCKS = 128  # 8,256 tiles: at most about 10,000 tasks a graph
MOST_IN_ROUNDS = 2_048  # blocks; three years of a core until tiles take longer than LONGEST_TILE
BLOCKS_PER_THREAD = 3  # where tiles run in rounds
WAVE_TILES = 20_000  # of a graph: a scheduler takes about 6 KiB and 4 ms a task
MEMO_SHARE = 0.1  # of the data: finished tiles may take so much of a store,
MEMO_BYTES = 2**30  # or so much, until they run in rounds
TILES_PER_THREAD = 4
BOXED_TILES_PER_THREAD = 2  # halving such a block spares little more than half of its pairs
BOXED_ROW_SECONDS = 1e-7  # of a row that looks through a block's boxes, times columns² (measured)
KEPT_BYTES = 512 * MIB  # of a worker's memory at most that hold blocks from tile to tile
STATES_SHARE = 0.5  # of usable memory: what a tile of boxed rows holds of its states
KEEPING = 0.6  # of the memory limit: what is only kept must not bring a worker near to USABLE
LEAST_PANEL = 16  # rows; smaller panels would read everything too often

Blocks = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Resources:
    """What there is to compute with.

    Attributes
    ----------
    workers : int
        Processes, this one where there is no cluster.
    threads : int
        Tiles that a worker computes at once.
    memory_limit : int, optional
        Bytes per worker; None without a limit.
    xarray : bool, optional
        Whether workers have xarray installed, which makes them larger; None where they have what
        this process has.
    here : bool
        Whether it is this process that computes.
    """

    workers: int = 1
    threads: int = 1
    memory_limit: int | None = None
    xarray: bool | None = field(default=None, compare=False)
    here: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        check_types(self)
        for name, of in (
            ("workers", "processes"),
            ("threads", "threads"),
            ("memory_limit", "bytes"),
        ):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), of=of)


@dataclass(frozen=True)
class Plan:
    """How a workload will run.

    Attributes
    ----------
    blocks : tuple of (first row, last row + 1)
    panel_rows : (int, int)
        Rows held at once of either side of a tile.
    tiles : tuple of (block, block)
        Pairs of blocks, first ≤ second.
    tasks : int
        Tasks of the graph, about.
    bytes_read : int
        Decoded bytes of features read from the store by all tiles.
    operations : float
        Floating-point operations of the products (or distances).
    peak_bytes : int
        Projected peak memory of a worker process.
    resources : Resources
    segments : tuple of int
    unit_rows : int
        As in the workload.
    panel_bytes : int
        What the panels of one tile take of the peak.
    kept_bytes : int
        What blocks that a worker keeps from tile to tile take of it; 0 where there is no room.
    seconds : float
        Run time, roughly, at the pace of the cores that the constants above were measured on.
    tile_seconds : float
        Of the longest tile, likewise.
    in_rounds : bool
        Whether a tile goes on from what the one before left of its blocks (`rounds`).
    small : bool
        Whether it is done before the processes of a cluster would have started.
    """

    blocks: Blocks
    panel_rows: tuple[int, int]
    tiles: Blocks
    tasks: int
    bytes_read: int
    operations: float
    peak_bytes: int
    resources: Resources
    segments: tuple[int, ...]
    unit_rows: int
    panel_bytes: int
    kept_bytes: int
    seconds: float
    tile_seconds: float
    in_rounds: bool = False
    small: bool = False

    @property
    def tasks_at_once(self) -> int:
        """Tasks that a scheduler has at a time."""
        most = WAVE_TILES + 8 * len(self.blocks) if self.in_rounds else self.tasks
        return min(self.tasks, most)

    @property
    def footprint(self) -> Footprint:
        """What a worker must have to compute tiles."""
        return Footprint(self.peak_bytes, self.resources.threads)

    @property
    def pairs(self) -> int:
        """Pairs of rows that all tiles look at together."""
        return over_tiles(pairs_of, self.blocks, self.tiles)

    def described(self) -> list[display.Cell]:
        """Return the plan in words: name, value, remark."""
        has, limit = self.resources, self.resources.memory_limit
        largest = max(hi - lo for lo, hi in self.blocks)
        panels = " and ".join(f"{rows:,}" for rows in self.panel_rows)
        kept = f", {display.size(self.kept_bytes)} of it kept blocks" if self.kept_bytes else ""
        a_tile = display.clock(self.tile_seconds)
        usable = f"of each worker; {USABLE:.0%} of it is usable"
        return [
            ("workers", f"{has.workers}", f"of {display.counted(has.threads, 'thread')} each"),
            ("blocks", f"{len(self.blocks):,}", f"of up to {largest:,} rows"),
            ("panels", panels, "rows of either side in memory at once"),
            ("tiles", f"{len(self.tiles):,}", "pairs of blocks"),
            ("tasks", f"{self.tasks:,}", f"at most {self.tasks_at_once:,} in a graph of Dask"),
            ("pairs", display.big(self.pairs), "of samples"),
            ("read", display.size(self.bytes_read), "of features at most, by all workers"),
            ("operations", display.big(self.operations), "floating-point operations at most"),
            ("time", display.clock(self.seconds), f"very roughly; {a_tile} a tile at most"),
            ("peak", display.size(self.peak_bytes), f"projected for each worker{kept}"),
            *([] if limit is None else [("limit", display.size(limit), usable)]),
        ]

    def _repr_html_(self) -> str:
        rows = sum(self.segments)
        return display.card(
            "Plan", f"of {rows:,} rows; nothing runs yet", display.facts(self.described())
        )


def pairs_of(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Return how many pairs two ranges of rows have, each pair once."""
    rows, columns = a[1] - a[0], b[1] - b[0]
    return rows * (rows - 1) // 2 if a == b else rows * columns


def over_tiles(
    count: Callable[[tuple[int, int], tuple[int, int]], int], blocks: Blocks, tiles: Blocks
) -> int:
    """Return the sum over all tiles of what depends on the sizes of their blocks, and on i = j.

    There are few sizes, and at 10⁸ rows half a million tiles.
    """
    sizes, kind = np.unique([hi - lo for lo, hi in blocks], return_inverse=True)
    i, j = np.array(tiles, np.int64).reshape(-1, 2).T
    code = 2 * (kind[i] * len(sizes) + kind[j]) + (i == j)
    total = 0
    for k in np.flatnonzero(times := np.bincount(code)).tolist():
        a, b = int(sizes[k // 2 // len(sizes)]), int(sizes[k // 2 % len(sizes)])
        total += int(times[k]) * count((0, a), (0, b) if k % 2 else (a, a + b))
    return total


def make_plan(
    work: Workload,
    resources: Resources | None = None,
    *,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> Plan:
    """Choose blocks and panels, and project what the run will take.

    Parameters
    ----------
    work : Workload
    resources : Resources, optional
    block_rows, panel_rows : int, optional
        Fixed sizes in rows instead of chosen ones (results do not depend on them).

    Raises
    ------
    MemoryPlanError
        Where not even the smallest panels fit the memory limit.
    """
    resources = resources or Resources()
    _check_sizes(work.rows, block_rows, panel_rows)
    blocks, panels, peak = cut = _cut(work, resources, block_rows, panel_rows)
    waiting = waiting_bytes(work.rows * work.state_bytes, len(blocks), resources.workers)
    in_rounds = _in_rounds(work, len(blocks))
    if work.resumable and not in_rounds and not _fits(peak + waiting, resources):
        blocks, panels, peak = cut = _cut(work, resources, block_rows, panel_rows, in_rounds=True)
        in_rounds = True
    waiting = 0 if in_rounds else waiting  # in the store
    done = sum(work.segments[: work.done_segments])
    tiles = tuple((i, j) for j, b in enumerate(blocks) for i in range(j + 1) if b[1] > done)
    largest = max(b - a for a, b in blocks)
    kept = _kept_bytes(work, resources, cut, waiting)
    peak += kept
    least = min(LEAST_PANEL, largest, panel_rows or LEAST_PANEL)
    if panels[0] < least or not _fits(peak, resources):
        raise _refusal(work, resources, smallest_peak(work, resources, largest))
    peak = with_waiting(peak, waiting, resources)
    rows_read = over_tiles(lambda a, b: _rows_read(a, b, panels[0]), blocks, tiles)
    merges = len(blocks) * (1 if in_rounds else ceil((len(blocks) + 1) / (SPLIT_EVERY - 1)))
    return Plan(
        blocks,
        panels,
        tiles,
        len(tiles) + merges + 6 * len(blocks),
        rows_read * work.columns * work.stored_bytes,
        2.0 * work.columns * over_tiles(pairs_of, blocks, tiles),
        peak,
        resources,
        work.segments,
        work.unit_rows,
        panel_bytes(work, *panels),
        kept,
        _run_seconds(work, resources, blocks, tiles, rows_read, in_rounds),
        _tile_seconds(work, largest, _rows_read((0, largest), (largest, 2 * largest), panels[0])),
        in_rounds,
        work.small,
    )


class _Cut(NamedTuple):
    """Blocks, panels, and the peak of a worker that computes tiles of them."""

    blocks: Blocks
    panels: tuple[int, int]
    peak: int


def _cut(
    work: Workload,
    resources: Resources,
    block_rows: int | None,
    panel_rows: int | None,
    *,
    in_rounds: bool = False,
) -> _Cut:
    """Choose blocks and panels, but for sizes that are given."""
    size = block_rows or choose_block_rows(work, resources, in_rounds=in_rounds)
    blocks = cut_blocks(work.segments, size, work.unit_rows)
    largest = max(b - a for a, b in blocks)
    fixed = base_bytes(resources.xarray) + resources.threads * tile_bytes(work, largest)
    panels = (
        (panel_rows, panel_rows) if panel_rows else _choose_panels(work, resources, largest, fixed)
    )
    panels = min(panels[0], largest), min(panels[1], largest)
    return _Cut(blocks, panels, fixed + resources.threads * panel_bytes(work, *panels))


def _check_sizes(rows: int, block_rows: int | None, panel_rows: int | None) -> None:
    for name, value in (("block_rows", block_rows), ("panel_rows", panel_rows)):
        if value is not None and value < 1:
            raise InvalidOptionError(f"{name} must be 1 or more, not {value}")
    if rows < 1:
        raise InvalidDataError("there are no rows to plan for")


def base_bytes(xarray: bool | None = None) -> int:
    """Return the bytes of an idle worker; xarray: whether it has it, as this process by default."""
    return BASE_BYTES + (XARRAY_BYTES if (has_xarray() if xarray is None else xarray) else 0)


@cache
def has_xarray() -> bool:
    """Whether xarray is installed where this is asked."""
    return find_spec("xarray") is not None


def pair_seconds(work: Workload) -> float:
    """Return the seconds that a core takes for a pair of rows, about."""
    columns = min(work.columns, PREFIX_COLUMNS) if work.prefixed else work.columns
    slower = 1 if work.screened or work.coarse_bytes else 8
    return 2.0 * columns / FLOPS * slower + PAIRS_OVERHEAD


def _run_seconds(
    work: Workload,
    resources: Resources,
    blocks: Blocks,
    tiles: Blocks,
    rows_read: int,
    in_rounds: bool,
) -> float:
    """Return the seconds of a run, about: of all pairs, or where boxes rule most out of rows.

    Reading, and writing what tiles find and all results, comes to that.
    """
    seconds = pair_seconds(work) * over_tiles(pairs_of, blocks, tiles)
    sides = over_tiles(lambda a, b: a[1] + b[1] - a[0] - b[0], blocks, tiles)
    if work.boxed_rows:
        seconds = min(seconds, BOXED_ROW_SECONDS * work.columns**2 * sides)
    kept = sides if work.resumable else 0
    seconds += PREPARE * rows_read * work.columns
    seconds += WRITE * work.state_bytes * (kept + RESULTS * work.rows)
    at_once = len(blocks) // 2 if in_rounds else len(tiles)
    return seconds / min(resources.workers * resources.threads, max(1, at_once))


def choose_block_rows(work: Workload, resources: Resources, *, in_rounds: bool = False) -> int:
    """Return rows per block such that a tile lasts a few seconds and all threads have work.

    in_rounds: whether tiles run in rounds, however few there are.
    """
    if resources.here and work.plain:
        return work.rows  # one tile: sharing it out would take longer
    size, tiles = int(sqrt(TILE_SECONDS / pair_seconds(work))), TILES_PER_THREAD
    boxed = min(work.boxed_rows, most_rows(work, resources, STATES_SHARE))
    if boxed > size:
        size, tiles = boxed, BOXED_TILES_PER_THREAD
    least_blocks = ceil(sqrt(2 * tiles * resources.workers * resources.threads))
    size = min(size, max(256, ceil(work.rows / least_blocks)))
    few = ceil(work.rows / MOST_BLOCKS)
    if work.resumable:
        few = max(min(few, _longest_block(work)), ceil(work.rows / MOST_IN_ROUNDS))
    size = max(size, few, 1)
    # of which each has a tile for every other block
    if in_rounds or _in_rounds(work, ceil(work.rows / size)):
        blocks = min(MOST_IN_ROUNDS, BLOCKS_PER_THREAD * resources.workers * resources.threads)
        size = min(size, ceil(work.rows / blocks))
    return size


def most_rows(work: Workload, resources: Resources, share: float) -> int:
    """Return rows of a block whose states take no more than a share of a thread's memory."""
    limit = resources.memory_limit or 2**10 * MIB * resources.threads
    a_row = tile_bytes(work, 2) - tile_bytes(work, 1)
    return max(1, int(limit * USABLE * share) // resources.threads // max(1, a_row))


def _longest_block(work: Workload) -> int:
    """Return rows of a block whose tiles take LONGEST_TILE seconds."""
    rows = int(sqrt(LONGEST_TILE / pair_seconds(work)))
    if work.boxed_rows:
        rows = max(rows, int(LONGEST_TILE / (2 * BOXED_ROW_SECONDS * work.columns**2)))
    return rows


def _tile_seconds(work: Workload, rows: int, rows_read: int) -> float:
    """Return the seconds of a tile of two blocks of so many rows, about."""
    seconds = pair_seconds(work) * rows**2
    if work.boxed_rows:
        seconds = min(seconds, 2 * BOXED_ROW_SECONDS * work.columns**2 * rows)
    kept = 2 * rows * work.state_bytes if work.resumable else 0
    return seconds + PREPARE * rows_read * work.columns + WRITE * kept


def _in_rounds(work: Workload, blocks: int) -> bool:
    """Whether tiles run in rounds: there are many, or the store would hold too many states."""
    memo = (blocks + 1) * work.rows * work.state_bytes
    data = work.rows * work.columns * work.stored_bytes
    too_much = memo > max(MEMO_SHARE * data, MEMO_BYTES)
    return work.resumable and (blocks > MOST_BLOCKS or too_much)


def with_waiting(peak: int, waiting: int, resources: Resources) -> int:
    """Return a peak with what waits; of what does not fit Dask writes the least recent to disk."""
    if resources.memory_limit is not None:
        waiting = min(waiting, max(0, int(resources.memory_limit * USABLE) - peak))
    return peak + waiting


def _choose_panels(
    work: Workload, resources: Resources, largest: int, fixed: int
) -> tuple[int, int]:
    """Hold the whole tile where it fits; else most rows of one side and fewer of the other."""
    if resources.memory_limit is None:
        return largest, largest
    left = (int(resources.memory_limit * USABLE) - fixed) // resources.threads
    if panel_bytes(work, largest, largest) <= left:
        return largest, largest
    together = max(2, left // panel_bytes(work, 1, 0))
    columns = _panel_columns(together, work.unit_rows)
    return min(together - columns, largest), min(columns, largest)


def _kept_bytes(work: Workload, resources: Resources, cut: _Cut, waiting: int) -> int:
    """Return what a worker may keep of the blocks it has read: what is left, of whole blocks."""
    largest = max(hi - lo for lo, hi in cut.blocks)
    if not work.stored or len(cut.blocks) == 1 or min(cut.panels) < largest:
        return 0  # a block that is read in panels does not fit as a whole
    kept = min(KEPT_BYTES, work.rows * work.kept_row_bytes)
    if resources.memory_limit is not None:
        kept = min(kept, int(resources.memory_limit * KEEPING) - cut.peak - waiting)
    return kept if kept >= largest * work.kept_row_bytes else 0


def _panel_columns(together: int, unit: int) -> int:
    """Return how many of the rows that are held together are columns: a fifth, or whole units.

    Columns are read again for every panel of rows, and whole units of them: other pieces decode
    more than they use. Few columns make slow products.
    """

    def cost(columns: int) -> float:
        decoded = 1.0 if columns % unit == 0 else (columns + unit - 1) / columns
        product = 2 / FLOPS * (1 + NARROW / columns)
        return product + PREPARE * decoded / (together - columns)

    fifth = max(1, together // 5)
    whole = fifth // unit * unit, (fifth // unit + 1) * unit
    sizes = (c for c in (fifth, *whole) if 0 < c <= together - LEAST_PANEL)
    return min(sizes, key=cost, default=fifth)


def _rows_read(a: tuple[int, int], b: tuple[int, int], panel: int) -> int:
    """Rows that a tile reads: its rows once, its columns once for every panel of rows."""
    rows, columns = a[1] - a[0], b[1] - b[0]
    panels = ceil(rows / panel)
    if a != b:
        return rows + panels * columns
    return rows + sum(max(0, rows - (k + 1) * panel) for k in range(panels))


def _fits(peak: int, resources: Resources) -> bool:
    return resources.memory_limit is None or peak <= resources.memory_limit * USABLE


def _refusal(work: Workload, resources: Resources, smallest: int) -> MemoryPlanError:
    limit = resources.memory_limit or 0
    tables = work.rows * work.state_bytes
    large = f"; results against all groups, or of all neighbours, take {display.size(tables)}"
    return MemoryPlanError(
        f"{work.rows:,} × {work.columns:,} does not fit {resources.threads} thread(s) in a memory "
        f"limit of {limit / MIB:,.0f} MiB a worker: the smallest panels need "
        f"{smallest / USABLE / MIB:,.0f} MiB (Dask leaves {USABLE:.0%} of the limit usable)"
        f"{large if tables > limit // 4 else ''}",
        Hint(
            "give workers more, Resources(memory_limit=…), or fewer threads, threads=1",
            "give workers more, --memory-limit SIZE, or fewer threads, --threads 1",
        ),
    )


def smallest_peak(work: Workload, resources: Resources, block_rows: int) -> int:
    """Return the peak of a worker with the smallest panels."""
    rows = min(LEAST_PANEL, block_rows)
    tile = tile_bytes(work, block_rows) + panel_bytes(work, rows, max(1, rows // 4))
    return base_bytes(resources.xarray) + resources.threads * tile
