"""What the tasks of a run do: read rows, reduce a tile, merge partial results, make prefixes.

A tile task is given the source's address, two ranges of rows and the parameters; it reads what it
needs itself, so features are never a Dask dependency.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..kernels import (
    NOBODY,
    BothLabelsState,
    Counters,
    PairJob,
    QuotientState,
    Sample,
    State,
    check_axioms,
    compile_seconds,
    copy_of,
    label_norms,
    reduce_tile,
)
from ..labels import LabelMap
from ..store import ResultTables, SourceAddress, Summary, TileMemo, summarise
from .admission import admit
from .cache import BlockCache
from .events import MERGING, PREFIXES, SAMPLE, announce, announce_phase, bounds_of
from .prefixes import Choice, Part, RunPrefixes, SamplePlan, choose, make_part, take
from .readers import Codes, TileReader
from .sources import Source, open_source, read_block
from .spec import Context, PairSpec, ReferenceSets, StateAddress, TileSpec, TileTask, Turn

ROUND = "round"  # beside the arrays of a state in the memo
CHECKED = 16  # labels of a block that a user's norm is checked with

_log = logging.getLogger(__name__)


class Shared(NamedTuple):
    """What all tiles of a run are given: keys in a graph, values in a task."""

    spec: TileSpec
    source: Source | SourceAddress
    context: Context
    prefixes: RunPrefixes | None
    cache: BlockCache | None


@dataclass(frozen=True)
class TileResult:
    """Partial results of a tile's two sides; `right` is None on the diagonal, and of references.

    In rounds they are addresses of what the memo has.
    """

    left: Any
    right: Any = None

    def is_within(self, rows: int) -> bool:
        """Whether no pair is with a row that comes later than so many.

        Tiles know pairs with any row of their run, and a memo may be of a run over more rows, those
        of a store that has grown since. Without a trace of these the result is what it would be:
        what they let drop is farther than what took their place.
        """
        return all(state.is_within(rows) for state in (self.left, self.right) if state is not None)


def take_sample(
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    rows: int,
    part: tuple[int, int],
    run: str = "",
) -> Sample | None:
    """Take a part (its number, of how many) of the sample that a basis is chosen from.

    run: what the run's events are named by, where somebody may listen.
    """
    announce_phase(run, SAMPLE)
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
    kind = repr((str(pairs.metric), pairs.scale, job.scale_up, pairs.columns))
    return SamplePlan(kind, rows, pairs.columns, budget)


def make_prefixes(
    spec: TileSpec,
    source: Source | SourceAddress,
    context: Context,
    choice: Choice | None,
    lo: int,
    hi: int,
    run: str = "",
) -> Part | None:
    """Make the prefixes of rows lo:hi; run: as for `take_sample`."""
    announce_phase(run, PREFIXES)
    return make_part(open_source(source), choice, context.job(spec.pairs), lo, hi)


class Started(NamedTuple):
    """When a tile began, and how long its process had compiled by then, in seconds."""

    time: float
    compiling: float


def run_tile(
    task: TileTask,
    shared: Sequence[Any],
    known: Sequence[Any] = (),
    codes: Codes = (None, None),
    radii: Sequence[NDArray[np.float64]] = (),
) -> TileResult:
    """Reduce all pairs between two ranges of rows, or find them in the memo.

    Parameters
    ----------
    task : TileTask
    shared : Shared
    known : sequence of TileResult, State, StateAddress or None
        What other tiles know of the rows and the columns.
    codes : (ndarray, ndarray)
        Parts of either side's rows, −1 where they take no part; None for all rows by their groups.
    radii : sequence of ndarray
        For `CountWithin`: the radius of every row of either side's block.
    """
    started = Started(time.perf_counter(), compile_seconds())
    shared = Shared(*shared)
    spec, source = shared.spec, open_source(shared.source)
    admit(spec.need)
    reader = TileReader(task, spec, source, shared.prefixes, shared.cache, codes)
    result = _from_memo(task, spec)
    if result is not None:
        _announce(task, spec, None, started, _bounds(result, task, shared, reader))
        return result if task.turn is None else _addresses(task.turn)
    left, right = _states(task, shared, reader, known, radii)
    counters = reduce_tile(reader, spec.panel_rows, shared.context.job(spec.pairs), left, right)
    result = TileResult(left, None if right is left or spec.one_sided else right)
    if shared.cache is not None and spec.pairs.reduction.warm:
        # columns that only answer know nothing, and may be the rows of another tile
        asking = (left,) if spec.one_sided else (left, right)
        for side, state in zip(task.sides, asking, strict=False):
            shared.cache.put(("state", *side), state)
    kept = spec.memo is not None and _to_memo(spec.memo, task, result)
    counters.bytes_read = reader.bytes_read
    _announce(task, spec, counters, started, _bounds(result, task, shared, reader))
    return _addresses(task.turn) if kept and task.turn is not None else result


def _from_memo(task: TileTask, spec: TileSpec) -> TileResult | None:
    if spec.memo is None:
        return None
    if task.turn is not None:
        states = [load_turn(spec, name, task.turn.number) for name in task.turn.names]
        return None if any(state is None for state in states) else TileResult(*states)
    packed = spec.memo.load(task.memo_name)
    if packed is None:
        return None
    result = _unpack(packed, spec.pairs)
    return result if result.is_within(task.total) else None


def load_turn(spec: TileSpec, name: str, least: int) -> Any:
    """Return what is kept of a block that has had the round `least`, or None."""
    assert spec.memo is not None
    packed = spec.memo.load(name)
    if packed is None or packed.pop(ROUND) < least:
        return None
    return _state_of(packed, "", spec.pairs)


def state_at(spec: TileSpec, state: Any) -> Any:
    """Return a state that was handed on, from the memo where only its address was.

    Raises
    ------
    StoreError
        Where it is not there.
    """
    if not isinstance(state, StateAddress):
        return state
    found = load_turn(spec, state.name, state.number)
    if found is None:
        raise StoreError(
            "what tiles have left of some rows is not in the store: it is damaged, another run of "
            "the same has ended and cleared it, or only an array was asked for where tiles run in "
            "several graphs; call write() or compute() of the scores or neighbours (again)"
        )
    return found


def has_turn(spec: TileSpec, name: str, number: int) -> bool:
    """Whether the state of a block that has had a round is kept."""
    return load_turn(spec, name, number) is not None


def side_of(result: TileResult, side: int) -> Any:
    """Return the state of a tile's rows or columns; both are one on the diagonal."""
    return result.right if side and result.right is not None else result.left


