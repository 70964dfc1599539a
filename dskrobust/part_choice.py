"""Which of several options serves each part best, and whether it is more than chance.

An option is a training set with a model and its hyper-parameters. Scores of held-out rows say how
good it is. What a choice gains is cross-fitted: each fold is measured with what the others' scores
choose. That is no nested cross-validation: the models behind those scores were trained on rows of
the fold too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.model_selection import KFold, StratifiedKFold

from .errors import InvalidOptionError

CONFIDENCE = 0.95

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A mean over folds, and where it may lie.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether it is surely above zero, surely below, or neither."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no difference"

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def corrected_interval(values: Floats, ratio: float) -> Interval:
    """Return the mean of differences (k,) over folds or splits, with its 95 % interval.

    Training sets of folds overlap, so their values vary less than independent ones would. As
    Nadeau and Bengio (2003) have it, the variance of the mean is that of the values times
    1 / k + ratio.

    Parameters
    ----------
    values : ndarray (k,) float64
    ratio : float
        Held-out rows per training row.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    mean, count = float(known.mean()), len(known)
    if count < 2:
        return Interval(mean, -np.inf, np.inf)
    spread = float(known.std(ddof=1)) * np.sqrt(1 / count + ratio)
    reach = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread
    return Interval(mean, mean - reach, mean + reach)


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Scores of options on the parts of held-out rows.

    Attributes
    ----------
    scores : ndarray (folds, parts, options) float64
        More is better; NaN where a part has no rows in a fold.
    rows : ndarray (folds, parts) int64
    whole : ndarray (options,) bool
        Which options are trained on everything.
    margin : float
        How many standard errors an option has to be better by than the one model on everything.
    """

    scores: Floats
    rows: Codes
    whole: NDArray[np.bool_]
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not self.whole.any():
            raise InvalidOptionError("no option is trained on all rows; there is nothing to beat")

    @property
    def baseline(self) -> int:
        """The one option for everything: trained on all rows, best over all parts."""
        return int(
            np.argmax(np.where(self.whole, _mean(self.scores, self.rows).sum(axis=0), -np.inf))
        )

    @property
    def single(self) -> int:
        """The one option for everything that is best over all parts, whatever it is trained on."""
        totals = _mean(self.scores, self.rows).sum(axis=0)
        return self.baseline if totals[self.baseline] == totals.max() else int(np.argmax(totals))

    def part_means(self) -> Floats:
        """Score of every option in every part, over the folds (parts, options)."""
        return _by_part(self.scores, self.rows)

    def total(self, option: int) -> float:
        """Score of an option over all parts."""
        return float(_mean(self.scores, self.rows)[:, option].sum())

    def choice(self) -> Codes:
        """Return the option of every part (parts,): the best, or else the baseline.

        The best has to beat the baseline by more than `margin` standard errors of the difference
        over the folds, as the best of many always looks better than it is.
        """
        base = self.baseline
        chosen = np.full(self.scores.shape[1], base)
        for part, values in enumerate(self.part_means()):
            best = int(np.argmax(values))
            gains = self.scores[:, part, best] - self.scores[:, part, base]
            gains = gains[~np.isnan(gains)]
            error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
            if values[best] - values[base] > self.margin * error:
                chosen[part] = best
        return chosen

    def without(self, fold: int) -> FoldScores:
        """Return the scores of the other folds."""
        keep = np.arange(len(self.scores)) != fold
        return FoldScores(self.scores[keep], self.rows[keep], self.whole, self.margin)

    def cross_fitted(self) -> Floats:
        """Return what the choice gains in every fold (folds, parts + 1), over all parts last.

        The options of a fold, and its baseline, are chosen on the other folds.
        """
        folds, parts, _ = self.scores.shape
        gains = np.full((folds, parts + 1), np.nan)
        for fold in range(folds):
            others = self.without(fold)
            base, chosen = others.baseline, others.choice()
            found = self.scores[fold, np.arange(parts), chosen] - self.scores[fold, :, base]
            gains[fold, :parts] = found
            there = ~np.isnan(found)
            weights = self.rows[fold][there]
            gains[fold, parts] = (found[there] * weights).sum() / weights.sum()
        return gains

    def cross_fitted_single(self) -> Floats:
        """Return what the best single option gains in every fold (folds,), as `cross_fitted`."""
        gains = np.empty(len(self.scores))
        for fold, (values, rows) in enumerate(zip(self.scores, self.rows, strict=True)):
            others = self.without(fold)
            found = values[:, others.single] - values[:, others.baseline]
            there = ~np.isnan(found)
            gains[fold] = (found[there] * rows[there]).sum() / rows[there].sum()
        return gains


def _by_part(scores: Floats, rows: Codes) -> Floats:
    """Mean score (parts, options) over folds, by their rows."""
    weights = np.where(np.isnan(scores), 0, rows[:, :, None])
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(scores) * weights).sum(axis=0) / weights.sum(axis=0))


def _mean(scores: Floats, rows: Codes) -> Floats:
    """Score of every option in every part, weighed by the rows of the part (parts, options)."""
    shares = (rows.sum(axis=0) / rows.sum())[:, None]
    return np.where(shares > 0, _by_part(scores, rows) * shares, 0.0)  # a part without rows is none


# -- folds and parts ---------------------------------------------------------------------------


def held_out(labels: NDArray[Any], folds: int, seed: int, *, by_class: bool) -> list[Codes]:
    """Return the places that each fold holds out, rising.

    Parameters
    ----------
    labels : ndarray (n,)
    folds, seed : int
    by_class : bool
        Whether classes are to have the same shares in all folds, where each has enough samples.
    """
    kind = KFold
    if by_class and np.unique(labels, return_counts=True)[1].min() >= folds:
        kind = StratifiedKFold
    splits = kind(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels)
    return [held for _, held in splits]


def part_cuts(places: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Return where the spectrum is cut into parts of equally many rows, (parts − 1,) rising.

    Raises
    ------
    InvalidOptionError
        Where so many rows lie at one place that a part has none.
    """
    cuts = np.quantile(places, np.arange(1, parts) / parts, method="lower")
    if len(np.unique([places.min(), *cuts])) < parts:
        raise InvalidOptionError(
            f"too many rows are equally robust to cut the spectrum into {parts} parts; give fewer"
        )
    return np.asarray(cuts)
