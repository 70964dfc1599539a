"""Tailoring: which training set and hyper-parameters suit which part of the test spectrum.

Whether the paper's promise holds, better models by training sets chosen for the robustness of what
they are used on, is measured on rows whose scores had no say in the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .advice_tables import StoredAdvice, keep_advice, model_words, part_cells, part_heads
from .declared_types import checked_arguments
from .display import caption, card, counted, escape, table
from .errors import InvalidOptionError
from .evaluation import Model
from .evaluation.matrices import number_text
from .evaluation.windows import ALL, Outcome, Windows, group_size
from .part_choice import FoldScores, Interval, corrected_interval, part_cuts
from .store import Store, open_store
from .validation import (
    Fold,
    Option,
    Plan,
    Reached,
    Validation,
    complete_options,
    folds_of,
    part_name,
    scores_of,
    training_sets,
)

if TYPE_CHECKING:
    from distributed import Client

    from .evaluation.evaluation import Progress

Run = tuple[Optional["Client"], Optional["Progress"]]


@checked_arguments()
def tailor(
    store: str | Path | Store,
    models: Sequence[Model],
    *,
    windows: int | Windows | None = 5,
    validation: int | Validation = 5,
    candidates: Mapping[str, Any] | None = None,
    groups: tuple[str, str] = ("train", "test"),
    client: Client | None = None,
    **experiment: Any,
) -> Tailoring:
    """Return which training set and hyper-parameters suit which part of the test spectrum; lazy.

    Training rows are cut into folds. Of each fold's rows R is that against the remaining training
    rows, and so are the windows that models are trained on. For every part the option is chosen
    that is best on held-out rows. What that gains over one model on everything is cross-fitted:
    each fold is measured with what the scores of the other folds choose. It is no nested
    cross-validation, as the models behind those scores were trained on rows of the fold too. The
    test group's labels measure what was chosen and, where rows are placed by their own labels, say
    in which part they are.

    Parameters
    ----------
    store : Store or str
    models : sequence of Model
    windows : int or Windows, optional
        Windows of the training spectrum that are tried beside all rows, each of half of them where
        only their number is given; None for no windows, only hyper-parameters and `candidates`.
    validation : int or Validation
        How many folds, or all about the measuring.
    candidates : mapping of str to selection, optional
        Further training sets: name → a selection such as train:L500, a `Subset` or an array of row
        numbers, all of the training group. A selection is made anew in every fold, among the rows
        that remain. Rows of a subset or array stay what they are, also where held-out or test
        labels chose them: then gains are too high.
    groups : pair of str
        Training and test group; where a store has no group test nothing is measured on it.
    client : distributed.Client, optional
        Where to run, as for `evaluate`.
    **experiment : int, float or str
        Further parts of an experiment: trials, seed, threshold; and metric, of the robustness.

    Raises
    ------
    InvalidOptionError
        For an unknown group, twice the same one, folds beside `validation`, candidates beyond the
        training group, too few rows, and for what `evaluate` refuses.
    MemoryPlanError
        Where row numbers and scores of all rows do not fit into this process.
    """
    if "folds" in experiment:
        raise InvalidOptionError(
            f"folds={experiment['folds']!r}: tailoring has folds of its own; give "
            f"validation={experiment['folds']!r}"
        )
    if ALL in (candidates or {}):
        raise InvalidOptionError(f"a candidate may not be called {ALL!r}: that is the whole group")
    opened = open_store(store)
    cut = _checked(opened, validation, groups[0])
    sides = None if windows is None else Windows.of(windows)
    metric = experiment.pop("metric", "euclidean")
    plan = Plan(
        opened, tuple(models), sides, cut, dict(candidates or {}), groups, metric, experiment
    )
    plan.check()
    return Tailoring(plan, client)


def _checked(store: Store, validation: int | Validation, train: str) -> Validation:
    """Return how a choice is measured, with a placement that the labels allow."""
    cut = validation if isinstance(validation, Validation) else Validation(validation)
    if group_size(store, train) < 2 * cut.folds * cut.parts:
        raise InvalidOptionError(
            f"{train} has too few rows for {cut.folds} folds of {cut.parts} parts; give fewer"
        )
    if cut.placement is None:
        real = store.spec.label_kind != "categorical"
        cut = replace(cut, placement="label" if real else "predicted")
    return cut


# -- the result --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartAdvice:
    """What to take for a part of the test spectrum.

    Attributes
    ----------
    part : str
    low, high : float
        R, by which rows are placed, from low on and below high.
    train, model, setting : str
        What suits the part best; that of everything where nothing surely does better.
    score, baseline : float
        Of held-out rows of the part: with that, and with one model on everything.
    gain : Interval
        Of choices by the scores of other folds.
    test : tuple of float, optional
        The same two of the test group's rows, and how many these are.
    """

    part: str
    low: float
    high: float
    train: str
    model: str
    setting: str
    score: float
    baseline: float
    gain: Interval
    test: tuple[float, float, int] | None = None


@dataclass(frozen=True, eq=False)
class Advice:
    """What came out.

    Attributes
    ----------
    parts : tuple of PartAdvice
        From the least to the most robust.
    baseline : Option
        The one training set, model and setting for everything: all rows.
    score : float
        Its score on held-out rows.
    gain : Interval
        Of all parts together, over that model.
    single : Option
        The one option that is best for everything, whatever it is trained on.
    single_gain, added : Interval
        What it gains over the model on all rows, and what a choice by part gains over it.
    test_gain, test_single : float, optional
        Gains of the choice by part, and of the single option, on the test group.
    measured : DataFrame
        Every option on every part of every fold.
    """

    parts: tuple[PartAdvice, ...]
    baseline: Option
    score: float
    gain: Interval
    single: Option
    single_gain: Interval
    added: Interval
    measured: pd.DataFrame = field(repr=False)
    test_gain: float | None = None
    test_single: float | None = None


class Tailoring:
    """Which training set and hyper-parameters suit which part of the test spectrum; see `tailor`.

    Parameters
    ----------
    plan : Plan
    client : distributed.Client, optional

    Attributes
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan, client: Client | None = None) -> None:
        self.plan, self._client = plan, client
        self._advice: Advice | None = None

    def compute(self, client: Client | None = None, tell: Progress | None = None) -> Tailoring:
        """Do what the store does not have; return self.

        Parameters
        ----------
        client : distributed.Client, optional
            Where to run; the current client by default, threads of this process without one.
        tell : callable, optional
            Called for every step of the evaluations, as by `Evaluation.compute`.
        """
        client = client or self._client
        with nullcontext() if client is None else client.as_current():
            self._advice = advise(self.plan, (client, tell))
        keep_advice(self.plan.store, self.plan.identity, self._stored(self._advice))
        return self

    def _stored(self, advice: Advice) -> StoredAdvice:
        """Return what came out in words, for reports."""
        models = ", ".join(model.name for model in self.plan.models)
        return StoredAdvice(
            f"{models}, {' and '.join(self.plan.groups)}",
            part_heads(self.plan, advice),
            [part_cells(self.plan, part) for part in advice.parts],
            self.findings(),
        )

    @property
    def advice(self) -> Advice:
        """What came out; computed if need be."""
        if self._advice is None:
            self.compute()
        assert self._advice is not None
        return self._advice

    @property
    def choices(self) -> pd.DataFrame:
        """One row a part of the test spectrum, from the least to the most robust.

        Columns: part, low and high (R by which rows are placed), train, model, setting, score and
        baseline (of held-out rows: LOSS or ACC with the choice, with one model on everything),
        gain, gain_low, gain_high (95 %, of choices on other folds), verdict; where there is a test
        group test_score, test_baseline and test_rows.
        """
        shown = self.plan.measure.shown
        lines = []
        for part in self.advice.parts:
            line = {name: getattr(part, name) for name in
                    ("part", "low", "high", "train", "model", "setting")}  # fmt: skip
            line |= {"score": shown(part.score), "baseline": shown(part.baseline)}
            line |= {"gain": part.gain.mean, "gain_low": part.gain.low,
                     "gain_high": part.gain.high, "verdict": part.gain.verdict}  # fmt: skip
            if part.test is not None:
                line |= {"test_score": shown(part.test[0]), "test_baseline": shown(part.test[1]),
                         "test_rows": part.test[2]}  # fmt: skip
            lines.append(line)
        return pd.DataFrame(lines)

    def findings(self) -> list[str]:
        """Return what was found and what to do, in sentences, the decision first."""
        return list(_findings(self.plan, self.advice))

    def __repr__(self) -> str:
        state = "lazy" if self._advice is None else f"gain {self._advice.gain}"
        models = ", ".join(model.name for model in self.plan.models)
        return f"<Tailoring of {models} on {self.plan.store.spec.name}: {state}>"

    def _repr_html_(self) -> str:
        if self._advice is None:
            return f"<p>{escape(repr(self))}; <code>.compute()</code> runs it</p>"
        decision, *more = self.findings()
        rows = [part_cells(self.plan, part) for part in self.advice.parts]
        parts = table(part_heads(self.plan, self.advice), rows, (0, 1, 2, 6))
        return card("Tailoring", str(self.plan.store.spec.name), caption(decision), parts, *more)


