"""What models are to predict: the classes, or the threshold that real labels have to reach."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..datasets import digit_counts, order_statistic, restore_labels
from ..errors import InvalidOptionError
from ..store import SourceAddress, Store
from .trees import merged

SLACK = 1e-12  # of the labels' size: a mean of equal labels may miss them by a rounding error
ROWS = 2**20  # labels that a task reads


class Targets(NamedTuple):
    """The classes in the order of the probabilities' columns, or a threshold in stored units."""

    classes: tuple[Any, ...]
    threshold: float | None


def check_threshold(store: Store, threshold: float | None) -> None:
    """Refuse a threshold that classes have no use for, or beyond the largest label either way.

    Nothing is read but the store's summary, which does not know the smallest label.

    Raises
    ------
    InvalidOptionError
    """
    if threshold is None:
        return
    if store.spec.label_kind == "categorical":
        raise InvalidOptionError("a threshold is for real labels; classes are compared directly")
    largest = store.summary.label_bounds["linf"]
    _check_between(store, threshold, (-largest, largest), "lie within")


def _check_between(
    store: Store, threshold: float, ends: tuple[float, float], how: str = "go from"
) -> None:
    low, high = (float(v) for v in restore_labels(store.spec, np.array(ends)))
    if not low < threshold <= high:
        raise InvalidOptionError(
            f"the threshold {threshold:g} is out of range: labels {how} {low:g} to {high:g}"
        )


def targets_of(store: Store, threshold: float | None) -> Targets:
    """Return the targets of a store, whose labels are read by tasks where they have to be.

    A threshold is lower by the rounding error of a mean.

    Parameters
    ----------
    threshold : float, optional
        Of real labels in their own units; the median by default.

    Raises
    ------
    InvalidOptionError
        For a threshold that puts all samples on one side.
    """
    spec = store.spec
    if spec.label_kind == "categorical":
        if spec.classes is not None:
            return Targets(tuple(range(len(spec.classes))), None)
        return Targets(tuple(_over_labels(store, _classes, _all_classes).tolist()), None)
    low, high = _over_labels(store, _range, _whole_range)
    if threshold is None:
        stored = _median(store)
    else:
        _check_between(store, threshold, (low, high))
        zero, one = (float(v) for v in restore_labels(spec, [0.0, 1.0]))
        stored = (threshold - zero) / (one - zero)
    return Targets((), stored - SLACK * max(1e-300, float(abs(low)), float(abs(high))))


def _over_labels(store: Store, read: Any, merge: Any, *asked: Any) -> Any:
    """Return what tasks find in runs of labels, merged on the workers."""
    runs = [(lo, min(lo + ROWS, store.rows)) for lo in range(0, store.rows, ROWS)]
    parts = [delayed(read)(store.address, *run, *asked) for run in runs]
    return compute(merged(parts, merge))[0]


def _median(store: Store) -> float:
    """Return the median label, exactly: of an even number the mean of the middle two."""

    @cache  # the middle two share most of their digits
    def counts(shift: int, prefix: np.uint64) -> NDArray[np.int64]:
        found: NDArray[np.int64] = _over_labels(store, _digits, sum, shift, prefix)
        return found

    ranks = sorted({(store.rows - 1) // 2, store.rows // 2})
    middle = [order_statistic(counts, rank) for rank in ranks]
    return float(np.median(np.array(middle, store.row_shape("labels")[1])))


# -- tasks -------------------------------------------------------------------------------------


def _labels(address: SourceAddress, lo: int, hi: int) -> NDArray[Any]:
    return address.open().read("labels", lo, hi)


def _classes(address: SourceAddress, lo: int, hi: int) -> NDArray[Any]:
    return np.unique(_labels(address, lo, hi))


def _all_classes(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.unique(np.concatenate(parts))


def _range(address: SourceAddress, lo: int, hi: int) -> tuple[Any, Any]:
    labels = _labels(address, lo, hi)
    return labels.min(), labels.max()


def _whole_range(parts: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    lows, highs = zip(*parts, strict=True)
    return min(lows), max(highs)


def _digits(
    address: SourceAddress, lo: int, hi: int, shift: int, prefix: np.uint64
) -> NDArray[np.int64]:
    return digit_counts(_labels(address, lo, hi).astype(np.float64).ravel(), shift, prefix)
