"""How badly labels of a rare class fit by their rarity alone, told by the class itself.

Among many of another class the nearest sample of one's own is far, however right the labels are:
at random places in m dimensions the logarithm of the ratio of both distances is logistic, with a
scale of 1/m, about log(others/own)/m. What 2 % of the class would exceed is therefore the
class's median and 90 % quantile, drawn out along the logistic curve; as both are of the class, it
needs no m, and wrong labels move it little as long as they are fewer than a tenth. It is bounded by
what rarity does in one dimension, where it does most, and 1 for a class of at least half the
others' average size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

RARE = 2.0  # times smaller than the other classes of its group on average
MIDDLE, HIGH, EXCEEDED = 0.5, 0.9, 0.98  # quantiles that are seen, and the one that is drawn out
LOWEST, STEP, BINS = -6.0, 0.01, 2_000  # of a histogram of logarithms

Class = tuple[int, float]  # group and label


@dataclass(frozen=True)
class ClassFit:
    """How many samples a class has in a group, and the logarithms of how badly each fits."""

    rows: int
    counts: NDArray[np.int64]

    def merge(self, other: ClassFit) -> ClassFit:
        """Return the fit of both parts of a class."""
        return ClassFit(self.rows + other.rows, self.counts + other.counts)

    def quantile(self, share: float) -> float:
        """Return the logarithm that a share of the samples does not exceed, to STEP."""
        below = np.cumsum(self.counts)
        return LOWEST + STEP * (int(np.searchsorted(below, share * below[-1])) + 0.5)


def expected_misfit(misfit: da.Array, labels: da.Array, split: da.Array, power: float) -> da.Array:
    """Return what rarity alone explains of each sample's misfit, at least 1; lazy.

    Parameters
    ----------
    misfit, labels, split : dask array (n,)
        In the same chunks. Of 1 where a label fits as well as another one would; NaN for a
        sample that nothing can be compared with.
    power : float
        Of the number of witnesses in the misfit.

    Returns
    -------
    dask array (n,) float64
    """
    ones = (tuple(1 for _ in misfit.chunks[0]),)
    fits = da.map_blocks(_fits, misfit, labels, split, chunks=ones, dtype=object, meta=_NOTHING)
    table = da.from_delayed(delayed(_table, pure=True)(fits, power), (1,), object, meta=_NOTHING)
    return da.map_blocks(_looked_up, labels, split, table, chunks=misfit.chunks, dtype=np.float64,
                         meta=np.empty(0))  # fmt: skip


_NOTHING: NDArray[Any] = np.empty(0, dtype=object)


def _fits(
    misfit: NDArray[np.float64], labels: NDArray[Any], split: NDArray[np.int16]
) -> NDArray[Any]:
    """Return the fit of every class of a block, as the only element of an array."""
    fits: dict[Class, ClassFit] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (np.log(misfit) - LOWEST) / STEP
    known = ~np.isnan(place)
    place = np.clip(place, 0, BINS - 1, where=known, out=np.zeros(len(place))).astype(np.int64)
    for group in np.unique(split).tolist():
        here = known & (split == group)
        classes, codes = np.unique(labels[here], return_inverse=True)
        for k, label in enumerate(classes.tolist()):
            counts = np.bincount(place[here][codes == k], minlength=BINS)
            fits[group, label] = ClassFit(int(counts.sum()), counts)
    return _alone(fits)


def _alone(value: Any) -> NDArray[Any]:
    made = np.empty(1, dtype=object)
    made[0] = value
    return made


def _table(blocks: NDArray[Any], power: float) -> NDArray[Any]:
    """Return what is expected of every class that is rare in its group."""
    fits: dict[Class, ClassFit] = {}
    for block in blocks:
        for key, fit in block.items():
            fits[key] = fits[key].merge(fit) if key in fits else fit
    expected: dict[Class, float] = {}
    for group in {group for group, _ in fits}:
        of_group = {key: fit for key, fit in fits.items() if key[0] == group}
        rows = sum(fit.rows for fit in of_group.values())
        for key, fit in of_group.items():
            others = (rows - fit.rows) / max(1, len(of_group) - 1)
            if others > RARE * fit.rows:
                expected[key] = _expected(fit, others / (RARE * fit.rows), power)
    return _alone(expected)


def _expected(fit: ClassFit, times: float, power: float) -> float:
    """Return the misfit that 2 % of a class would exceed, between 1 and what rarity can do."""
    middle, high = fit.quantile(MIDDLE), fit.quantile(HIGH)
    drawn = np.log(EXCEEDED / (1 - EXCEEDED)) / np.log(HIGH / (1 - HIGH))
    most = times * ((1 + times) / 2) ** power
    return float(np.clip(np.exp(min(middle + drawn * (high - middle), 700.0)), 1.0, most))


def _looked_up(
    labels: NDArray[Any], split: NDArray[np.int16], table: NDArray[Any]
) -> NDArray[np.float64]:
    found = np.ones(len(labels))
    for (group, label), expected in table[0].items():
        found[(split == group) & (labels == label)] = expected
    return found
