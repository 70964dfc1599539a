"""An experiment on a store: checked at once, run when asked, resumed where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..cluster.checks import check_source
from ..cluster.local import some_client
from ..cluster.workers import cores_here, threads_of_a_task
from ..datasets import restore_labels
from ..declared_types import checked_arguments
from ..display import escape
from ..errors import (
    DamagedRecordWarning,
    DamagedStoreError,
    IncompleteEvaluationWarning,
    InvalidOptionError,
)
from ..folds import TEST, TRAIN
from ..label_fit import most_labels
from ..label_sets import warn_missing_classes
from ..memory import KERNELS
from ..store import (
    EvaluationRecords,
    RowRange,
    SourceAddress,
    Store,
    evaluation_records,
    exclusive,
)
from ..user_warnings import warn
from .census import overlap_warnings, take_census
from .checks import check_memory, check_workers, local_gpu, training_memory
from .collection import Prepared, StepsMixin, TableForm, client_of_task, finished_table
from .experiment import Experiment, ModelSpec, Setting
from .findings import FindingsMixin, Step
from .job import Job
from .jobs import jobs_of, versions
from .matrices import PerformanceMatrix, SideBySide, side_by_side
from .membership import save_rows
from .models import model_class
from .models.base import Model, Problem
from .protocol import Choice, performance_matrix
from .rows import test_blocks
from .scheduling import Failure, run_jobs, watch_epochs
from .selections import Selector
from .table import settings_of
from .targets import Targets, check_threshold, targets_of

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

Progress = Callable[[Job, "dict[str, Any] | Failure", bool], None]
Watch = Callable[[Job, "dict[str, Any]"], None]


class Evaluation(StepsMixin, FindingsMixin):
    """The evaluation of an experiment on a store; see `evaluate`.

    Parameters
    ----------
    store : Store
    experiment : Experiment
    client : distributed.Client, optional
        Where to run; the current client by default, threads of this process without one.

    Attributes
    ----------
    store : Store
    experiment : Experiment
        With every model's grid filled in.
    models : list of Model
    problem : Problem
    jobs : tuple of Job
        Its steps; each is kept in the store once it is done.
    failures : list of Failure
        Of the last `compute`.
    """

    @checked_arguments()
    def __init__(self, store: Store, experiment: Experiment, client: Client | None = None) -> None:
        kind = store.spec.label_kind
        if kind == "vector":
            raise InvalidOptionError(
                f"{store.url} has vector labels; an evaluation needs categorical or real ones"
            )
        self.store, self.client = store, client
        selector = self._selector(experiment)
        self._train, self._test = (
            [selector.choose(what, name, value) for name, value in named.items()]
            for what, named in (("training", experiment.train), ("test", experiment.test))
        )
        categorical = kind == "categorical"
        self.models = [_model(spec, categorical) for spec in experiment.models]
        self.experiment = replace(experiment, models=[m.spec for m in self.models])
        self.problem = Problem(
            categorical,
            store.columns,
            {subset.name: subset.size for subset in self._train},
            {subset.name: subset.size for subset in self._test},
            image_shape=store.spec.image_shape,
            itemsize=store.row_shape("features")[1].itemsize,
            trials=experiment.trials,
        )
        for model in self.models:
            model.check(self.problem)
        check_threshold(store, experiment.threshold)
        self.failures: list[Failure] = []
        self._records: dict[str, dict[str, Any]] = {}  # of the jobs that are done, by name
        self._ready = False

    def _selector(self, experiment: Experiment) -> Selector:
        """Return what turns selections into rows."""
        return Selector(self.store, experiment.metric)

    @property
    def parts(self) -> tuple[Evaluation, ...]:
        """Evaluations of one split each: this one."""
        return (self,)

    # -- what is to be done --------------------------------------------------------------------

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """The steps; subsets that are lazy Dask arrays are computed for it."""
        self._train, self._test = (
            [subset.resolved() for subset in part] for part in (self._train, self._test)
        )
        keys = tuple({c.name: str(c.key) for c in part} for part in (self._train, self._test))
        shared = {
            "seed": self.experiment.seed,
            "threshold": self.experiment.threshold,
            "labels": self.store.spec.label_kind,
            "test": keys[1],
        }
        records = evaluation_records(self.store, shared)
        return tuple(jobs_of(self.experiment, self.models, records, (keys[0], keys[1]), (), None))

    @property
    def records(self) -> EvaluationRecords:
        """Where the finished steps lie."""
        return self.jobs[0].records

    def finished(self) -> int:
        """Return how many steps the store has."""
        return len(self.records.finished([job.name for job in self.jobs]))

    # -- doing it ------------------------------------------------------------------------------

    def compute(
        self,
        client: Client | None = None,
        tell: Progress | None = None,
        watch: Watch | None = None,
    ) -> Evaluation:
        """Run the steps that the store does not have; return self.

        A step that fails for good costs that step only: it is in `failures`, and tried again by
        the next run.

        Parameters
        ----------
        tell : callable, optional
            Called for every step with its job, its record or failure, and whether the store had it.
        watch : callable, optional
            Called for every epoch that a network is through with, from another thread, with its
            job and an event: session, epoch, until (where it may go on to), loss (on the first
            test subset) and seconds.

        Warns
        -----
        IncompleteEvaluationWarning
            Where steps failed, if nobody is told of them.
        DamagedRecordWarning
            Where a record of a step was damaged; it runs again.
        BusyStoreWarning
            Where another process computes the same and is waited for.
        OverlapWarning
            Where a test subset has samples of a training subset.
        EqualRowsWarning
            Where by the store's notes it has samples that equal one of a training subset.
        """
        report: Progress = tell or (lambda job, record, resumed: None)
        self.failures, client = [], client or self.client
        with nullcontext() if client is None else client.as_current():
            jobs = self.jobs  # computes what only its rows can name
        if missing := self._missing(jobs, report):
            name, what = f"evaluation-{self.records.name}", "an evaluation is computed"
            with exclusive(self.store.address, name, what):
                missing = self._missing(missing, report)  # others may have done them meanwhile
                if missing:
                    self._run(missing, client, report, watch)
        self.records.tidy(self._records)
        self._keep_facts()
        self._ready = True
        if self.failures and tell is None:
            warn(
                f"{len(self.failures)} of {len(self.jobs)} steps failed, the first was "
                f"{self.failures[0]}; compute() tries them again",
                IncompleteEvaluationWarning,
            )
        return self

    def _keep_facts(self) -> None:
        """Write down again what the records are of, where that is lost."""
        try:
            kept = self.records.facts()
        except DamagedStoreError:
            kept = {}
        if not kept:
            self.records.begin(self.facts())

    def _missing(self, jobs: Sequence[Job], report: Progress) -> list[Job]:
        """Return the steps that the store does not have; report the others."""
        missing = []
        done = self.records.finished([job.name for job in jobs])
        for job in jobs:
            record = self._records.get(job.name)
            if record is None and job.name in done:
                record = self._loaded(job.name)
            if record is None:
                missing.append(job)
            else:
                self._records[job.name] = record
                report(job, record, True)
        return missing

    def _loaded(self, step: str) -> dict[str, Any] | None:
        """Return the record of a step; one that is damaged is said, and made again."""
        try:
            return self.records.load(step)
        except DamagedStoreError as error:
            warn(f"{error}; the step runs again", DamagedRecordWarning)
            return None

    def _run(
        self, missing: Sequence[Job], client: Client | None, report: Progress, watch: Watch | None
    ) -> None:
        def tell(job: Job, record: dict[str, Any] | Failure) -> None:
            if isinstance(record, Failure):
                _log.info("step %s failed: %s", job.name, record)
            else:
                self._records[job.name] = record
                _log.info("step %s is done", job.name)
            report(job, record, False)

        with some_client(client, local_gpu(self.models)) as running, running.as_current():
            prepared = self.prepare(running)
            ready = [prepared.ready(job) for job in missing]
            with watch_epochs(running, ready, watch):
                self.failures = run_jobs(running, ready, tell)

    def prepare(self, client: Client) -> Prepared:
        """Check data and workers, and have the subsets' rows written; `compute` begins with it.

        Parameters
        ----------
        client : distributed.Client
            The current one too.
        """
        check_source(client, self.records.address)
        check_memory(client, self.models, self.problem)  # too small a worker would not read labels
        classes, threshold = self._targets
        problem = replace(self.problem, classes=len(classes))
        check_workers(client, self.models, problem)
        check_memory(client, self.models, problem)
        blocks = self._keep_rows()
        self.records.begin(self.facts())
        return Prepared(classes, threshold, threads_of_a_task(client), blocks)

    def _keep_rows(self) -> tuple[RowRange, ...]:
        """Have the workers write the subsets' rows; say what is in several; cut the test rows."""
        save_rows(self.records, {str(s.key): s.load() for s in (*self._train, *self._test)})
        census = take_census(self.store, self.records, self._train, self._test)
        for warning in overlap_warnings(self.store, census, self._train, self._test):
            warn(warning)
        sides = (self.experiment.train, TRAIN), (self.experiment.test, TEST)
        if all(any(isinstance(v, str) and v == name for v in of.values()) for of, name in sides):
            warn_missing_classes(self.store)
        return test_blocks(census.tested)

    @cached_property
    def _targets(self) -> Targets:
        return targets_of(self.store, self.experiment.threshold)

    def facts(self) -> dict[str, Any]:
        """Return the provenance: data, experiment, threshold, versions of this process.

        The threshold is there in the labels' own units and in those of the store, also where it
        is the median.
        """
        stored, threshold = self._targets.threshold, self.experiment.threshold
        if stored is not None and threshold is None:
            threshold = float(restore_labels(self.store.spec, [stored])[0])
        return {
            "experiment": self.experiment.facts(),
            "data": self.store.spec.name,
            "segments": [digest for _, digest in self.store.segments],
            "subsets": {
                what: {c.name: {"rows": c.size, "key": c.key} for c in part}
                for what, part in (("train", self._train), ("test", self._test))
            },
            "threshold": threshold,
            "stored_threshold": stored,
            "versions": versions(),
        }

    def training_memory(self) -> int:
        """Return how many bytes steps take at most that run in threads of this process."""
        problem = replace(self.problem, classes=most_labels(self.store))
        return KERNELS + training_memory(self.models, problem, cores_here())

    def _preparing(self) -> tuple[Any, ...]:
        return _prepare, self.store.address, self.experiment

    # -- what came out ---------------------------------------------------------------------------

    def versions(self) -> dict[str, list[str]]:
        """Return which versions of Python and the libraries the finished steps were made with."""
        known: dict[str, set[str]] = {}
        for record in self._records.values():
            for name, version in record["facts"]["versions"].items():
                known.setdefault(name, set()).add(version)
        return {name: sorted(several) for name, several in known.items()}

    @property
    def is_computed(self) -> bool:
        """Whether `compute` was called."""
        return self._ready

    @property
    def table(self) -> pd.DataFrame:
        """One row per training subset, test subset, model, setting and trial; computed if need be.

        Columns: train, test, model, one per hyper-parameter (None where a model has it not),
        trial, seed, loss, acc and, for classes, balanced_loss. LOSS is that of C.2 for real labels
        (1 is best), the cross-entropy for classes (0 is best), once more re-weighted so that every
        class counts alike (Table 3; NaN in records of before); ACC is the share of right classes,
        or of values on the right side of the threshold.
        """
        self._computed()
        owners, records = zip(*self._done, strict=True) if self._done else ((), ())
        return finished_table(records, owners, self._form)

    @property
    def _form(self) -> TableForm:
        """How the table is made."""
        models = ((m.spec.name, m.spec.grid, m.own_sweep) for m in self.models)
        train, test = self.experiment.train, self.experiment.test
        return TableForm(tuple(models), tuple(train), tuple(test), self.problem.categorical)

    def _computed(self) -> None:
        if not self._ready:
            self.compute()

    @property
    def _done(self) -> list[tuple[str, dict[str, Any]]]:
        """Model and record of every step that is done, in the order of the jobs."""
        found = ((job.model.name, self._records.get(job.name)) for job in self.jobs)
        return [(name, record) for name, record in found if record is not None]

    def matrix(
        self,
        model: str | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        sweep: str | None = None,
        best: str | None = None,
        by: str | None = None,
        loss: str = "loss",
    ) -> PerformanceMatrix:
        """Return a model's performance matrix (paper, Tables 2 to 9); computed if need be.

        Parameters
        ----------
        model : str, optional
            Needed where there are several.
        fixed : mapping, optional
            Values of hyper-parameters that are not swept.
        sweep : str, optional
            The hyper-parameter that is chosen; the model's own by default.
        best : str, optional
            The test subset on which it is chosen (Tables 2 to 4, 6 and 8), the first by default;
            "each" for one value a cell (Tables 7 and 9).
        by : {"acc", "loss"}, optional
            What chooses it: LOSS for networks, ACC for all others by default.
        loss : {"loss", "balanced_loss"}
            Which LOSS is shown; the other is re-weighted by class (Table 3).
        """
        return performance_matrix(
            self.table,
            loss_high=not self.problem.categorical,
            model=model,
            fixed=fixed or {},
            choice=self.choice(model, sweep=sweep, best=best, by=by),
            loss=loss,
        )

    def choice(
        self, model: str | None, *, sweep: str | None, best: str | None, by: str | None
    ) -> Choice:
        """Return how a model's hyper-parameter is chosen, where nothing else is said by itself."""
        models = [m for m in self.models if model in (None, m.spec.name)]
        if len(models) == 1:
            own = models[0]
            by = by or own.chosen_by
            sweep = sweep or (own.sweep if own.sweep in (*own.spec.grid, *own.own_sweep) else None)
        return Choice(sweep, best or next(iter(self.experiment.test)), by or "acc")

    def _steps(self) -> Iterator[Step]:
        self._computed()
        for job in self.jobs:
            if job.seeds and job.name in self._records:
                setting = {k: v for k, v in job.settings[0].items() if k != "epochs"}
                yield Step(job, self._records[job.name]["facts"], setting)

    # -- matrices --------------------------------------------------------------------------------

    def matrices(
        self, best: str | None = None, loss: str = "loss"
    ) -> list[PerformanceMatrix | SideBySide]:
        """Return all matrices, of every model those of its other hyper-parameters side by side.

        Settings of which every step failed are left out. `best` and `loss` are those of `matrix`.
        """
        self._computed()
        shown: list[PerformanceMatrix | SideBySide] = []
        for model in self.models:
            made = [
                self.matrix(model.spec.name, fixed=fixed, best=best, loss=loss)
                for fixed in self.other_settings(model)
            ]
            if made:
                shown.append(made[0] if len(made) == 1 else side_by_side(made))
        return shown

    def other_settings(self, model: Model) -> list[Setting]:
        """Return the settings of a model's hyper-parameters but the swept one that have records."""
        records = [record for name, record in self._done if name == model.spec.name]
        done = [setting for record in records for _, setting in settings_of(record)]
        others = {
            json.dumps(fixed := {k: v for k, v in s.items() if k != model.sweep}): fixed
            for s in model.spec.settings
        }
        known = others.values()
        return [o for o in known if any(o.items() <= setting.items() for setting in done)]

    # -- how it is shown -------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Evaluation {self._words()}>"

    def _words(self) -> str:
        count = f"{len(self._train)} training × {len(self._test)} test subsets"
        names = ", ".join(m.spec.name for m in self.models)
        state = "computed" if self._ready else "lazy"
        if not self._ready and all(c.key for c in (*self._train, *self._test)):
            state = f"{self.finished():,} of {len(self.jobs):,} steps finished"
        if self.failures:
            state += f", {len(self.failures):,} failed"
        return f"{self.experiment.name} on {self.store.spec.name}: {names}, {count}, {state}"

    def _repr_html_(self) -> str:
        """Return the matrices once they are computed, else what is planned and finished."""
        if not self._ready or not self._records:
            return f"<p>{escape(self._words())}; <code>.compute()</code> runs it</p>"
        return f"<p>{escape(self._words())}</p>" + "".join(
            shown._repr_html_() for shown in self.matrices()
        )


def _prepare(address: SourceAddress, experiment: Experiment) -> Prepared:
    """Prepare an evaluation from within a task of the cluster that is to run it."""
    with client_of_task() as client:
        return Evaluation(address.open(), experiment).prepare(client)


def _model(spec: ModelSpec, categorical: bool) -> Model:
    kind = model_class(spec.kind)
    return kind(spec.with_default_grid(kind.default_grid(categorical)))
