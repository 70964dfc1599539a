"""What the tasks of a run do: read rows, reduce a tile, merge partial results, make prefixes.

A tile task is given the source's address, two ranges of rows and the parameters; it reads what it
needs itself, so features are never a Dask dependency.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .blocks import BlockCache
from .errors import InvalidDataError
from .events import announce, bounds_of
from .kernels import (
    NOBODY,
    Counters,
    Depths,
    Neighbours,
    PairJob,
    Sample,
    Screen,
    Selected,
    Tables,
    reduce_neighbours,
    reduce_tile,
    warm_up,
    warm_up_neighbours,
)
from .labels import LabelMap
from .metrics import KernelForm, Metric
from .prefixes import Choice, Part, RunPrefixes, SamplePlan, choose, make_part, take
from .store import (
    PREFIX_ROWS,
    Block,
    ResultTables,
    SourceAddress,
    Store,
    Summary,
    TileMemo,
    summarise,
)

SMALLEST_SIZE, LARGEST_SIZE = 1e-290, 1e150  # of features as distances are taken of them
TINY = 1e-100  # rows below this are multiplied up, or their squares would underflow


class Source(Protocol):
    """Anything that tiles can read rows from, in this process or another."""

    def read_block(self, lo: int, hi: int) -> Block:
        """Return rows lo:hi."""
        ...


def open_source(source: Source | SourceAddress) -> Source:
    """Return what reads the rows."""
    return source.open() if isinstance(source, SourceAddress) else source


@dataclass(frozen=True)
class PairSpec:
    """What all tiles of a run share.

    Attributes
    ----------
    metric : Metric
    labels : LabelMap
    groups : tuple of str
        Reference groups: the columns of every table.
    columns : int
        Columns of the features.
    scale : float
    require_labels : tuple of int
        Codes of the groups that must hold two labels at least (paper, 3.1).
    dtype : numpy.dtype
        Of the features.
    """

    metric: Metric
    labels: LabelMap
    groups: tuple[str, ...]
    columns: int
    scale: float
    require_labels: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def form(self) -> KernelForm:
        """The metric as kernels take it."""
        return self.metric.form(self.columns, self.scale)

    @property
    def quotients(self) -> bool:
        """Whether Q is more than the reach's reciprocal."""
        return not self.labels.is_categorical

    @property
    def prefixed(self) -> bool:
        """Whether pairs can be screened by prefixes of their rows."""
        return self.form.screened and self.labels.is_categorical

    def warm_up(self) -> None:
        """Compile the kernels (or load them from Numba's cache) before workers ask for them.

        Compiling takes seconds and more memory than a tile; workers on this machine then only
        load what one process compiled.
        """
        context = Context(np.zeros(self.columns), 1.0, 1.0)
        warm_up(context.job(self), self.dtype, self.columns)

    def warm_up_neighbours(self) -> None:
        """The same for the kernels of a search for nearest rows."""
        context = Context(np.zeros(self.columns), 1.0, 1.0)
        warm_up_neighbours(context.job(self), self.dtype, self.columns)

    def parameters(self) -> dict[str, Any]:
        """Return what results depend on, beside the data, as plain values."""
        return {"metric": str(self.metric), "scale": self.scale, **self.labels.parameters()}


@dataclass(frozen=True)
class Context:
    """What tiles need to know of all rows: how to centre them, and ‖y‖∞."""

    center: NDArray[np.float64]
    largest_feature: float
    label_norm: float

    def job(self, spec: PairSpec) -> PairJob:
        """Return the kernels' view of the run."""
        form = spec.form
        lift = 1.0
        if 0 < self.largest_feature < TINY and not form.widened:
            lift = 2.0 ** min(-np.floor(np.log2(self.largest_feature)), 1000.0)
        return PairJob(
            form,
            spec.labels.code,
            spec.quotients,
            len(spec.groups),
            self._screen(form, lift),
            lift,
        )

    def _screen(self, form: KernelForm, lift: float) -> Screen:
        if form.unit_rows:
            return Screen(None, 0.5)
        if form.matrix is not None:
            shift = 0.0 if form.center is None else float(np.abs(form.center).max())
            reach = (self.largest_feature + shift) * float(np.abs(form.matrix).sum(axis=1).max())
            return Screen(None, _power_below(reach))
        return Screen(self.center * lift, _power_below(2 * self.largest_feature * lift))


def _power_below(size: float) -> float:
    """Return the power of two that brings `size` to at most 1."""
    return float(2.0 ** min(-np.ceil(np.log2(size)), 1000.0)) if size > 0 else 1.0


