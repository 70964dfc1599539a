"""Figures by name, from what a store holds.

A figure is one function here, under ``@figure("name")``, that takes a store's results and wishes
and returns a matplotlib figure; most hand a tidy table to a function of `figures`. `draw` and the
command line know it at once. Which of them the paper numbers is said in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..cluster.workers import gpu_here
from ..datasets import restore_features
from ..display import meant, suggestion
from ..errors import Hint, InvalidOptionError
from ..evaluation.commands import evaluate_command
from . import figures
from .catalogue import paper_figures
from .own import score_own
from .results import MOST_CLASSES, StoredResults
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


Drawing = Callable[[StoredResults, Wishes], "Figure"]
FIGURES: dict[str, Drawing] = {}


def figure(name: str) -> Callable[[Drawing], Drawing]:
    """Give a figure its name."""

    def register(function: Drawing) -> Drawing:
        FIGURES[name] = function
        return function

    return register


def draw(results: StoredResults, name: int | str, wishes: Wishes | None = None) -> Figure:
    """Return a figure made of a store's results.

    Parameters
    ----------
    results : StoredResults
    name : str or int
        Of the figure, or its number in the paper.
    wishes : Wishes, optional

    Raises
    ------
    InvalidOptionError
        Where there is no such figure, or the store lacks what it shows; the message says what
        makes it.
    """
    known = paper_figures()
    asked = int(name) if str(name).isdigit() else name
    if isinstance(asked, int):
        if asked not in known:
            raise InvalidOptionError(f"the paper has the figures 1 to {max(known)}, not {asked}")
        asked = known[asked]
    if asked not in FIGURES:
        raise InvalidOptionError(f"figure {asked!r} is unknown; {suggestion(asked, list(FIGURES))}")
    return FIGURES[asked](results, wishes or Wishes())


def with_pictures(results: StoredResults, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of samples with pictures of them and of their witnesses.

    Where networks were asked, with their trimmed mean probability of the sample's class too.
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


@figure("reach_circles")
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
    if len(store.groups) > 1:  # a panel each; witnesses are rows of it
        codes = store.split_codes[:]
        place = np.array([(codes[:row] == code).sum() for row, code in enumerate(codes)])
        points["panel"] = np.array(store.groups)[codes]
        points["witness"] = np.where(points["witness"] < 0, -1, place[points["witness"]])
    names = store.spec.feature_names or ("first feature", "second feature")
    return figures.reach_circles(points, (names[0], names[1]))


@figure("extreme_rows")
def _rows(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.extreme_rows(_extremes(results, wishes, RANKS))


@figure("extreme_columns")
def _columns(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.extreme_columns(_extremes(results, wishes, 1))


def _extremes(results: StoredResults, wishes: Wishes, count: int) -> pd.DataFrame:
    labels, main = results.labels_called(wishes.classes), results.main_group
    samples = results.extreme_samples(count, labels, known=True)  # none is robust for having none
    if wishes.classes:
        there = samples[samples["group"] == main]
        known = [main] if "label" not in there or not results.categorical else there["label"]
        for name in wishes.classes:
            if name not in set(known):
                shown = ", ".join(pd.unique(pd.Series(known, dtype=object))[:MOST_CLASSES])
                near = meant(name, set(known))
                raise InvalidOptionError(f"there is no class {name!r}{near}; there are {shown}")
        if results.categorical:
            samples = samples[samples["label"].isin(list(wishes.classes))]
    return with_pictures(results, extremes(samples, main, count, MOST_CLASSES))


@figure("label_histograms")
def _labels(results: StoredResults, wishes: Wishes) -> Figure:
    if not results.has_real_labels:
        raise InvalidOptionError(
            f"Figure 3 shows real labels; those of {results.store.url} are "
            f"{results.store.spec.label_kind} (`dskrobust subsets` counts classes)"
        )
    subsets = [subset for several in results.subsets.values() for subset in several]
    return figures.label_histograms(subset_labels(results, subsets), wishes.threshold)


@figure("robustness_by_class")
def _classes(results: StoredResults, wishes: Wishes) -> Figure:
    if not results.categorical:
        raise InvalidOptionError(
            f"Figure 4 shows classes; the labels of {results.store.url} are "
            f"{results.store.spec.label_kind} (Figure 9 shows R of them all)"
        )
    return figures.robustness_by_class(results.samples)


@figure("robustness_by_group")
def _groups(results: StoredResults, wishes: Wishes) -> Figure:
    return figures.robustness_by_group(results.samples, wishes.threshold)


@figure("own_images")
def _own(results: StoredResults, wishes: Wishes) -> Figure:
    if wishes.own is None:
        raise InvalidOptionError(
            "Figure 13 shows your own images",
            Hint("give them as Wishes(own=(images, labels))", "give them with --images FILE"),
        )
    if results.store.spec.image_shape is None:
        results.pictures([])
    return figures.own_images(score_own(results, *wishes.own))


def _swept(
    results: StoredResults, wishes: Wishes, kinds: Sequence[str], measures: Sequence[str]
) -> Figure:
    """LOSS and ACC over the swept hyper-parameter of the last model of some kinds."""
    models = curve_models(results, kinds)
    if not models:
        raise InvalidOptionError(
            f"{results.store.url} has no evaluation of {' or '.join(kinds)}",
            _how_to_evaluate(
                results, f"run dr.evaluate(store, …, models=[dr.Model({kinds[0]!r})])", kinds[0]
            ),
        )
    last = models[-1]
    assert last.sweep is not None
    known = [measure for measure in measures if measure in last.measures]
    return figures.hyperparameter_curves(last.table, last.sweep, known, last.others)


def _how_to_evaluate(
    results: StoredResults, python: str, kind: str, options: Sequence[str] = ()
) -> Hint:
    """Return what makes an evaluation, or why this store has none."""
    try:
        return Hint(python, f"run `{evaluate_command(results.store, kind, options)}`")
    except InvalidOptionError as error:
        return Hint(str(error), error.on_command_line)


def _by_epoch(results: StoredResults, wishes: Wishes, measure: str) -> Figure:
    curves = [m.curves for e in results.evaluations for m in e.models if m.curves is not None]
    if not curves:
        raise InvalidOptionError(
            f"{results.store.url} has no curves over epochs",
            _how_to_evaluate(
                results,
                "run dr.evaluate with dr.Model('cnn', options={'curves': True})",
                "cnn",
                ("curves=true", *(() if gpu_here() else ("device=cpu",))),
            ),
        )
    return figures.learning_curves(curves[-1], measure)


_BOTH, _FORESTS = ("loss", "acc"), ("forest", "xgboost-forest")
figure("acc_by_neighbors")(partial(_swept, kinds=["knn"], measures=["acc"]))
figure("loss_and_acc_by_neighbors")(partial(_swept, kinds=["knn"], measures=_BOTH))
figure("loss_and_acc_by_trees")(partial(_swept, kinds=_FORESTS, measures=_BOTH))
figure("loss_by_epoch")(partial(_by_epoch, measure="loss"))
figure("acc_by_epoch")(partial(_by_epoch, measure="acc"))
