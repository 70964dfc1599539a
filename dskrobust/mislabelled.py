"""Which labels are probably wrong: nearest samples of the same and of another label compared.

A sample whose nearest neighbour of another label is much closer than that of its own label is
labelled unlike its surroundings. And a wrong label lowers the robustness of many right neighbours,
whose witness it is: −R points at the victims, the ratio and the number of times that a sample is a
witness point at the culprit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidOptionError
from .labels import LabelMap
from .metrics import Metric
from .robustness import Options, sample_robustness, score_arrays, score_store
from .scores import Scores
from .sources import check_arrays
from .store import Store, open_store

SAME = LabelMap("same")


@dataclass(frozen=True)
class LabelQuality:
    """How each sample's label fits its surroundings, lazy: Dask arrays until `compute` is called.

    Attributes
    ----------
    same_distance : array (n,) float64
        Distance to the nearest other sample of the same label in the own group; infinite where
        there is none.
    same : array (n,) int64
        Its row number, the lowest one where several do; -1 where there is none.
    ratio : array (n,) float64
        `same_distance` over the reach. Above 1 the nearest neighbour has another label; 1 where
        both are zero or both infinite.
    witness_of : array (n,) int64
        Of how many samples this one is the witness, in all groups together.
    scores : Scores
        Robustness of the same data.
    same_scores : Scores
        The search that `same` comes from.
    """

    same_distance: Any
    same: Any
    ratio: Any
    witness_of: Any
    scores: Scores
    same_scores: Scores

    def compute(self, **kwargs: Any) -> LabelQuality:
        """Compute everything in one go; the same with NumPy arrays."""
        for spec in (self.scores.spec, self.same_scores.spec):
            if spec is not None:
                spec.warm_up()
        names = [f.name for f in fields(self)][:4]
        values = compute(*(getattr(self, name) for name in names), **kwargs)
        return replace(self, **dict(zip(names, values, strict=True)))

    def suspects(self, count: int) -> NDArray[np.int64]:
        """Row numbers of the `count` samples with the largest ratios, the largest first.

        Equal ratios: the more often a witness, then the lower row number first. The only samples
        of their label in their group have nothing to be compared with and come last.
        """
        ratio, often, same = compute(self.ratio, self.witness_of, self.same)
        alone = np.asarray(same) < 0
        order = np.lexsort((-np.asarray(often), -np.asarray(ratio), alone))
        return order[:count].astype(np.int64)

    def write(self) -> LabelQuality:
        """Compute and write both searches into the store; return this as read from there.

        Raises
        ------
        InvalidOptionError
            Where the data is not in a store.
        """
        return _quality(self.scores.write(), self.same_scores.write())


def label_quality(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: Options | None = None,
) -> LabelQuality:
    """Compare every sample's nearest neighbours of the same and of another label.

    Nothing is computed yet. Parameters are those of `sample_robustness`; labels are categories.

    Returns
    -------
    LabelQuality

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    options = options or Options()
    if isinstance(data, Store) or (y is None and isinstance(data, str)):
        store = open_store(data)
        if store.spec.label_kind != "categorical":
            raise InvalidOptionError(
                f"{store.url} has {store.spec.label_kind} labels; which of them are wrong can be "
                "told for categories only"
            )
        scores = sample_robustness(store, metric=metric, labels="categorical", options=options)
        return _quality(scores, score_store(store, metric, SAME, options))
    scores = sample_robustness(
        data, y, split, metric=metric, labels="categorical", scale=scale, options=options
    )
    given = check_arrays(data, y, split)
    return _quality(scores, score_arrays(given, metric, SAME, scale, options))


def _quality(scores: Scores, same: Scores) -> LabelQuality:
    whole = delayed(_count, pure=True)(scores.witness, scores.rows)
    often = da.from_delayed(whole, (scores.rows,), np.int64)
    different = scores.reach.rechunk(same.reach.chunks)  # plans, or what is stored, may differ
    ratio = da.map_blocks(_ratio, same.reach, different, dtype=np.float64)
    return LabelQuality(same.reach, same.nearest, ratio, often, scores, same)


def _count(witness: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    return np.bincount(witness[witness >= 0], minlength=rows).astype(np.int64)


def _ratio(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    alike = (same == different) & ((same == 0) | np.isinf(same))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(alike, 1.0, same / different)
