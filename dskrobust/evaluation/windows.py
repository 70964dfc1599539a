"""Windows of the robustness spectrum on both sides: h(x_AB, t_AB) (paper, section 5 ii).

A window is a run of the ranks of a group, so a selection: models are trained on every window of the
training spectrum and tested on every window of the test spectrum, by one evaluation. The first and
the last window are the paper's L and M subsets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..declared_types import checked_arguments
from ..display import caption, card, escape, meant, no_group, suggestion
from ..errors import InvalidOptionError
from ..show.heat import heat_html
from ..store import Store, open_store
from ..whole_numbers import is_whole
from .commands import ONE_GROUP
from .evaluation import Evaluation, Progress
from .experiment import COLUMNS, Experiment, ModelSpec
from .matrices import BY, number_text, value_text
from .protocol import trimmed_mean

if TYPE_CHECKING:
    from distributed import Client

ALL = "all"  # the whole group, beside its windows
MOST_WINDOWS = 100


@dataclass(frozen=True)
class Windows:
    """Sliding windows of a group's robustness spectrum, from its least to its most robust end.

    Attributes
    ----------
    count : int
        How many; the first has the least, the last the most robust samples.
    width : float
        Share of the samples in each. Windows of 1 / count lie side by side, wider ones overlap.
    """

    count: int = 5
    width: float = 0.5

    def __post_init__(self) -> None:
        if not is_whole(self.count, 2, MOST_WINDOWS):
            raise InvalidOptionError(
                f"there must be 2 to {MOST_WINDOWS} windows, not {self.count!r}"
            )
        if not isinstance(self.width, (int, float)) or not 0 < self.width < 1:
            raise InvalidOptionError(
                f"a window's width must be a share between 0 and 1, not {self.width!r}"
            )

    @classmethod
    def of(cls, windows: int | Windows) -> Windows:
        """Return windows, of the usual width where only their number is given."""
        return windows if isinstance(windows, cls) else cls(windows)  # type: ignore[arg-type]

    def ranks(self, rows: int) -> dict[str, tuple[int, int]]:
        """Return the ranks [start, stop) of every window of so many samples, by its name.

        Raises
        ------
        InvalidOptionError
            Where a window would have no samples, or two windows the same.
        """
        size = round(self.width * rows)
        starts = [round(k * (rows - size) / (self.count - 1)) for k in range(self.count)]
        if not size or len(set(starts)) < self.count:
            raise InvalidOptionError(
                f"{rows:,} samples are too few for {self.count} windows of {self.width:.0%}; take "
                "fewer, or of another width"
            )
        ends = [(start, start + size) for start in starts]
        return dict(zip(self.names, ends, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """What the windows are called: the shares of the spectrum that they span."""
        step = (1 - self.width) / (self.count - 1)
        spans = [(100 * k * step, 100 * (k * step + self.width)) for k in range(self.count)]
        for digits in range(3):
            names = [f"{low:.{digits}f}–{high:.{digits}f}%" for low, high in spans]
            if len(set(names)) == len(names):
                break
        return tuple(names)

    def selections(self, group: str, rows: int) -> dict[str, str]:
        """Return every window of a group as a selection in words, by its name."""
        quoted = group if group.isidentifier() else f'"{group}"'
        found = {}
        for name, (start, stop) in self.ranks(rows).items():
            if not start:
                steps = f"L{stop}"
            elif stop == rows:
                steps = f"M{rows - start}"
            else:
                steps = f"L{stop}-L{start}"
            found[name] = f"{quoted}:{steps}"
        return found


# -- what is best where ------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a model with a setting reaches on a test subset after training on another.

    Attributes
    ----------
    train, test, model : str
    setting : str
        Its hyper-parameters in words.
    loss, acc : float
        Trimmed means over the trials.
    """

    train: str
    test: str
    model: str
    setting: str
    loss: float
    acc: float


def outcomes(evaluation: Evaluation) -> list[Outcome]:
    """Return the means over trials of an evaluation, settings in the order of their grids."""
    table = evaluation.table
    swept = [name for name in table if name not in COLUMNS]
    trials: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for row in table.to_dict("records"):
        key = row["train"], row["test"], row["model"], setting_words({k: row[k] for k in swept})
        trials.setdefault(key, []).append((row["loss"], row["acc"]))
    return [Outcome(*key, *map(_mean, zip(*pairs, strict=True))) for key, pairs in trials.items()]


def _mean(values: Sequence[float]) -> float:
    return float("nan") if np.isnan(values).any() else trimmed_mean(values)


def setting_words(setting: Mapping[str, Any]) -> str:
    """Return hyper-parameters in words; those that a model does not have are left out."""
    known = {k: v for k, v in setting.items() if v is not None and v == v}
    return ", ".join(f"{k}={_value(v)}" for k, v in known.items())


