"""What is the same for all tiles of a run, and rows as distances are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..labels import CATEGORICAL
from ..metrics import FUNCTION, KernelForm
from .distances import linear_rows, unit_rows
from .label_distances import SAME
from .reductions import Reduction


class Rows(NamedTuple):
    """Who the rows of a panel are.

    Attributes
    ----------
    numbers : ndarray (n,) int64
        Row numbers, ascending.
    labels : ndarray (n, m) float64
    parts : ndarray (n,) int16
        The part that each row lies in; rows with a negative one make no pairs.
    """

    numbers: NDArray[np.int64]
    labels: NDArray[np.float64]
    parts: NDArray[np.int16]


@dataclass(frozen=True)
class Screen:
    """How rows are centred and scaled before they are rounded to float32.

    Attributes
    ----------
    center : ndarray (d,) float64, optional
        Any fixed row; results do not depend on it.
    unit : float
        A power of two that brings |row − center| to about 1, so that float32 neither overflows
        nor, where it matters, underflows.
    """

    center: NDArray[np.float64] | None
    unit: float


class Measure(NamedTuple):
    """A metric's accumulation, as kernels take it: see `distances.reduced` and `finish`."""

    code: int
    p: float
    factor: float


@dataclass(frozen=True)
class Tuning:
    """Settings of the sweeps; none of them changes a result.

    Attributes
    ----------
    side : int
        Rows and columns of a product that stays in the second-level cache.
    seeds : int
        Positions of a part that rows without a reach are compared with first.
    few : int
        Candidates per row and column that are proven without tightening first (real labels).
    boxes : bool
        Whether few columns may be searched by boxes around leaves.
    leaf : int
        Rows of a leaf.
    pays : float
        Share of pairs up to which leaves beat matrix products of categories (measured); of k
        nearest a k-th of it.
    grid_rows, grid_columns : int
        Panels with fewer are done before a grid of bytes is made.
    grid_sample : int
        Rows that a grid is made from, at most.
    twins : int
        So many rows that equal others do no harm.
    lead : int
        The level of bytes that sweeps begin with.
    runs, short : int
        From so many pairs of runs on, of so many pairs of rows times columns on average, all
        are computed: to bound them would take longer (measured with hundreds of groups).
    plain : bool
        Whether every pair is computed, and no bound made: the data is so small that one kernel
        is done before the others are even compiled.
    """

    side: int = 512
    seeds: int = 512
    few: int = 4
    boxes: bool = True
    leaf: int = 64
    pays: float = 0.2
    grid_rows: int = 64
    grid_columns: int = 24
    grid_sample: int = 256
    twins: int = 8
    lead: int = 0
    runs: int = 256
    short: int = 2**16
    plain: bool = False


@dataclass(frozen=True)
class PairJob:
    """Everything that is the same for all tiles of a run.

    Attributes
    ----------
    form : KernelForm
    label_code : int
        How ‖Δy‖ is taken (labels.CATEGORICAL, L1, L2, LINF, OWN_NORM), or which pairs count with a
        ‖Δy‖ of 1 (label_distances.SAME, ANY).
    reduction : Reduction
        What the pairs of a row come to.
    parts : int
        Into how many parts the rows are cut.
    screen : Screen
    scale_up : float
        A power of two that rows are multiplied by where their squares would underflow.
    tuning : Tuning
    norm : callable, optional
        Of the label space, for OWN_NORM (`label_function`).
    """

    form: KernelForm
    label_code: int
    reduction: Reduction
    parts: int
    screen: Screen
    scale_up: float = 1.0
    tuning: Tuning = Tuning()
    norm: Callable[[NDArray[np.float64]], float] | None = None

    @cached_property
    def measure(self) -> Measure:
        """The metric as kernels take it."""
        up = self.scale_up if self.form.homogeneous else 1.0
        return Measure(self.form.code, self.form.p, self.form.factor / up)

    @property
    def plain(self) -> bool:
        """Whether all pairs are computed by the one kernel that makes no bounds."""
        return self.tuning.plain and self.form.code != FUNCTION and self.norm is None

    @property
    def by_label(self) -> bool:
        """Whether pairs count by the equality of their labels alone."""
        return self.label_code in (CATEGORICAL, SAME)


def kernel_rows(
    features: NDArray[Any], numbers: Sequence[int] | NDArray[np.int64], job: PairJob
) -> NDArray[Any]:
    """Return rows as distances are computed from: uint8, float32 or float64.

    numbers: their row numbers, for messages.

    Raises
    ------
    InvalidDataError
        For a zero row under the angular metric; the row is named.
    """
    form = job.form
    if form.unit_rows or form.matrix is not None:
        plain = np.ascontiguousarray(features, kernel_dtype(features.dtype))
        out = np.empty(plain.shape)
        if form.matrix is not None:
            center = form.center if form.center is not None else np.zeros(plain.shape[1])
            linear_rows(plain, center, np.ascontiguousarray(form.matrix.T), out)
        else:
            zero = unit_rows(plain, out)
            if zero >= 0:
                raise InvalidDataError(
                    f"row {numbers[zero]} is all zeros, which has no angle to anything; drop it "
                    "or choose another metric"
                )
        return out
    if form.function is not None:
        return np.ascontiguousarray(features, np.float64) * form.factor
    rows = np.ascontiguousarray(features, kernel_dtype(features.dtype))
    return rows if job.scale_up == 1.0 else rows * job.scale_up


def kernel_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The narrowest of the three dtypes the kernels are compiled for that holds every value."""
    if dtype == np.uint8:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32, "safe") else np.float64)


def cut(lo: int, hi: int, step: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a range into ranges of `step`, the last one shorter; leave out what is before `start`."""
    for a in range(lo, hi, step):
        if a + step > start and start < hi:
            yield max(a, start), min(a + step, hi)
