"""Weights that make all samples of a set as robust, in distribution, as those of another set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from .collection import ArraysMixin
from .declared_types import checked_arguments
from .distributions import quantiles
from .matching import Sides, blocks_of
from .scores import Scores
from .staircase import count_strata

STRATUM, MOST_STRATA = 50, 256  # samples of a stratum at least, and strata


@dataclass(frozen=True)
class MatchedWeights(ArraysMixin):
    """Weights that give the samples of one set the robustness distribution of another.

    Attributes
    ----------
    within, to : str
    weights : array (n,) float64
        For estimators that take `sample_weight`; lazy. Their mean over `within` is 1, they are 0
        for rows of other sets and where `to` has no samples as robust.
    size : int
        Samples of `within`.
    effective : float
        (Σw)² / Σw²: of so many equally weighted samples a mean is as certain.
    missing : float
        Share of `to` that is as robust as no sample of `within`; its weight lies on the nearest.
    """

    within: str
    to: str
    weights: Any
    size: int
    effective: float
    missing: float


@checked_arguments("scores")
def match_weights(scores: Scores, within: str, to: str) -> MatchedWeights:
    """Weigh all samples of one set so that their R is distributed as R within another.

    All samples stay, so R within the set stays as it is. Both sets are cut at quantiles of `to`,
    into at most 256 strata; a weight is the share of `to` in a stratum over that of `within`.

    Parameters
    ----------
    scores : Scores
        Computed or stored, against both sets.
    within, to : str
        Groups or reference sets.

    Raises
    ------
    InvalidOptionError
        For an unknown set, or scores that are not computed.
    """
    x, t = Sides.of(scores, within, to)
    count = int(np.clip(min(x.size, t.size) // STRATUM, 1, MOST_STRATA))
    ends = np.linspace(0, 1, count + 1).tolist()
    edges = np.append(np.unique(quantiles(t.keys, t.size, ends).compute()), np.inf)
    edges = np.append(np.nextafter(edges[0], -np.inf), edges)  # below the least of `to` nothing is
    tally = delayed(count_strata, pure=True)
    blocks = [
        [tally(*block, edges) for block in zip(*blocks_of(side.columns), strict=True)]
        for side in (x, t)
    ]
    available, wished = (np.sum(parts, axis=0) for parts in compute(*blocks))
    shares, missing = _moved(wished / t.size, available)
    weights = np.divide(shares * x.size, available, out=np.zeros(len(shares)), where=available > 0)
    values, rows = x.columns
    lazy = da.map_blocks(_weighed, values, rows, edges, weights, dtype=np.float64)
    effective = x.size**2 / float((available * weights**2).sum())
    return MatchedWeights(within, to, lazy, x.size, effective, missing)


def _moved(
    shares: NDArray[np.float64], available: NDArray[np.int64]
) -> tuple[NDArray[np.float64], float]:
    """Return shares where those of empty strata lie on the nearest full one, and those.

    In the first and the last stratum nothing of the wished set lies: they serve if no other does.
    """
    full, empty = np.flatnonzero(available), np.flatnonzero((available == 0) & (shares > 0))
    within = full[(full > 0) & (full < len(shares) - 1)]
    full = within if len(within) else full
    moved = np.where(available > 0, shares, 0.0)
    nearest = full[np.abs(empty[:, None] - full[None, :]).argmin(axis=1)]
    np.add.at(moved, nearest, shares[empty])
    return moved, float(shares[empty].sum())


def _weighed(
    values: NDArray[np.float64],
    rows: NDArray[np.bool_],
    edges: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    return np.where(rows, weights[np.searchsorted(edges, values)], 0.0)
