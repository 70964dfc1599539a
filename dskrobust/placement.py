"""Where rows lie in the robustness spectrum of training rows, with their labels or without.

R of a sample needs its label. Of a row whose label is not known, or may not be used, the label that
its nearest training row predicts stands in: its reach under that label is its distance to the
nearest training row of any other class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .errors import Hint, InvalidOptionError
from .memory import check_memory
from .metrics import Metric
from .neighbours import compute_neighbours, nearest_neighbours
from .robustness import sample_robustness
from .store import Store

PLACEMENTS = ("predicted", "label")
ROW_BYTES = 64  # of a row: number, label, fold, while sets are cut
SET_BYTES = 40  # of a row against a set, while it is found
_LESS = Hint("take fewer folds, or place rows by their labels: Validation(placement='label')",
             "take fewer --folds, or --place label")  # fmt: skip

Rows = NDArray[np.int64]
MetricLike = str | Metric | Callable[..., float]


def labelled_places(
    store: Store, sets: Mapping[str, Rows], metric: MetricLike
) -> NDArray[np.float64]:
    """Return R of every row, under its own label, against sets of rows: shape (n, sets).

    One pass over the pairs, whose results the store keeps.

    Parameters
    ----------
    store : Store
    sets : mapping of str to ndarray
        Name → row numbers.
    metric : str, Metric or callable

    Raises
    ------
    MemoryPlanError
        Where they do not fit into this process.
    """
    check_memory("R against every fold", store.rows, SET_BYTES * len(sets), _LESS)
    scores = sample_robustness(store, metric=metric, references=sets).write()
    return np.stack(compute(*(scores.robustness_against(name) for name in sets)), axis=1)


def predicted_places(
    store: Store, rows: Rows, sets: Mapping[str, Rows], metric: MetricLike
) -> NDArray[np.float64]:
    """Return R of rows under the label that the nearest row of a set predicts: (rows, sets).

    One search finds the nearest row of every class in every set; the rows' own labels are not read.

    Parameters
    ----------
    store : Store
        Its labels are classes.
    rows : ndarray (q,) int64
    sets : mapping of str to ndarray
        Name → row numbers.
    metric : str, Metric or callable

    Raises
    ------
    InvalidOptionError
        Where labels are no classes.
    MemoryPlanError
        Where the distances to all classes do not fit into this process.
    """
    if store.spec.label_kind != "categorical":
        raise InvalidOptionError(
            f"the labels of {store.url} are {store.spec.label_kind}; rows of a store are placed "
            "by predicted labels where these are classes",
            Hint("take Validation(placement='label'), or a RobustnessRouter", "add --place label"),
        )
    labels = store.read("labels", 0, store.rows).ravel()
    classes = {name: _by_class(labels, of) for name, of in sets.items()}
    count = sum(map(len, classes.values()))
    check_memory("the distances to every class in every fold", len(rows), SET_BYTES * count, _LESS)
    references = {f"{name}, class {k}": members
                  for name, several in classes.items()
                  for k, members in enumerate(several)}  # fmt: skip
    found = compute_neighbours(
        nearest_neighbours(store, 1, queries=rows, references=references, metric=metric)
    )
    places = []
    for name, several in classes.items():
        nearest = [found[f"{name}, class {k}"].distance[:, 0] for k in range(len(several))]
        places.append(reach_of_prediction(np.stack(nearest, axis=1)))
    reach = np.stack(places, axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(reach), 1.0, reach / (1 + reach))


def reach_of_prediction(nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance to the nearest row of another class than that of the nearest row.

    Parameters
    ----------
    nearest : ndarray (q, classes) float64
        Distance to the nearest row of every class.
    """
    if nearest.shape[1] < 2:
        return np.full(len(nearest), np.inf)
    return np.asarray(np.partition(nearest, 1, axis=1)[:, 1])


def _by_class(labels: NDArray[Any], rows: Rows) -> list[Rows]:
    """Return the rows of every class that is among them."""
    order = np.argsort(labels[rows], kind="stable")
    _, starts = np.unique(labels[rows][order], return_index=True)
    return np.split(rows[order], starts[1:])
