"""Samples whose labels are probably wrong, as a ranked table; no model is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidOptionError
from .labels import label_names
from .metrics import Metric
from .mislabelled import LabelQuality, label_quality
from .robustness import Options

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.4  # a sample that suspicion puts half again above the balance of 1


def find_label_issues(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    threshold: float = THRESHOLD,
    count: int | None = None,
    options: Options | None = None,
) -> pd.DataFrame:
    """Return the samples by how badly their labels fit their surroundings, the worst first.

    Computes what the store does not hold already; `label_quality(store).write()` keeps it there.
    Needs memory for a few numbers a sample.

    Parameters
    ----------
    data : Scores, LabelQuality, Store, str or array_like
        Scores of categorical labels, or what `sample_robustness` takes (with `y` and `split`).
    metric, scale, options
        As for `sample_robustness`; scores have their own metric and scale.
    threshold : float
        Largest score of an issue, from 0 to 1. On MNIST with 3 % of the labels changed, 0.4 finds
        94 % of them, and 87 % of what it finds are changed ones.
    count : int, optional
        Only so many rows of the table.

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

        What does not exist is missing (``<NA>`` or NaN).

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    if not 0 <= threshold <= 1:
        raise InvalidOptionError(f"threshold must lie between 0 and 1, but is {threshold!r}")
    if count is not None and count < 0:
        raise InvalidOptionError(f"count must not be negative, but is {count!r}")
    found = data
    if not isinstance(data, LabelQuality):
        found = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    return _table(found, threshold, count)


def _table(found: LabelQuality, threshold: float, count: int | None) -> pd.DataFrame:
    import pandas as pd

    for searched in (found.scores.spec, found.same_scores.spec):
        if searched is not None:
            searched.warm_up()
    labels, classes = _labels(found)
    lazy = {
        "witness": found.scores.nearest,
        "witness_distance": found.scores.reach,
        "nearest_same": found.same,
        "same_distance": found.same_distance,
        "ratio": found.ratio,
        "witness_of": found.witness_of,
        "score": found.score,
        "split": found.scores.split,
        "labels": labels,
    }
    values = {name: np.asarray(value) for name, value in compute(lazy)[0].items()}
    score, witness, alone = values["score"], values["witness"], values["nearest_same"] < 0
    rows = np.argsort(score, kind="stable")[:count]  # NaN comes last
    names = label_names(values["labels"], classes)
    of = witness[rows]
    return pd.DataFrame(
        {
            "row": rows,
            "split": np.array(found.scores.groups, dtype=object)[values["split"][rows]],
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


def _labels(found: LabelQuality) -> tuple[Any, tuple[str, ...] | None]:
    """Return all labels, shape (n,), and the names of the classes they may be codes of."""
    store, given = found.scores.store, found.scores.given
    if store is not None:
        return store.labels[:], store.spec.classes
    assert given is not None
    return given.y, given.classes


def _row_numbers(rows: NDArray[np.int64]) -> pd.Series[Any]:
    """Row numbers (n,); -1 is missing."""
    import pandas as pd

    return pd.Series(rows, dtype="Int64").mask(rows < 0)
