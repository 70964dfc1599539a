"""Cross-validation: an experiment on every fold, whose training set are the other folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property, partial
from shlex import quote
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..cluster.local import some_client
from ..declared_types import checked_arguments
from ..display import escape
from ..errors import Hint, InvalidOptionError, StaleResultsError
from ..folds import TEST, TRAIN, Folds
from ..metrics import resolve_metric
from ..references import reference_sets
from ..runs import PairData
from ..scores import Scores, read_scores
from ..selection import ALL, parse_selection
from ..store import ResultTables, Store, find_results
from .checks import local_gpu
from .collection import Prepared, client_of_task
from .evaluation import Evaluation, Progress, Watch
from .experiment import Experiment
from .fold_matrices import FoldsMatrix, fold_matrix
from .job import Job
from .membership import UnionRows
from .models.base import Model
from .scheduling import Failure
from .selections import Selector, SubsetRows, digest_of, result_of

if TYPE_CHECKING:
    from distributed import Client

FOLD = "fold"  # column of all tables


class FoldSelector(Selector):
    """Turns selections of the groups train and test into rows of a fold and of the others.

    Parameters
    ----------
    folds : Folds
    number : int
        Of the fold that is tested, from 1 on.
    metric : str, optional
    """

    groups = (TRAIN, TEST)

    def __init__(self, folds: Folds, number: int, metric: str | None) -> None:
        super().__init__(folds.store, metric)
        self.folds, self.number = folds, number

    @property
    def context(self) -> tuple[Any, ...]:
        """The folds, and which of them is tested."""
        return ("folds", [rows.token for rows in self.folds.sets], self.number)

    @cached_property
    def result(self) -> ResultTables:
        """The stored result that has scores against every fold."""
        return result_against(self.folds, self.metric)

    @property
    def result_name(self) -> str:
        """Of that result."""
        return self.result.name

    @cached_property
    def scores(self) -> Scores:
        """The fold's scores, read from the store."""
        return self.folds.scores(read_scores(self.store, self.result), self.number)

    def _of_text(self, name: str, text: str) -> SubsetRows:
        if any(term.group == ALL for term in parse_selection(text, self.groups)):
            raise InvalidOptionError(
                f"{text!r} has rows of training and test set; of folds choose {TRAIN} or {TEST}"
            )
        return super()._of_text(name, text)

    def whole_group(self, name: str, group: str | None) -> SubsetRows:
        """Return all rows of the fold, or of the others."""
        place = self.folds.place(self.number)
        sides = {TEST: {place}, TRAIN: set(range(self.folds.count)) - {place}}
        chosen = sorted(sides[str(group)])
        size = sum(self.folds.sizes[k] for k in chosen)
        load = partial(UnionRows, tuple(self.folds.sets[k] for k in chosen))
        return SubsetRows(name, size, digest_of([*self.context, group]), load)


def result_against(folds: Folds, metric: str | None) -> ResultTables:
    """Return the newest stored result against folds, of a metric or of any.

    Raises
    ------
    StaleResultsError
        Where there is none.
    """
    store = folds.store
    if not folds.drawn:
        return result_of(store, metric)
    sets = reference_sets(PairData(store), folds.references)[0]
    wanted = "" if metric is None else metric
    if wanted not in ("", "mahalanobis"):
        wanted = str(resolve_metric(wanted))
    for result in reversed(find_results(store, everything=True)):
        known = result.parameters
        same = known.get("references") == sets.digest and str(known["metric"]).startswith(wanted)
        if same and result.covers(store):
            return result
    of = f" of the metric {wanted}" if wanted else ""
    drawn = f"{folds.count} --seed {folds.seed}" if folds.seed else f"{folds.count}"
    raise StaleResultsError(
        f"{store.url} has no results{of} against its {folds.count} folds",
        Hint(
            "run folds.robustness().write() of dr.make_folds(store, …)",
            f"run `dskrobust compute {quote(store.url)} --folds {drawn}`",
        ),
    )


