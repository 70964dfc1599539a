"""Sample robustness as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from .datasets.containers import (
    NAME_KINDS,
    as_array,
    refuse_infinite,
    refuse_masked,
    refuse_sparse,
)
from .datasets.frames import has_sparse_columns, is_frame, package_of, take, take_labels
from .datasets.labelled import check_arrays
from .engine.spec import PairSpec
from .errors import DskrobustError, InvalidDataError, InvalidOptionError, InvalidTypeError
from .labels import LabelMap, one_spelling, resolve_labels
from .new_samples import check_label_norms, score_outside, score_samples
from .robustness import sample_robustness
from .row_sets import AllRows
from .runs import PairData, RunOptions, open_data
from .store import Store


class SampleRobustness(BaseEstimator):
    """Robustness of labelled samples, and of new ones against them.

    Parameters
    ----------
    metric : str, Metric or callable
        As for `sample_robustness`.
    labels : {"categorical", "real", "vector"} or LabelMap, optional
        How labels map into a normed space; guessed from `y` without it (floats with fractions
        are real, everything else categories).
    scale : float
        Features are multiplied by it.
    options : RunOptions, optional
        How to run, such as the scratch folder that a cluster's workers share; results do not
        depend on it.
    reference : str, optional
        Of a store: the group that new samples are scored in; train, or the only one, by default.

    Attributes
    ----------
    robustness_, lipschitz_, reach_ : array (n,) float64
        R, Q and reach of the training samples in themselves (paper, 3.2 to 3.4); of a store in
        their own groups, as Dask arrays over the results that it keeps.
    witness_ : array (n,) int64
        The training sample that attains Q.
    label_norm_ : float
        ‖y‖∞.
    classes_ : ndarray
        The labels, for categories; of a store their names, where they have some.
    store_ : Store
        Where it was fitted on one.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SampleRobustness(scale=1 / 16).fit(X, y)
    >>> int(model.robustness_.argmin())
    1658
    """

    def __init__(
        self,
        metric: Any = "euclidean",
        labels: str | LabelMap | None = None,
        scale: float = 1.0,
        options: RunOptions | None = None,
        reference: str | None = None,
    ) -> None:
        self.metric = metric
        self.labels = labels
        self.scale = scale
        self.options = options
        self.reference = reference

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = False
        return tags

    def fit(self, X: Any, y: ArrayLike | None = None) -> SampleRobustness:
        """Score the samples.

        Parameters
        ----------
        X : array_like, shape (n, d), or Store or str
            Samples in memory, or a store or its address: its scores are computed in blocks, on
            workers where a client is connected, and kept in it; those that it has are read.
        y : array_like, shape (n,), or (n, m) for vector labels
            Not with a store, which has its own.

        Returns
        -------
        SampleRobustness

        Raises
        ------
        InvalidDataError
            For values that are sparse, masked, missing or infinite, and for a single label.
        InvalidOptionError
            For labels or a scale beside a store.
        """
        if isinstance(X, (Store, str, Path)):
            return self._fit_store(open_data(X, y).store)
        for name in ("store_", "classes_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        X, y = self._checked(X, y, reset=True)
        self._map = self._label_map(np.asarray(y))
        if self._map.is_categorical:
            known, y = np.unique(y, return_inverse=True)
            if known.dtype.kind in NAME_KINDS:
                known = np.array(list(one_spelling([str(k) for k in known], "y").values()))
            self.classes_, codes = np.unique(known, return_inverse=True)
            y = codes[y].astype(np.int64)
        scores = sample_robustness(
            X, y, metric=self.metric, labels=self._map, scale=self.scale, options=self.options
        )
        assert isinstance(scores.spec, PairSpec)
        done = scores.compute()
        self._spec, self._X, self._y = scores.spec, X, y
        self.robustness_, self.lipschitz_ = done.robustness, done.lipschitz
        self.reach_, self.witness_ = done.reach, done.witness
        self.label_norm_ = float(done.label_norm)
        return self

    def _fit_store(self, store: Store | None) -> SampleRobustness:
        assert store is not None
        if self.scale != 1.0:
            raise InvalidOptionError("a store knows its own scale; leave scale away")
        self.__dict__.pop("classes_", None)
        scores = sample_robustness(
            store, metric=self.metric, labels=self.labels, options=self.options
        ).write()
        self.robustness_, self.lipschitz_ = scores.robustness, scores.lipschitz
        self.reach_, self.witness_ = scores.reach, scores.witness
        self.label_norm_, self.n_features_in_ = float(scores.label_norm), store.columns
        if store.spec.classes is not None:
            self.classes_ = np.array(store.spec.classes)
        self.store_ = store
        return self

    def score_samples(self, X: Any, y: Any) -> Any:
        """Return the robustness of labelled samples in the fitted set (paper, 3.4; Figure 13).

        Parameters
        ----------
        X : array_like, shape (k, d)
            Where a store was fitted, what `dskrobust.score_samples` takes.
        y : array_like, shape (k,) or (k, m)
            Labels; for categories also ones that the fitted set does not have.

        Returns
        -------
        array (k,) float64
            A Dask array where a store was fitted and X or y is lazy, which has not run yet.

        Raises
        ------
        InvalidDataError
            Where a label's norm exceeds ‖y‖∞ of the fitted set (3.4 asks for that), and for what
            `fit` refuses.
        """
        check_is_fitted(self)
        if hasattr(self, "store_"):
            found = score_samples(
                self.store_, X, y, reference=self.reference, metric=self.metric,
                labels=self.labels, options=self.options,
            ).robustness  # fmt: skip
            lazy = any(is_dask_collection(value) for value in (X, y))
            return found if lazy else found.compute()
        X, y = self._checked(X, y, reset=False)
        if self._map.is_categorical:
            y = self._codes(y)
        else:
            check_label_norms(self._map, self._map.encode(y), self.label_norm_)
        fitted = PairData(arrays=check_arrays(self._X, self._y), scale=self.scale)
        reference = "the fitted set", AllRows()
        scores = score_outside(fitted, check_arrays(X, y), self._spec, reference, self.options)
        return scores.robustness.compute(scheduler="threads")

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what `sample_robustness` would take, in the forms that scikit-learn wants."""
        X = checked_features(X)
        y = take_labels(y)
        refuse_infinite(y, "y")
        with sklearn_errors():
            finite = {"dtype": "numeric", "ensure_all_finite": False}
            if reset:
                X, y = validate_data(self, X, y, multi_output=True, ensure_min_samples=2, **finite)
            else:
                X = validate_data(self, X, reset=False, **finite)
                y = check_X_y(X, y, multi_output=True, **finite)[1]
        refuse_infinite(X, "X")
        return X, y

    def _label_map(self, y: NDArray[Any]) -> LabelMap:
        if self.labels is not None:
            return resolve_labels(self.labels, y.dtype, y.ndim)
        if y.ndim == 2:
            return LabelMap("vector")
        return LabelMap("real" if type_of_target(y) == "continuous" else "categorical")

    def _codes(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """Positions in `classes_`; labels that are new get numbers behind them.

        Text is never a number that it looks like: then all labels would be new.
        """
        if y.ndim != 1:
            raise InvalidDataError(f"y has the shape {y.shape}; classes have (samples,)")
        text, own = (labels.dtype.kind in NAME_KINDS for labels in (y, self.classes_))
        if text != own:
            given, fitted = ("text" if one else "numbers" for one in (text, own))
            raise InvalidDataError(
                f"y holds {given}, but the labels of the fitted set are {fitted}, such as "
                f"{self.classes_[0].item()!r}; give labels as there"
            )
        labels = y.tolist()
        if text:
            called = one_spelling(dict.fromkeys(labels), "y", self.classes_.tolist())  # type: ignore[arg-type]
            labels = [called[label] for label in labels]
        known = {label: code for code, label in enumerate(self.classes_.tolist())}
        return np.array([known.setdefault(label, len(known)) for label in labels], np.int64)


def checked_features(X: Any, *, sparse: bool = False) -> Any:
    """Return features for scikit-learn; refuse those that it takes for others than they are.

    Parameters
    ----------
    X : array_like
        Of a frame or another collection the columns come as `take` has them, as numbers; a Dask
        array is computed; everything else is returned as it is.
    sparse : bool
        Whether a sparse matrix may pass.

    Raises
    ------
    InvalidDataError, InvalidOptionError
    """
    if sparse and has_sparse_columns(X):
        return X
    if is_frame(X) or package_of(X) in ("polars", "xarray"):
        return _columns_of(X)
    if isinstance(X, da.Array):
        return as_array(X, "X").compute()
    if not sparse:
        refuse_sparse(X, "X")
    refuse_masked(X, "X")
    return X


def _columns_of(X: Any) -> Any:
    """Return the features of a collection, (n, d): as a frame where all its columns have names."""
    taken = take(X)
    lazy = isinstance(taken.X, da.Array)
    values: NDArray[Any] = taken.X.compute() if lazy else np.asarray(taken.X[:])
    columns = getattr(X, "column_names", getattr(X, "columns", ()))
    if taken.feature_names is None or not all(isinstance(name, str) for name in columns):
        return values
    import pandas as pd

    return pd.DataFrame(values, columns=list(taken.feature_names))


@contextmanager
def sklearn_errors() -> Iterator[None]:
    """Turn what scikit-learn raises for data that it does not take into errors of this package."""
    try:
        yield
    except DskrobustError:
        raise
    except TypeError as error:
        raise InvalidTypeError(_one_line(error)) from error
    except Exception as error:  # ValueError, and what a container raises when it is converted
        raise InvalidDataError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
