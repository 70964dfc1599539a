"""LOSS and ACC of predictions on every test subset, as the rows of a record have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import measures

if TYPE_CHECKING:
    from .models import Job, Prediction
    from .rows import TestSide


def scored(job: Job, side: TestSide, prediction: Prediction) -> Iterator[dict[str, Any]]:
    """Yield LOSS and ACC on every test subset (paper, 4.1 and C.2)."""
    codes = codes_of(job, side.labels) if job.classes else None
    for name, places in side.places.items():
        true, values = side.labels[places], prediction.values[places]
        row = {"train": prediction.train, "test": name, "setting": prediction.setting}
        if codes is not None:
            p = prediction.probabilities
            yield row | classified(true, values, codes[places], None if p is None else p[places])
            continue
        loss, acc = measures.regression_loss(true, values), np.nan
        if job.threshold is not None:
            acc = measures.threshold_accuracy(true, values, job.threshold)
        yield row | {"loss": loss, "acc": acc}


def codes_of(job: Job, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the columns of labels (n,) among the probabilities."""
    return np.searchsorted(np.array(job.classes), labels)


def classified(
    true: NDArray[Any],
    values: NDArray[Any],
    codes: NDArray[np.int64],
    probabilities: NDArray[Any] | None,
) -> dict[str, float]:
    """Return ACC, LOSS and LOSS re-weighted by class; NaN without probabilities."""
    found = {"loss": np.nan, "acc": measures.accuracy(true, values), "balanced_loss": np.nan}
    if probabilities is not None:
        found["loss"] = measures.cross_entropy(codes, probabilities)
        found["balanced_loss"] = measures.cross_entropy(codes, probabilities, balanced=True)
    return found
