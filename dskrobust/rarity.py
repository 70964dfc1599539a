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

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from numpy.typing import NDArray

RARE = 2.0  # times smaller than the other classes of its group on average
MIDDLE, HIGH, EXCEEDED = 0.5, 0.9, 0.98  # quantiles that are seen, and the one that is drawn out
LOWEST, STEP, BINS = -6.0, 0.01, 2_000  # of a histogram of logarithms


class Fits(NamedTuple):
    """Histograms of how badly samples fit, of every class that there is; only bins that hold some.

    Attributes
    ----------
    group, label : ndarray (m,)
        The class of a bin, rising.
    place : ndarray (m,) int64
        The bin, rising within a class: of a logarithm, BINS of them from LOWEST on.
    rows : ndarray (m,) int64
        Samples in it.
    """

    group: NDArray[np.int16]
    label: NDArray[Any]
    place: NDArray[np.int64]
    rows: NDArray[np.int64]

    def classes(self) -> NDArray[np.intp]:
        """Return where the bins of another class begin."""
        other = (self.group[1:] != self.group[:-1]) | (self.label[1:] != self.label[:-1])
        return np.flatnonzero(np.append(True, other)[: len(self.rows)])


class Expected(NamedTuple):
    """What is expected (k,) of every class that is rare in its group; in the order of `Fits`."""

    group: NDArray[np.int16]
    label: NDArray[Any]
    misfit: NDArray[np.float64]


def expected_misfit(
    misfit: da.Array,
    labels: da.Array,
    split: da.Array,
    power: float,
    stage: Callable[[da.Array], da.Array] | None = None,
) -> da.Array:
    """Return what rarity alone explains of each sample's misfit, at least 1; lazy.

    Parameters
    ----------
    misfit, labels, split : dask array (n,)
        In the same chunks. Of 1 where a label fits as well as another one would; NaN for a
        sample that nothing can be compared with.
    power : float
        Of the number of witnesses in the misfit.
    stage : callable, optional
        Computes what all samples together tell, before any is compared with it.

    Returns
    -------
    dask array (n,) float64
    """
    ones = (tuple(1 for _ in misfit.chunks[0]),)
    fits = da.map_blocks(_fits, misfit, labels, split, chunks=ones, dtype=object, meta=_NOTHING)
    table = da.reduction(
        fits, _as_they_are, partial(_table, power=power), combine=_together, axis=0, keepdims=True,
        dtype=object, meta=_NOTHING,
    )  # fmt: skip
    table = table if stage is None else stage(table)
    return da.map_blocks(_looked_up, labels, split, table, chunks=misfit.chunks, dtype=np.float64,
                         meta=np.empty(0))  # fmt: skip


_NOTHING: NDArray[Any] = np.empty(0, dtype=object)


def _fits(
    misfit: NDArray[np.float64], labels: NDArray[Any], split: NDArray[np.int16]
) -> NDArray[Any]:
    """Return the `Fits` of a block, as the only element of an array."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (np.log(misfit) - LOWEST) / STEP
    known = ~np.isnan(place)
    bins = np.clip(place[known], 0, BINS - 1).astype(np.int64)
    return _alone(_joined(Fits(split[known], labels[known], bins, np.ones_like(bins))))


def _joined(fits: Fits) -> Fits:
    """Return bins in their order, each once."""
    order = np.lexsort((fits.place, fits.label, fits.group))
    group, label = fits.group[order], fits.label[order]
    place, rows = fits.place[order], fits.rows[order]
    keys = (group, label, place)
    other = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    first = np.flatnonzero(np.append(True, other)[: len(rows)])
    summed = np.add.reduceat(rows, first) if len(rows) else rows
    return Fits(group[first], label[first], place[first], summed)


def _alone(value: Any) -> NDArray[Any]:
    made = np.empty(1, dtype=object)
    made[0] = value
    return made


def _as_they_are(blocks: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
    return blocks


def _together(blocks: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
    """Return the `Fits` of several blocks as one."""
    return _alone(_joined(Fits(*map(np.concatenate, zip(*blocks, strict=True)))))


def _table(blocks: NDArray[Any], axis: Any, keepdims: bool, power: float) -> NDArray[Any]:
    """Return the `Expected` of all blocks' classes."""
    (fits,) = _together(blocks, axis, keepdims)
    first = fits.classes()
    if not len(first):
        return _alone(Expected(fits.group, fits.label, np.empty(0)))
    rows, group = np.add.reduceat(fits.rows, first), fits.group[first]
    code = np.searchsorted(np.unique(group), group)
    classes = np.maximum(1, np.bincount(code)[code] - 1)
    others = (np.bincount(code, rows)[code] - rows) / classes
    middle, high = (_quantiles(fits, first, rows, share) for share in (MIDDLE, HIGH))
    rare = np.flatnonzero(others > RARE * rows)
    times = others / (RARE * rows)
    seen = np.stack([middle[rare], high[rare], times[rare]], axis=1).tolist()
    expected = [_expected(low, top, rarer, power) for low, top, rarer in seen]
    return _alone(Expected(group[rare], fits.label[first][rare], np.array(expected, np.float64)))


def _quantiles(
    fits: Fits, first: NDArray[np.intp], rows: NDArray[np.int64], share: float
) -> NDArray[np.float64]:
    """Return the logarithm that a share of every class's samples does not exceed, to STEP.

    first, rows (k,): where the bins of every class begin, and its samples.
    """
    below, bins = np.cumsum(fits.rows), np.diff(np.append(first, len(fits.rows)))
    below -= np.repeat(below[first] - fits.rows[first], bins)
    reached = below >= np.repeat(share * rows, bins)
    places = np.minimum.reduceat(np.where(reached, fits.place, BINS), first)
    return LOWEST + STEP * (places + 0.5)


def _expected(middle: float, high: float, times: float, power: float) -> float:
    """Return the misfit that 2 % of a class would exceed, between 1 and what rarity can do.

    middle, high: its quantiles; times: how much rarer it is than RARE.
    """
    drawn = np.log(EXCEEDED / (1 - EXCEEDED)) / np.log(HIGH / (1 - HIGH))
    most = times * ((1 + times) / 2) ** power
    return float(np.clip(np.exp(min(middle + drawn * (high - middle), 700.0)), 1.0, most))


def _looked_up(
    labels: NDArray[Any], split: NDArray[np.int16], table: NDArray[Any]
) -> NDArray[np.float64]:
    found, (group, label, misfit) = np.ones(len(labels)), table[0]
    for one in np.unique(group).tolist():
        here, of_group = np.flatnonzero(split == one), group == one
        known, expected = label[of_group], misfit[of_group]
        place = np.minimum(np.searchsorted(known, labels[here]), len(known) - 1)
        same = known[place] == labels[here]
        found[here[same]] = expected[place[same]]
    return found
