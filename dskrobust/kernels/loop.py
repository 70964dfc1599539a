"""Reduce all pairs between two panels: bound by a matrix product, keep few, prove in float64."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..labels import CATEGORICAL, SAME
from ..metrics import FUNCTION
from . import label_distances, proof, reductions
from .bounds import labels as quotients
from .bounds import product as sweep
from .bounds.boxes import make_rules, reduce_forests
from .bounds.byte_sweep import ByteSweeps
from .bounds.prefix import refine
from .job import PairJob, cut
from .panel import Panel, Prefixes, Run, make_panel, make_prefix_panel, margin, with_rows
from .tables import Tables
from .threads import one_blas_thread

SIDE = 512  # rows and columns of a product that stays in the second-level cache
SEEDS = 512  # positions of a group that rows without a reach are compared with first
SEED_BYTES = 2**21  # of them at most; part of `plan.SCRATCH_BYTES`
NO_LABELS = np.empty((0, 0))

ReadPanel = Callable[[int, int, int], tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int16]]]


class PanelCache(Protocol):
    """Keeps panels for other tiles."""

    def get(self, key: Hashable, make: Callable[[], Panel]) -> Panel:
        """Return what is kept under a key, or make it and keep it where it fits."""
        ...


@dataclass
class Counters:
    """What a tile did.

    Attributes
    ----------
    pairs : int
        Pairs looked at. Between leaves a pair that a row of either side looked at counts twice,
        and pairs of boxes do not count.
    screened : int
        Pairs that were bounded a second time, by their long prefixes.
    proven : int
        Pairs computed in float64.
    rows_read, prefixes_read : int
        Rows whose features, whose prefixes were asked for.
    bytes_read : int
        Of both, decoded, where they were not kept; for the caller to fill in.
    leaves : int
        Leaves compared.
    """

    pairs: int = 0
    proven: int = 0
    rows_read: int = 0
    prefixes_read: int = 0
    screened: int = 0
    bytes_read: int = 0
    leaves: int = 0


class _Scratch:
    """Buffers of one tile's sweeps, so that none is allocated in the inner loop."""

    def __init__(self, job: PairJob) -> None:
        self.product = np.empty(SIDE * SIDE, np.float32)
        self.found = np.empty((SIDE * SIDE, 2), np.int32)
        self.dy = np.empty(SIDE * SIDE)
        self._screens: dict[int, NDArray[np.float32]] = {}
        self.bytes = ByteSweeps(job)

    def screen(
        self, side: int, rows: int, columns: int, job: PairJob
    ) -> NDArray[np.float32] | None:
        """The buffer for a side's rounded rows, None where there is no screen."""
        if not job.form.screened:
            return None
        if side not in self._screens:
            self._screens[side] = np.empty((rows, columns), np.float32)
        return self._screens[side]


