"""What is the same for all tiles of a run, and rows as distances are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..metrics import KernelForm
from .distances import linear_rows, unit_rows


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


@dataclass(frozen=True)
class PairJob:
    """Everything that is the same for all tiles of a run.

    Attributes
    ----------
    form : KernelForm
    label_code : int
        How ‖Δy‖ is taken (labels.CATEGORICAL, L1, L2, LINF), or SAME: pairs of equal labels
        count instead.
    quotients : bool
        Whether largest quotients are wanted besides the smallest distances.
    groups : int
        Number of reference groups.
    lift : float
        A power of two that rows are multiplied by where their squares would underflow.
    """

    form: KernelForm
    label_code: int
    quotients: bool
    groups: int
    screen: Screen
    lift: float = 1.0

    @property
    def metric(self) -> tuple[int, float, float]:
        """Code, exponent and factor, as the kernels take them."""
        lift = 1.0 if self.form.code in (1, 5) else self.lift
        return self.form.code, self.form.p, self.form.factor / lift


def kernel_rows(features: NDArray[Any], first: int, job: PairJob) -> NDArray[Any]:
    """Return rows as distances are computed from: uint8, float32 or float64.

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
                raise zero_row(first + zero)
        return out
    if form.function is not None:
        return np.ascontiguousarray(features, np.float64) * form.factor
    rows = np.ascontiguousarray(features, kernel_dtype(features.dtype))
    return rows if job.lift == 1.0 else rows * job.lift


def zero_row(number: int) -> InvalidDataError:
    """Return the error of a row that has no angle."""
    return InvalidDataError(
        f"row {number} is all zeros, which has no angle to anything; drop it or choose another "
        "metric"
    )


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