def _decision(plan: Plan, advice: Advice) -> str:
    """Return what to do, in a sentence or two."""
    one = model_words(*advice.baseline[1:])
    said = f"over one model on everything ({one}): {plan.measure} {advice.gain}"
    all_rows = f"Take one model, trained on all of {plan.groups[0]}."
    if {(part.train, part.model, part.setting) for part in advice.parts} == {advice.baseline}:
        return (
            f"One model on everything it is: {one}, trained on all of {plan.groups[0]} "
            f"({plan.measure} {number_text(plan.measure.shown(advice.score))}). No part of the "
            "spectrum has anything better."
        )
    if advice.single_gain.verdict == "better" and advice.added.verdict != "better":
        train, *model = advice.single
        what = "other hyper-parameters" if train == ALL else f"training on {train} alone"
        return (
            f"One model is enough, but {what} pays: {plan.measure} {advice.single_gain}. Take "
            f"{model_words(*model)}, trained on {train} of {plan.groups[0]}, for all parts."
        )
    if advice.gain.verdict == "better":
        return f"Tailoring pays {said}. Take what is listed for each part."
    if advice.gain.verdict == "worse":
        return f"Tailoring harms {said}. {all_rows}"
    return f"Tailoring gains no more than its spread {said}. {all_rows}"