def check_summary(summary: Summary, spec: PairSpec) -> float:
    """Check what the definitions ask of the data (paper, 3.1) and return ‖y‖∞.

    Raises
    ------
    InvalidDataError
        For fewer than two rows, or a group with one label.
    """
    if summary.rows < 2:
        raise InvalidDataError(f"robustness needs two samples at least, not {summary.rows}")
    for code in spec.require_labels:
        name = spec.groups[code]
        group = summary.groups.get(code)
        if group is None:
            raise InvalidDataError(f"group {name!r} has no rows; drop it from the split")
        if not group.varied:
            label = group.label[0] if len(group.label) == 1 else group.label
            raise InvalidDataError(
                f"all {group.rows} samples of group {name!r} have the label {label:g}; robustness "
                "needs two different labels in every group (paper, 3.1)"
                if isinstance(label, float)
                else f"all {group.rows} samples of group {name!r} have the same label"
            )
    return spec.labels.norm_bound(summary)


def _check_sizes(largest: float, spec: PairSpec) -> None:
    """Refuse a scale or matrix that takes float64 squares or distances of the rows away."""
    form, size = spec.form, largest
    if form.matrix is not None:
        shift = 0.0 if form.center is None else float(np.abs(form.center).max())
        with np.errstate(over="ignore"):
            size = (largest + shift) * float(np.abs(form.matrix).sum(axis=1).max())
    elif not form.unit_rows and spec.scale != 1.0:
        size = largest * spec.scale
    else:
        return
    if largest > 0 and not SMALLEST_SIZE < size < LARGEST_SIZE:
        raise InvalidDataError(
            f"features of up to {largest:g} become {size:g} by {spec.metric} with a scale of "
            f"{spec.scale:g}; their distances would vanish or overflow. Choose another scale"
        )


@dataclass(frozen=True)
class TileSpec:
    """A `PairSpec` with how its tiles run; `budget` is what their panels may take, in bytes."""

    pairs: PairSpec
    panel_rows: tuple[int, int]
    memo: TileMemo | None = None
    budget: int | None = None


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


