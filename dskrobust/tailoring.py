"""Tailoring: for every part of the test spectrum the training set and hyper-parameters that suit it.

Whether the paper's promise holds, better models by training sets chosen for the robustness of what
they are used on, is measured on rows that had no say in the choice.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .display import card, caption, counted, escape, number, table
from .errors import Hint, InvalidOptionError, OverlapWarning
from .evaluation import Experiment, Model, evaluate
from .evaluation.matrices import number_text
from .evaluation.windows import ALL, Measure, Outcome, Windows, group_size, outcomes
from .memory import check_memory
from .part_choice import FoldScores, Interval, corrected_interval, held_out, part_cuts
from .placement import PLACEMENTS, ROW_BYTES, labelled_places, predicted_places
from .robustness import sample_robustness
from .store import Store, open_store
from .subsets import Subset, select_subset

if TYPE_CHECKING:
    from distributed import Client

    from .evaluation.evaluation import Progress

Rows = NDArray[np.int64]
Option = tuple[str, str, str]  # training set, model, hyper-parameters in words
_FEWER = Hint("tailor on a sample of the rows", "tailor on a sample of the rows")


@dataclass(frozen=True)
class Validation:
    """How a choice is made and measured.

    Attributes
    ----------
    folds : int
        Parts that the training rows are cut into; each is held out once, of classes with the same
        shares.
    parts : int
        Into how many parts, of equally many held-out rows, the spectrum is cut.
    placement : {"predicted", "label"}, optional
        What a held-out row is placed by: R under the label of its nearest training row, which is
        there for new rows too (the default for classes), or R under its own label, as the paper's
        test subsets are (and for real labels), which new rows have not.
    margin : float
        How many standard errors a choice has to be better by than one model on everything.
    by : {"acc", "loss"}, optional
        What is compared: ACC of classes and LOSS of real labels by default.
    seed : int
        Of the folds.
    """

    folds: int = 5
    parts: int = 3
    placement: str | None = None
    margin: float = 1.0
    by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("folds", "parts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise InvalidOptionError(f"{name} must be a whole number from 2 on, not {value!r}")
        if self.folds < 3:
            raise InvalidOptionError("two folds leave one to choose by; give folds=3 or more")
        if self.placement not in (None, *PLACEMENTS):
            raise InvalidOptionError(
                f"rows are placed by {' or '.join(PLACEMENTS)}, not {self.placement!r}"
            )
        if not self.margin >= 0:
            raise InvalidOptionError(f"the margin must be a number from 0 on, not {self.margin!r}")


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
    that is best on held-out rows; what that gains over one model on everything is measured on folds
    that had no say in it. The test group's labels are only read to measure what was chosen.

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
        numbers, all of the training group.
    groups : pair of str
        Training and test group; without rows of the latter nothing is measured on it.
    client : distributed.Client, optional
        Where to run, as for `evaluate`.
    **experiment : int, float or str
        Further parts of an experiment: trials, seed, threshold; and metric, of the robustness.

    Raises
    ------
    InvalidOptionError
        For an unknown group, candidates beyond the training group, too few rows, and for what
        `evaluate` refuses.
    MemoryPlanError
        Where row numbers and scores of all rows do not fit into this process.
    """
    opened = open_store(store)
    cut = validation if isinstance(validation, Validation) else Validation(validation)
    if group_size(opened, groups[0]) < 2 * cut.folds * cut.parts:
        raise InvalidOptionError(
            f"{groups[0]} has too few rows for {cut.folds} folds of {cut.parts} parts; give fewer"
        )
    if ALL in (candidates or {}):
        raise InvalidOptionError(f"a candidate may not be called {ALL!r}: that is the whole group")
    if cut.placement is None:
        real = opened.spec.label_kind != "categorical"
        cut = replace(cut, placement="label" if real else "predicted")
    sides = None if windows is None else Windows.of(windows)
    metric = experiment.pop("metric", "euclidean")
    plan = Plan(opened, tuple(models), sides, cut, dict(candidates or {}), groups, metric, experiment)
    plan.check()
    return Tailoring(plan, client)