def _findings(plan: Plan, advice: Advice) -> Iterator[str]:
    cut = plan.validation
    yield _decision(plan, advice)
    if advice.single != advice.baseline:
        train, *model = advice.single
        yield (
            f"One set for everything, {train} with {model_words(*model)}, gains "
            f"{advice.single_gain} over all rows ({advice.single_gain.verdict}); choosing by part "
            f"adds {advice.added} to that ({advice.added.verdict})."
        )
    for part in advice.parts:
        own = (part.train, part.model, part.setting)
        where = f"R from {part.low:.3f} to {part.high:.3f}"
        if own == advice.baseline:
            yield f"{where}: nothing surely beats the one model."
            continue
        what = f"{part.train} with {model_words(part.model, part.setting)}"
        pays = advice.gain.verdict == "better"
        said = f"train on {what}" if pays else f"training on {what} looked best"
        yield f"{where}: {said}, {part.gain} ({part.gain.verdict})."
    if advice.test_gain is not None:
        yield _test_words(plan, advice.test_gain)
    if cut.placement == "label":
        yield (
            "Rows are placed by R under their own labels, as the paper's test subsets are. New "
            "rows have none: there the gain does not carry over as it stands (RobustnessRouter "
            "places by predicted labels)."
        )
    yield (
        f"Gains are means over {counted(cut.folds, 'fold')} with 95 % intervals, cross-fitted: "
        "each fold is measured with what the scores of the others choose. The models behind those "
        "were trained on rows of the fold too, so this is no nested cross-validation."
    )
    if plan.listed:
        yield (
            f"Rows of {', '.join(plan.listed)} were given as they are: where held-out or test "
            "labels chose them (R in the whole group, a match with a test set), gains are too high."
        )


def _test_words(plan: Plan, gain: float) -> str:
    """Return what was gained on the test group, and what its labels did."""
    test, chose = plan.groups[1], "whose labels chose nothing"
    if plan.validation.placement == "label":
        chose = "placed by their own labels"
    elif plan.listed:
        chose = "whose labels chose nothing here"
    return f"On {test}, {chose}: {gain:+.4f} over all parts."


# -- computing it ------------------------------------------------------------------------------


TestScores = Mapping[int, tuple[float, float, int]]  # part → of the choice, the baseline; rows


