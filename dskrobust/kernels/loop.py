"""Reduce all pairs between two sides of a tile: bound them, keep few, prove those in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..blas import matmul, one_blas_thread
from ..labels import CATEGORICAL, L1
from ..metrics import FUNCTION
from .bounds import labels, product
from .bounds.bin_sweep import byte_sweeps
from .bounds.boxes import reduce_trees
from .bounds.byte_sweep import BlockPairs
from .bounds.prefix import prefix_bounds, refine
from .function import call_function
from .job import PairJob, cut
from .label_distances import ANY, SAME, label_differences
from .label_function import all_differences, label_weights, listed_differences
from .panel import Panel, Run, margin
from .proof import NO_LOWS, Block, Lows, Side, prove, prove_runs
from .rectangles import Rectangle, rectangles
from .reductions import BothLabels, LargestQuotient, part_of
from .reductions.base import hand_on, no_quotient
from .tile_rows import Counters, TilePanels, TileRows

SEED_BYTES = 2**21  # of seeds at most; part of `plan.SCRATCH_BYTES`
NO_LABELS = np.empty((0, 0))


class _Scratch:
    """Buffers of one tile's sweeps, so that none is allocated in the inner loop."""

    def __init__(self, job: PairJob) -> None:
        size = job.tuning.side**2
        self.product = np.empty(size, np.float32)
        self.pairs = np.empty((size, 2), np.int32)
        self.dy = np.empty(size)
        self.bytes = byte_sweeps(job)


def reduce_tile(
    source: TileRows, panel_rows: tuple[int, int], job: PairJob, left: Any, right: Any
) -> Counters:
    """Reduce all pairs between two sides of a tile, both sides at once.

    Parameters
    ----------
    source : TileRows
    panel_rows : (int, int)
        How many rows of either side are held at once; memory is proportional to them.
    job : PairJob
    left, right : State
        Partial results of both sides, written to: the same object on the diagonal, where each
        pair is taken once. The more is known, the less is looked at.
    """
    counters, scratch, diagonal = Counters(), _Scratch(job), left is right
    panels = TilePanels(source, panel_rows, job, counters, scratch.bytes.grid_of)
    rows, columns = len(left[0]), len(right[0])

    def strip(lo: int, hi: int) -> None:
        """One panel of rows against all columns; panels are only held by the call they serve."""
        mine = part_of(left, lo, hi)
        a = panels.panel(0, lo, hi, mine)
        if diagonal:
            _reduce_panels(a, a, mine, mine, job, scratch, counters)
        for start, stop in cut(0, columns, panel_rows[1], hi if diagonal else 0):
            theirs = part_of(right, start, stop)
            b = panels.panel(1, start, stop, theirs)
            _reduce_panels(a, b, mine, theirs, job, scratch, counters)

    with nullcontext() if job.plain else one_blas_thread():  # no product in it
        for lo, hi in cut(0, rows, panel_rows[0]):
            strip(lo, hi)
    return counters


def _reduce_panels(
    a: Panel, b: Panel, mine: Any, theirs: Any, job: PairJob, scratch: _Scratch, counters: Counters
) -> None:
    """Reduce all pairs between two panels; each pair once where they are the same."""
    for rule, one, other in _by_rule(job, mine, theirs):
        _reduce_by_rule(a, b, one, other, rule, scratch, counters)


def _by_rule(job: PairJob, mine: Any, theirs: Any) -> Iterator[tuple[PairJob, Any, Any]]:
    """Yield the rules that a job reduces by, each with its views of both sides' states."""
    if not isinstance(job.reduction, BothLabels):
        yield job, mine, theirs
        return
    for code, name in ((CATEGORICAL, "different"), (SAME, "same")):
        rule = replace(job, label_code=code, reduction=LargestQuotient())
        yield rule, getattr(mine, name), getattr(theirs, name)