def settle(*results: Any) -> None:
    """Take results and return nothing: what a graph ends with whose tiles are in the memo."""


def _to_memo(memo: TileMemo, task: TileTask, result: TileResult) -> bool:
    """Keep what a tile has found; False where the store may only be read, which has no memo."""
    with contextlib.suppress(PermissionError):
        if task.turn is None:
            memo.save(task.memo_name, _pack(result))
            return True
        sides = (result.left, result.right)
        # in place of the round before
        for name, state in zip(task.turn.names, sides, strict=False):
            memo.save(name, {**_arrays_of(state), ROUND: np.asarray(task.turn.number)})
        return True
    return False


def _addresses(turn: Turn) -> TileResult:
    """Where the memo has what a tile in rounds has found."""
    return TileResult(*(StateAddress(name, turn.number) for name in turn.names))


def _states(
    task: TileTask,
    shared: Shared,
    reader: TileReader,
    known: Sequence[Any],
    radii: Sequence[NDArray[np.float64]],
) -> tuple[Any, Any]:
    """What either side starts from: all that is known of it here, or nothing."""
    pairs, sides = shared.spec.pairs, task.sides

    def start(side: int) -> Any:
        state = known[side] if side < len(known) else None
        state = state.left if isinstance(state, TileResult) else state
        read = isinstance(state, StateAddress)  # nobody else has it
        state = state_at(shared.spec, state)
        here = None if shared.cache is None else shared.cache.find(("state", *sides[side]))
        if here is not None and pairs.reduction.warm:
            return copy_of(here) if state is None else here.merge(state)
        if state is not None:
            return state if read else copy_of(state)
        empty = pairs.reduction.empty(reader.count(side), pairs.parts)
        if len(radii):
            numbers = reader.rows(side, 0, reader.count(side)).numbers
            empty.radius[:] = radii[side][numbers - sides[side][0], None]
        return empty

    left = start(0)
    if shared.spec.one_sided:
        return left, pairs.reduction.closed(reader.count(1))
    return left, left if task.rows == task.columns else start(1)


def _bounds(result: TileResult, task: TileTask, shared: Shared, reader: TileReader) -> list[bytes]:
    """Return R so far of the rows of either side, for whoever listens."""
    pairs, found = shared.spec.pairs, []
    if not pairs.scored or not isinstance(result.left, (QuotientState, BothLabelsState)):
        return []
    for side, state in enumerate((result.left, result.right)):
        if state is not None:
            state = state.different if isinstance(state, BothLabelsState) else state
            lipschitz = by_set(state, pairs.sets).lipschitz
            split = reader.split(side) if lipschitz.shape[1] > 1 else None
            first, norm = task.sides[side][0], shared.context.label_norm
            found.append(bounds_of(lipschitz, split, norm, (first, task.total)))
    return found