def _value(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value) if isinstance(value, (list, tuple)) else value_text(value)


@dataclass(frozen=True)
class Measure:
    """Which of LOSS and ACC is compared.

    Attributes
    ----------
    by : {"acc", "loss"}
    loss_high : bool
        Whether a high LOSS is good, as of real labels.
    """

    by: str
    loss_high: bool

    @classmethod
    def of(cls, by: str | None, store: Store) -> Measure:
        """Return what is asked for; without it ACC of classes, LOSS of real labels.

        Raises
        ------
        InvalidOptionError
            For another name.
        """
        real = store.spec.label_kind != "categorical"
        by = by or ("loss" if real else "acc")
        if by not in BY:
            raise InvalidOptionError(
                f"there is no measure {by!r}{meant(by, BY)}; choose {' or '.join(BY)}"
            )
        return cls(by, real)

    def score(self, outcome: Outcome) -> float:
        """Return a value of which more is better."""
        if self.by == "acc":
            return outcome.acc
        return outcome.loss if self.loss_high else -outcome.loss

    def shown(self, score: float) -> float:
        """Return a score as it is printed."""
        return -score if self.by == "loss" and not self.loss_high else score

    def __str__(self) -> str:
        return BY[self.by]


# -- the spectrum ------------------------------------------------------------------------------


@checked_arguments()
def spectrum(
    store: str | Path | Store,
    models: Sequence[ModelSpec],
    windows: int | Windows | tuple[Windows, Windows] = 5,
    *,
    groups: tuple[str, str] = ("train", "test"),
    by: str | None = None,
    client: Client | None = None,
    **parts: Any,
) -> Spectrum:
    """Return the best hyper-parameter and performance by windows of both spectra; lazy.

    The paper's h(x_AB, t_AB) (section 5 ii): each model is trained on every window of the training
    group and tested on every window of the test group, and the whole groups beside them. It is one
    evaluation: searches and trainings are shared between cells, and what the store has of it is
    not done again. What is best in a cell is best on that very test window, so it shows how the
    best choice moves along the spectrum, and is no choice for new data: `tailor` makes one.

    Parameters
    ----------
    store : Store or str
        With results, whose robustness ranks the samples.
    models : sequence of Model
    windows : int, Windows or pair of Windows
        How many on either side, each of half the samples; a pair for training and test.
    groups : pair of str
        Training and test group.
    by : {"acc", "loss"}, optional
        What is compared: ACC of classes and LOSS of real labels by default.
    client : distributed.Client, optional
        Where to run, as for `evaluate`.
    **parts : int, float or str
        Further parts of an experiment: trials, seed, threshold, metric, name.

    Raises
    ------
    InvalidOptionError
        For an unknown group, more windows than samples, and for what `evaluate` refuses.
    StaleResultsError
        Where the store has no results.
    """
    store = open_store(store)
    sides = windows if isinstance(windows, tuple) else (windows, windows)
    named = [window_selections(store, group, Windows.of(side))
             for group, side in zip(groups, sides, strict=True)]  # fmt: skip
    experiment = Experiment(named[0], named[1], models, **{"name": "spectrum", **parts})
    return Spectrum(Evaluation(store, experiment, client), groups, Measure.of(by, store))


def window_selections(store: Store, group: str, windows: Windows) -> dict[str, str]:
    """Return a whole group and its windows as selections, by name.

    Raises
    ------
    InvalidOptionError
        For an unknown group, or too few samples.
    """
    return {ALL: group, **windows.selections(group, group_size(store, group))}