def reduce_tile(
    read: ReadPanel,
    rows: tuple[int, int],
    columns: tuple[int, int],
    panel_rows: tuple[int, int],
    job: PairJob,
    *,
    prefixes: Prefixes | None = None,
    known: tuple[Tables | None, Tables | None] = (None, None),
    kept: PanelCache | None = None,
) -> tuple[Tables, Tables, Counters]:
    """Reduce all pairs between two ranges of rows, both sides at once.

    Parameters
    ----------
    read : callable
        read(lo, hi, side) → features (b, d), labels (b, m) float64, split (b,) of those rows.
        Features may be overwritten by the next call for the same side (0 rows, 1 columns).
    rows, columns : (int, int)
        Row numbers [lo, hi) of the two sides: either the same, or apart.
    panel_rows : (int, int)
        How many rows of either side are held at once; memory is proportional to them.
    job : PairJob
    prefixes : Prefixes, optional
        Where there are any, pairs are screened by them and features read only to prove pairs.
    known : (Tables, Tables)
        What is known of either side already, or None: real pairs, which the results then
        include. The more is known, the less is looked at.
    kept : PanelCache, optional
        Keeps the panels of whole sides for other tiles.

    Returns
    -------
    Tables, Tables, Counters
        Partial results of either side (the same object for a tile on the diagonal).
    """
    same = rows == columns
    left = right = _start(known[0], rows, job)
    if not same:
        right = _start(known[1], columns, job)
    counters, scratch = Counters(), _Scratch(job)

    def panel(lo: int, hi: int, side: int) -> Panel:
        if prefixes is not None:
            return prefix_panel(prefixes, lo, hi, side)
        counters.rows_read += hi - lo
        features, labels, split = read(lo, hi, side)
        buffer = scratch.screen(side, panel_rows[side], features.shape[1], job)
        return make_panel(lo, features, labels, split, job, buffer, scratch.bytes.grid_of)

    def prefix_panel(prefixes: Prefixes, lo: int, hi: int, side: int) -> Panel:
        def features() -> NDArray[Any]:
            counters.rows_read += hi - lo
            return read(lo, hi, side)[0]

        counters.prefixes_read += hi - lo
        if kept is not None and (lo, hi) in (rows, columns):
            made = kept.get(("panel", lo, hi), lambda: make_prefix_panel((lo, hi), prefixes, job))
        else:
            buffer = scratch.screen(side, panel_rows[side], prefixes.depths.short + 1, job)
            made = make_prefix_panel((lo, hi), prefixes, job, buffer)
        return with_rows(made, features, job)

    def strip(lo: int, hi: int) -> None:
        """One panel of rows against all columns; panels are only held by the call they serve."""
        a, mine = panel(lo, hi, 0), left.part(lo, hi)
        if same:
            _reduce_panels(a, a, mine, mine, job, scratch, counters)
        for start, stop in cut(*columns, panel_rows[1], hi if same else columns[0]):
            theirs = right.part(start, stop)
            _reduce_panels(a, panel(start, stop, 1), mine, theirs, job, scratch, counters)

    with one_blas_thread():
        for lo, hi in cut(*rows, panel_rows[0]):
            strip(lo, hi)
    return left, right, counters


def _start(known: Tables | None, rows: tuple[int, int], job: PairJob) -> Tables:
    """Tables of these rows to merge pairs into: what is known, or empty ones."""
    if known is not None:
        return known.copy()
    return Tables.empty(rows[0], rows[1] - rows[0], job.groups, job.quotients)


def _reduce_panels(
    a: Panel,
    b: Panel,
    mine: Tables,
    theirs: Tables,
    job: PairJob,
    scratch: _Scratch,
    counters: Counters,
) -> None:
    """Reduce all pairs between two panels; each pair once where they are the same."""
    if _reduce_forests(a, b, (mine.side(), theirs.side()), job, counters):
        return
    pair = _PanelPair(a, b, mine, theirs, job, scratch, counters)
    if job.form.screened and job.label_code in (CATEGORICAL, SAME) and a.labels.shape[1] == 1:
        pair.seed()
    same = job.label_code == SAME
    for k, run in enumerate(a.runs):
        for other in b.runs[k:] if a is b else b.runs:
            pure = run.label is not None and other.label is not None
            if pure and (run.label == other.label) != same:
                continue
            pair.reduce_runs(run, other)


def _reduce_forests(
    a: Panel, b: Panel, sides: tuple[Any, Any], job: PairJob, counters: Counters
) -> bool:
    """Reduce all pairs between two panels by leaves; False where that is not worth it."""
    if a.forest is None or b.forest is None:
        return False
    rules = make_rules(job.metric, a.rows.shape[1], job.label_code, job.quotients)
    products = job.form.screened and not job.quotients
    done, counts = reduce_forests(a.forest, b.forest, rules, sides, products)
    for name, count in zip(("pairs", "proven", "leaves"), counts.tolist(), strict=True):
        setattr(counters, name, getattr(counters, name) + count)
    return done