def by_set(state: QuotientState, sets: ReferenceSets | None) -> QuotientState:
    """Return results against every reference set: the best of its parts."""
    if sets is None:
        return state
    columns = []
    for parts in sets.parts:
        best, *others = (_columns(state, part) for part in parts)
        for other in others:
            best = best.merge(other)
        columns.append(best)
    arrays: Any = zip(*columns, strict=True)
    return QuotientState._make(np.concatenate(array, axis=1) for array in arrays)


def _columns(state: QuotientState, part: int) -> QuotientState:
    return QuotientState._make(array[:, part : part + 1] for array in state)


def merge_states(parts: Sequence[TileResult | State], sides: Sequence[int], run: str = "") -> Any:
    """Merge the wanted sides of tiles and earlier merges; run: as for `take_sample`."""
    announce_phase(run, MERGING)
    merged: Any = None
    for part, side in zip(parts, sides, strict=True):
        state: Any = side_of(part, side) if isinstance(part, TileResult) else part
        merged = state if merged is None else merged.merge(state)
    return merged


def summarise_rows(source: Source, lo: int, hi: int) -> Summary:
    """Check and sum up rows lo:hi."""
    return summarise(read_block(source, lo, hi), lo)


def largest_norm(source: Source | SourceAddress, labels: LabelMap, lo: int, hi: int) -> float:
    """Return the largest norm of the labels of rows lo:hi by a user's norm, which is checked."""
    values = labels.encode(open_source(source).read("labels", lo, hi))
    assert labels.own_norm is not None
    check_axioms(labels.own_norm, values[:: max(1, len(values) // CHECKED)][:CHECKED])
    return float(label_norms(labels, values).max(initial=0.0))


def merge_summaries(parts: list[Summary]) -> Summary:
    """Merge summaries of rows that follow each other."""
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


def load_state(result: ResultTables, lo: int, hi: int, groups: int) -> QuotientState:
    """Read a finished result's rows as partial results, for more groups than it had perhaps."""

    def wide(table: str, fill: float) -> NDArray[Any]:
        values = result.read(table, lo, hi)
        extra = np.full((hi - lo, groups - values.shape[1]), fill, values.dtype)
        values = np.concatenate([values, extra], axis=1)
        return np.where(values < 0, NOBODY, values) if values.dtype.kind == "i" else values

    quotient, witness = np.zeros((0, 0)), np.zeros((0, 0), np.int64)
    if "witness_by_group" in result.tables():
        quotient, witness = wide("lipschitz_by_group", 0.0), wide("witness_by_group", -1)
    reach, nearest = wide("reach_by_group", np.inf), wide("nearest_by_group", -1)
    return QuotientState(reach, nearest, quotient, witness)


def _arrays_of(state: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of a state by name, but for those that it does not need."""
    return {k: array for k, array in state._asdict().items() if len(array) == len(state[0])}


def _pack(result: TileResult) -> dict[str, NDArray[Any]]:
    packed = {f"left_{k}": v for k, v in _arrays_of(result.left).items()}
    if result.right is not None:
        packed |= {f"right_{k}": v for k, v in _arrays_of(result.right).items()}
    return packed


def _unpack(packed: dict[str, NDArray[Any]], pairs: PairSpec) -> TileResult:
    right = _state_of(packed, "right_", pairs) if any("right_" in k for k in packed) else None
    return TileResult(_state_of(packed, "left_", pairs), right)


def _state_of(packed: dict[str, NDArray[Any]], prefix: str, pairs: PairSpec) -> Any:
    nothing = pairs.reduction.empty(0, 0)
    arrays = nothing._asdict().items()
    return type(nothing)(**{k: packed.get(f"{prefix}{k}", empty) for k, empty in arrays})


def _announce(
    task: TileTask, spec: TileSpec, counters: Counters | None, started: Started,
    bounds: Sequence[bytes],
) -> None:  # fmt: skip
    """Tell whoever listens that a tile is done; without counters it was found in the memo."""
    resumed, counters = counters is None, counters or Counters()
    _log.debug("tile %s × %s is done%s", task.rows, task.columns, ", from the memo" * resumed)
    compiling = compile_seconds() - started.compiling
    announce(
        {
            "run": task.run,
            "rows": list(task.rows),
            "columns": list(task.columns),
            "pairs": counters.pairs,
            "screened": counters.screened,
            "proven": counters.proven,
            "bytes_read": counters.bytes_read,
            "seconds": time.perf_counter() - started.time - compiling,
            "compiling": compiling,
            "resumed": resumed,
            "projected": spec.need.peak_bytes if spec.need else 0,
            "bounds": bounds,
        }
    )
