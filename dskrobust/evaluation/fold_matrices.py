"""Performance matrices over folds: mean and spread of every cell, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..display import escape
from ..show.sheets import NOTHING, Cell, Sheet, Shown, to_html, to_text
from .experiment import BALANCED
from .matrices import EACH, MEASURES, PerformanceMatrix, number_text, value_text
from .protocol import Averages, Choice, averages, cheapest, costs_of

SURE = 0.95  # of the intervals of differences


class Comparison(NamedTuple):
    """The best training subset for a test subset, beside another one.

    Attributes
    ----------
    test, best, other : str
        `other` is the first training subset, or the second best where that one is the best.
    acc, other_acc : float
        Means over the folds.
    low, high : float
        Of the difference: a 95 % interval by the corrected resampled t-test of Nadeau and Bengio,
        as the training sets of folds overlap.
    won : int
        In how many folds the best one has the higher ACC.
    folds : int
    """

    test: str
    best: str
    other: str
    acc: float
    other_acc: float
    low: float
    high: float
    won: int
    folds: int

    @property
    def is_sure(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0

    def __str__(self) -> str:
        ends = f"{number_text(self.low)} to {number_text(self.high)}"
        by = (
            f"ACC {number_text(self.acc - self.other_acc)} higher, {100 * SURE:g} % interval {ends}"
        )
        words = "train on {} rather than {}" if self.is_sure else "{} and {} cannot be told apart"
        decided = words.format(self.best, self.other)
        return f"{self.test}: {decided} ({by}, better in {self.won} of {self.folds} folds)"


@dataclass(frozen=True, eq=False, repr=False)
class FoldsMatrix(Shown):
    """LOSS and ACC of a model with mean and spread over folds, test × training subsets.

    Attributes
    ----------
    folds : tuple of PerformanceMatrix
        One a fold, with the values of the hyper-parameter that were chosen for all folds.
    """

    folds: tuple[PerformanceMatrix, ...]

    @property
    def train(self) -> tuple[str, ...]:
        """Names of the training subsets."""
        return self.folds[0].train

    @property
    def test(self) -> tuple[str, ...]:
        """Names of the test subsets."""
        return self.folds[0].test

    @property
    def values(self) -> NDArray[np.object_]:
        """The hyper-parameter that was chosen for each cell, (test, train)."""
        return self.folds[0].values

    def stacked(self, measure: str) -> NDArray[np.float64]:
        """Return "loss" or "acc" of every fold, (folds, test, train)."""
        return np.stack([getattr(matrix, measure) for matrix in self.folds])

    def statistics(self, measure: str) -> dict[str, NDArray[np.float64]]:
        """Return mean, standard deviation (of n - 1), least and largest value over the folds.

        Each is (test, train); NaN where a fold has none.
        """
        values = self.stacked(measure)
        return {
            "mean": values.mean(axis=0),
            "std": values.std(axis=0, ddof=1),
            "least": values.min(axis=0),
            "largest": values.max(axis=0),
        }

    def showing(self, *measures: str) -> FoldsMatrix:
        """Return a matrix that shows only LOSS or only ACC."""
        return replace(self, folds=tuple(matrix.showing(*measures) for matrix in self.folds))

    def to_frame(self) -> pd.DataFrame:
        """Return a row for every test subset, training subset and measure.

        Columns test, train, measure, mean, std, least and largest, then the hyper-parameter.
        """
        first, rows = self.folds[0], []
        known = {measure: self.statistics(measure) for measure in first.measures}
        for i, test in enumerate(self.test):
            for j, train in enumerate(self.train):
                chosen = {} if first.sweep is None else {first.sweep: self.values[i, j]}
                for measure, statistics in known.items():
                    cell = {name: float(values[i, j]) for name, values in statistics.items()}
                    about = {"test": test, "train": train, "measure": measure}
                    rows.append({**about, **cell, **chosen})
        return pd.DataFrame(rows)

    # -- decisions -------------------------------------------------------------------------------

    def comparisons(self) -> list[Comparison]:
        """Return the training subset to take for every test subset, by ACC, and how sure that is.

        None where there is one training subset only, or a fold that has no ACC of some.
        """
        values = self.stacked("acc")
        found = []
        for i, test in enumerate(self.test):
            acc = values[:, i]
            if len(self.train) < 2 or np.isnan(acc).any():
                continue
            order = np.argsort(-acc.mean(axis=0), kind="stable")
            best, other = int(order[0]), int(order[1]) if order[0] == 0 else 0
            gain = acc[:, best] - acc[:, other]
            low, high = interval(gain)
            found.append(
                Comparison(
                    test,
                    best=self.train[best],
                    other=self.train[other],
                    acc=float(acc[:, best].mean()),
                    other_acc=float(acc[:, other].mean()),
                    low=low,
                    high=high,
                    won=int((gain > 0).sum()),
                    folds=len(gain),
                )
            )
        return found

    # -- how it is shown -------------------------------------------------------------------------

    def sheet(self) -> Sheet:
        """Return what is shown, in words: mean ± standard deviation, and the range below."""
        first = self.folds[0]
        heads = [("", "measure", *self.train)]
        if first.sweep is not None and first.best != EACH:
            row = self.values[self.test.index(first.best)]
            heads.append((first.sweep, "chosen", *map(value_text, row)))
        rows = []
        known = {measure: self.statistics(measure) for measure in first.measures}
        for i, test in enumerate(self.test):
            for measure, statistics in known.items():
                rows.append((test, self._line(i, measure, statistics)))
                rows.append((test, self._ranges(i, statistics)))
        groups = (("", len(self.train) + 1),)
        return Sheet(first.sheet().title, groups, tuple(heads), tuple(rows), self._foot())

    def _line(
        self, i: int, measure: str, known: Mapping[str, NDArray[np.float64]]
    ) -> tuple[Cell, ...]:
        first = self.folds[0]
        mean = known["mean"]
        means = replace(first, acc=mean) if measure == "acc" else replace(first, loss=mean)
        best = means.best_acc if measure == "acc" else means.best_loss
        own = first.sweep is not None and first.best == EACH
        cells = [Cell(((measure.upper(), False),))]
        for j in range(len(self.train)):
            mean, std = (known[name][i, j] for name in ("mean", "std"))
            if math.isnan(mean):
                cells.append(Cell(((NOTHING, False),)))
                continue
            text = f"{number_text(mean)} ± {number_text(std)}"
            note = value_text(self.values[i, j]) if own else ""
            cells.append(Cell(((text, bool(best[i, j])),), note))
        return tuple(cells)

    def _ranges(self, i: int, known: Mapping[str, NDArray[np.float64]]) -> tuple[Cell, ...]:
        ends = [known[name][i] for name in ("least", "largest")]
        texts = [
            NOTHING if math.isnan(low) else f"{number_text(low)} to {number_text(high)}"
            for low, high in zip(*ends, strict=True)
        ]
        return tuple(Cell(((text, False),)) for text in ("range", *texts))

    def _foot(self) -> str:
        said = [f"mean ± standard deviation over {len(self.folds)} folds, and their range"]
        _, *more = self.folds[0].sheet().foot.split(" · ")
        if self.folds[0].sweep is not None:
            more.append("one value for all folds")
        return " · ".join([*said, *more])

    def advice(self) -> list[str]:
        """Return in a line for each test subset which training subset to take, and how sure."""
        return [str(comparison) for comparison in self.comparisons()]

    def __str__(self) -> str:
        return "\n".join([to_text(self.sheet()), *self.advice()])

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.advice())
        return to_html(self.sheet()) + (f"<ul>{lines}</ul>" if lines else "")


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean difference over k folds.

    Any two training sets of folds share most of their rows, so that folds vary less than new data
    would. The variance is therefore taken times 1/k + 1/(k - 1), the second being the share of the
    test set beside the training set, instead of 1/k (Nadeau and Bengio, 2003).
    """
    from scipy.stats import t

    k = len(differences)
    error = math.sqrt(float(differences.var(ddof=1)) * (1 / k + 1 / (k - 1)))
    half = float(t.ppf((1 + SURE) / 2, k - 1)) * error
    mean = float(differences.mean())
    return mean - half, mean + half


