"""Which samples to take so that a number of theirs is distributed as wished: strata and counts.

A wished distribution is a staircase: *edges* and the share of the distribution up to each. They
cut samples into strata. How many samples a stratum has is counted; how many of them are taken is
found by isotonic regression: of all choices of so many samples, it is the one whose distribution
function is nearest to the wished one in the mean square. Within a stratum samples are taken at even
steps of their row numbers. So a choice is a few thousand numbers, however many samples there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

STEPS = 4096  # of a distribution: what is taken is off by a 4096th at most, where there is enough


class Staircase(NamedTuple):
    """A distribution function at some edges.

    Attributes
    ----------
    edges : ndarray (e,) float64
        Rising; the last one is infinite.
    shares : ndarray (e,) float64
        Of the distribution up to and including each edge, from 0 to 1.
    """

    edges: NDArray[np.float64]
    shares: NDArray[np.float64]


def staircase(quantiles: NDArray[np.float64], further: NDArray[np.float64]) -> Staircase:
    """Return the distribution with these quantiles, at even steps from 0 to 1.

    Between them it rises evenly; where several are equal it jumps, with an edge before the jump.

    Parameters
    ----------
    quantiles : ndarray (q,) float64
    further : ndarray (k,) float64
        Where edges shall stand too: at quantiles of the samples that are taken from.
    """
    even = np.linspace(0, 1, len(quantiles))
    values, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    jumps = counts > 1
    edges = np.concatenate([np.nextafter(values[jumps], -np.inf), values])
    shares = np.concatenate([even[first[jumps]], even[first + counts - 1]])
    order = np.lexsort((shares, edges))  # neighbouring floats may be edges before and at jumps
    every = np.unique(np.concatenate([edges, further]))
    found = np.interp(every, edges[order], shares[order], left=0.0, right=1.0)
    return Staircase(np.append(every, np.inf), np.append(np.maximum.accumulate(found), 1.0))


def taken(available: NDArray[np.int64], wished: Staircase, size: int) -> NDArray[np.int64]:
    """Return how many samples of every stratum are taken, (e,), `size` together.

    Parameters
    ----------
    available : ndarray (e,) int64
        Samples in every stratum.
    wished : Staircase
    size : int
        At most the samples that there are.
    """
    there = np.cumsum(available)
    spare = float(there[-1] - size)
    left = there - size * wished.shares  # of the strata so far; more can only be left further on
    gaps = np.diff(wished.edges[:-1])  # for so long the distribution function stands
    gaps = np.append(gaps, np.full(2, gaps.max(initial=0.0)))  # behind all samples: of no account
    gaps = np.maximum(gaps, gaps.max() * 1e-12) if gaps.any() else np.ones(len(gaps))
    left = np.floor(isotonic_regression(left, sample_weight=gaps, y_min=0.0, y_max=spare))
    left[-1] = spare
    so_far = np.maximum.accumulate(there - left.astype(np.int64))  # means of blocks are rounded
    return np.diff(np.minimum(so_far, size), prepend=0)


def count_strata(
    values: NDArray[np.float64], inside: NDArray[np.bool_], edges: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how many of some samples lie in every stratum, (e,)."""
    return np.bincount(np.searchsorted(edges, values[inside]), minlength=len(edges))


def rows_taken(
    values: NDArray[np.float64],
    inside: NDArray[np.bool_],
    edges: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return which samples of a chunk are taken: their places, rising.

    counts: (3, e): samples of every stratum before this chunk, in all chunks, and those taken.
    """
    rows = np.flatnonzero(inside)
    strata = np.searchsorted(edges, values[rows])
    order = np.argsort(strata, kind="stable")
    begins = np.searchsorted(strata[order], np.arange(len(edges)))
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) - begins[strata[order]]
    before, available, wanted = (counts[:, strata][k] for k in range(3))
    place += before
    return rows[_steps(place + 1, available, wanted) > _steps(place, available, wanted)]


def _steps(
    place: NDArray[np.int64], available: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many are taken before a place, where `wanted` are taken of `available`, evenly."""
    return -((available - 2 * place * wanted) // (2 * available))