class Trial(NamedTuple):
    """All options, measured on all folds.

    Attributes
    ----------
    whole : Fold, optional
        The training and the test group.
    cuts : ndarray (parts - 1,) float64
        R at which the parts meet.
    edges : list of float
        The same with both ends.
    found : list of mapping
        What was reached in every fold.
    rows : ndarray (folds, parts) int64
    """

    whole: Fold | None
    cuts: NDArray[np.float64]
    edges: list[float]
    found: list[Reached]
    rows: NDArray[np.int64]


def advise(plan: Plan, run: Run) -> Advice:
    """Measure all options on all folds, choose, and measure the choice.

    Parameters
    ----------
    plan : Plan
    run : pair
        Client and progress, as `Evaluation.compute` takes them.

    Raises
    ------
    InvalidOptionError
        Where the models have no finite LOSS to compare.
    """
    trial = _tried(plan, run)
    options = complete_options(plan.measure, trial.found, trial.rows)
    scores = scores_of(plan.measure, trial.found, options, trial.rows.shape[1])
    whole = np.array([train == ALL for train, *_ in options])
    made = FoldScores(scores, trial.rows, whole, plan.validation.margin)
    baseline, chosen = options[made.baseline], [options[k] for k in made.choice()]
    single, ratio = options[made.single], 1 / (len(trial.found) - 1)
    test: TestScores = {}
    alone: TestScores = {}
    if trial.whole:
        test, alone = _on_test(plan, trial, (chosen, [single] * len(chosen), baseline), run)
    gains, singles = made.cross_fitted(), made.cross_fitted_single()
    intervals = [corrected_interval(column, ratio) for column in gains.T]
    means, parts = made.part_means(), []
    for p, (train, model, setting) in enumerate(chosen):
        own = float(means[p, options.index(chosen[p])])
        base = float(means[p, options.index(baseline)])
        low, high = trial.edges[p], trial.edges[p + 1]
        parts.append(PartAdvice(part_name(p), low, high, train, model, setting,
                                own, base, intervals[p], test.get(p)))  # fmt: skip
    return Advice(
        tuple(parts), baseline, made.total(made.baseline), intervals[-1], single,
        corrected_interval(singles, ratio), corrected_interval(gains[:, -1] - singles, ratio),
        _table(trial.found), _test_gain(test), _test_gain(alone),
    )  # fmt: skip


def _tried(plan: Plan, run: Run) -> Trial:
    """Measure all options on all folds."""
    folds, whole = folds_of(plan)
    places = np.concatenate([fold.places for fold in folds])
    cuts = part_cuts(places, plan.validation.parts)
    found, rows = [], np.zeros((len(folds), len(cuts) + 1), np.int64)
    for k, fold in enumerate(folds):
        parts = fold.parts(cuts)
        rows[k] = [len(parts.get(part_name(p), ())) for p in range(len(cuts) + 1)]
        found.append(plan.measured(k + 1, training_sets(plan, fold), parts, run))
    edges = [float(places.min()), *cuts.tolist(), float(places.max())]
    return Trial(whole, cuts, edges, found, rows)


def _on_test(
    plan: Plan, trial: Trial, options: tuple[Sequence[Option], Sequence[Option], Option], run: Run
) -> tuple[TestScores, TestScores]:
    """Return what two choices score on every part of the test group, beside the baseline."""
    *choices, baseline = options
    assert trial.whole is not None
    wanted = {option[0] for option in (*choices[0], *choices[1], baseline)}
    sets = training_sets(plan, trial.whole)
    parts = trial.whole.parts(trial.cuts)
    found = plan.measured("of all", {k: v for k, v in sets.items() if k in wanted}, parts, run)
    made: tuple[dict[int, tuple[float, float, int]], ...] = ({}, {})
    for scores, choice in zip(made, choices, strict=True):
        for p, option in enumerate(choice):
            name = part_name(p)
            if (option, name) in found and (baseline, name) in found:
                own, base = (plan.measure.score(found[o, name]) for o in (option, baseline))
                scores[p] = own, base, len(parts[name])
    return made[0], made[1]


def _test_gain(test: TestScores) -> float | None:
    if not test:
        return None
    values, base, rows = np.array(list(test.values())).T
    return float(((values - base) * rows).sum() / rows.sum())


def _table(found: Sequence[Reached]) -> pd.DataFrame:
    lines = [(k + 1, *outcome) for k, one in enumerate(found) for outcome in one.values()]
    return pd.DataFrame(lines, columns=["fold", *Outcome._fields]).rename(columns={"test": "part"})
