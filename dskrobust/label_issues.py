"""How each label fits its surroundings, and the samples whose labels are probably wrong.

No model is trained: the nearest samples of another and of the same label tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidOptionError
from .export import with_ids
from .ids import held_ids
from .labels import label_names
from .metrics import Metric
from .rarity import expected_misfit
from .robustness import sample_robustness, score
from .runs import PairData, RunOptions
from .scores import Scores
from .store import SourceAddress, Store, open_store

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.4  # a sample that suspicion puts half again above the balance of 1

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
        In a class less than half as large as the others of its group are on average, the product
        is divided by what the rarity of the class alone explains of it (`dskrobust.rarity`). NaN
        for the only sample of its label in its group, which nothing can be compared with.
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
    options: RunOptions | None = None,
) -> LabelQuality:
    """Compare every sample's nearest neighbours of the same and of another label.

    Nothing is computed yet; labels are categories.

    Parameters
    ----------
    data : Scores, Store, str or array_like of shape (n, d)
        What `sample_robustness` takes, or its scores: then only the nearest samples of the same
        label are left to find.
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    LabelQuality
        Dask arrays of shape (n,).

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    options = options or RunOptions()
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


def _of_scores(scores: Scores, options: RunOptions) -> LabelQuality:
    """Add the nearest samples of the same label to scores."""
    if scores.spec is None:
        raise InvalidOptionError(
            "these scores do not say what they were computed with; use those of "
            "dr.sample_robustness(store)"
        )
    spec = scores.spec
    if spec.labels.kind != "categorical":
        raise _no_categories(f"the result of {scores.name}", spec.labels.kind)
    data = PairData(scores.store, scores.arrays, spec.scale)
    return _quality(scores, score(data, spec.metric, "categorical", options, rule="same"))


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
    misfit = da.map_blocks(_misfit, same.reach, ratio, often.rechunk(chunks), dtype=np.float64)
    split = da.asarray(scores.split).rechunk(chunks)
    expected = expected_misfit(misfit, _label_blocks(scores, chunks[0]), split, WITNESS_POWER)
    score = 1.0 / (1.0 + misfit / expected)
    return LabelQuality(same.reach, same.nearest, ratio, often, score, scores, same)


