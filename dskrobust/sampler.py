"""Under-sampling by robustness, as a sampler of imbalanced-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import Tags

from .errors import InvalidOptionError
from .estimator import SampleRobustness
from .runs import RunOptions

try:
    from imblearn.under_sampling.base import BaseUnderSampler
except ImportError as error:
    raise ImportError(
        "RobustnessSampler needs imbalanced-learn: pip install 'dskrobust[imblearn]'"
    ) from error


class RobustnessSampler(BaseUnderSampler):
    """Drop the least robust samples, or the most robust ones (paper, 4.1).

    Parameters
    ----------
    sampling_strategy : float, str, dict or callable
        How many samples of which classes stay, as in imbalanced-learn's under-samplers: by
        default every class gets as many as the smallest one has.
    keep : {"most", "least"}
        Whether the most or the least robust samples stay.
    size : int or float, optional
        Keep so many samples (or, as float, this share) of all classes together, as the paper's
        subsets do; `sampling_strategy` has to stay "auto" then.
    metric : str, Metric or callable
        As for `sample_robustness`.
    scale : float
        Features are multiplied by it; robustness depends on it, but its order does not.
    options : RunOptions, optional
        How to run, as for `SampleRobustness`.

    Attributes
    ----------
    sample_indices_ : ndarray (k,) int64
        Rows that stay, in ascending order.
    robustness_ : ndarray (n,) float64
        R of all samples.
    sampling_strategy_ : dict
        Class → number of samples that stay, for the classes that are cut.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> X_most, y_most = RobustnessSampler(size=0.9).fit_resample(X, y)
    >>> len(y_most)
    1617
    """

    _parameter_constraints = {  # noqa: RUF012  scikit-learn's own form
        **BaseUnderSampler._parameter_constraints,
        "keep": "no_validation",  # checked below, with a message in one line
        "size": "no_validation",
        "metric": "no_validation",
        "scale": "no_validation",
        "options": "no_validation",
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        keep: str = "most",
        size: float | None = None,
        metric: Any = "euclidean",
        scale: float = 1.0,
        options: RunOptions | None = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.keep = keep
        self.size = size
        self.metric = metric
        self.scale = scale
        self.options = options

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.sampler_tags.sample_indices = True
        return tags

    def _fit_resample(self, X: Any, y: NDArray[Any], **params: Any) -> Any:
        if self.keep not in ("most", "least"):
            raise InvalidOptionError(f"keep must be most or least, not {self.keep!r}")
        wanted = self._wanted(y)
        model = SampleRobustness(self.metric, "categorical", self.scale, self.options)
        self.robustness_ = model.fit(X.toarray() if issparse(X) else X, y).robustness_
        picked = [self._ranked(np.flatnonzero(rows), count) for rows, count in wanted]
        self.sample_indices_ = np.sort(np.concatenate(picked))
        return X[self.sample_indices_], y[self.sample_indices_]

    def _wanted(self, y: NDArray[Any]) -> list[tuple[NDArray[np.bool_], int]]:
        """Return samples to choose from, as masks, and how many of them stay."""
        if self.size is None:
            masks = [(label, y == label) for label in np.unique(y)]
            counts = self.sampling_strategy_
            return [(mask, counts.get(label, int(mask.sum()))) for label, mask in masks]
        if self.sampling_strategy != "auto":
            raise InvalidOptionError("give either size or sampling_strategy, not both")
        whole = isinstance(self.size, (int, np.integer)) and not isinstance(self.size, bool)
        count = int(self.size) if whole else int(self.size * len(y))
        if not 0 < count <= len(y) or not (whole or 0 < self.size <= 1):
            raise InvalidOptionError(
                f"size must be a number from 1 to {len(y):,} or a share up to 1.0, not "
                f"{self.size!r}"
            )
        return [(np.ones(len(y), bool), count)]

    def _ranked(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the `count` least or most robust of some rows; ties go by row number."""
        order = rows[np.argsort(self.robustness_[rows], kind="stable")]
        return order[:count] if self.keep == "least" else order[len(order) - count :]