@dataclass(frozen=True)
class TileTask:
    """A tile: two ranges of rows, the name under which it is memoised, its run and all its rows."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    memo_name: str
    run: str
    total: int


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


class _TileReader:
    """What a tile reads: rows, labels and prefixes; of whole blocks what its worker has kept.

    Rows in pieces go to one buffer a side.
    """

    def __init__(
        self,
        task: TileTask,
        spec: TileSpec,
        source: Source | SourceAddress,
        prefixes: RunPrefixes | None,
        kept: BlockCache | None,
    ) -> None:
        self._task, self._spec, self._prefixes = task, spec, prefixes
        self._source, self._kept = open_source(source), kept
        self._buffers: dict[int, NDArray[Any]] = {}
        self._targets: dict[tuple[int, int], tuple[NDArray[np.float64], NDArray[np.int16]]] = {}
        self._splits: dict[tuple[int, int], NDArray[np.int16]] = {}
        self.bytes_read = 0

    @property
    def depths(self) -> Depths:
        assert self._prefixes is not None
        return self._prefixes.depths

    def rows(
        self, lo: int, hi: int, side: int
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int16]]:
        """Features, labels and split of rows lo:hi."""
        source = self._source
        if not isinstance(source, Store):
            block = self._read_block(source, lo, hi)
            self.bytes_read += block.features.nbytes
            return block.features, self._spec.pairs.labels.encode(block.labels), block.split

        def read(out: NDArray[Any] | None = None) -> NDArray[Any]:
            return self._counted(source.read("features", lo, hi, out))

        if self._kept is not None and (lo, hi) in (self._task.rows, self._task.columns):
            features = self._kept.get(("features", lo, hi), read)
        else:
            features = read(self._buffer(side)[: hi - lo])
        return features, *self._targets_of(source, lo, hi)

    def read(
        self, lo: int, hi: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int16]]:
        """Prefixes, labels and split of rows lo:hi."""
        assert self._prefixes is not None
        prefix, source = self._counted(self._prefixes.read(lo, hi)), self._source
        if isinstance(source, Store):
            return prefix, *self._targets_of(source, lo, hi)
        block = self._read_block(source, lo, hi)
        return prefix, self._spec.pairs.labels.encode(block.labels), block.split

    def split(self, lo: int, hi: int) -> NDArray[np.int16]:
        """Return the groups of a whole side, lo:hi, once it was read."""
        if isinstance(self._source, Store):
            return self._targets_of(self._source, lo, hi)[1]
        found = self._splits.get((lo, hi))  # none where all of the side was kept
        return split_of(self._source, lo, hi) if found is None else found

    def _counted(self, values: NDArray[Any]) -> NDArray[Any]:
        self.bytes_read += values.nbytes
        return values

    def _buffer(self, side: int) -> NDArray[Any]:
        """Return a side's buffer: fresh pages cost more than reading."""
        if side not in self._buffers:
            shape = self._spec.panel_rows[side], self._spec.pairs.columns
            self._buffers[side] = np.empty(shape, self._spec.pairs.dtype)
        return self._buffers[side]

    def _read_block(self, source: Source, lo: int, hi: int) -> Block:
        block, side = source.read_block(lo, hi), self._side(lo)
        kept = self._splits.setdefault(side, np.zeros(side[1] - side[0], np.int16))
        kept[lo - side[0] : hi - side[0]] = block.split
        return block

    def _side(self, lo: int) -> tuple[int, int]:
        rows, columns = self._task.rows, self._task.columns
        return rows if rows[0] <= lo < rows[1] else columns

    def _targets_of(
        self, source: Store, lo: int, hi: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """Labels and split of rows lo:hi; a side's are read once, as small reads cost most."""
        side, encode = self._side(lo), self._spec.pairs.labels.encode
        if side not in self._targets:
            cache = self._kept or BlockCache(0)
            self._targets[side] = (
                cache.get(("labels", *side), lambda: encode(source.read("labels", *side))),
                cache.get(("split", *side), lambda: source.read("split", *side)),
            )
        labels, split = self._targets[side]
        part = slice(lo - side[0], hi - side[0])
        return labels[part], split[part]


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


def split_of(source: Source, lo: int, hi: int) -> NDArray[np.int16]:
    """Return the groups of rows lo:hi."""
    if isinstance(source, Store):
        return source.read("split", lo, hi)
    return source.read_block(lo, hi).split


@dataclass(frozen=True)
class NeighbourSpec:
    """A `TileSpec` of a search for the k nearest rows in each of some parts."""

    tiles: TileSpec
    k: int
    parts: int


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


class _RowReader:
    """Reads rows by their numbers, piece by piece, into one buffer a side."""

    def __init__(
        self, spec: TileSpec, source: Source | SourceAddress, prefixes: RunPrefixes | None
    ) -> None:
        self._source, self._spec, self._prefixes = open_source(source), spec, prefixes
        self._buffers: dict[int, NDArray[Any]] = {}
        self.bytes_read = 0

    @property
    def depths(self) -> Depths | None:
        return None if self._prefixes is None else self._prefixes.depths

    def features(self, numbers: NDArray[np.int64], side: int) -> NDArray[Any]:
        if side not in self._buffers:
            shape = self._spec.panel_rows[side], self._spec.pairs.columns
            self._buffers[side] = np.empty(shape, self._spec.pairs.dtype)
        out, source = self._buffers[side][: len(numbers)], self._source
        unit = source.unit_rows if isinstance(source, Store) else len(numbers)
        for part, lo, hi in _pieces(numbers, unit):
            self.bytes_read += (hi - lo) * out.itemsize * out.shape[1]
            whole = hi - lo == part.stop - part.start
            if isinstance(source, Store):
                read = source.read("features", lo, hi, out[part] if whole else None)
            else:
                read = source.read_block(lo, hi).features
            if not whole or not isinstance(source, Store):
                out[part] = read[numbers[part] - lo]
        return out

    def prefixes(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self._prefixes is not None
        width, pieces = self._prefixes.depths.width, list(_pieces(numbers, PREFIX_ROWS))
        self.bytes_read += sum(hi - lo for _, lo, hi in pieces) * 4 * width
        if len(pieces) == 1 and pieces[0][2] - pieces[0][1] == len(numbers):
            return self._prefixes.read(*pieces[0][1:])
        out = np.empty((len(numbers), width), np.float32)
        for part, lo, hi in pieces:
            out[part] = self._prefixes.read(lo, hi)[numbers[part] - lo]
        return out


def _pieces(numbers: NDArray[np.int64], unit: int) -> Iterator[tuple[slice, int, int]]:
    """Ranges of rows that hold ascending numbers: (positions, first row, last row + 1).

    Numbers without gaps are one range; else those of one unit, of which the rest is read in vain.
    """
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first + 1 == len(numbers):
        yield slice(0, len(numbers)), first, last + 1
        return
    cuts = np.flatnonzero(np.diff(numbers // unit)) + 1
    for lo, hi in pairwise([0, *cuts.tolist(), len(numbers)]):
        yield slice(lo, hi), int(numbers[lo]), int(numbers[hi - 1]) + 1


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


def make_context(summary: Summary, spec: PairSpec) -> Context:
    """Check the data as a whole and keep what tiles need."""
    norm = check_summary(summary, spec)
    _check_sizes(summary.largest_feature, spec)
    return Context(summary.center, summary.largest_feature, norm)


def store_context(address: SourceAddress, spec: PairSpec) -> Context:
    """Like `make_context`, from the summary that the store keeps."""
    return make_context(address.open().summary, spec)


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