class _PanelPair:
    """The pairs between two panels, reduced block by block."""

    def __init__(
        self,
        a: Panel,
        b: Panel,
        mine: Tables,
        theirs: Tables,
        job: PairJob,
        scratch: _Scratch,
        counters: Counters,
    ) -> None:
        self.a, self.b, self.job, self.scratch = a, b, job, scratch
        self.counters, self.mine, self.theirs = counters, mine, theirs
        self.sides = mine.side(), theirs.side()
        self.per_unit, self.slack = a.per_unit, a.slack

    def seed(self) -> None:
        """Prove one near pair of every row that has no reach yet, so that the sweeps can drop."""
        sides = ((self.a, self.b, self.mine), (self.b, self.a, self.theirs))
        for a, b, tables in sides[: 1 if self.a is self.b else 2]:
            for lo, hi, group in _groups(b.runs):
                cold = self._without_reach(a, tables, group)
                if not cold:
                    continue
                most = min(SEEDS, SIDE, max(1, SEED_BYTES // (4 * b.screen.shape[1])))
                sample = np.unique(np.linspace(lo, hi - 1, most).astype(np.int64))
                screen = b.screen[sample]
                for part, own in cold:
                    self._seed_block(a, b, part, sample, screen, (own, group))

    @staticmethod
    def _without_reach(a: Panel, tables: Tables, group: int) -> list[tuple[slice, int]]:
        """Blocks (and their own groups) of which most rows have no reach in a group yet."""
        parts = [
            (slice(*i), own) for start, stop, own in _groups(a.runs) for i in cut(start, stop, SIDE)
        ]
        reach = tables.reach[:, group]
        return [(part, own) for part, own in parts if np.isinf(reach[a.order[part]]).mean() >= 0.5]

    def _seed_block(
        self,
        a: Panel,
        b: Panel,
        part: slice,
        sample: NDArray[np.int64],
        screen: NDArray[np.float32],
        groups: tuple[int, int],
    ) -> None:
        """Prove the pairs of a block's rows with their nearest sampled positions."""
        product = self.scratch.product[: (part.stop - part.start) * len(sample)]
        product = product.reshape(-1, len(sample))
        np.matmul(a.screen[part], screen.T, out=product)
        labels, same = (a.labels[part, 0], b.labels[sample, 0]), self.job.label_code == SAME
        found, own = self.scratch.found, np.full(len(product), -1)
        if a is b:
            inside = np.flatnonzero((sample >= part.start) & (sample < part.stop))
            own[sample[inside] - part.start] = inside
        count = sweep.nearest(product, b.norms[0][sample], labels, same, own, found)
        self.counters.proven += count
        rows = a.rows, b.rows, a.order[part], b.order[sample]
        mine, theirs = self.sides if a is self.a else self.sides[::-1]
        proof.prove(found, count, NO_LABELS, *rows, groups, self.job.metric, mine, theirs)

    def reduce_runs(self, run: Run, other: Run) -> None:
        """Reduce the pairs between two runs, in blocks of SIDE × SIDE."""
        uniform = run.label is not None and other.label is not None
        for i, j in self._blocks(run, other):
            triangle = self.a is self.b and i == j
            if self.a is self.b and run is other and j[0] < i[0]:
                continue
            self.counters.pairs += (i[1] - i[0]) * (j[1] - j[0])
            groups = (run.group, other.group)
            self._reduce_block(slice(*i), slice(*j), groups, triangle, uniform)

    def _blocks(self, run: Run, other: Run) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Blocks of two runs; with quotients those with the largest label differences first.

        Large quotients found early spare the proofs of all that are smaller.
        """
        rows, columns = list(cut(run.lo, run.hi, SIDE)), list(cut(other.lo, other.hi, SIDE))
        blocks = [(i, j) for i in rows for j in columns]
        if self.job.quotients:
            widest = quotients.widest(self.a.labels, rows, self.b.labels, columns)
            blocks = [blocks[k] for k in np.argsort(-widest, axis=None, kind="stable")]
        return blocks

    def _reduce_block(
        self, i: slice, j: slice, groups: tuple[int, int], triangle: bool, uniform: bool
    ) -> None:
        if self.job.form.screened and uniform:
            self._reduce_uniform(i, j, groups, triangle)
            return
        if self.job.form.screened and self.job.label_code != SAME:
            self._reduce_labelled(i, j, groups, triangle)
            return
        rows = self.a.rows, self.b.rows, self.a.order[i], self.b.order[j]
        if self.scratch.bytes.serves(self.a, self.b):
            dy = NO_LABELS if uniform and not triangle else self._label_differences(i, j)
            bound = self.scratch.product
            self.counters.proven += self.scratch.bytes.reduce(
                self.a, self.b, i, j, dy, triangle, groups, self.sides, bound
            )
            return
        dy = self._label_differences(i, j)
        if self.job.form.code == FUNCTION:
            self._call_function(dy, i, j, triangle, groups)
            return
        proof.direct(dy, *rows, triangle, groups, self.job.metric, *self.sides)
        self.counters.proven += dy.size

    def _product(self, i: slice, j: slice) -> NDArray[np.float32]:
        shape = i.stop - i.start, j.stop - j.start
        out = self.scratch.product[: shape[0] * shape[1]].reshape(shape)
        np.matmul(self.a.screen[i], self.b.screen[j].T, out=out)
        return out

    def _reaches(self, i: slice, j: slice, groups: tuple[int, int], dtype: Any) -> list[Any]:
        """Squared reaches so far of both sides, in screen lengths, rounded up."""
        out = []
        for panel, tables, part, group in (
            (self.a, self.mine, i, groups[1]),
            (self.b, self.theirs, j, groups[0]),
        ):
            order = panel.order[part]
            reach = np.full(len(order), np.inf, dtype)
            sweep.squared_reaches(
                tables.reach[:, group], order, self.job.metric, self.per_unit, self.slack, reach
            )
            out.append(reach)
        return out

    def _reduce_uniform(self, i: slice, j: slice, groups: tuple[int, int], triangle: bool) -> None:
        """Reduce a block between two runs of one label each, every pair of which counts."""
        product = self._product(i, j)
        mine, theirs = self._reaches(i, j, groups, np.float32)
        lows, found = (self.a.norms[0, i], self.b.norms[0, j]), self.scratch.found
        count = sweep.survivors(product, *lows, mine, theirs, found)
        if triangle:
            above = found[:count][found[:count, 0] < found[:count, 1]]
            count = len(above)
            found[:count] = above
        if self.a.prefix is not None:
            count = self._refine(found, count, i, j, [mine, theirs])
        if not count:
            return  # rows are not even read where nothing has to be proven
        self.counters.proven += count
        rows = self.a.rows, self.b.rows, self.a.order[i], self.b.order[j]
        proof.prove(found, count, NO_LABELS, *rows, groups, self.job.metric, *self.sides)

    def _refine(
        self, found: NDArray[np.int32], count: int, i: slice, j: slice, reaches: list[Any]
    ) -> int:
        """Drop the listed pairs that their long prefixes rule out; return how many are left."""
        assert self.a.prefix is not None
        self.counters.screened += count
        a, b = self.a.refinable(i, reaches[0]), self.b.refinable(j, reaches[1])
        return int(refine(found, count, a, b, margin(self.a.prefix.shape[1])))

    def _reduce_labelled(self, i: slice, j: slice, groups: tuple[int, int], triangle: bool) -> None:
        """Reduce a block where labels are mixed, real or vectors."""
        job, labels = self.job, (self.a.labels[i], self.b.labels[j])
        scale = quotients.label_scale(*labels)
        if scale == 0.0:
            return
        product, found = self._product(i, j), self.scratch.found
        length = float(self.a.unit) / float(job.metric[2])
        units = quotients.units_of(job.label_code, scale, length)
        reaches = self._reaches(i, j, groups, np.float64)
        a = self._side(self.a, i, (self.mine, groups[1]), reaches[0], units)
        b = self._side(self.b, j, (self.theirs, groups[0]), reaches[1], units)
        prefixed = self.a.prefix is not None
        few = product.size if prefixed else quotients.FEW * sum(product.shape)
        count = quotients.candidates(product, a, b, units, triangle, few, found)
        if count > few:
            gain = quotients.gain_of(job.form.code) if job.quotients else 0.0
            quotients.tighten(product, a, b, units, gain)
            count = quotients.candidates(product, a, b, units, triangle, product.size, found)
        if prefixed and not job.quotients:
            count = self._refine(found, count, i, j, reaches)
        if not count:
            return
        self.counters.proven += quotients.prove(
            found,
            count,
            product,
            (a.low, b.low),
            labels,
            (self.a.order[i], self.b.order[j]),
            (self.a.rows, self.b.rows),
            groups,
            job.metric,
            (job.label_code, self.per_unit, self.slack),
            *self.sides,
        )

    def _side(
        self,
        panel: Panel,
        part: slice,
        column: tuple[Tables, int],
        reach: NDArray[np.float64],
        units: quotients.Units,
    ) -> quotients.Side:
        """One side of a block, with what its tables' column knows already."""
        span, (tables, group) = np.zeros(len(reach)), column
        if self.job.quotients:
            so_far = tables.quotient[:, group]
            quotients.spans(so_far, panel.order[part], units, self.slack, span)
        labels = np.ascontiguousarray(panel.labels[part].T)
        low, high = panel.norms[:, part]
        return quotients.Side(low, high, reach, span, labels)

    def _label_differences(self, i: slice, j: slice) -> NDArray[np.float64]:
        shape = i.stop - i.start, j.stop - j.start
        dy = self.scratch.dy[: shape[0] * shape[1]].reshape(shape)  # contiguous: compiled once
        label_distances.label_differences(
            self.a.labels[i], self.b.labels[j], self.job.label_code, dy
        )
        return dy

    def _call_function(
        self, dy: NDArray[np.float64], i: slice, j: slice, triangle: bool, groups: tuple[int, int]
    ) -> None:
        """Call the user's metric for every pair with different labels, lower row first."""
        for u, v in np.argwhere(dy > 0):
            if triangle and v <= u:
                continue
            r, s = int(self.a.order[i][u]), int(self.b.order[j][v])
            numbers = self.a.first + r, self.b.first + s
            distance = call_function(self.job, (self.a.rows[r], self.b.rows[s]), numbers)
            reductions.record(distance, dy[u, v], r, s, *groups, *self.sides)
            self.counters.proven += 1


def call_function(
    job: PairJob, rows: tuple[NDArray[Any], NDArray[Any]], numbers: tuple[int, int]
) -> float:
    """Return the user's metric of two rows, that with the lower number first."""
    assert job.form.function is not None
    found = job.form.function(*(rows if numbers[0] <= numbers[1] else rows[::-1]))
    try:
        distance = float(found)
    except (TypeError, ValueError) as error:
        raise InvalidDataError(
            f"the metric function returned {found!r} for rows {numbers[0]} and {numbers[1]}; a "
            "distance must be a number"
        ) from error
    if not (np.isfinite(distance) and distance >= 0):
        raise InvalidDataError(
            f"the metric function returned {distance} for rows {numbers[0]} and {numbers[1]}; a "
            "distance must be finite and not negative"
        )
    return distance


def _groups(runs: tuple[Run, ...]) -> Iterator[tuple[int, int, int]]:
    """Consecutive runs of one group put together: (first position, last + 1, group)."""
    start = 0
    for k, run in enumerate(runs):
        if k + 1 == len(runs) or runs[k + 1].group != run.group:
            yield start, run.hi, run.group
            start = run.hi
