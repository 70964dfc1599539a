"""Which labels are probably wrong: nearest samples of the same and of another label compared.

A sample whose nearest neighbour of another label is much closer than that of its own label is
labelled unlike its surroundings. And a wrong label lowers the robustness of many right neighbours,
whose witness it is: −R points at the victims, the ratio and the number of times that a sample is a
witness point at the culprit. The score joins both. No model is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
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
from .store import Store, open_store

SAME = LabelMap("same")
# How much the number of witnesses counts beside the ratio. Average precision on MNIST with 3 % of
# the labels changed, 60,000 rows: 0.955 without, 0.977 with 0.1, 0.974 with 0.2 and 0.968 with 0.3;
# in few columns more is better (two moons: 0.85, 0.88, 0.90, 0.92).
WITNESS_POWER = 0.2


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
    score : array (n,) float64
        How well the label fits, from 0 (not at all) to 1: 1 / (1 + ratio · (1 + witness_of)^0.2).
        NaN for the only sample of its label in its group, which nothing can be compared with.
    scores : Scores
        Robustness of the same data.
    same_scores : Scores
        The search that `same` comes from.
    """

    same_distance: Any
    same: Any
    ratio: Any
    witness_of: Any
    score: Any
    scores: Scores
    same_scores: Scores

    def compute(self, **kwargs: Any) -> LabelQuality:
        """Compute everything in one go; the same with NumPy arrays."""
        for spec in (self.scores.spec, self.same_scores.spec):
            if spec is not None:
                spec.warm_up()
        names = [f.name for f in fields(self)][:5]
        values = compute(*(getattr(self, name) for name in names), **kwargs)
        return replace(self, **dict(zip(names, values, strict=True)))

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
    `data` may be scores, too: then only the nearest samples of the same label are left to find.

    Returns
    -------
    LabelQuality

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    options = options or Options()
    if isinstance(data, Scores):
        if y is not None or split is not None:
            raise InvalidOptionError("scores have their own labels and split; give them alone")
        return _of_scores(data, options)
    if isinstance(data, (Store, str, Path)) and y is None:
        data = open_store(data)
        if data.spec.label_kind != "categorical":
            raise _no_categories(data.url, data.spec.label_kind)
    return _of_scores(
        sample_robustness(
            data, y, split, metric=metric, labels="categorical", scale=scale, options=options
        ),
        options,
    )


def _of_scores(scores: Scores, options: Options) -> LabelQuality:
    """Add the nearest samples of the same label to scores."""
    if scores.spec is None:
        raise InvalidOptionError(
            "these scores do not say what they were computed with; use those of "
            "dr.sample_robustness(store)"
        )
    metric, labels = scores.spec.metric, scores.spec.labels
    if labels.kind != "categorical":
        raise _no_categories(f"the result of {scores.name}", labels.kind)
    if scores.store is not None:
        return _quality(scores, score_store(scores.store, metric, SAME, options))
    assert scores.given is not None
    scale = scores.spec.scale
    return _quality(scores, score_arrays(scores.given, metric, SAME, scale, options))


def _no_categories(what: str, kind: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"{what} has {kind} labels; which of them are wrong can be told for categories only"
    )


def _quality(scores: Scores, same: Scores) -> LabelQuality:
    chunks = same.reach.chunks  # plans, or what is stored, may differ; scores may be computed
    whole = delayed(_count, pure=True)(scores.witness, scores.rows)
    often = da.from_delayed(whole, (scores.rows,), np.int64)
    different = da.asarray(scores.reach).rechunk(chunks)
    ratio = da.map_blocks(_ratio, same.reach, different, dtype=np.float64)
    score = da.map_blocks(_score, same.reach, ratio, often.rechunk(chunks), dtype=np.float64)
    return LabelQuality(same.reach, same.nearest, ratio, often, score, scores, same)


def _count(witness: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    return np.bincount(witness[witness >= 0], minlength=rows).astype(np.int64)


def _ratio(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    alike = (same == different) & ((same == 0) | np.isinf(same))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(alike, 1.0, same / different)


def _score(
    same: NDArray[np.float64], ratio: NDArray[np.float64], witness_of: NDArray[np.int64]
) -> NDArray[np.float64]:
    score = 1.0 / (1.0 + ratio * (1.0 + witness_of) ** WITNESS_POWER)
    return np.where(np.isinf(same), np.nan, score)