# -- making them -------------------------------------------------------------------------------


def fold_matrix(
    tables: Sequence[pd.DataFrame],
    choice: Choice,
    *,
    loss_high: bool,
    model: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    loss: str = "loss",
) -> FoldsMatrix:
    """Return a model's matrix from the tables of trials of folds; see `performance_matrix`.

    The value of the swept hyper-parameter is the one whose mean over the folds is best.
    """
    found = [averages(table, choice, model=model, fixed=fixed, loss=loss) for table in tables]
    costs = [costs_of(one.means, choice.by, loss_high=loss_high) for one in found]
    every = [key for key in costs[0] if all(key in one for one in costs[1:])]
    mean_costs = {key: float(np.mean([one[key] for one in costs])) for key in every}
    first = found[0]
    chosen = np.full((len(first.test), len(first.train)), None, dtype=object)
    for i, t in enumerate(first.test):
        for j, x in enumerate(first.train):
            chosen[i, j] = cheapest(mean_costs, x, t if choice.best == EACH else choice.best)
    looks = {"loss_high": loss_high, "by": choice.by, "balanced": loss == BALANCED}
    return FoldsMatrix(tuple(_at(one, chosen, choice.best, looks) for one in found))


def _at(
    found: Averages, chosen: NDArray[np.object_], best: str, looks: Mapping[str, Any]
) -> PerformanceMatrix:
    """Return a fold's matrix at chosen values."""
    losses, acc = np.full(chosen.shape, np.nan), np.full(chosen.shape, np.nan)
    counts = [0]
    for i, t in enumerate(found.test):
        for j, x in enumerate(found.train):
            key = (x, t, chosen[i, j])
            if key in found.means:
                losses[i, j], acc[i, j], _ = found.means[key]
                counts.append(found.counts[key])
    trials = (min(counts[1:], default=0), max(counts))
    return PerformanceMatrix(
        found.train, found.test, losses, acc, chosen, found.model, found.sweep, best,
        parameters=found.parameters, trials=trials, measures=MEASURES, **looks,
    )  # fmt: skip
