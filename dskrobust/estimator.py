"""Sample robustness as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from .datasets.labelled import check_arrays
from .definitions import norms_of, robustness_of
from .engine.spec import PairSpec
from .errors import InvalidDataError
from .labels import LabelMap, resolve_labels
from .robustness import sample_robustness, score_against
from .runs import RunOptions


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

    Attributes
    ----------
    robustness_, lipschitz_, reach_ : ndarray (n,) float64
        R, Q and reach of the training samples in themselves (paper, 3.2 to 3.4).
    witness_ : ndarray (n,) int64
        The training sample that attains Q.
    label_norm_ : float
        ‖y‖∞.
    classes_ : ndarray
        The labels, for categories.

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
    ) -> None:
        self.metric = metric
        self.labels = labels
        self.scale = scale
        self.options = options

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = False
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> SampleRobustness:
        """Score the samples.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,), or (n, m) for vector labels

        Returns
        -------
        SampleRobustness

        Raises
        ------
        InvalidDataError
            For NaN or infinite values and for a single label.
        """
        X, y = validate_data(self, X, y, dtype="numeric", multi_output=True, ensure_min_samples=2)
        self._map = self._label_map(np.asarray(y))
        if self._map.is_categorical:
            self.classes_, y = np.unique(y, return_inverse=True)
            y = y.astype(np.int64)
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

    def score_samples(self, X: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Return the robustness of labelled samples in the fitted set (paper, 3.4; Figure 13).

        Parameters
        ----------
        X : array_like, shape (k, d)
        y : array_like, shape (k,) or (k, m)
            Labels; for categories also ones that the fitted set does not have.

        Returns
        -------
        ndarray (k,) float64

        Raises
        ------
        InvalidDataError
            Where a label's norm exceeds ‖y‖∞ of the fitted set (3.4 asks for that).
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype="numeric", reset=False)
        y = np.asarray(check_X_y(X, y, multi_output=True, dtype=None)[1])
        if self._map.is_categorical:
            y = self._codes(y)
        else:
            norms = norms_of(self._map.encode(y), self._map.norm) * (1 - 1e-14)
            if norms.max() > self.label_norm_:
                row = int(norms.argmax())
                raise InvalidDataError(
                    f"label row {row} has the norm {norms[row]:g}, beyond ‖y‖∞ = "
                    f"{self.label_norm_:g} of the fitted set; fit with labels=LabelMap(…, bound=…)"
                )
        fitted, new = check_arrays(self._X, self._y, None), check_arrays(X, y, None)
        lipschitz = score_against(fitted, new, self._spec, self.options)
        return np.asarray(robustness_of(lipschitz, self.label_norm_))

    def _label_map(self, y: NDArray[Any]) -> LabelMap:
        if self.labels is not None:
            return resolve_labels(self.labels, y.dtype, y.ndim)
        if y.ndim == 2:
            return LabelMap("vector")
        return LabelMap("real" if type_of_target(y) == "continuous" else "categorical")

    def _codes(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """Positions in `classes_`; labels that are new get numbers behind them."""
        known = {label: code for code, label in enumerate(self.classes_.tolist())}
        return np.array([known.setdefault(label, len(known)) for label in y.tolist()], np.int64)
