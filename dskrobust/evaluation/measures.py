"""LOSS and ACC (paper, 4.1 and C.2), from sums that the blocks of a test subset are merged of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidDataError
from .experiment import BALANCED

ROUNDING = 1e-12  # of the largest value: what comes so close to a threshold reaches it

Own = TypeVar("Own", bound="Sums")


class Sums(Protocol):
    """What the predictions for a block of a test subset add to LOSS and ACC.

    Blocks are fixed and merged in their order, so results do not depend on who computed them.
    """

    def merge(self: Own, later: Own) -> Own:
        """Return the sums of both blocks; `later` comes after this one."""

    def result(self) -> dict[str, float]:
        """Return loss and acc, of classes the LOSS re-weighted by class too."""


# -- classes -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ClassCosts:
    """The cross-entropy's sums over some samples, of the classes that are among them.

    Attributes
    ----------
    total : float
        Of −log p(true class).
    classes : ndarray (c,) int64
        Rising.
    counts : ndarray (c,) int64
        Samples of every class.
    costs : ndarray (c,) float64
        Sum of −log p over the samples of every class.
    """

    total: float
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    costs: NDArray[np.float64]

    @classmethod
    def of(cls, classes: NDArray[np.int64], chosen: NDArray[Any]) -> ClassCosts:
        """Sum up: `chosen` (n,) are the probabilities of the samples' true classes (n,).

        As in scikit-learn's `log_loss`, probabilities are clipped to [ε, 1 − ε] with the precision
        ε of their dtype, so a class that was held impossible costs 36 (15.9 for float32), not ∞.
        """
        precision = np.finfo(chosen.dtype).eps
        costs = -np.log(np.clip(chosen, precision, 1 - precision))
        counts, sums = np.bincount(classes), np.bincount(classes, costs)
        known = np.flatnonzero(counts)
        total = float(costs.sum(dtype=np.float64))
        return cls(total, known, counts[known], np.asarray(sums[known], np.float64))

    def merge(self, later: ClassCosts) -> ClassCosts:
        """Return the sums over both."""
        classes = np.union1d(self.classes, later.classes)
        counts, costs = np.zeros(len(classes), np.int64), np.zeros(len(classes))
        for part in (self, later):
            places = np.searchsorted(classes, part.classes)
            counts[places] += part.counts
            costs[places] += part.costs
        return ClassCosts(self.total + later.total, classes, counts, costs)

    def mean(self) -> float:
        """Mean over the samples."""
        return self.total / int(self.counts.sum())

    def balanced(self) -> float:
        """Mean over the classes of the mean within each."""
        return float((self.costs / self.counts).mean())


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums of a classifier's predictions.

    Attributes
    ----------
    rows, right : int
        Samples, and those whose class is predicted.
    costs : ClassCosts, optional
        None without probabilities.
    """

    rows: int
    right: int
    costs: ClassCosts | None

    def merge(self, later: ClassSums) -> ClassSums:
        """Return the sums over both blocks."""
        costs = None
        if self.costs is not None and later.costs is not None:
            costs = self.costs.merge(later.costs)
        return ClassSums(self.rows + later.rows, self.right + later.right, costs)

    def result(self) -> dict[str, float]:
        """Return ACC, LOSS and LOSS re-weighted by class; NaN without probabilities."""
        costs = self.costs
        return {
            "loss": np.nan if costs is None else costs.mean(),
            "acc": self.right / self.rows,
            BALANCED: np.nan if costs is None else costs.balanced(),
        }


def class_sums(
    true: NDArray[Any],
    predicted: NDArray[Any],
    codes: NDArray[np.int64],
    chosen: NDArray[Any] | None,
) -> ClassSums:
    """Return the sums of predictions (n,).

    Parameters
    ----------
    true, predicted : ndarray (n,)
        Labels.
    codes : ndarray (n,) int64
        Positions of the true labels among the classes.
    chosen : ndarray (n,), optional
        Probabilities of the true classes, as `true_class_probabilities` gives them.
    """
    costs = None if chosen is None else ClassCosts.of(codes, chosen)
    return ClassSums(len(true), int(np.count_nonzero(true == predicted)), costs)


