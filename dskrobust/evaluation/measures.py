"""LOSS and ACC (paper, 4.1 and C.2): the measures themselves, and of what a job predicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidDataError, InvalidOptionError
from .experiment import BALANCED

if TYPE_CHECKING:
    from .models.base import Job, Prediction
    from .rows import TestSide

ROUNDING = 1e-12  # of the largest value: what comes so close to a threshold reaches it


def regression_loss(true: ArrayLike, predicted: ArrayLike) -> float:
    """Return the LOSS of a regression, at most 1, which is the optimum (paper, C.2).

    It is 1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖², also known as R². For vectors both sums run over the
    components too. True values that are all equal have no spread to compare with: then, as in
    scikit-learn's `r2_score`, the LOSS is 1 for perfect predictions and 0 for any others.

    Parameters
    ----------
    true, predicted : array_like (n,) or (n, m)

    Raises
    ------
    InvalidDataError
        For different shapes, no samples, or values that are NaN or infinite.
    """
    true, predicted = _paired(true, predicted, (1, 2))
    centred = true - true.mean(axis=0)
    centred[:, true.min(axis=0) == true.max(axis=0)] = 0  # a rounded mean makes no spread
    errors = true - predicted
    # Squares of tiny or huge labels stay in range; a power of two changes no digit.
    exponent = np.frexp(np.abs(centred).max())[1] if centred.any() else 0
    with np.errstate(over="ignore"):
        spread = np.square(np.ldexp(centred, -exponent)).sum()
        wrong = np.square(np.ldexp(errors, -exponent)).sum()
    if spread == 0:
        return 0.0 if errors.any() else 1.0
    return float(1 - wrong / spread)


def cross_entropy(classes: ArrayLike, probabilities: ArrayLike, *, balanced: bool = False) -> float:
    """Return the mean of −log p(true class), the LOSS of a classifier; 0 is the optimum.

    `balanced` is the re-weighted LOSS of the paper's Table 3: every class that is there counts
    alike, however many samples it has, as the mean over the classes of the mean within each.
    As in scikit-learn's `log_loss`, probabilities are clipped to [ε, 1 − ε] with the precision ε
    of their dtype, so a class that was held impossible costs 36 (15.9 for float32), not ∞.

    Parameters
    ----------
    classes : array_like (n,) of int
        Column of each sample's true class.
    probabilities : array_like (n, c) of float
        Rows that sum to 1.

    Raises
    ------
    InvalidDataError
        For shapes that do not fit, a class without a column, or rows that are no probabilities.
    """
    classes, p = np.asarray(classes), np.asarray(probabilities)
    p = p if p.dtype in (np.float32, np.float64) else p.astype(np.float64)
    if classes.ndim != 1 or p.ndim != 2 or len(classes) != len(p) or not len(p):
        raise InvalidDataError(
            f"classes of shape {classes.shape} and probabilities of shape {p.shape} do not fit; "
            "give (n,) and (n, c) with n > 0"
        )
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= p.shape[1]:
        raise InvalidDataError(
            f"classes must be whole numbers from 0 to {p.shape[1] - 1}, the columns of the "
            f"probabilities; found {classes.min()!s} to {classes.max()!s}"
        )
    precision = np.finfo(p.dtype).eps
    sums = p.sum(axis=1, dtype=np.float64)
    # written so that NaN is refused too
    fine = (p >= 0).all(axis=1) & (p <= 1).all(axis=1) & (np.abs(sums - 1) <= np.sqrt(precision))
    if not fine.all():
        row = int(np.flatnonzero(~fine)[0])
        raise InvalidDataError(f"row {row} holds no probabilities: its sum is {sums[row]:g}")
    chosen = p[np.arange(len(p)), classes]
    costs = -np.log(np.clip(chosen, precision, 1 - precision))
    if not balanced:
        return float(costs.mean(dtype=np.float64))
    counts = np.bincount(classes)
    sums = np.bincount(classes, costs)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of labels (n,) that are predicted.

    Raises
    ------
    InvalidDataError
        For different shapes or no samples.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    _check_shapes(true, predicted, (1,))
    return float((true == predicted).mean())


def threshold_accuracy(true: ArrayLike, predicted: ArrayLike, threshold: float) -> float:
    """Return the accuracy of the pseudo-classification task (paper, 4.1).

    Samples whose value is at least `threshold` are popular, the others are not. Scaling labels
    to [0, 1] and back, or averaging them, costs their last digits, and many articles have exactly
    1,400 shares: so a value has reached the threshold too where it is below by no more than 10⁻¹²
    of the largest value.

    Parameters
    ----------
    true, predicted : array_like (n,)
    threshold : float
        In the units of both.

    Raises
    ------
    InvalidDataError
        For different shapes, no samples, or values that are NaN or infinite.
    InvalidOptionError
        For a threshold that is no finite number.
    """
    if not np.isfinite(threshold):
        raise InvalidOptionError(f"the threshold must be a finite number, not {threshold!r}")
    true, predicted = _paired(true, predicted, (1,))
    largest = max(abs(threshold), float(np.abs(true).max()), float(np.abs(predicted).max()))
    least = threshold - ROUNDING * largest
    return float(((true >= least) == (predicted >= least)).mean())


# -- of a job's predictions -------------------------------------------------------------------


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
        loss, acc = regression_loss(true, values), np.nan
        if job.threshold is not None:
            acc = threshold_accuracy(true, values, job.threshold)
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
    measured = {"loss": np.nan, "acc": accuracy(true, values), BALANCED: np.nan}
    if probabilities is not None:
        measured["loss"] = cross_entropy(codes, probabilities)
        measured[BALANCED] = cross_entropy(codes, probabilities, balanced=True)
    return measured


# -- checks ----------------------------------------------------------------------------------


def _paired(
    true: ArrayLike, predicted: ArrayLike, dimensions: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float64, checked; single values as columns where vectors may come."""
    both = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    _check_shapes(*both, dimensions)
    for name, values in zip(("true", "predicted"), both, strict=True):
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InvalidDataError(f"{name} value {int(np.flatnonzero(bad)[0])} is not finite")
    if 2 in dimensions:
        return both[0].reshape(len(both[0]), -1), both[1].reshape(len(both[1]), -1)
    return both


def _check_shapes(true: NDArray[Any], predicted: NDArray[Any], dimensions: tuple[int, ...]) -> None:
    if true.shape != predicted.shape or true.ndim not in dimensions or not true.size:
        wanted = " or ".join("(n,)" if d == 1 else "(n, m)" for d in dimensions)
        raise InvalidDataError(
            f"true values of shape {true.shape} and predictions of shape {predicted.shape} do not "
            f"fit; give twice {wanted} with n > 0"
        )
