"""A suspicious sample, its witness and its nearest namesake side by side, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .datasets import feature_texts
from .declared_types import checked_arguments
from .label_fit import LabelQuality
from .whole_numbers import check_whole

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ["row", "column", "sample", "witness", "namesake"]
SHOWN = 6  # columns of a sample: all of narrow rows, else those that tell most


@checked_arguments()
def compare_samples(
    quality: LabelQuality, issues: pd.DataFrame, columns: int = SHOWN
) -> pd.DataFrame:
    """Return the values of samples beside those of their witnesses and nearest namesakes.

    Parameters
    ----------
    quality : LabelQuality
        Of the same data: `label_quality(store)`.
    issues : DataFrame
        Rows of `find_label_issues`; few, as their features are read.
    columns : int
        Of a sample, at most. Of wider rows those in which sample and witness differ most, measured
        by the spread of the column among the samples that are shown; in the order of the columns.

    Returns
    -------
    pandas.DataFrame
        A row per sample and column: ``row``, ``column``, and the values of the ``sample``, the
        ``witness`` and the ``namesake`` as text, in the units that the data came in; missing where
        there is no such sample.

    Raises
    ------
    InvalidOptionError
        For a number of columns below 1.
    """
    import pandas as pd

    check_whole("columns", columns)
    numbers = np.stack(
        [issues[name].fillna(-1).to_numpy(np.int64) for name in ("row", "witness", "nearest_same")],
        axis=1,
    )
    if not len(numbers):
        return pd.DataFrame([], columns=_COLUMNS)
    known = np.unique(numbers[numbers >= 0])
    features = quality.features_at(known)
    spread = features.astype(np.float64).std(axis=0)
    names, lines = _column_names(quality, features.shape[1]), []
    for three in numbers.tolist():
        places = [int(np.searchsorted(known, row)) if row >= 0 else -1 for row in three]
        shown = _telling(features, places, spread, columns)
        texts = [_texts(quality, features[place], shown) if place >= 0 else [None] * len(shown)
                 for place in places]  # fmt: skip
        lines += [
            (three[0], names[column], *values)
            for column, *values in zip(shown.tolist(), *texts, strict=True)
        ]
    return pd.DataFrame(lines, columns=_COLUMNS)


def _telling(
    features: NDArray[Any], places: list[int], spread: NDArray[np.float64], count: int
) -> NDArray[np.intp]:
    """Return which columns are shown of a sample, its witness and its namesake, rising."""
    width = features.shape[1]
    if width <= count or places[1] < 0:
        return np.arange(min(width, count))
    own, witness = (features[place].astype(np.float64) for place in places[:2])
    gap = np.divide(np.abs(own - witness), spread, out=np.zeros(width), where=spread > 0)
    return np.sort(np.argsort(-gap, kind="stable")[:count])


def _column_names(quality: LabelQuality, width: int) -> tuple[str, ...]:
    store = quality.scores.store
    if store is None:
        return tuple(f"column {k}" for k in range(width))
    return store.spec.column_names(width)


def _texts(quality: LabelQuality, row: NDArray[Any], shown: NDArray[np.intp]) -> list[str]:
    store = quality.scores.store
    if store is None:
        return [f"{value:.6g}" for value in row[shown].tolist()]
    texts = feature_texts(store.spec, row)
    return [texts[k] for k in shown.tolist()]