def true_class_probabilities(classes: ArrayLike, probabilities: ArrayLike) -> NDArray[Any]:
    """Return each sample's probability of its own class (n,), checked.

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
    sums = p.sum(axis=1, dtype=np.float64)
    tolerance = np.sqrt(np.finfo(p.dtype).eps)
    # written so that NaN is refused too
    fine = (p >= 0).all(axis=1) & (p <= 1).all(axis=1) & (np.abs(sums - 1) <= tolerance)
    if not fine.all():
        row = int(np.flatnonzero(~fine)[0])
        raise InvalidDataError(f"row {row} holds no probabilities: its sum is {sums[row]:g}")
    return np.asarray(p[np.arange(len(p)), classes])


# -- real labels -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Squares:
    """Σ‖y − ŷ‖² and Σ‖y − ȳ‖² over some samples, each in units of its own power of two.

    So squares of tiny or huge labels stay in range, and a power of two changes no digit.

    Attributes
    ----------
    rows : int
    mean : ndarray (m,) float64
        ȳ of the samples; of a component without spread its only value, as a rounded mean would
        make some.
    spread, wrong : (float, int)
        Sum and exponent e: the sum is in units of 4ᵉ.
    """

    rows: int
    mean: NDArray[np.float64]
    spread: tuple[float, int]
    wrong: tuple[float, int]

    @classmethod
    def of(cls, true: NDArray[np.float64], predicted: NDArray[np.float64]) -> Squares:
        """Sum up true and predicted values (n, m)."""
        mean, low = true.mean(axis=0), true.min(axis=0)
        mean = np.where(low == true.max(axis=0), low, mean)
        return cls(len(true), mean, _scaled(true - mean), _scaled(true - predicted))

    def merge(self, later: Squares) -> Squares:
        """Return the sums over both, the spread about their common mean (Chan et al., 1979)."""
        rows = self.rows + later.rows
        apart = later.mean - self.mean
        share = later.rows / rows
        between, exponent = _scaled(apart[None])
        spread = _sum(self.spread, later.spread)
        spread = _sum(spread, (between * self.rows * share, exponent))
        mean = self.mean + apart * share
        return Squares(rows, mean, spread, _sum(self.wrong, later.wrong))

    def loss(self) -> float:
        """1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖²; without spread 1 for perfect predictions, else 0."""
        (spread, unit), (wrong, own) = self.spread, self.wrong
        if not spread:
            return 0.0 if wrong else 1.0
        with np.errstate(over="ignore", under="ignore"):
            return float(1 - np.ldexp(wrong / spread, 2 * (own - unit)))


def _scaled(values: NDArray[np.float64]) -> tuple[float, int]:
    """Return the sum of squares and the exponent e of its unit 4ᵉ; infinities stay infinite."""
    largest = float(np.abs(values).max())
    exponent = int(np.frexp(largest)[1]) if 0 < largest < np.inf else 0
    return float(np.square(np.ldexp(values, -exponent)).sum()), exponent


def _sum(one: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
    """Add two sums in the larger unit of both."""
    if not one[0] or not other[0]:
        return one if one[0] else other
    exponent = max(one[1], other[1])
    with np.errstate(under="ignore"):
        terms = [float(np.ldexp(value, 2 * (own - exponent))) for value, own in (one, other)]
    return terms[0] + terms[1], exponent


@dataclass(frozen=True, eq=False)
class ValueSums:
    """Sums of predicted real values.

    Attributes
    ----------
    squares : Squares
    right : int, optional
        Samples on the right side of the threshold; None without one.
    """

    squares: Squares
    right: int | None

    def merge(self, later: ValueSums) -> ValueSums:
        """Return the sums over both blocks."""
        right = None
        if self.right is not None and later.right is not None:
            right = self.right + later.right
        return ValueSums(self.squares.merge(later.squares), right)

    def result(self) -> dict[str, float]:
        """Return LOSS and ACC, NaN without a threshold."""
        acc = np.nan if self.right is None else self.right / self.squares.rows
        return {"loss": self.squares.loss(), "acc": acc}


def value_sums(true: ArrayLike, predicted: ArrayLike, threshold: float | None) -> ValueSums:
    """Return the sums of predicted values (n,).

    LOSS is 1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖², also known as R²; 1 is the optimum (paper, C.2). True values
    that are all equal have no spread to compare with: then, as in scikit-learn's `r2_score`, it is
    1 for perfect predictions and 0 for any others. ACC is that of the pseudo-classification task
    (paper, 4.1): samples whose value is at least the threshold are popular, the others are not.

    Raises
    ------
    InvalidDataError
        For different shapes, no samples, or values that are NaN or infinite.
    """
    both = _paired(true, predicted)
    right = None if threshold is None else _on_the_right_side(*both, threshold)
    return ValueSums(Squares.of(*(values[:, None] for values in both)), right)


def _on_the_right_side(
    true: NDArray[np.float64], predicted: NDArray[np.float64], threshold: float
) -> int:
    """Count samples on the same side of the threshold.

    Scaling labels to [0, 1] and back, or averaging them, costs their last digits, and many articles
    have exactly 1,400 shares: so a value has reached the threshold too where it is below by no more
    than 10⁻¹² of the largest value.
    """
    largest = max(abs(threshold), float(np.abs(true).max()), float(np.abs(predicted).max()))
    least = threshold - ROUNDING * largest
    return int(np.count_nonzero((true >= least) == (predicted >= least)))


# -- checks ----------------------------------------------------------------------------------


def _paired(
    true: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float64, checked."""
    both = np.asarray(true, np.float64), np.asarray(predicted, np.float64)
    if both[0].shape != both[1].shape or both[0].ndim != 1 or not both[0].size:
        raise InvalidDataError(
            f"true values of shape {both[0].shape} and predictions of shape {both[1].shape} do not "
            "fit; give twice (n,) with n > 0"
        )
    for name, values in zip(("true", "predicted"), both, strict=True):
        bad = ~np.isfinite(values)
        if bad.any():
            raise InvalidDataError(f"{name} value {int(np.flatnonzero(bad)[0])} is not finite")
    return both
