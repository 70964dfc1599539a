"""A panel: some rows made ready for the sweeps, and the tables that pairs are merged into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bounds.byte_grid import Coarse, Grid
from .bounds.prefix import THETA, Depths, screen_prefixes
from .bounds.trees import Trees, plant
from .distances import center_rows
from .job import PairJob, Rows, Screen, kernel_rows
from .label_distances import ANY
from .reductions import Twins
from .twins import find_twins

SHORT_RUN = 32  # shorter runs of one label are put together


class Run(NamedTuple):
    """Consecutive positions of a panel in one part, silent ones (`Twins`) or others.

    `label`: where they all have the same.
    """

    lo: int
    hi: int
    part: int
    label: float | None
    silent: bool = False


@dataclass(frozen=True)
class Panel:
    """Rows ready for the sweeps, sorted by part (and class) through `order`.

    Attributes
    ----------
    numbers : ndarray (n,) int64
        Row numbers, in row order.
    order : ndarray (n,) int64
        Position → row.
    labels : ndarray (n, m) float64
        In positions.
    runs : tuple of Run
    screen : ndarray (n, k) float32 or (0, 0)
        Centred, scaled and rounded rows (or their short prefixes), in positions.
    norms : ndarray (2, n) float32
        Low and high squared norms, margins included (DESIGN.md, "The proof"); of prefixes low
        norms and errors (`screen_prefixes`).
    columns : int
        Of the rows.
    load : callable
        Returns `rows`.
    unit : float
        Screen length of one unit of the rows.
    prefix : ndarray (n, k + 2) float32, optional
        In positions, so that a block's lie together.
    coarse : Coarse, optional
        The rows in few bytes, for metrics that no product bounds.
    trees : Trees, optional
        The rows in leaves, where there are few columns (DESIGN.md, "Low dimension").
    twins : Twins, optional
        Rows that others stand for; they have no position.
    """

    numbers: NDArray[np.int64]
    order: NDArray[np.int64]
    labels: NDArray[np.float64]
    runs: tuple[Run, ...]
    screen: NDArray[np.float32]
    norms: NDArray[np.float32]
    columns: int
    load: Callable[[], NDArray[Any]]
    unit: float
    prefix: NDArray[np.float32] | None = None
    coarse: Coarse | None = None
    trees: Trees | None = None
    twins: Twins | None = None

    @property
    def per_unit(self) -> float:
        """Squared screen length of one accumulated unit: rows were multiplied by `unit` only."""
        return self.unit**2

    @property
    def slack(self) -> float:
        """Relative margin of squared reaches, for the rounding of float64 distances."""
        product = (self.columns + 32) * 2.0**-51 + 2.0**-22
        return product if self.prefix is None else product + 2.02 * THETA

    @property
    def nbytes(self) -> int:
        """Bytes of all but the rows."""
        arrays = (self.numbers, self.order, self.labels, self.screen, self.norms, self.prefix)
        twins = self.twins or ()
        return sum(values.nbytes for values in (*arrays, *twins) if values is not None)

    @cached_property
    def rows(self) -> NDArray[Any]:
        """What distances are computed from, shape (n, d), in row order; read when first needed."""
        return self.load()

    @cached_property
    def weights(self) -> NDArray[np.int64]:
        """How many equal rows each row stands for, itself included, in row order."""
        n = len(self.numbers)
        others = 0 if self.twins is None else np.bincount(self.twins.givers, minlength=n)
        return np.ones(n, np.int64) + others

    def __len__(self) -> int:
        return len(self.order)


def make_panel(
    who: Rows,
    features: NDArray[Any],
    job: PairJob,
    buffer: NDArray[np.float32] | None = None,
    grid: Callable[[NDArray[Any]], Grid | None] | None = None,
    terms: NDArray[np.float64] | None = None,
) -> Panel:
    """Prepare rows for the sweeps.

    Parameters
    ----------
    who : Rows
    features : ndarray (n, d)
    job : PairJob
    buffer : ndarray (n or more, d) float32, optional
        Where to keep the rows for the screen.
    grid : callable, optional
        From the rows to the grid that makes bytes of them, where there is one.
    terms : ndarray (n, t) float64, optional
        What the rows' states ask for.
    """
    rows = kernel_rows(features, who.numbers, job)
    twins = None if job.plain else find_twins(rows, who, terms, job)
    order, labels, runs = _sort(who, job, twins)
    screen, norms = np.empty((0, 0), np.float32), np.empty((2, 0), np.float32)
    columns, unit, trees = rows.shape[1], job.screen.unit, None
    if job.plain:
        return Panel(who.numbers, order, labels, runs, screen, norms, columns, lambda: rows, unit)
    if job.form.screened:
        shape = len(order), rows.shape[1]
        screen = np.empty(shape, np.float32) if buffer is None else buffer[: len(order)]
        norms = _screen_rows(rows, order, job.screen, screen)
    bytes_of = grid(rows) if grid is not None else None
    coarse = bytes_of.coarse(rows, order) if bytes_of is not None else None
    boxed = job.reduction.boxed and job.tuning.boxes and job.form.boxed(columns)
    boxed = boxed and job.norm is None  # boxes would call it for every pair of two leaves
    if boxed and len(order):
        parts = np.full(len(who.parts), -1, np.int16)
        parts[order] = who.parts[order]
        trees = plant(rows, who.labels, parts, job)
    return Panel(
        who.numbers, order, labels, runs, screen, norms, columns, lambda: rows, unit,
        coarse=coarse, trees=trees, twins=twins,
    )  # fmt: skip


def make_prefix_panel(
    who: Rows,
    prefix: NDArray[np.float32],
    depths: Depths,
    job: PairJob,
    buffer: NDArray[np.float32] | None = None,
    twins: Twins | None = None,
) -> Panel:
    """Prepare rows of which only prefixes are read; `with_rows` says where the rows come from.

    Parameters
    ----------
    who : Rows
    prefix : ndarray (n, k + 2) float32
    depths : Depths
    job : PairJob
    buffer : ndarray (n or more, short + 1) float32, optional
        Where to keep the short prefixes.
    twins : Twins, optional
        Rows that others stand for.
    """
    order, labels, runs = _sort(who, job, twins)
    prefix = prefix[order]
    shape = len(order), depths.short + 1
    screen = np.empty(shape, np.float32) if buffer is None else buffer[: len(order)]
    norms = screen_prefixes(prefix, depths, margin(shape[1]), screen)
    columns, unit = depths.columns, depths.unit
    return Panel(
        who.numbers, order, labels, runs, screen, norms, columns, _no_rows, unit, prefix,
        twins=twins,
    )  # fmt: skip


def with_rows(panel: Panel, features: Callable[[], NDArray[Any]], job: PairJob) -> Panel:
    """Return a panel whose rows are read by `features`, once a pair has to be proven."""
    return replace(panel, load=lambda: kernel_rows(features(), panel.numbers, job))


def _no_rows() -> NDArray[Any]:
    raise AssertionError("a panel of prefixes has no rows before with_rows")


def _sort(
    who: Rows, job: PairJob, twins: Twins | None
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[Run, ...]]:
    """Sort rows by part, silent ones last, and label: order, labels in positions, runs.

    No part, or others stand for them: left out.
    """
    labels, kinds = who.labels, 2 * who.parts.astype(np.int64)
    if twins is not None:
        kinds[twins.silent] += 1
        kinds[twins.takers] = -1
    keys = () if job.label_code == ANY else labels.T[::-1]
    order = np.lexsort((*keys, kinds)).astype(np.int64)
    order = order[np.count_nonzero(kinds < 0) :]
    kinds = kinds[order]
    if labels.shape[1] > 1 and not (job.by_label or job.label_code == ANY):
        for lo, hi in pairwise([0, *np.flatnonzero(np.diff(kinds)) + 1, len(order)]):
            _gather(labels, order[lo:hi])
    labels = np.ascontiguousarray(labels[order])
    return order, labels, tuple(_runs(labels, kinds, job.by_label and labels.shape[1] == 1))


def _gather(labels: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    """Reorder rows so that every SHORT_RUN of them have labels close to each other (a k-d tree)."""
    pending = [order]
    while pending:
        part = pending.pop()
        if len(part) <= SHORT_RUN:
            continue
        near = labels[part]
        widest = np.argmax(near.max(axis=0) - near.min(axis=0))
        part[:] = part[np.argsort(near[:, widest], kind="stable")]
        middle = -(-len(part) // (2 * SHORT_RUN)) * SHORT_RUN
        pending += [part[:middle], part[middle:]]


def margin(columns: int) -> float:
    """κ of the proof: |a² + b² − 2ab − D| ≤ κ(a² + b²) with everything rounded to float32."""
    u = 2.0**-24
    gamma = (columns + 2) * u / (1 - (columns + 2) * u)
    return gamma + 16 * u


def _screen_rows(
    rows: NDArray[Any], order: NDArray[np.int64], screen: Screen, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Fill `out` with the rounded rows and return their low and high norms, (2, n) float32."""
    n, columns = len(order), rows.shape[1]
    square = np.empty(n)
    center = np.zeros(columns) if screen.center is None else screen.center
    center_rows(rows, order, center, screen.unit, out, square)
    kappa, tiny = margin(columns), (columns + 4) * 2.0**-126
    norms = np.stack([square * (1 - kappa) - tiny, square * (1 + kappa) + tiny])
    return norms.astype(np.float32)


def _runs(labels: NDArray[np.float64], kinds: NDArray[np.int64], by_label: bool) -> Iterator[Run]:
    """Cut positions at changes of the kind and, where runs are long, of the label.

    kinds (n,): twice the part, and 1 for silent rows.
    """
    n = len(kinds)
    if n == 0:
        return
    new_kind = kinds[1:] != kinds[:-1]
    new_label = labels[1:, 0] != labels[:-1, 0] if by_label else np.zeros_like(new_kind)
    cuts = np.concatenate([[0], np.flatnonzero(new_kind | new_label) + 1, [n]])
    long = (np.diff(cuts) >= SHORT_RUN) & by_label
    apart = long[1:] | long[:-1] | new_kind[cuts[1:-1] - 1]
    first = np.append(True, apart)  # of a run
    starts, uniform = cuts[:-1][first], long[first]
    ends = np.append(starts[1:], n)
    for lo, hi, pure in zip(starts.tolist(), ends.tolist(), uniform.tolist(), strict=True):
        label = float(labels[lo, 0]) if pure else None
        yield Run(lo, hi, int(kinds[lo]) // 2, label, bool(kinds[lo] % 2))