def _reduce_by_rule(
    a: Panel, b: Panel, mine: Any, theirs: Any, job: PairJob, scratch: _Scratch, counters: Counters
) -> None:
    """Reduce the pairs that count by one rule."""
    _reduce_kept(a, b, mine, theirs, job, scratch, counters)
    one_sided = theirs[0].max(initial=-1.0) < 0.0  # closed
    for panel, state in ((a, mine),) if a is b else ((a, mine), (b, theirs)):
        if panel.twins is None:
            continue
        if job.reduction.warm:
            numbers = panel.numbers[panel.twins.takers]
            hand_on(state, panel.twins, np.full_like(numbers, -1) if one_sided else numbers)
        else:
            state.hand_on(panel.twins, a is b and job.label_code in (SAME, ANY))


def _reduce_kept(
    a: Panel, b: Panel, mine: Any, theirs: Any, job: PairJob, scratch: _Scratch, counters: Counters
) -> None:
    """Reduce the pairs of those rows that no others stand for."""
    pair = PanelPair(a, b, (mine, theirs), job, scratch, counters)
    if pair.reduce_trees() or pair.reduce_short_runs():
        return
    single = a.labels.shape[1] == 1 or job.label_code == ANY
    if job.form.screened and job.reduction.seeds and single and job.label_code in _SEEDED:
        pair.seed()
    for rectangle in rectangles(a, b, job.label_code):
        pair.reduce_rectangle(rectangle)


_SEEDED = (CATEGORICAL, SAME, ANY)


