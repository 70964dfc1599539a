"""Under-sampling by robustness, as a sampler of imbalanced-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import Tags

from .datasets.containers import refuse_infinite
from .datasets.frames import has_sparse_columns, package_of, take_labels
from .declared_types import is_number, told
from .errors import InvalidOptionError
from .estimator import SampleRobustness, checked_features, sklearn_errors
from .records import value_counts
from .runs import RunOptions, open_data
from .store import Store
from .tomek import cleaned, linked_rows
from .whole_numbers import is_whole

try:
    from imblearn.under_sampling.base import BaseUnderSampler
    from imblearn.utils import check_sampling_strategy
except ImportError as error:
    raise ImportError(
        "RobustnessSampler needs imbalanced-learn: pip install 'dskrobust[imblearn]'"
    ) from error


TOMEK = "tomek"


class RobustnessSampler(BaseUnderSampler):
    """Drop the least robust samples, or the most robust ones (paper, 4.1), or Tomek's links.

    Parameters
    ----------
    sampling_strategy : float, str, list, dict or callable
        How many samples of which classes stay, as in imbalanced-learn's under-samplers: by
        default every class gets as many as the smallest one has. With Tomek links the classes
        that lose their ends of links, as in `TomekLinks`: by default all but the smallest one.
    strategy : {"robustness", "tomek"}
        What decides: robustness, or whether a sample is in a Tomek link, that is, it and a sample
        of another class are each other's nearest. The rows are those of imbalanced-learn's
        `TomekLinks`, where no two distances are equal; of equal ones the lower row number is the
        nearest. `keep` and `size` are for robustness only.
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
        R of all samples; with Tomek links there is none.
    sampling_strategy_ : dict
        Class → number of samples that stay, for the classes that are cut; with Tomek links only
        its keys count.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> X_most, y_most = RobustnessSampler(size=0.9).fit_resample(X, y)
    >>> len(y_most)
    1617
    """

    sample_indices_: Any

    _parameter_constraints = {  # noqa: RUF012  scikit-learn's own form
        **BaseUnderSampler._parameter_constraints,
        "sampling_strategy": [*BaseUnderSampler._parameter_constraints["sampling_strategy"], list],
        "strategy": "no_validation",
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
        strategy: str = "robustness",
        keep: str = "most",
        size: float | None = None,
        metric: Any = "euclidean",
        scale: float = 1.0,
        options: RunOptions | None = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.strategy = strategy
        self.keep = keep
        self.size = size
        self.metric = metric
        self.scale = scale
        self.options = options

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.sampler_tags.sample_indices = True
        return tags

    @property
    def _sampling_type(self) -> str:
        """How imbalanced-learn reads the sampling strategy."""
        return "clean-sampling" if self.strategy == TOMEK else BaseUnderSampler._sampling_type

    def fit_resample(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Return the samples that stay, with their labels.

        Parameters
        ----------
        X : array_like, frame or sparse matrix, shape (n, d); Store or str
            With Tomek links data may be larger than memory: a Dask array, or a store (or its
            address), in which links are looked for within its groups.
        y : array_like, shape (n,)
            Labels; a store has its own.

        Returns
        -------
        X_resampled, y_resampled
            In the containers that were given. Of Dask arrays and stores lazy Dask arrays, of a
            store as it has them (classes with names as codes); links have been looked for then,
            and `sample_indices_` is a Dask array.

        Raises
        ------
        InvalidDataError
            For values that are masked, missing or infinite.
        """
        if self.strategy not in ("robustness", TOMEK):
            raise InvalidOptionError(f"strategy must be robustness or tomek, not {self.strategy!r}")
        if self.strategy == TOMEK and (self.size is not None or self.keep != "most"):
            raise InvalidOptionError("keep and size are for robustness, not for Tomek links")
        if self.strategy == TOMEK and isinstance(X, (da.Array, Store, str, Path)):
            return self._resample_lazily(X, y)
        features, labels = checked_features(X, sparse=True), take_labels(y)
        refuse_infinite(labels, "y")
        if not (issparse(features) or has_sparse_columns(features)):
            with sklearn_errors():
                refuse_infinite(features, "X")
        with sklearn_errors():
            found = super().fit_resample(features, labels, **params)
        rows = self.sample_indices_
        return _picked(X, rows, found[0]), _picked(y, rows, found[1])

    def _fit_resample(self, X: Any, y: NDArray[Any], **params: Any) -> Any:
        if self.keep not in ("most", "least"):
            raise InvalidOptionError(f"keep must be most or least, not {self.keep!r}")
        if self.strategy == TOMEK:
            data = open_data(X.toarray() if issparse(X) else X, y, None, self.scale)
            linked = linked_rows(data, self.metric, self.options).compute()
            linked &= np.isin(y, list(self.sampling_strategy_))
            self.sample_indices_ = np.flatnonzero(~linked)
            return X[self.sample_indices_], y[self.sample_indices_]
        wanted = self._wanted(y)
        model = SampleRobustness(self.metric, "categorical", self.scale, self.options)
        self.robustness_ = model.fit(X.toarray() if issparse(X) else X, y).robustness_
        picked = [self._ranked(np.flatnonzero(rows), count) for rows, count in wanted]
        self.sample_indices_ = np.sort(np.concatenate(picked))
        return X[self.sample_indices_], y[self.sample_indices_]

    def _resample_lazily(self, X: Any, y: Any) -> tuple[da.Array, da.Array]:
        """Drop Tomek links of data that need not fit into memory."""
        data = open_data(X, y, None, self.scale)
        counts = value_counts(data.label_blocks()).compute()
        classes = _named(counts["value"], data.classes)
        if callable(self.sampling_strategy):
            raise InvalidOptionError(
                "a function for sampling_strategy takes all labels; of Dask arrays and stores name "
                "the classes in a list"
            )
        # what imbalanced-learn asks of labels is which classes there are, and which is smallest
        _, rank = np.unique(counts["rows"], return_inverse=True)
        few = np.repeat(classes, rank + 1)
        with sklearn_errors():
            strategy = check_sampling_strategy(self.sampling_strategy, few, self._sampling_type)
        self.sampling_strategy_ = strategy
        dropped = counts["value"][np.isin(classes, list(strategy))]
        linked = linked_rows(data, self.metric, self.options)
        made = cleaned(data, y, linked, dropped)
        self.sample_indices_ = made.rows
        return made.X, made.y

    def _wanted(self, y: NDArray[Any]) -> list[tuple[NDArray[np.bool_], int]]:
        """Return samples to choose from, as masks, and how many of them stay."""
        if self.size is None:
            masks = [(label, y == label) for label in np.unique(y)]
            counts = self.sampling_strategy_
            return [(mask, counts.get(label, int(mask.sum()))) for label, mask in masks]
        if self.sampling_strategy != "auto":
            raise InvalidOptionError("give either size or sampling_strategy, not both")
        size: Any = self.size
        share = is_number(size) and 0 < size <= 1
        count = int(size) if is_whole(size) else int(size * len(y)) if share else 0
        if not 0 < count <= len(y):
            raise InvalidOptionError(
                f"size must be a number from 1 to {len(y):,} or a share up to 1.0, not {told(size)}"
            )
        return [(np.ones(len(y), bool), count)]

    def _ranked(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the `count` least or most robust of some rows; ties go by row number."""
        order = rows[np.argsort(self.robustness_[rows], kind="stable")]
        return order[:count] if self.keep == "least" else order[len(order) - count :]


def _picked(values: Any, rows: NDArray[np.int64], otherwise: Any) -> Any:
    """Return some rows as they are in the container that holds all of them.

    otherwise: what imbalanced-learn makes of a container whose rows nobody else picks.
    """
    package = package_of(values)
    if hasattr(values, "iloc") and not hasattr(values, "npartitions"):
        return values.iloc[rows].reset_index(drop=True)
    if package == "pyarrow":
        viewed = "view" in str(getattr(values, "type", ""))  # of which Arrow takes no rows
        return (values.cast("string") if viewed else values).take(rows)
    if isinstance(values, list):
        return [values[row] for row in rows.tolist()]
    return values[rows] if package == "polars" or type(values) is np.ndarray else otherwise


def _named(codes: NDArray[Any], classes: tuple[str, ...] | None) -> NDArray[Any]:
    """Return what classes are called: their names, where they have some."""
    return codes if classes is None else np.array(classes)[codes]
