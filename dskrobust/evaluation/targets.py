"""What models are to predict: the classes, or the threshold that real labels have to reach."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..datasets import restore_labels
from ..errors import InvalidOptionError
from ..store import Store

SLACK = 1e-12  # of the labels' size: a mean of equal labels may miss them by a rounding error


class Targets(NamedTuple):
    """The classes in the order of the probabilities' columns, or a threshold in stored units."""

    classes: tuple[Any, ...]
    threshold: float | None


def targets_of(store: Store, threshold: float | None) -> Targets:
    """Return the targets of a store; a threshold is lower by the rounding error of a mean.

    Parameters
    ----------
    threshold : float, optional
        Of real labels in their own units; the median by default.
    """
    spec, labels = store.spec, store.labels[:]
    if spec.label_kind == "categorical":
        known = np.unique(labels) if spec.classes is None else np.arange(len(spec.classes))
        return Targets(tuple(known.tolist()), None)
    if threshold is None:
        stored = float(np.median(labels))
    else:
        low, high = (float(v) for v in restore_labels(spec, [0.0, 1.0]))
        stored = (threshold - low) / (high - low)
    return Targets((), stored - SLACK * max(1e-300, float(np.abs(labels).max())))


def check_threshold(store: Store, threshold: float | None) -> None:
    """Refuse a threshold that puts all samples on one side, or that classes have no use for."""
    if threshold is None:
        return
    if store.spec.label_kind == "categorical":
        raise InvalidOptionError("a threshold is for real labels; classes are compared directly")
    labels = restore_labels(store.spec, store.labels[:])
    low, high = float(labels.min()), float(labels.max())
    if not low < threshold <= high:
        raise InvalidOptionError(
            f"the threshold {threshold:g} is out of range: labels go from {low:g} to {high:g}"
        )