def group_size(store: Store, group: str) -> int:
    """Return how many samples a group has.

    Raises
    ------
    InvalidOptionError
        Where there is no such group.
    """
    if group not in store.groups:
        raise InvalidOptionError(
            no_group(group, store.groups),
            ONE_GROUP if len(store.groups) == 1 else None,
        )
    known = store.summary.groups.get(store.groups.index(group))
    return known.rows if known else 0


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Performance and best hyper-parameters by windows of the training and the test spectrum.

    Attributes
    ----------
    evaluation : Evaluation
        All that is trained and tested; a Dask collection.
    groups : pair of str
        Training and test group.
    measure : Measure
        What is compared.
    """

    evaluation: Evaluation
    groups: tuple[str, str]
    measure: Measure

    def compute(self, client: Client | None = None, tell: Progress | None = None) -> Spectrum:
        """Run what the store does not have; return self. The same as `Evaluation.compute`.

        Parameters
        ----------
        client : distributed.Client, optional
        tell : callable, optional
            Called for every step, as by `Evaluation.compute`.
        """
        self.evaluation.compute(client, tell)
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(model.spec.name for model in self.evaluation.models)

    @property
    def cells(self) -> pd.DataFrame:
        """One row a model, test window and training window, computed if need be.

        Columns: model, test, train, setting (the best hyper-parameters, in words), acc, loss, and
        gain, the difference of what is compared to training on the whole group at its own best.
        """
        best = self._best()
        rows = []
        for (model, test, train), found in best.items():
            whole = best.get((model, test, ALL))
            gain = np.nan if whole is None else self._score(found) - self._score(whole)
            rows.append((model, test, train, found.setting, found.acc, found.loss, gain))
        names = ["model", "test", "train", "setting", "acc", "loss", "gain"]
        return pd.DataFrame(rows, columns=names)

    def grid(self, model: str) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
        """Return a model's values and settings, test windows × training windows.

        Raises
        ------
        InvalidOptionError
            For an unknown model.
        """
        if model not in self.models:
            raise InvalidOptionError(
                f"there is no model {model!r}; {suggestion(model, self.models)}"
            )
        best, (train, test) = self._best(), self.windows
        values = np.full((len(test), len(train)), np.nan)
        settings = np.full(values.shape, "", dtype=object)
        for i, t in enumerate(test):
            for j, x in enumerate(train):
                if found := best.get((model, t, x)):
                    values[i, j] = self.measure.shown(self._score(found))
                    settings[i, j] = found.setting
        return values, settings

    def scores(self, model: str) -> NDArray[np.float64]:
        """Return a model's values so that more is better, as heat maps are coloured by."""
        values = self.grid(model)[0]
        return values if self.measure.by == "acc" or self.measure.loss_high else -values

    @property
    def windows(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the windows of the training and of the test spectrum."""
        experiment = self.evaluation.experiment
        return tuple(experiment.train), tuple(experiment.test)

    def findings(self) -> list[str]:
        """Return what was found, in sentences."""
        return [line for model in self.models for line in self._findings(model)]

    def _findings(self, model: str) -> Iterator[str]:
        best, (train, test) = self._best(), self.windows
        for t in test:
            cells = [found for x in train if (found := best.get((model, t, x)))]
            if not cells or (whole := best.get((model, t, ALL))) is None:
                continue
            top = max(cells, key=self._score)  # of equal ones the first: everything
            rows = self.evaluation.problem.test[t]
            noise = 2 * sqrt(2 * whole.acc * (1 - whole.acc) / rows)
            gain = self._score(top) - self._score(whole)
            said = f"{model}, test {t}: {_where(top.train)} is best"
            said += f" with {top.setting}" if top.setting else ""
            said += f" ({self.measure} {number_text(self.measure.shown(self._score(top)))}"
            if top.train == ALL:
                yield f"{said})"
            elif self.measure.by == "acc":
                size = "within" if gain <= noise else "beyond"
                yield f"{said}, {gain:+.4f} to all; {size} two standard errors, {noise:.4f})"
            else:
                yield f"{said}, {gain:+.4f} to all)"

    def _best(self) -> dict[tuple[str, str, str], Outcome]:
        best: dict[tuple[str, str, str], Outcome] = {}
        for found in outcomes(self.evaluation):
            key = found.model, found.test, found.train
            if key not in best or self._score(found) > self._score(best[key]):
                best[key] = found
        return best

    def _score(self, outcome: Outcome) -> float:
        return self.measure.score(outcome)

    def foot(self) -> str:
        """Return how to read it."""
        good = "high" if self.measure.by == "acc" or self.measure.loss_high else "low"
        return (
            f"{self.measure}, {good} is good, and the hyper-parameters that are best on the test "
            "window itself: where the best choice moves, no choice for new data (that is tailor)"
        )

    def __repr__(self) -> str:
        return f"<Spectrum {' × '.join(map(str, map(len, self.windows)))}: {self.evaluation!r}>"

    def maps(self) -> Iterator[tuple[Any, ...]]:
        """Yield the heat map of every model: title, windows of test and training, cells."""
        train, test = self.windows
        for model in self.models:
            values, settings = self.grid(model)
            texts = np.vectorize(number_text, otypes=[object])(values)
            title = f"{model}: test windows (rows) × training windows (columns)"
            yield title, test, train, shades(self.scores(model)), texts, settings

    def _repr_html_(self) -> str:
        if not self.evaluation.is_computed:
            return f"<p>{escape(repr(self))}; <code>.compute()</code> runs it</p>"
        parts: list[Any] = []
        for title, *heat in self.maps():
            parts += [caption(title), heat_html(*heat)]
        return card("Spectrum", str(self.evaluation.store.spec.name), *parts, self.foot())


def shades(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0 to 1 in every row of scores, from its worst to its best; NaN stays."""
    low = np.nanmin(values, axis=1, keepdims=True, initial=np.inf)
    high = np.nanmax(values, axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (values - low) / (high - low)
    return np.where(high > low, spread, np.where(np.isnan(values), np.nan, 0.5))


def _where(train: str) -> str:
    return "training on all" if train == ALL else f"training on {train}"