@dataclass(frozen=True)
class Plan:
    """What is tailored, and how."""

    store: Store
    models: tuple[Model, ...]
    windows: Windows | None
    validation: Validation
    candidates: Mapping[str, Any]
    groups: tuple[str, str]
    metric: Any
    experiment: Mapping[str, Any]

    @property
    def measure(self) -> Measure:
        """Which of LOSS and ACC is compared."""
        return Measure.of(self.validation.by, self.store)

    def check(self) -> None:
        """Refuse what cannot be evaluated, before anything runs."""
        train = self.groups[0]
        self._experiment({ALL: train}, {train: train}, 0)
        rows = group_size(self.store, train)
        if self.windows is not None:
            self.windows.ranks(rows - -(-rows // self.validation.folds))

    def _experiment(self, train: Any, test: Any, fold: int | str) -> Any:
        known = {"name": f"tailoring, fold {fold}", **self.experiment}
        return evaluate(self.store, Experiment(train, test, self.models, **known))

    def measured(
        self, fold: int | str, train: Mapping[str, Rows], test: Mapping[str, Rows], run: Any
    ) -> dict[tuple[Option, str], Outcome]:
        """Return what every option reaches on every part."""
        evaluation = self._experiment(train, test, fold)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # equal rows: the data's own
            evaluation.compute(*run)
        return {((o.train, o.model, o.setting), o.test): o for o in outcomes(evaluation)}


@dataclass(frozen=True, eq=False)
class Fold:
    """Training rows that remain, rows that are held out, and where both lie.

    Attributes
    ----------
    rest, held : ndarray int64
        Rising.
    spectrum : ndarray (rest,) float64
        R of the remaining rows among themselves.
    places : ndarray (held,) float64
        By which held-out rows are placed.
    """

    rest: Rows
    held: Rows
    spectrum: NDArray[np.float64]
    places: NDArray[np.float64]

    def candidates(self, windows: Windows | None, further: Mapping[str, Rows]) -> dict[str, Rows]:
        """Return the training sets that are tried: everything first."""
        order = self.rest[np.argsort(self.spectrum, kind="stable")]
        ranks = {} if windows is None else windows.ranks(len(order))
        found = {ALL: self.rest, **{name: order[a:b] for name, (a, b) in ranks.items()}}
        kept = {name: np.intersect1d(rows, self.rest) for name, rows in further.items()}
        return found | {name: rows for name, rows in kept.items() if len(rows)}

    def parts(self, cuts: NDArray[np.float64]) -> dict[str, Rows]:
        """Return the held-out rows of every part that has some."""
        codes = np.searchsorted(cuts, self.places, side="right")
        found = {part_name(k): self.held[codes == k] for k in range(len(cuts) + 1)}
        return {name: rows for name, rows in found.items() if len(rows)}


def part_name(part: int) -> str:
    """Return what a part is called among the test subsets."""
    return f"part {part + 1}"


# -- folds -------------------------------------------------------------------------------------


def folds_of(plan: Plan) -> tuple[list[Fold], Fold | None]:
    """Return the folds of the training group, and the whole of it with the test group.

    Raises
    ------
    MemoryPlanError
    """
    store, cut = plan.store, plan.validation
    check_memory("the folds of all rows", store.rows, ROW_BYTES, _FEWER)
    train, test = (_group_rows(store, group) for group in plan.groups)
    held = _held_out(store, train, cut)
    sets = {f"without fold {k + 1}": np.setdiff1d(train, rows) for k, rows in enumerate(held)}
    sets["all folds"] = train
    own = labelled_places(store, sets, plan.metric)
    places, at = own, np.arange(store.rows)
    if cut.placement == "predicted":
        asked = np.sort(np.concatenate([train, test]))
        places = predicted_places(store, asked, sets, plan.metric)
        at = np.searchsorted(asked, at)
    folds = [Fold(rest, rows, own[rest, k], places[at[rows], k])
             for k, (rest, rows) in enumerate(zip(sets.values(), [*held, test], strict=True))]  # fmt: skip
    return folds[:-1], folds[-1] if len(test) else None


def _group_rows(store: Store, group: str) -> Rows:
    if group not in store.groups:
        return np.empty(0, np.int64)
    return np.flatnonzero(store.read("split", 0, store.rows) == store.groups.index(group))


def _held_out(store: Store, rows: Rows, cut: Validation) -> list[Rows]:
    """Return the rows of every fold."""
    labels = store.read("labels", 0, store.rows).ravel()[rows]
    by_class = store.spec.label_kind == "categorical"
    return [rows[held] for held in held_out(labels, cut.folds, cut.seed, by_class=by_class)]


def _further(plan: Plan, train: Rows) -> dict[str, Rows]:
    """Return the rows of the caller's candidates."""
    found = {}
    for name, given in plan.candidates.items():
        if isinstance(given, str):
            scores = sample_robustness(plan.store, metric=plan.metric).write()
            given = select_subset(scores, given)
        rows = given.compute().indices if isinstance(given, Subset) else np.asarray(given)
        outside = np.setdiff1d(rows, train)
        if len(outside):
            raise InvalidOptionError(
                f"candidate {name!r} has row {outside[0]}, which is not in {plan.groups[0]}"
            )
        found[name] = np.unique(rows).astype(np.int64)
    return found


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
        Of choices on folds that had no say in them.
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
    test_gain : float, optional
        The same of the test group.
    measured : DataFrame
        Every option on every part of every fold.
    """

    parts: tuple[PartAdvice, ...]
    baseline: Option
    score: float
    gain: Interval
    measured: pd.DataFrame = field(repr=False)
    test_gain: float | None = None


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
        return self

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
        return card("Tailoring", str(self.plan.store.spec.name), caption(decision),
                    table(part_heads(self.plan, self.advice), rows, text=(0, 1, 2, 6)), *more)  # fmt: skip


def part_heads(plan: Plan, advice: Advice) -> tuple[str, ...]:
    """Return the heads of a table of parts."""
    heads = ("R", "train on", "with", str(plan.measure), "one model", "gain", "verdict")
    return (*heads, "on test") if advice.parts[0].test else heads


def part_cells(plan: Plan, part: PartAdvice) -> tuple[str, ...]:
    """Return a part's line of a table."""
    shown = plan.measure.shown
    cells = (
        f"{number(part.low)} – {number(part.high)}",
        part.train,
        _model_words(part.model, part.setting),
        number_text(shown(part.score)),
        number_text(shown(part.baseline)),
        str(part.gain),
        part.gain.verdict,
    )
    return (*cells, f"{part.test[0] - part.test[1]:+.4f}") if part.test else cells


def _model_words(model: str, setting: str) -> str:
    return f"{model}, {setting}" if setting else model


def _findings(plan: Plan, advice: Advice) -> Iterator[str]:
    cut, one = plan.validation, _model_words(*advice.baseline[1:])
    said = f"over one model on everything ({one}): {plan.measure} {advice.gain}"
    if advice.gain.verdict == "better":
        yield f"Tailoring pays {said}. Take a training set for each part, as listed."
    elif advice.gain.verdict == "worse":
        yield f"Tailoring harms {said}. Take one model, trained on all of {plan.groups[0]}."
    else:
        yield (
            f"Tailoring gains no more than its spread {said}. Take one model, trained on all of "
            f"{plan.groups[0]}."
        )
    for part in advice.parts:
        own = (part.train, part.model, part.setting)
        where = f"R from {number(part.low)} to {number(part.high)}"
        if own == advice.baseline:
            yield f"{where}: nothing beats training on everything by more than {cut.margin:g} SE."
            continue
        what = "all" if part.train == ALL else part.train
        yield (
            f"{where}: train on {what} with {_model_words(part.model, part.setting)}, "
            f"{part.gain} ({part.gain.verdict})."
        )
    if advice.test_gain is not None:
        yield f"On {plan.groups[1]}, whose labels chose nothing: {advice.test_gain:+.4f} over all parts."
    if cut.placement == "label":
        yield (
            "Rows are placed by R under their own labels, as the paper's test subsets are. New "
            "rows have none: there the gain does not carry over as it stands (RobustnessRouter "
            "places by predicted labels)."
        )
    yield (
        f"Gains are means over {counted(cut.folds, 'fold')} with 95 % intervals; every fold is "
        "measured with what the others chose."
    )


# -- computing it ------------------------------------------------------------------------------


def advise(plan: Plan, run: tuple[Client | None, Progress | None]) -> Advice:
    """Measure all options on all folds, choose, and measure the choice."""
    folds, whole = folds_of(plan)
    places = np.concatenate([fold.places for fold in folds])
    cuts = part_cuts(places, plan.validation.parts)
    further = _further(plan, np.concatenate([fold.held for fold in folds]))
    found, rows = [], np.zeros((len(folds), len(cuts) + 1), np.int64)
    for k, fold in enumerate(folds):
        parts = fold.parts(cuts)
        rows[k] = [len(parts.get(part_name(p), ())) for p in range(len(cuts) + 1)]
        found.append(plan.measured(k + 1, fold.candidates(plan.windows, further), parts, run))
    options = _complete(found, rows)
    scores = _scores(plan.measure, found, options, rows.shape[1])
    whole_options = np.array([train == ALL for train, *_ in options])
    made = FoldScores(scores, rows, whole_options, plan.validation.margin)
    chosen = [options[k] for k in made.choice()]
    baseline = options[made.baseline]
    test = None if whole is None else _on_test(plan, whole, cuts, further, (chosen, baseline), run)
    edges = [float(places.min()), *cuts.tolist(), float(places.max())]
    gains, ratio = made.cross_fitted(), 1 / (len(folds) - 1)
    intervals = [corrected_interval(column, ratio) for column in gains.T]
    means = [[made.part_means()[p, options.index(o)] for o in (chosen[p], baseline)]
             for p in range(rows.shape[1])]  # fmt: skip
    parts = tuple(
        PartAdvice(part_name(p), edges[p], edges[p + 1], *chosen[p], *means[p], intervals[p],
                   None if test is None else test.get(p))
        for p in range(rows.shape[1])
    )  # fmt: skip
    return Advice(parts, baseline, made.total(options.index(baseline)), intervals[-1],
                  _table(found), None if test is None else _test_gain(test.values()))  # fmt: skip


def _complete(found: Sequence[Mapping[tuple[Option, str], Outcome]], rows: Any) -> list[Option]:
    """Return the options that were measured on every part that has rows."""
    wanted = [{part_name(p) for p in np.flatnonzero(line)} for line in rows]
    options = list(dict.fromkeys(option for option, _ in found[0]))
    return [o for o in options
            if all((o, p) in one for one, parts in zip(found, wanted, strict=True) for p in parts)]  # fmt: skip


def _scores(
    measure: Measure, found: Sequence[Mapping[tuple[Option, str], Outcome]],
    options: Sequence[Option], parts: int,
) -> NDArray[np.float64]:  # fmt: skip
    scores = np.full((len(found), parts, len(options)), np.nan)
    for f, one in enumerate(found):
        for o, option in enumerate(options):
            for p in range(parts):
                if outcome := one.get((option, part_name(p))):
                    scores[f, p, o] = measure.score(outcome)
    return scores


def _on_test(
    plan: Plan, whole: Fold, cuts: NDArray[np.float64], further: Mapping[str, Rows],
    options: tuple[Sequence[Option], Option], run: Any,
) -> dict[int, tuple[float, float, int]]:  # fmt: skip
    """Return scores of the choice and of the baseline, and rows, of every part of the test group."""
    chosen, baseline = options
    wanted = {option[0] for option in (*chosen, baseline)}
    train = {k: v for k, v in whole.candidates(plan.windows, further).items() if k in wanted}
    parts = whole.parts(cuts)
    found = plan.measured("of all", train, parts, run)
    made = {}
    for p, option in enumerate(chosen):
        if (name := part_name(p)) in parts and (baseline, name) in found:
            both = (plan.measure.score(found[o, name]) for o in (option, baseline))
            made[p] = (*both, len(parts[name]))
    return made  # type: ignore[return-value]


def _test_gain(parts: Iterable[tuple[float, float, int]]) -> float:
    values, base, rows = np.array(list(parts)).T
    return float(((values - base) * rows).sum() / rows.sum())


def _table(found: Sequence[Mapping[tuple[Option, str], Outcome]]) -> pd.DataFrame:
    lines = [(k + 1, *outcome) for k, one in enumerate(found) for outcome in one.values()]
    return pd.DataFrame(lines, columns=["fold", *Outcome._fields]).rename(columns={"test": "part"})
