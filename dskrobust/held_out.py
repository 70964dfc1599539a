"""What a model gives to every class of every row, fitted on the folds that the row is not in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from .declared_types import checked_arguments
from .errors import InvalidOptionError
from .folds import Folds, has_folds, make_folds
from .model_error import label_space
from .model_rows import LabelSpace
from .predicting import BLOCK_BYTES, answers_of, features_of, fitted_on, is_estimator
from .row_sets import RowSet
from .runs import PairData, data_spec
from .store import open_store

FOLDS = 5


@checked_arguments()
def held_out_probabilities(
    store: Any, estimator: Any, *, folds: int | None = None, seed: int = 0
) -> da.Array:
    """Return what an estimator gives to every class of every row that it was not fitted on; lazy.

    A copy is fitted for every fold, on the rows of the others, by a task; blocks of rows are
    predicted by tasks too. `find_label_issues` takes the result as `probabilities`.

    Parameters
    ----------
    store : Store or str
        Its labels are classes. Where its split has folds, those are taken, else some are drawn.
    estimator : scikit-learn classifier
        With ``predict_proba``; it stays as it is.
    folds : int, optional
        How many are drawn; 5 without it.
    seed : int
        Of the drawing.

    Returns
    -------
    dask array (n, classes) float64
        In the order of the classes.

    Raises
    ------
    InvalidOptionError
        For labels that are no classes, or an estimator without probabilities.
    MemoryPlanError
        Where the rows of a training set do not fit into a process.
    """
    store = open_store(store)
    if store.spec.label_kind != "categorical":
        raise InvalidOptionError(
            f"probabilities are of classes, but {store.url} has {store.spec.label_kind} labels"
        )
    if not (is_estimator(estimator) and hasattr(estimator, "predict_proba")):
        raise InvalidOptionError(f"{estimator!r} is no classifier that has predict_proba")
    made = make_folds(store, None if has_folds(store) and folds is None else folds or FOLDS,
                      seed=seed)  # fmt: skip
    data = PairData(store, scale=store.spec.scale)
    space = label_space(data, data_spec(data, labels="categorical"))
    fit, answer = delayed(_fitted, pure=True), delayed(_answers, pure=True)
    models = [fit(estimator, made, number) for number in range(made.count)]
    step = max(1, min(store.rows, BLOCK_BYTES // (8 * store.columns)))
    blocks = []
    for lo in range(0, store.rows, step):
        hi = min(lo + step, store.rows)
        found = answer(made, models, (lo, hi), space)
        blocks.append(da.from_delayed(found, (hi - lo, space.columns), np.float64))
    return da.concatenate(blocks)


@dataclass(frozen=True)
class _Together:
    """Rows of several sets that share none."""

    sets: tuple[RowSet, ...]

    def within(self, lo: int, hi: int) -> NDArray[np.int64]:
        return np.sort(np.concatenate([rows.within(lo, hi) for rows in self.sets]))


def _fitted(estimator: Any, folds: Folds, number: int) -> Any:
    """Return a copy of an estimator that is fitted on all folds but one."""
    others = tuple(rows for k, rows in enumerate(folds.sets) if k != number)
    store = folds.store
    return fitted_on(estimator, store, _Together(others), PairData(store, scale=store.spec.scale))


def _answers(
    folds: Folds, models: list[Any], rows: tuple[int, int], space: LabelSpace
) -> NDArray[np.float64]:
    """Return the probabilities of a block; rows in no fold are new to any of the models."""
    lo, hi = rows
    store = folds.store
    X, found = features_of(store, lo, hi, store.spec.scale), np.empty((hi - lo, space.columns))
    left = np.ones(hi - lo, bool)
    for held, model in zip(folds.sets, models, strict=True):
        own = held.within(lo, hi) - lo
        left[own] = False
        if len(own):
            found[own] = answers_of(model, X[own], (space, True))
    if left.any():
        found[left] = answers_of(models[0], X[left], (space, True))
    return found
