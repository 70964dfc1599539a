"""How numbers are distributed over sets of rows, and how far two distributions are apart.

Everything is made of chunks that are cut by the number of rows alone, so that sums have the same
bits for every chunking and number of workers. Nothing is binned: the distances are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import sqrt
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from numpy.typing import DTypeLike, NDArray

from .ranking import Keys, in_chunks, sorted_keys

SPREAD = 1.36  # of Kolmogorov's distribution: 95 % of equal distributions lie nearer


class Sample(NamedTuple):
    """Numbers of some rows.

    Attributes
    ----------
    values : array (n,) float64
    inside : array (n,) of bool, optional
        Whether a row is one of them; all rows without it.
    size : int
        How many there are.
    """

    values: Any
    inside: Any
    size: int

    @property
    def columns(self) -> tuple[da.Array, da.Array]:
        """Values, and which of them count, in the chunks of runs."""
        values = in_chunks(self.values)
        if self.inside is None:
            return values, da.ones(values.shape, chunks=values.chunks, dtype=bool)
        return values, in_chunks(self.inside)

    @property
    def keys(self) -> da.Array:
        """The numbers and their rows in order."""
        return sorted_keys(*self.columns, self.size)


class Distances(NamedTuple):
    """How far two distributions are apart.

    Attributes
    ----------
    wasserstein : float
        Wasserstein-1: how far a number has to be moved on average.
    kolmogorov : float
        The largest difference of the distribution functions, from 0 to 1.
    """

    wasserstein: float
    kolmogorov: float


def chance(one: int, other: int) -> float:
    """Return the Kolmogorov distance below which 95 % of pairs of random draws of these sizes are.

    Draws are independent numbers of one distribution (Smirnov's limit).
    """
    return SPREAD * sqrt((one + other) / (one * other))


# -- quantiles --------------------------------------------------------------------------------


def quantiles(
    keys: Any, size: int, shares: Sequence[float], dtype: DTypeLike = np.float64
) -> Delayed:
    """Return the numbers at shares of a distribution, as `numpy.quantile` has them; lazy.

    Parameters
    ----------
    keys : array (size,)
        In order, of `sorted_keys`; only those at the shares leave the workers.
    size : int
    shares : sequence of float
    dtype : numpy.dtype
        That quantiles are taken in.
    """
    places = np.array(shares) * (size - 1)
    low = np.floor(places).astype(int)
    ranks, ends = np.unique([low, np.minimum(low + 1, size - 1)], return_inverse=True)
    keys = keys if isinstance(keys, da.Array) else da.from_array(keys, chunks=-1)
    cuts = np.searchsorted(ranks, np.cumsum([0, *keys.chunks[0]]))
    starts = np.cumsum([0, *keys.chunks[0]])
    blocks = keys.to_delayed().ravel()
    picked = [
        delayed(_picked, pure=True)(blocks[k], ranks[lo:hi] - starts[k])
        for k, (lo, hi) in enumerate(pairwise(cuts))
        if lo < hi
    ]
    between = ends.reshape(2, -1), places % 1
    return delayed(_quantiles, pure=True)(picked, between, np.dtype(dtype))


def _picked(keys: Keys, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.ascontiguousarray(keys["value"][ranks])


def _quantiles(
    picked: Sequence[NDArray[np.float64]],
    between: tuple[NDArray[np.int64], NDArray[np.float64]],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return quantiles between the picked numbers, of which the two ends of each are named."""
    (low, high), shares = np.concatenate(picked).astype(dtype)[between[0]], between[1]
    return np.array([_between(a, b, s) for a, b, s in zip(low, high, shares, strict=True)])


def _between(low: Any, high: Any, share: float) -> Any:
    """Return what lies between two numbers, rounded as `numpy.quantile` rounds it.

    On the way to an infinite number it is infinite.
    """
    if low == high or share == 0:
        return low
    return high if np.isinf(high) else np.quantile([low, high], [share])[0]


# -- distances --------------------------------------------------------------------------------


def distances(one: Sample, other: Sample) -> Delayed:
    """Return how far two samples' distributions are apart, `Distances`; lazy.

    Both are sorted together. Between two numbers that follow each other the distribution functions
    stand still, so their difference there times the gap is the Wasserstein distance, and the
    largest one is Kolmogorov's.
    """
    (values, inside), (further, there) = one.columns, other.columns
    first = len(values)  # from this row number on it is the other's
    sizes = (one.size, other.size)
    keys = sorted_keys(
        da.concatenate([values, further]), da.concatenate([inside, there]), sum(sizes)
    )
    blocks = keys.to_delayed().ravel()
    begins = delayed(_begins, pure=True)([delayed(_tally, pure=True)(b, first) for b in blocks])
    parts = [
        delayed(_gaps, pure=True)(block, begins, k, (first, sizes))
        for k, block in enumerate(blocks)
    ]
    return delayed(_joined, pure=True)(parts)


def _tally(keys: Keys, first: int) -> tuple[int, int, float]:
    """Return how many numbers are of either sample, and the lowest."""
    ours = int((keys["row"] < first).sum())
    return ours, len(keys) - ours, float(keys["value"][0])


def _begins(tallies: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Return of every chunk how many numbers lie before it, and the lowest of the next one."""
    before = accumulate(tallies, lambda a, b: (a[0] + b[0], a[1] + b[1], 0.0), initial=(0, 0, 0.0))
    after = [*(low for *_, low in tallies[1:]), np.nan]
    return [(a, b, low) for (a, b, _), low in zip(before, after, strict=False)]


def _gaps(
    keys: Keys,
    begins: Sequence[tuple[int, int, float]],
    chunk: int,
    samples: tuple[int, tuple[int, int]],
) -> Distances:
    """Return what a chunk adds to the one distance, and the largest difference in it."""
    (ours, theirs, after), (first, sizes) = begins[chunk], samples
    own = keys["row"] < first
    share = (ours + np.cumsum(own)) / sizes[0] - (theirs + np.cumsum(~own)) / sizes[1]
    following = np.append(keys["value"][1:], after)
    with np.errstate(invalid="ignore"):
        gaps = following - keys["value"]
    apart = np.abs(share[gaps > 0])
    return Distances(float((apart * gaps[gaps > 0]).sum()), float(apart.max(initial=0.0)))


def _joined(parts: Sequence[Distances]) -> Distances:
    return Distances(sum(p.wasserstein for p in parts), max(p.kolmogorov for p in parts))