def _count(witness: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    return np.bincount(witness[witness >= 0], minlength=rows).astype(np.int64)


def _ratio(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    alike = (same == different) & ((same == 0) | np.isinf(same))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(alike, 1.0, same / different)


def _misfit(
    same: NDArray[np.float64], ratio: NDArray[np.float64], witness_of: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.where(np.isinf(same), np.nan, ratio * (1.0 + witness_of) ** WITNESS_POWER)


def _label_blocks(scores: Scores, sizes: tuple[int, ...]) -> da.Array:
    """Return the labels (n,), lazy, in chunks of some sizes."""
    if scores.store is None:
        assert scores.arrays is not None
        return da.asarray(scores.arrays.y).reshape(scores.rows).rechunk((sizes,))
    address, kind = scores.store.address, scores.store.row_shape("labels")[1]
    ends = np.cumsum(sizes).tolist()
    read = delayed(_stored_labels, pure=True)
    blocks = [
        da.from_delayed(read(address, end - size, end), (size,), kind)
        for size, end in zip(sizes, ends, strict=True)
    ]
    return da.concatenate(blocks)


def _stored_labels(address: SourceAddress, lo: int, hi: int) -> NDArray[Any]:
    return address.open().read("labels", lo, hi).reshape(hi - lo)


def find_label_issues(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    threshold: float = THRESHOLD,
    options: RunOptions | None = None,
) -> pd.DataFrame:
    """Return the samples by how badly their labels fit their surroundings, the worst first.

    Computes what the store does not hold already; `label_quality(store).write()` keeps it there.
    Needs memory for a few numbers a sample.

    Parameters
    ----------
    data : Scores, LabelQuality, Store, str or array_like
        Scores of categorical labels, or what `sample_robustness` takes (with `y` and `split`).
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    threshold : float
        Largest score of an issue, from 0 to 1. On MNIST with 3 % of the labels changed, 0.4 finds
        94 % of them, and 87 % of what it finds are changed ones.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    pandas.DataFrame
        One row per sample, sorted by score; equal scores by row number. Columns:

        - ``row``, ``split``: row number and group
        - ``is_issue``: score at most `threshold`, and no larger than that of its witness (of two
          samples that contradict each other the one that fits better is believed)
        - ``score``: from 0 (does not fit) to 1; missing for the only sample of its label in its
          group, which comes last (see `LabelQuality`)
        - ``given_label``, ``suggested_label``: its own and the witness's
        - ``witness``, ``witness_distance``: nearest sample of another label in the group
        - ``nearest_same``, ``same_distance``: nearest other sample of the same label
        - ``ratio``, ``witness_of``: same over witness distance; whose witness it is, how often

        What does not exist is missing (``<NA>`` or NaN). Where rows have ids they are the index,
        and the other samples have theirs in ``witness_id`` and ``nearest_same_id``.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    quality = data
    if not isinstance(data, LabelQuality):
        quality = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    return with_ids(issue_table(quality, threshold), held_ids(quality.scores.ids))


def issue_table(quality: LabelQuality, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Return what `find_label_issues` returns, by row numbers only: no ids are read.

    Raises
    ------
    InvalidOptionError
        For a threshold that is no score.
    """
    if not 0 <= threshold <= 1:
        raise InvalidOptionError(f"threshold must lie between 0 and 1, but is {threshold!r}")
    import pandas as pd

    for searched in (quality.scores.spec, quality.same_scores.spec):
        if searched is not None:
            searched.warm_up()
    labels, classes = _labels(quality)
    lazy = {
        "witness": quality.scores.nearest,
        "witness_distance": quality.scores.reach,
        "nearest_same": quality.same,
        "same_distance": quality.same_distance,
        "ratio": quality.ratio,
        "witness_of": quality.witness_of,
        "score": quality.score,
        "split": quality.scores.split,
        "labels": labels,
    }
    values = {name: np.asarray(value) for name, value in compute(lazy)[0].items()}
    score, witness, alone = values["score"], values["witness"], values["nearest_same"] < 0
    rows = np.argsort(score, kind="stable")  # NaN comes last
    names = label_names(values["labels"], classes)
    of = witness[rows]
    return pd.DataFrame(
        {
            "row": rows,
            "split": np.array(quality.scores.groups, dtype=object)[values["split"][rows]],
            "is_issue": (score[rows] <= threshold) & (score[rows] <= score[of]) & (of >= 0),
            "score": score[rows],
            "given_label": names[rows],
            "suggested_label": np.where(of < 0, None, names[of]),
            "witness": _row_numbers(of),
            "witness_distance": np.where(of < 0, np.nan, values["witness_distance"][rows]),
            "nearest_same": _row_numbers(values["nearest_same"][rows]),
            "same_distance": np.where(alone[rows], np.nan, values["same_distance"][rows]),
            "ratio": np.where(alone[rows], np.nan, values["ratio"][rows]),
            "witness_of": values["witness_of"][rows],
        }
    )


def _labels(quality: LabelQuality) -> tuple[Any, tuple[str, ...] | None]:
    """Return all labels, shape (n,), and the names of the classes they may be codes of."""
    store, arrays = quality.scores.store, quality.scores.arrays
    if store is not None:
        return store.labels[:], store.spec.classes
    assert arrays is not None
    return arrays.y, arrays.classes


def _row_numbers(rows: NDArray[np.int64]) -> pd.Series[Any]:
    """Row numbers (n,); -1 is missing."""
    import pandas as pd

    return pd.Series(rows, dtype="Int64").mask(rows < 0)