def fold_subsets(folds: Folds, metric: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return training and test subsets where nobody says which: all, and where R is known halves.

    They are of the same sizes in every fold: halves of the smallest one.
    """
    sizes = [folds.train_size(k) for k in range(1, folds.count + 1)]
    chosen = []
    for letter, group, rows in (("x", TRAIN, min(sizes)), ("t", TEST, min(folds.sizes))):
        half = rows // 2
        halves = {f"{letter}_L": f"{group}:L{half}", f"{letter}_M": f"{group}:M{half}"}
        chosen.append({letter: group, **(halves if half else {})})
    try:
        result_against(folds, metric)
    except StaleResultsError:
        return {"x": TRAIN}, {"t": TEST}
    return chosen[0], chosen[1]


class FoldEvaluation(Evaluation):
    """The evaluation of an experiment on one fold.

    Parameters
    ----------
    folds : Folds
    number : int
        Of the fold that is tested, from 1 on.
    experiment : Experiment
    client : distributed.Client, optional
    """

    def __init__(
        self, folds: Folds, number: int, experiment: Experiment, client: Client | None = None
    ) -> None:
        self.folds, self.number = folds, number
        super().__init__(folds.store, experiment, client)

    def _selector(self, experiment: Experiment) -> Selector:
        return FoldSelector(self.folds, self.number, experiment.metric)

    def _preparing(self) -> tuple[Any, ...]:
        return _prepare, self.folds, self.number, self.experiment

    def facts(self) -> dict[str, Any]:
        """Return the provenance, with the fold."""
        fold = {"number": self.number, "of": self.folds.count, "drawn": self.folds.drawn}
        return {**super().facts(), FOLD: fold}


def _prepare(folds: Folds, number: int, experiment: Experiment) -> Prepared:
    """Prepare the evaluation of a fold from within a task of the cluster that is to run it."""
    with client_of_task() as client:
        return FoldEvaluation(folds, number, experiment).prepare(client)


class CrossValidation:
    """An experiment on every fold of a store; see `evaluate` with folds.

    Parameters
    ----------
    folds : Folds
    experiment : Experiment
        Its selections are of the groups train (all folds but one) and test (that one).
    client : distributed.Client, optional
        Where to run; the current client by default, threads of this process without one.

    Attributes
    ----------
    folds : Folds
    experiment : Experiment
        With every model's grid filled in.
    parts : tuple of Evaluation
        One a fold, each as if the store had this split alone.
    """

    @checked_arguments()
    def __init__(self, folds: Folds, experiment: Experiment, client: Client | None = None) -> None:
        self.folds, self.client = folds, client
        self.store: Store = folds.store
        numbers = range(1, folds.count + 1)
        self.parts = tuple(FoldEvaluation(folds, k, experiment, client) for k in numbers)
        self.experiment = self.parts[0].experiment

    # -- doing it ------------------------------------------------------------------------------

    @property
    def models(self) -> list[Model]:
        """The models."""
        return self.parts[0].models

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The steps of all folds."""
        return tuple(job for part in self.parts for job in part.jobs)

    def finished(self) -> int:
        """Return how many steps the store has."""
        return sum(part.finished() for part in self.parts)

    def training_memory(self) -> int:
        """Return how many bytes steps take at most that run in threads of this process."""
        return max(part.training_memory() for part in self.parts)

    @property
    def failures(self) -> list[Failure]:
        """Steps that failed in the last `compute`."""
        return [failure for part in self.parts for failure in part.failures]

    @property
    def is_computed(self) -> bool:
        """Whether `compute` was called."""
        return all(part.is_computed for part in self.parts)

    def compute(
        self,
        client: Client | None = None,
        tell: Progress | None = None,
        watch: Watch | None = None,
    ) -> CrossValidation:
        """Run the steps that the store does not have, fold by fold; return self.

        Parameters are those of `Evaluation.compute`, and so are warnings.
        """
        client = client or self.client
        with ExitStack() as stack:
            if client is None and self.finished() < len(self.jobs):  # one for all folds
                client = stack.enter_context(some_client(None, local_gpu(self.models)))
            for part in self.parts:
                part.compute(client, tell, watch)
        return self

    def facts(self) -> dict[str, Any]:
        """Return the provenance of all folds."""
        return {
            "experiment": self.experiment.facts(),
            "data": self.store.spec.name,
            "folds": [part.facts() for part in self.parts],
        }

    def versions(self) -> dict[str, list[str]]:
        """Return which versions of Python and the libraries the finished steps were made with."""
        known: dict[str, set[str]] = {}
        for part in self.parts:
            for name, several in part.versions().items():
                known.setdefault(name, set()).update(several)
        return {name: sorted(several) for name, several in known.items()}

    # -- what came out ---------------------------------------------------------------------------

    def _joined(self, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        """Return tables of the folds as one, with the fold's number in the first column."""
        numbered = [frame.copy() for frame in frames]
        for number, frame in enumerate(numbered, 1):
            frame.insert(0, FOLD, number)
        return pd.concat(numbered, ignore_index=True)

    @property
    def table(self) -> pd.DataFrame:
        """The trials of all folds: fold, then the columns of `Evaluation.table`."""
        self._computed()
        return self._joined(part.table for part in self.parts)

    @property
    def curves(self) -> pd.DataFrame:
        """Curves of networks: fold, then the columns of `Evaluation.curves`."""
        self._computed()
        return self._joined(part.curves for part in self.parts)

    @property
    def sessions(self) -> pd.DataFrame:
        """How networks came to their epochs: fold, then the columns of `Evaluation.sessions`."""
        self._computed()
        return self._joined(part.sessions for part in self.parts)

    def _computed(self) -> None:
        if not self.is_computed:
            self.compute()

    def matrix(
        self,
        model: str | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        sweep: str | None = None,
        best: str | None = None,
        by: str | None = None,
        loss: str = "loss",
    ) -> FoldsMatrix:
        """Return a model's performance matrix with mean and spread over the folds.

        Parameters are those of `Evaluation.matrix`. One value of the swept hyper-parameter is
        chosen for all folds: that of the best mean over them.
        """
        self._computed()
        own = self.parts[0].choice(model, sweep=sweep, best=best, by=by)
        tables = [part.table for part in self.parts]
        loss_high = not self.parts[0].problem.categorical
        return fold_matrix(tables, own, loss_high=loss_high, model=model, fixed=fixed, loss=loss)

    def matrices(self, best: str | None = None, loss: str = "loss") -> list[FoldsMatrix]:
        """Return all matrices: of every model one for each setting of its other hyper-parameters.

        Settings that not every fold has are left out. `best` and `loss` are those of `matrix`.
        """
        self._computed()
        shown: list[FoldsMatrix] = []
        for model in self.models:
            name = model.spec.name
            first, *others = (part.other_settings(model) for part in self.parts)
            every = [fixed for fixed in first if all(fixed in known for known in others)]
            shown += [self.matrix(name, fixed=fixed, best=best, loss=loss) for fixed in every]
        return shown

    # -- how it is shown -------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<CrossValidation {self._words()}>"

    def _words(self) -> str:
        names = ", ".join(model.spec.name for model in self.models)
        train, test = len(self.experiment.train), len(self.experiment.test)
        if self.is_computed:
            state = f"{len(self.failures):,} steps failed" if self.failures else "computed"
        else:
            state = f"{self.finished():,} of {len(self.jobs):,} steps finished"
        return (
            f"{self.experiment.name} on {self.store.spec.name}: {names}, {self.folds.count} folds, "
            f"{train} training × {test} test subsets, {state}"
        )

    def _repr_html_(self) -> str:
        """Return the matrices once they are computed, else what is planned and finished."""
        words = escape(self._words())
        if not self.is_computed:
            return f"<p>{words}; <code>.compute()</code> runs it</p>"
        return f"<p>{words}</p>" + "".join(shown._repr_html_() for shown in self.matrices())
