"""The paper's figures, by their numbers, from what a store holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..datasets import restore_features
from ..errors import InvalidOptionError
from . import figures
from .own import score_own
from .results import StoredResults
from .tables import extremes, subset_labels
from .trials import ModelTrials

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

RANKS = 4  # of the samples in Figure 2
MOST_POINTS = 500  # in Figure 1


@dataclass(frozen=True)
class Wishes:
    """What figures may be told.

    Attributes
    ----------
    classes : sequence of str
        Those whose samples are shown (Figures 2, 5, 12); all of them without any.
    threshold : float, optional
        Marked in Figures 3 (a label) and 9 (a value of R).
    own : pair of array_like, optional
        Features and labels of own samples (Figure 13).
    """

    classes: Sequence[str] = ()
    threshold: float | None = None
    own: tuple[ArrayLike, ArrayLike] | None = None


def draw(results: StoredResults, number: int, wishes: Wishes | None = None) -> Figure:
    """Return a figure of the paper made of a store's results.

    Raises
    ------
    InvalidOptionError
        Where there is no such figure, or the store lacks what it shows; the message says what
        makes it.
    """
    if number not in _FIGURES:
        raise InvalidOptionError(f"the paper has the figures 1 to {max(_FIGURES)}, not {number}")
    return _FIGURES[number](results, wishes or Wishes())


def with_pictures(results: StoredResults, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of samples with pictures of them and of their witnesses.

    Where networks were asked, with their mean probability of the sample's class too.
    """
    shown = results.pictures([*table["row"], *table["witness"]])
    if results.probabilities is not None:
        table = table.assign(probability=table["row"].map(results.probabilities))
    return table.assign(
        picture=[shown[row] for row in table["row"]],
        witness_picture=[shown[row] for row in table["witness"]],
        witness_label=results.label_texts(table["witness"]),
    )


def curve_models(results: StoredResults, kinds: Sequence[str] = ()) -> list[ModelTrials]:
    """Return the models of the store's evaluations whose swept hyper-parameter is a number."""
    return [
        model
        for evaluation in results.evaluations
        for model in evaluation.models
        if (not kinds or model.spec.kind in kinds) and model.is_curve
    ]


def _plane(results: StoredResults, wishes: Wishes) -> Figure:
    store = results.store
    if store.columns != 2 or store.rows > MOST_POINTS:
        raise InvalidOptionError(
            f"Figure 1 shows up to {MOST_POINTS} samples with two features; {store.url} has "
            f"{store.rows:,} with {store.columns:,}"
        )
    x, y = restore_features(store.spec, store.features[:]).T
    samples = results.samples
    points = pd.DataFrame({"x": x, "y": y, "label": results.label_texts(np.arange(store.rows))})
    points = points.assign(**{name: samples[name].to_numpy() for name in ("reach", "witness")})
    names = store.spec.feature_names or ("first feature", "second feature")
    return figures.reach_circles(points, (names[0], names[1]))


def _rows(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.extreme_rows(_extremes(results, wishes, RANKS))


def _columns(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.extreme_columns(_extremes(results, wishes, 1))


def _extremes(results: StoredResults, wishes: Wishes, count: int) -> pd.DataFrame:
    there = results.samples[results.samples["witness"] >= 0]  # who has none is not robust for it
    table = extremes(there, results.main_group, count)
    for name in wishes.classes:
        if name not in set(table["label"]):
            known = ", ".join(table["label"].unique())
            raise InvalidOptionError(f"there is no class {name!r}; there are {known}")
    if wishes.classes:
        table = table[table["label"].isin(list(wishes.classes))]
    return with_pictures(results, table)


def _labels(results: StoredResults, wishes: Wishes) -> Figure:
    if "label" not in results.samples or results.categorical:
        raise InvalidOptionError(
            f"Figure 3 shows real labels; those of {results.store.url} are "
            f"{results.store.spec.label_kind} (`dskrobust subsets` counts classes)"
        )
    subsets = [subset for found in results.subsets.values() for subset in found]
    return figures.label_histograms(subset_labels(results, subsets), wishes.threshold)


def _classes(results: StoredResults, wishes: Wishes) -> Figure:
    if not results.categorical:
        raise InvalidOptionError(
            f"Figure 4 shows classes; the labels of {results.store.url} are "
            f"{results.store.spec.label_kind} (Figure 9 shows R of them all)"
        )
    return figures.robustness_by_class(results.samples)


def _groups(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.robustness_by_group(results.samples, wishes.threshold)


def _own(results: StoredResults, wishes: Wishes) -> Figure:
    if wishes.own is None:
        raise InvalidOptionError("Figure 13 shows your own images: give them with --images FILE")
    if results.store.spec.image_shape is None:
        results.pictures([])
    return figures.own_images(score_own(results, *wishes.own))


def _over(
    kinds: Sequence[str], measures: Sequence[str], model: str
) -> Callable[[StoredResults, Wishes], Figure]:
    def made(results: StoredResults, wishes: Wishes) -> Figure:
        found = curve_models(results, kinds)
        if not found:
            raise InvalidOptionError(
                f"{results.store.url} has no evaluation of {' or '.join(kinds)}; run `dskrobust "
                f"evaluate {results.store.url} --model {model}`"
            )
        last = found[-1]
        assert last.sweep is not None
        known = [measure for measure in measures if measure in last.measures]
        return figures.hyperparameter_curves(last.table, last.sweep, known, last.others)

    return made


def _epochs(measure: str) -> Callable[[StoredResults, Wishes], Figure]:
    def made(results: StoredResults, wishes: Wishes) -> Figure:
        found = [m.curves for e in results.evaluations for m in e.models if m.curves is not None]
        if not found:
            raise InvalidOptionError(
                f"{results.store.url} has no curves over epochs; run `dskrobust evaluate "
                f"{results.store.url} --model cnn --option curves=true`"
            )
        return figures.learning_curves(found[-1], measure)

    return made


_FIGURES: dict[int, Callable[[StoredResults, Wishes], Any]] = {
    1: _plane,
    2: _rows,
    3: _labels,
    4: _classes,
    5: _columns,
    6: _epochs("loss"),
    7: _epochs("acc"),
    8: _over(["knn"], ["acc"], "knn"),
    9: _groups,
    10: _over(["knn"], ["loss", "acc"], "knn"),
    11: _over(["forest", "xgboost-forest"], ["loss", "acc"], "forest"),
    12: _columns,
    13: _own,
}
