"""Evaluations of both sides, cell by cell: what became of ACC, and how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation.fold_matrices import SURE, interval
from ..evaluation.matrices import PerformanceMatrix
from ..report.folds import by_folds, fold_matrices, models_of
from ..report.trials import ModelTrials, trial_values
from .rows import RowMap
from .sides import Side

COLUMNS = ("model", "train", "test", "measure", "before", "after", "change", "low", "high",
           "repeats")  # fmt: skip


class Score(NamedTuple):
    """What a model trained on one subset makes of another.

    Attributes
    ----------
    values : ndarray (k,) float64
        ACC (or LOSS) of every fold, or of every trial.
    mean : float
        As matrices show it; trials are averaged by the trimmed mean.
    folds : str
        What tells the folds from others; "" of trials on one split.
    """

    values: NDArray[np.float64]
    mean: float
    folds: str


Key = tuple[str, str, str, str, str, bool]  # model, its settings, train, test, measure, folds


def model_changes(before: Side, after: Side, rows: RowMap | None) -> pd.DataFrame:
    """Return what became of every model that both sides have evaluated on subsets of equal names.

    Columns model, train, test, measure (ACC, without it LOSS), before, after, change, the ends low
    and high of its 95 % interval (NaN without folds or trials), and repeats in words.
    """
    known, further = dict(_scores(before)), dict(_scores(after))
    alike = rows is not None and rows.same
    lines = []
    for key, score in further.items():
        if key in known:
            old = known[key]
            low, high, words = _interval(old, score, paired=alike and old.folds == score.folds)
            model, setting, train, test, measure, _ = key
            name = f"{model} ({setting})" if setting else model
            lines.append((name, train, test, measure, old.mean, score.mean,
                          score.mean - old.mean, low, high, words))  # fmt: skip
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _scores(side: Side) -> Iterator[tuple[Key, Score]]:
    single, folded = by_folds(side.results.evaluations)
    for evaluation in single:
        for model in evaluation.models:
            for matrix in model.matrices(evaluation.tests[0]):
                yield from _cells(model, matrix, [model.table], [matrix], "")
    for folds in folded:
        drawn = json.dumps([folds[0].facts["experiment"]["seed"],
                            *(folds[0].fold[k] for k in ("of", "drawn"))])  # type: ignore[index]  # fmt: skip
        for models in models_of(folds):
            first = folds[0].tests[0]
            for made in fold_matrices(models, first):
                if made.folds[0].best == first and not made.folds[0].balanced:
                    tables = [model.table for model in models]
                    yield from _cells(models[0], made.folds[0], tables, made.folds, drawn)


def _cells(
    model: ModelTrials,
    like: PerformanceMatrix,
    tables: Sequence[pd.DataFrame],
    matrices: Sequence[PerformanceMatrix],
    folds: str,
) -> Iterator[tuple[Key, Score]]:
    measure = "acc" if "acc" in model.measures else "loss"
    setting = ", ".join(f"{name} {value}" for name, value in like.parameters.items())
    for i, test in enumerate(like.test):
        for j, train in enumerate(like.train):
            values = np.array([getattr(matrix, measure)[i, j] for matrix in matrices])
            if np.isnan(values).any():
                continue
            mean = float(values.mean())
            if not folds:
                values = trial_values(tables[0], like, measure, i, j)
            key = (model.spec.name, setting, train, test, measure.upper(), bool(folds))
            yield key, Score(values, mean, folds)


def _interval(old: Score, new: Score, *, paired: bool) -> tuple[float, float, str]:
    """Return the 95 % interval of a change, and what it is over.

    Folds of the same rows are compared one by one; of others, and of trials, the spreads of both
    are added.
    """
    from scipy.stats import t

    sizes = len(old.values), len(new.values)
    what = "folds" if new.folds else "trials"
    count = f"{sizes[1]}" if sizes[0] == sizes[1] else f"{sizes[0]} and {sizes[1]}"
    if min(sizes) < 2:
        return math.nan, math.nan, f"{count} {what[:-1] if sizes == (1, 1) else what}"
    if paired and new.folds:
        return *interval(new.values - old.values), f"{count} {what}, one by one"
    shares = [1 / k + (1 / (k - 1) if new.folds else 0.0) for k in sizes]
    variance = sum(
        float(score.values.var(ddof=1)) * share
        for score, share in zip((old, new), shares, strict=True)
    )
    half = float(t.ppf((1 + SURE) / 2, min(sizes) - 1)) * math.sqrt(variance)
    change = new.mean - old.mean
    return change - half, change + half, f"{count} {what}"


def is_sure(line: Any) -> bool:
    """Whether the interval of a change lies on one side of 0."""
    return bool(line.low > 0 or line.high < 0)
