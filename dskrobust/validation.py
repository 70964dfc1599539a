"""The folds of a training group: what is trained on, what is held out, and what is reached on it.

Of the rows of a fold R is that against the remaining rows, and so are the windows of these.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .declared_types import check_types
from .display import no_group
from .errors import Hint, InvalidOptionError, OverlapWarning
from .evaluation import Evaluation, Experiment, Model, evaluate, summary_of
from .evaluation.jobs import records_memory
from .evaluation.windows import ALL, Measure, Outcome, Windows, group_size, outcomes
from .label_fit import most_labels
from .memory import check_memory
from .part_choice import held_out
from .placement import PLACEMENTS, ROW_BYTES, SET_BYTES, labelled_places, predicted_places
from .robustness import sample_robustness
from .scores import Scores
from .selection import parse_selection
from .store import Store
from .subsets import Subset, select_subset
from .whole_numbers import check_whole, is_whole

Rows = NDArray[np.int64]
Option = tuple[str, str, str]  # training set, model, hyper-parameters in words
Reached = Mapping[tuple[Option, str], Outcome]  # by option and part
DEFAULT_TEST = "test"
FOLD = "tailoring, fold "  # how the experiments are called that options are measured by
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
        check_types(self)
        for name in ("folds", "parts"):
            check_whole(name, getattr(self, name), 2)
        if self.folds < 3:
            raise InvalidOptionError("two folds leave one to choose by; give folds=3 or more")
        if self.placement not in (None, *PLACEMENTS):
            raise InvalidOptionError(
                f"rows are placed by {' or '.join(PLACEMENTS)}, not {self.placement!r}"
            )
        if not is_whole(self.seed, 0, 2**32 - 1):
            raise InvalidOptionError(f"the seed must be from 0 to 2³² − 1, not {self.seed!r}")
        if not self.margin >= 0:
            raise InvalidOptionError(f"the margin must be a number from 0 on, not {self.margin!r}")


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

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this plan from others of the store's data, as plain values."""
        return {
            "models": [[model.name, model.identity()] for model in self.models],
            "windows": None if self.windows is None else asdict(self.windows),
            "validation": asdict(self.validation),
            "candidates": {name: str(given) for name, given in self.candidates.items()},
            "groups": self.groups,
            "metric": str(self.metric),
            **self.experiment,
        }

    def check(self) -> None:
        """Refuse what cannot be evaluated, before anything runs."""
        train, test = self.groups
        self.evaluation  # noqa: B018  refuses models
        if test == train:
            raise InvalidOptionError(
                f"{train} is the training and the test group; choose another test group"
            )
        if test not in (*self.store.groups, DEFAULT_TEST):  # a store need not have that
            raise InvalidOptionError(no_group(test, self.store.groups))
        rows = group_size(self.store, train)
        least = rows - -(-rows // self.validation.folds)  # that remain in every fold
        if self.windows is not None:
            self.windows.ranks(least)
        for name, text in self.selections.items():
            _check_selection(name, text, self.store.groups, train, least)
        self.listed  # noqa: B018  refuses other rows

    @cached_property
    def evaluation(self) -> Evaluation:
        """That of all training rows, which no other that is made takes more for."""
        train = self.groups[0]
        made: Evaluation = self._experiment({ALL: train}, {train: train}, 0)
        return made

    @property
    def repeats(self) -> int:
        """How often such an evaluation is made: of every option in every fold, and of all folds."""
        options = 1 + len(self.candidates) + (self.windows.count if self.windows else 0)
        return options * (self.validation.folds + 1)

    @property
    def memory(self) -> int:
        """How many bytes folds, and the records of every option on every part, take at most."""
        option = self.validation.parts * records_memory(self.evaluation.jobs)
        return _folds_memory(self.store, self.validation) + self.repeats * option

    @property
    def selections(self) -> dict[str, str]:
        """Those of the candidates that are selections in words."""
        return {name: given for name, given in self.candidates.items() if isinstance(given, str)}

    @cached_property
    def listed(self) -> dict[str, Rows]:
        """The rows of the other candidates."""
        return _listed(self)

    def _experiment(self, train: Any, test: Any, fold: int | str) -> Any:
        known = {"name": f"{FOLD}{fold}", **self.experiment}
        return evaluate(self.store, Experiment(train, test, self.models, **known))

    def measured(
        self, fold: int | str, train: Mapping[str, Rows], test: Mapping[str, Rows], run: Any
    ) -> Reached:
        """Return what every option reaches on every part."""
        evaluation = self._experiment(train, test, fold)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # equal rows: the data's own
            evaluation.compute(*run)
        if not evaluation.table["train"].eq(ALL).any():
            raise summary_of(evaluation.failures, len(evaluation.jobs))
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

    def windows(self, windows: Windows | None) -> dict[str, Rows]:
        """Return everything, and the windows of its spectrum."""
        order = self.rest[np.argsort(self.spectrum, kind="stable")]
        ranks = {} if windows is None else windows.ranks(len(order))
        return {ALL: self.rest, **{name: order[a:b] for name, (a, b) in ranks.items()}}

    def parts(self, cuts: NDArray[np.float64]) -> dict[str, Rows]:
        """Return the held-out rows of every part that has some."""
        codes = np.searchsorted(cuts, self.places, side="right")
        found = {part_name(k): self.held[codes == k] for k in range(len(cuts) + 1)}
        return {name: rows for name, rows in found.items() if len(rows)}


def part_name(part: int) -> str:
    """Return what a part is called among the test subsets."""
    return f"part {part + 1}"


def training_sets(plan: Plan, fold: Fold) -> dict[str, Rows]:
    """Return the training sets that are tried in a fold: everything first."""
    return fold.windows(plan.windows) | further_candidates(plan, fold)


# -- folds -------------------------------------------------------------------------------------


def _folds_memory(store: Store, cut: Validation) -> int:
    """Return how many bytes the folds of a store's rows, and R against them, take at most."""
    by_class = cut.placement != "label" and store.spec.label_kind == "categorical"
    columns = (cut.folds + 1) * (1 + by_class * most_labels(store))
    return store.rows * (ROW_BYTES + SET_BYTES * columns)


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
    both = zip(sets.values(), [*held, test], strict=True)
    folds = [Fold(rest, rows, own[rest, k], places[at[rows], k])
             for k, (rest, rows) in enumerate(both)]  # fmt: skip
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


def further_candidates(plan: Plan, fold: Fold) -> dict[str, Rows]:
    """Return the rows of the caller's candidates that remain in a fold, rising.

    A selection is made among these rows, by R within them: labels that are held out have no say.
    Rows that were named are those they are.
    """
    found = {name: rows[np.isin(rows, fold.rest)] for name, rows in plan.listed.items()}
    selections = plan.selections
    if selections:
        scores = _scores_within(plan, fold)
        chosen = {name: select_subset(scores, text) for name, text in selections.items()}
        found |= {name: np.sort(subset.compute().indices) for name, subset in chosen.items()}
    return {name: found[name] for name in plan.candidates if len(found[name])}


def _scores_within(plan: Plan, fold: Fold) -> Scores:
    """Return scores whose training group is what remains in a fold, ranked by R within it."""
    store, code = plan.store, plan.store.groups.index(plan.groups[0])
    split, robustness = np.full(store.rows, -1, np.int16), np.full(store.rows, np.nan)
    split[fold.rest], robustness[fold.rest] = code, fold.spectrum
    return replace(
        sample_robustness(store, metric=plan.metric), robustness=robustness, split=split,
        sizes=tuple(len(fold.rest) if k == code else 0 for k in range(len(store.groups))),
        references=(), reference_rows=None, plan=None, result=None, spec=None, base=None,
        run=None, waves=None,
    )  # fmt: skip


def _listed(plan: Plan) -> dict[str, Rows]:
    """Return the rows of candidates that are no selections, rising.

    Raises
    ------
    InvalidOptionError
        For what is no list of rows of the training group.
    """
    train, found = _group_rows(plan.store, plan.groups[0]), {}
    for name, given in plan.candidates.items():
        if isinstance(given, str):
            continue
        rows = given.compute().indices if isinstance(given, Subset) else np.asarray(given)
        if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
            raise InvalidOptionError(
                f"candidate {name!r} must be a selection, a Subset or row numbers, at least one"
            )
        outside = np.setdiff1d(rows, train)
        if len(outside):
            raise InvalidOptionError(
                f"candidate {name!r} has row {outside[0]}, which is not in {plan.groups[0]}"
            )
        found[name] = np.unique(rows).astype(np.int64)
    return found


def _check_selection(name: str, text: str, groups: Sequence[str], train: str, most: int) -> None:
    """Refuse a selection that is not of the training group, or asks for too many rows."""
    for term in parse_selection(text, groups):
        if term.group != train:
            raise InvalidOptionError(
                f"candidate {name!r} is of {term.group}; choose from {train} alone"
            )
        if term.steps and term.steps[0].size > most:
            raise InvalidOptionError(
                f"candidate {name!r}: {text} are more than the {most:,} rows of {train} that "
                "remain where a fold is held out; give fewer, or more folds"
            )


# -- what was reached ----------------------------------------------------------------------------


def complete_options(
    measure: Measure, found: Sequence[Reached], rows: NDArray[np.int64]
) -> list[Option]:
    """Return the options with a finite score on every part that has rows.

    Raises
    ------
    InvalidOptionError
        Where none of those that are trained on everything has.
    """
    wanted = [{part_name(int(p)) for p in np.flatnonzero(line)} for line in rows]
    options = list(dict.fromkeys(option for option, _ in found[0]))
    pairs = [(one, part) for one, parts in zip(found, wanted, strict=True) for part in parts]
    known = [
        option
        for option in options
        if all((option, p) in one and isfinite(measure.score(one[option, p])) for one, p in pairs)
    ]
    if not any(train == ALL for train, *_ in known):
        raise InvalidOptionError(
            f"no model that is trained on everything has a finite {measure} on every part",
            Hint("compare by another measure: Validation(by='acc')",
                 "compare by another measure: --by acc"),
        )  # fmt: skip
    return known


def scores_of(
    measure: Measure, found: Sequence[Reached], options: Sequence[Option], parts: int
) -> NDArray[np.float64]:
    """Return scores (folds, parts, options), NaN where a fold has no rows of a part."""
    scores = np.full((len(found), parts, len(options)), np.nan)
    for f, one in enumerate(found):
        for o, option in enumerate(options):
            for p in range(parts):
                if outcome := one.get((option, part_name(p))):
                    scores[f, p, o] = measure.score(outcome)
    return scores