class _Weighted(NamedTuple):
    """Labels of both sides (n, m) as sweeps take them: ‖Δy‖ is at most their difference · unit."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    code: int
    unit: float = 1.0


class PanelPair:
    """The pairs between two panels, reduced block by block."""

    def __init__(
        self,
        a: Panel,
        b: Panel,
        states: tuple[Any, Any],
        job: PairJob,
        scratch: _Scratch,
        counters: Counters,
    ) -> None:
        self.a, self.b, self.states, self.job = a, b, states, job
        self.scratch, self.counters = scratch, counters
        self.scale = a.per_unit, a.slack

    def side(self, panel: Panel, second: bool) -> Side:
        """One side as provers take it: its rows are read here."""
        return Side(panel.rows, panel.numbers, panel.weights, self.states[second])

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """Both sides as provers take them; their rows are read when this is first asked for."""
        return self.side(self.a, False), self.side(self.b, True)

    def reduce_trees(self) -> bool:
        """Reduce all pairs by boxes around leaves; False where that is not worth it."""
        if self.a.trees is None or self.b.trees is None:
            return False
        done, counts = reduce_trees(self.a.trees, self.b.trees, self.job, self.sides)
        for name, count in zip(("pairs", "proven", "leaves"), counts.tolist(), strict=True):
            setattr(self.counters, name, getattr(self.counters, name) + count)
        return done

    def reduce_short_runs(self) -> bool:
        """Reduce all pairs without bounds; False where that would take longer than with them."""
        a, b, job = self.a, self.b, self.job
        many, work = len(a.runs) * len(b.runs), len(a) * len(b) * a.columns
        if job.form.code == FUNCTION or job.norm is not None:
            return False
        few = many < job.tuning.runs or work > many * job.tuning.short
        if few and not job.plain:
            return False
        one, other = (np.array([(r.lo, r.hi, r.part, r.silent) for r in p.runs]) for p in (a, b))
        orders, given = (a.order, b.order), (a.labels, b.labels)
        pairs, proven = prove_runs(
            (one, other), orders, given, job.label_code, a is b, job.measure, self.sides
        )
        self.counters.pairs += pairs
        self.counters.proven += proven
        return True

    # -- seeds ------------------------------------------------------------------------------------

    def seed(self) -> None:
        """Prove near pairs of every row that knows none yet, so that the sweeps can drop."""
        ways = [(self.a, self.b, False)] + [(self.b, self.a, True)] * (self.a is not self.b)
        for a, b, swapped in ways:
            for lo, hi, part in _parts(b.runs):
                cold = self._cold(a, self.states[swapped], part)
                if not cold:
                    continue
                tuning, k = self.job.tuning, self.job.reduction.seeds
                most = max(k, SEED_BYTES // (4 * b.screen.shape[1]))
                most = min(tuning.seeds, tuning.side, most)
                sample = np.unique(np.linspace(lo, hi - 1, most).astype(np.int64))
                for rows, own_part in cold:
                    self._seed_block(a, b, swapped, rows, sample, (own_part, part))

    def _cold(self, panel: Panel, state: Any, part: int) -> list[tuple[slice, int]]:
        """Blocks (and their own parts) of which most rows know too few rows of a part yet."""
        blocks = [
            (slice(*i), own)
            for start, stop, own in _parts(panel.runs)
            for i in cut(start, stop, self.job.tuning.side)
        ]
        none = np.full(len(panel.order), np.inf, np.float32)
        product.squared_radii(state, part, panel.order, self.job.measure, self.scale, none)
        return [(rows, own) for rows, own in blocks if (none[rows] == np.inf).mean() >= 0.5]

    def _seed_block(
        self,
        a: Panel,
        b: Panel,
        swapped: bool,
        rows: slice,
        sample: NDArray[np.int64],
        parts: tuple[int, int],
    ) -> None:
        """Prove the pairs of a block's rows with their nearest sampled positions."""
        pairs, job, own = self.scratch.pairs, self.job, np.full(rows.stop - rows.start, -1)
        bounds = self._product(a.screen[rows], b.screen[sample])
        if a is b:
            inside = np.flatnonzero((sample >= rows.start) & (sample < rows.stop))
            own[sample[inside] - rows.start] = inside
        first = a.labels[rows, 0], b.labels[sample, 0]
        k = job.reduction.seeds
        count = product.lowest(bounds, b.norms[0][sample], first, job.label_code, own, k, pairs)
        block = Block(
            a.order[rows], b.order[sample], a.labels[rows], b.labels[sample], ANY, *parts, False
        )  # fmt: skip
        sides = self.side(a, swapped), self.side(b, not swapped)
        self.counters.proven += prove(pairs, count, block, NO_LOWS, job.measure, *sides)

    # -- blocks -----------------------------------------------------------------------------------

    def reduce_rectangle(self, rectangle: Rectangle) -> None:
        """Reduce the pairs of a rectangle, in blocks."""
        run, other, uniform = rectangle
        for i, j in self._blocks(run, other):
            triangle = self.a is self.b and i == j
            if self.a is self.b and run is other and j[0] < i[0]:
                continue
            if self.job.label_code == SAME and self._apart(i, j):
                continue
            self.counters.pairs += (i[1] - i[0]) * (j[1] - j[0])
            kinds = run.part, other.part, triangle, run.silent, other.silent
            self._reduce_block(slice(*i), slice(*j), kinds, uniform)

    def _blocks(self, run: Run, other: Run) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Blocks of two runs; with quotients those with the largest label differences first.

        Large quotients found early spare the proofs of all that are smaller.
        """
        side = self.job.tuning.side
        rows, columns = list(cut(run.lo, run.hi, side)), list(cut(other.lo, other.hi, side))
        blocks = [(i, j) for i in rows for j in columns]
        if self.job.reduction.quotients:
            widest = labels.widest(self.a.labels, rows, self.b.labels, columns)
            blocks = [blocks[k] for k in np.argsort(-widest, axis=None, kind="stable")]
        return blocks

    def _apart(self, i: tuple[int, int], j: tuple[int, int]) -> bool:
        """Whether two blocks have no label in common: positions of a run rise by their label."""
        a, b = self.a.labels[slice(*i)], self.b.labels[slice(*j)]
        return bool(a.shape[1] == 1 and (a[-1, 0] < b[0, 0] or b[-1, 0] < a[0, 0]))

    def _reduce_block(
        self, i: slice, j: slice, kinds: tuple[int, int, bool, bool, bool], uniform: bool
    ) -> None:
        a, b, job = self.a, self.b, self.job
        code = ANY if uniform else job.label_code
        block = Block(a.order[i], b.order[j], a.labels[i], b.labels[j], code, *kinds)
        triangle = block.triangle
        if block.silent_a and block.silent_b and self._all_idle(block):
            return
        if job.form.screened and uniform:
            self._reduce_uniform(i, j, block)
        elif job.form.screened and job.label_code != SAME:
            self._reduce_labelled(i, j, block)
        elif self.scratch.bytes.serves(a, b):
            dy = NO_LABELS if uniform and not triangle else self._label_differences(block)
            given = BlockPairs((a, b), (i, j), dy, block, self.sides, self.scratch.product)
            self.counters.proven += self.scratch.bytes.reduce(given)
        elif job.form.code == FUNCTION:
            dy = self._label_differences(block)
            self.counters.proven += call_function(job, dy, block, *self.sides)
        else:
            pairs = self.scratch.pairs
            if job.norm is not None:
                block = block._replace(differences=self._label_differences(block).ravel())
            self.counters.proven += prove(pairs, -1, block, NO_LOWS, job.measure, *self.sides)

    def _product(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        out = self.scratch.product[: len(a) * len(b)].reshape(len(a), len(b))
        return matmul(a, b.T, out)

    def _radii(self, block: Block, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Squared radii so far of both sides, in screen lengths, rounded up."""
        a, b = np.empty(len(block.order_a), dtype), np.empty(len(block.order_b), dtype)
        one, two = self.states
        product.radii_of_block(block, (one, a), (two, b), self.job.measure, self.scale)
        return a, b

    def _all_idle(self, block: Block) -> bool:
        """Whether no pair of a block of silent rows changes anything."""
        numbers = self.a.numbers[block.order_a], self.b.numbers[block.order_b]
        first, second = self.states
        return bool(
            no_quotient(first, block.order_a, block.part_b, numbers[1].min())
            and no_quotient(second, block.order_b, block.part_a, numbers[0].min())
        )

    def _reduce_uniform(self, i: slice, j: slice, block: Block) -> None:
        """Reduce a block of which every pair counts, with a ‖Δy‖ of 1."""
        bounds, pairs = self._product(self.a.screen[i], self.b.screen[j]), self.scratch.pairs
        radii = self._radii(block, np.float32)
        count = product.survivors(bounds, self.a.norms[0, i], self.b.norms[0, j], *radii, pairs)
        if block.triangle:
            above = pairs[:count][pairs[:count, 0] < pairs[:count, 1]]
            count = len(above)
            pairs[:count] = above
        if self.a.prefix is not None:
            count = self._refine(count, i, j, radii)
        if count and self.job.reduction.unproven:
            count = self._settle_certain(count, i, j, block, radii, bounds)
        if count:  # else rows are not even read
            measure = self.job.measure
            self.counters.proven += prove(pairs, count, block, NO_LOWS, measure, *self.sides)

    def _refine(self, count: int, i: slice, j: slice, radii: tuple[Any, Any]) -> int:
        """Drop the listed pairs that their long prefixes rule out; return how many are left."""
        self.counters.screened += count
        a, b, gamma = self._refinable(i, j, radii)
        return int(refine(self.scratch.pairs, count, a, b, gamma))

    def _refinable(self, i: slice, j: slice, radii: tuple[Any, Any]) -> tuple[Any, Any, float]:
        """Long prefixes, errors and squared radii of both sides, and the margin of a square."""
        a, b = self.a, self.b
        assert a.prefix is not None
        assert b.prefix is not None
        sides = (a.prefix[i], a.norms[1, i], radii[0]), (b.prefix[j], b.norms[1, j], radii[1])
        return *sides, margin(a.prefix.shape[1])

    def _settle_certain(
        self,
        count: int,
        i: slice,
        j: slice,
        block: Block,
        radii: tuple[NDArray[Any], NDArray[Any]],
        bounds: NDArray[np.float32],
    ) -> int:
        """Accept what bounds alone make certain; return how many pairs are left to prove."""
        pairs, empty = self.scratch.pairs, np.empty((0, 0))
        if self.a.prefix is None:
            listed = product.listed_bounds(
                pairs, count, bounds, self.a.norms[:, i], self.b.norms[:, j]
            )
        else:
            listed = prefix_bounds(pairs, count, *self._refinable(i, j, radii))
        inner = np.empty(len(block.order_a)), np.empty(len(block.order_b))
        ways = ((block.order_a, block.part_b), (block.order_b, block.part_a))
        for state, (order, part), out in zip(self.states, ways, inner, strict=True):
            product.inner_radii(state, part, order, self.job.measure, self.scale, out)
        sides = (
            Side(empty, panel.numbers, panel.weights, state)
            for panel, state in zip((self.a, self.b), self.states, strict=True)
        )
        return int(product.settle_certain(pairs, count, listed, (*radii, *inner), block, *sides))

    def _reduce_labelled(self, i: slice, j: slice, block: Block) -> None:
        """Reduce a block where labels are mixed, real or vectors."""
        job, pairs = self.job, self.scratch.pairs
        weighted = self._weighted(block)
        scale = labels.label_scale(weighted.a, weighted.b)
        if scale == 0.0:
            return
        bounds = self._product(self.a.screen[i], self.b.screen[j])
        length = float(self.a.unit) / float(job.measure.factor)
        units = labels.units_of(weighted.code, scale, length)
        units = units._replace(length=length * weighted.unit)
        radii = self._radii(block, np.float64)
        ways = ((self.a, i, block.part_b, weighted.a), (self.b, j, block.part_a, weighted.b))
        a, b = (
            self._labelled(*way, (state, near), units)
            for way, state, near in zip(ways, self.states, radii, strict=True)
        )
        prefixed = self.a.prefix is not None
        tightened = job.reduction.single and not prefixed
        few = job.tuning.few * sum(bounds.shape) if tightened else bounds.size
        count = labels.candidates(bounds, a, b, units, block.triangle, few, pairs)
        if count > few:
            sizes = job.reduction.quotients and job.norm is None  # else only from above
            stretch = labels.stretch_of(job.form.code) if sizes else 0.0
            labels.tighten(bounds, a, b, units, stretch)
            count = labels.candidates(bounds, a, b, units, block.triangle, bounds.size, pairs)
        if prefixed and not job.reduction.quotients:
            count = self._refine(count, i, j, radii)
        if count:
            lows = Lows(bounds, a.low, b.low, *self.scale)
            if job.norm is not None:
                dys = listed_differences(job.norm, pairs[:count], block, *self.sides)
                block = block._replace(differences=dys)
            self.counters.proven += prove(pairs, count, block, lows, job.measure, *self.sides)

    def _weighted(self, block: Block) -> _Weighted:
        """The labels of a block as the sweeps take them."""
        norm = self.job.norm
        if norm is None:
            return _Weighted(block.labels_a, block.labels_b, self.job.label_code)
        weights, unit = label_weights(norm, block.labels_a.shape[1])
        return _Weighted(block.labels_a * weights, block.labels_b * weights, L1, unit)

    def _labelled(
        self,
        panel: Panel,
        rows: slice,
        part: int,
        given: NDArray[np.float64],
        known: tuple[Any, NDArray[np.float64]],
        units: labels.Units,
    ) -> labels.LabelledSide:
        """One side of a block with these labels, and what is known of it: its state and radii."""
        state, radii = known
        span = np.zeros(len(radii))
        if self.job.reduction.quotients:
            labels.spans(state, part, panel.order[rows], units, self.scale[1], span)
        transposed = np.ascontiguousarray(given.T)
        low, high = panel.norms[:, rows]
        return labels.LabelledSide(low, high, radii, span, transposed)

    def _label_differences(self, block: Block) -> NDArray[np.float64]:
        shape = len(block.order_a), len(block.order_b)
        dy = self.scratch.dy[: shape[0] * shape[1]].reshape(shape)  # contiguous: compiled once
        if self.job.norm is None or block.label_code == ANY:
            label_differences(block.labels_a, block.labels_b, block.label_code, dy)
            return dy
        numbers = self.a.numbers[block.order_a], self.b.numbers[block.order_b]
        all_differences(self.job.norm, (block.labels_a, block.labels_b), numbers, dy)
        return dy


def _parts(runs: tuple[Run, ...]) -> Iterator[tuple[int, int, int]]:
    """Consecutive runs of one part put together: (first position, last + 1, part)."""
    start = 0
    for k, run in enumerate(runs):
        if k + 1 == len(runs) or runs[k + 1].part != run.part:
            yield start, run.hi, run.part
            start = run.hi
