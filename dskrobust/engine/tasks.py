"""What the tasks of a run do: read rows, reduce a tile, merge partial results, make prefixes.

A tile task is given the source's address, two ranges of rows and the parameters; it reads what it
needs itself, so features are never a Dask dependency.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import (
    NOBODY,
    Counters,
    Neighbours,
    PairJob,
    Sample,
    Selected,
    Tables,
    reduce_neighbours,
    reduce_tile,
)
from ..labels import LabelMap
from ..store import (
    ResultTables,
    SourceAddress,
    Summary,
    summarise,
)
from .cache import BlockCache
from .events import announce, bounds_of
from .prefixes import Choice, Part, RunPrefixes, SamplePlan, choose, make_part, take
from .readers import _RowReader, _TileReader
from .sources import Source, open_source, split_of
from .spec import Context, NeighbourSpec, PairSpec, TileSpec, TileTask


@dataclass(frozen=True)
class TileResult:
    """Partial results of a tile's two sides; `right` is None on the diagonal."""

    left: Tables
    right: Tables | None

    def is_within(self, rows: int) -> bool:
        """Whether no pair is with a row that comes later than so many.

        Tiles know pairs with any row of their run, and a memo may be of a run over more rows, those
        of a store that has grown since. Without a trace of these the result is what it would be:
        what they let drop is farther than what took their place.
        """
        sides = [self.left] if self.right is None else [self.left, self.right]
        indices = [index for tables in sides for index in (tables.nearest, tables.witness)]
        return all(((index < rows) | (index == NOBODY)).all() for index in indices)


def take_sample(
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    rows: int,
    part: tuple[int, int],
) -> Sample | None:
    """Take a part (its number, of how many) of the sample that a basis is chosen from."""
    return take(*_sampling(spec, source, context, rows), part)


def choose_prefixes(
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    rows: int,
    samples: list[Sample | None],
) -> Choice | None:
    """Choose the basis of a run from all parts of a sample."""
    return choose(*_sampling(spec, source, context, rows), samples)


def _sampling(
    spec: TileSpec, source: Source | SourceAddress, context: Context, rows: int
) -> tuple[Source, SourceAddress | None, PairJob, LabelMap, SamplePlan]:
    job = context.job(spec.pairs)
    plan = sample_plan(spec.pairs, job, rows, spec.budget)
    address = source if isinstance(source, SourceAddress) else None
    return open_source(source), address, job, spec.pairs.labels, plan


def sample_plan(pairs: PairSpec, job: PairJob, rows: int, budget: int | None) -> SamplePlan:
    """Return what a basis is chosen for."""
    kind = repr((str(pairs.metric), pairs.scale, job.lift, pairs.columns))
    return SamplePlan(kind, rows, pairs.columns, budget)


def make_prefixes(
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    choice: Choice | None,
    lo: int,
    hi: int,
) -> Part | None:
    """Make the prefixes of rows lo:hi."""
    return make_part(open_source(source), choice, context.job(spec.pairs), lo, hi)


def run_tile(
    task: TileTask,
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    prefixes: RunPrefixes | None,
    kept: BlockCache | None,
    known: list[TileResult | Tables | None],
) -> TileResult:
    """Reduce all pairs between two ranges of rows, or find them in the memo.

    kept: what this worker keeps of the run's blocks, and knows of them; known: for tiles off the
    diagonal what other tiles know of either side.
    """
    started = time.perf_counter()
    rows, columns = task.rows, task.columns
    if spec.memo is not None:
        found = spec.memo.load(task.memo_name)
        result = None if found is None else _unpack(found, rows, columns)
        if result is not None and result.is_within(task.total):
            opened = open_source(source)
            bounds = _bounds(result, task, context, partial(split_of, opened))
            seconds = time.perf_counter() - started
            _announce(task, Counters(), seconds, resumed=True, bounds=bounds)
            return result
    reader = _TileReader(task, spec, source, prefixes, kept)
    left, right, counters = reduce_tile(
        reader.rows,
        rows,
        columns,
        spec.panel_rows,
        context.job(spec.pairs),
        prefixes=None if prefixes is None else reader,
        known=_known(task, kept, known),
        kept=kept,
    )
    result = TileResult(left, None if rows == columns else right)
    if kept is not None:
        for side, tables in ((rows, left), (columns, right)):
            kept.put(("tables", *side), tables)
    if spec.memo is not None:
        with contextlib.suppress(PermissionError):  # a store we may only read has no memo
            spec.memo.save(task.memo_name, _pack(result))
    counters.bytes_read = reader.bytes_read
    bounds = _bounds(result, task, context, reader.split)
    _announce(task, counters, time.perf_counter() - started, resumed=False, bounds=bounds)
    return result


def _known(
    task: TileTask, kept: BlockCache | None, known: list[TileResult | Tables | None]
) -> tuple[Tables | None, Tables | None]:
    """Return what is known of either side: by the tiles given, and by all that ran here."""
    found: list[Tables | None] = []
    for side, given in zip((task.rows, task.columns), known or (None, None), strict=True):
        start = given.left if isinstance(given, TileResult) else given
        here: Tables | None = None if kept is None else kept.find(("tables", *side))
        found.append(here.merge(start) if here is not None and start is not None else here or start)
    return found[0], found[1]


def _bounds(
    result: TileResult,
    task: TileTask,
    context: Context,
    split: Callable[[int, int], NDArray[np.int16]],
) -> list[bytes]:
    """Return R so far of the rows of either side, for whoever listens."""
    found = []
    for tables in (result.left, result.right):
        if tables is not None:
            lo, hi = tables.first, tables.first + len(tables.reach)
            groups = split(lo, hi) if tables.reach.shape[1] > 1 else None
            found.append(bounds_of(tables, groups, context.label_norm, task.total))
    return found


def run_neighbours(
    task: TileTask,
    spec: NeighbourSpec,
    source: Source | SourceAddress,
    context: Context,
    prefixes: RunPrefixes | None,
    codes: list[NDArray[np.int16]],
    known: Neighbours | None,
) -> Neighbours:
    """Find the nearest rows of a block's queries in another block, or in the memo.

    codes: for either block the part of every row, −1 where it takes no part (queries are part 0).
    known: what an earlier tile found for the same queries.
    """
    started = time.perf_counter()
    rows, columns, tiles = task.rows, task.columns, spec.tiles
    if tiles.memo is not None:
        found = tiles.memo.load(task.memo_name)
        if found is not None:
            _announce(task, Counters(), time.perf_counter() - started, resumed=True)
            return Neighbours(**found)
    queries, references = Selected.of(rows[0], codes[0]), Selected.of(columns[0], codes[1])
    start = known or Neighbours.empty(queries.numbers, spec.parts, spec.k)
    reader, job = _RowReader(tiles, source, prefixes), context.job(tiles.pairs)
    result, counters = reduce_neighbours(reader, queries, references, tiles.panel_rows, job, start)
    if tiles.memo is not None:
        with contextlib.suppress(OSError, KeyError):  # read only, or another run is done with it
            tiles.memo.save(task.memo_name, result.arrays())
    counters.bytes_read = reader.bytes_read
    _announce(task, counters, time.perf_counter() - started, resumed=False)
    return result


def merge_neighbours(parts: list[Neighbours]) -> Neighbours:
    """Merge the lists of the same queries."""
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


def merge_tables(parts: list[TileResult | Tables], sides: tuple[int, ...]) -> Tables:
    """Merge the wanted sides of tiles and earlier merges."""
    merged: Tables | None = None
    for part, side in zip(parts, sides, strict=True):
        tables = part
        if isinstance(part, TileResult):
            tables = part.right if side and part.right is not None else part.left
        assert isinstance(tables, Tables)
        merged = tables if merged is None else merged.merge(tables)
    assert merged is not None
    return merged


def summarise_rows(source: Source, lo: int, hi: int) -> Summary:
    """Check and sum up rows lo:hi."""
    return summarise(source.read_block(lo, hi), lo)


def merge_summaries(parts: list[Summary]) -> Summary:
    """Merge summaries of rows that follow each other."""
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


def load_tables(result: ResultTables, lo: int, hi: int, groups: int) -> Tables:
    """Read a finished result's rows as partial results, for more groups than it had perhaps."""

    def wide(table: str, fill: float) -> NDArray[Any]:
        values = result.read(table, lo, hi)
        extra = np.full((hi - lo, groups - values.shape[1]), fill, values.dtype)
        return np.concatenate([values, extra], axis=1)

    tables = result.tables()
    reach, nearest = wide("reach_by_group", np.inf), wide("nearest_by_group", -1)
    quotient, witness = np.zeros((0, 0)), np.zeros((0, 0), np.int64)
    if "witness_by_group" in tables:
        quotient, witness = wide("lipschitz_by_group", 0.0), wide("witness_by_group", -1)
    return Tables(
        lo,
        reach,
        np.where(nearest < 0, NOBODY, nearest),
        quotient,
        np.where(witness < 0, NOBODY, witness),
    )


def _pack(result: TileResult) -> dict[str, NDArray[Any]]:
    packed = {f"left_{k}": v for k, v in result.left.arrays().items()}
    if result.right is not None:
        packed |= {f"right_{k}": v for k, v in result.right.arrays().items()}
    return packed


def _unpack(
    packed: dict[str, NDArray[Any]], rows: tuple[int, int], columns: tuple[int, int]
) -> TileResult:
    empty = np.zeros((0, 0)), np.full((0, 0), NOBODY)

    def side(name: str, first: int) -> Tables:
        quotient, witness = (
            packed.get(f"{name}_{k}", e)
            for k, e in zip(("quotient", "witness"), empty, strict=True)
        )
        return Tables(first, packed[f"{name}_reach"], packed[f"{name}_nearest"], quotient, witness)

    return TileResult(side("left", rows[0]), side("right", columns[0]) if rows != columns else None)


def _announce(
    task: TileTask,
    counters: Counters,
    seconds: float,
    *,
    resumed: bool,
    bounds: Sequence[bytes] = (),
) -> None:
    """Tell whoever listens that a tile is done."""
    announce(
        {
            "run": task.run,
            "rows": list(task.rows),
            "columns": list(task.columns),
            "pairs": counters.pairs,
            "screened": counters.screened,
            "proven": counters.proven,
            "bytes_read": counters.bytes_read,
            "seconds": seconds,
            "resumed": resumed,
            "bounds": bounds,
        }
    )
