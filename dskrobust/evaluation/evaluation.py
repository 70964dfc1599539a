"""An experiment on a store: checked at once, run when asked, resumed where it stopped."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cluster.workers import check_source, threads_of_a_task
from ..datasets import restore_labels
from ..errors import (
    EvaluationError,
    IncompleteEvaluationWarning,
    InvalidOptionError,
    OverlapWarning,
)
from ..store import EvaluationRecords, Store, evaluation_records, open_store
from .checks import check_memory, check_workers
from .experiment import Experiment, ModelSpec, Selection
from .jobs import jobs_of, versions
from .models.base import Job, Model, Problem, model_class
from .results import Results
from .scheduling import Failure, run_jobs, some_client, watch_epochs
from .selections import Selector, overlap

if TYPE_CHECKING:
    from distributed import Client


SLACK = 1e-12  # of the labels' size: a mean of equal labels may miss them by a rounding error

Progress = Callable[[Job, "dict[str, Any] | Failure", bool], None]
Watch = Callable[[Job, "dict[str, Any]"], None]


def evaluate(
    store: str | Path | Store,
    experiment: Experiment | None = None,
    *,
    train: Mapping[str, Selection] | None = None,
    test: Mapping[str, Selection] | None = None,
    models: Sequence[ModelSpec] | None = None,
    client: Client | None = None,
    **given: Any,
) -> Evaluation:
    """Return an experiment's evaluation: checked, but nothing is read or trained until asked.

    Parameters
    ----------
    store : str or Store
    experiment : Experiment, optional
        In its place its parts can be given: train, test, models, trials, seed, threshold, metric.
    client : distributed.Client, optional
        Where to run; the current client by default, threads of this process without one.

    Raises
    ------
    InvalidOptionError
        For what does not fit the data: an unknown subset, model or hyper-parameter, more
        neighbours than samples, a threshold beyond the labels.
    StaleResultsError
        Where subsets are chosen by robustness and the store has no results.
    """
    if experiment is None:
        if train is None or test is None or models is None:
            raise InvalidOptionError("evaluate needs an experiment, or train, test and models")
        experiment = Experiment(train, test, models, **given)
    elif given or any(part is not None for part in (train, test, models)):
        raise InvalidOptionError("give evaluate either an experiment or its parts, not both")
    return Evaluation(open_store(store), experiment, client)


class Evaluation(Results):
    """The evaluation of an experiment on a store; see `evaluate`.

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

    def __init__(self, store: Store, experiment: Experiment, client: Client | None = None) -> None:
        kind = store.spec.label_kind
        if kind == "vector":
            raise InvalidOptionError(
                f"{store.url} has vector labels; an evaluation needs categorical or real ones"
            )
        self.store, self.client = store, client
        selector = Selector(store, experiment.metric)
        self._train, self._test = (
            [selector.choose(what, name, value) for name, value in given.items()]
            for what, given in (("training", experiment.train), ("test", experiment.test))
        )
        categorical = kind == "categorical"
        self.models = [_model(spec, categorical) for spec in experiment.models]
        self.experiment = replace(experiment, models=[m.spec for m in self.models])
        self.problem = Problem(
            categorical,
            store.columns,
            {chosen.name: chosen.size for chosen in self._train},
            {chosen.name: chosen.size for chosen in self._test},
            image_shape=store.spec.image_shape,
            itemsize=store.row_shape("features")[1].itemsize,
            trials=experiment.trials,
        )
        for model in self.models:
            model.check(self.problem)
        _check_threshold(store, experiment.threshold)
        self.failures: list[Failure] = []
        self._records = {}
        self._ready = False

    # -- what is to be done --------------------------------------------------------------------

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """The steps; subsets that are lazy Dask arrays are computed for it."""
        self._train, self._test = (
            [chosen.resolved() for chosen in part] for part in (self._train, self._test)
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
            Called for every step with its job, its record or failure, and whether it was found.
        watch : callable, optional
            Called for every epoch that a network is through with, from another thread, with its
            job and an event: session, epoch, until (where it may go on to), loss (on the first
            test subset) and seconds.

        Warns
        -----
        IncompleteEvaluationWarning
            Where steps failed, if nobody is told of them.
        OverlapWarning
            Where a test subset has samples of a training subset.
        """
        report: Progress = tell or (lambda job, record, found: None)
        missing = []
        done = self.records.finished([job.name for job in self.jobs])
        for job in self.jobs:
            record = self._records.get(job.name)
            if record is None and job.name in done:
                record = self.records.load(job.name)
            if record is None:
                missing.append(job)
            else:
                self._records[job.name] = record
                report(job, record, True)
        self.records.tidy(self._records)
        self.failures = []
        if missing:
            self._run(missing, client or self.client, report, watch)
        self._ready = True
        if self.failures and tell is None:
            warnings.warn(
                f"{len(self.failures)} of {len(self.jobs)} steps failed, the first was "
                f"{self.failures[0]}; compute() tries them again",
                IncompleteEvaluationWarning,
                stacklevel=2,
            )
        return self

    def _run(
        self, missing: Sequence[Job], client: Client | None, report: Progress, watch: Watch | None
    ) -> None:
        def tell(job: Job, found: dict[str, Any] | Failure) -> None:
            if not isinstance(found, Failure):
                self._records[job.name] = found
            report(job, found, False)

        with some_client(client, self.models) as running:
            check_source(running, self.records.address)
            classes, threshold = self._targets
            problem = replace(self.problem, classes=len(classes))
            check_workers(running, self.models, problem)
            check_memory(running, self.models, problem)
            self._warn_of_overlap()
            for chosen in {str(c.key): c for c in (*self._train, *self._test)}.values():
                self.records.save_rows(str(chosen.key), chosen.rows())
            self.records.begin(self.facts())
            threads = threads_of_a_task(running)
            ready = [
                replace(job, classes=classes, threshold=threshold, threads=threads)
                for job in missing
            ]
            with watch_epochs(running, ready, watch):
                self.failures = run_jobs(running, ready, tell)

    def _warn_of_overlap(self) -> None:
        found = overlap(self.store.rows, self._train, self._test)
        if found is not None:
            share, train, test = found
            warnings.warn(
                f"{share:.0%} of the samples of {test} are in {train} too: LOSS and ACC on samples "
                "that a model was trained on are flattering",
                OverlapWarning,
                stacklevel=4,
            )

    @cached_property
    def _targets(self) -> tuple[tuple[Any, ...], float | None]:
        """Return the classes, and the threshold in stored units less the rounding error."""
        spec, labels = self.store.spec, self.store.labels[:]
        if self.problem.categorical:
            known = np.unique(labels) if spec.classes is None else np.arange(len(spec.classes))
            return tuple(known.tolist()), None
        threshold = self.experiment.threshold
        if threshold is None:
            stored = float(np.median(labels))
        else:
            low, high = (float(v) for v in restore_labels(spec, [0.0, 1.0]))
            stored = (threshold - low) / (high - low)
        return (), stored - SLACK * max(1e-300, float(np.abs(labels).max()))

    def facts(self) -> dict[str, Any]:
        """Return the provenance: data, experiment, threshold, versions of this process.

        The threshold is there in the labels' own units and in those of the store, also where it
        is the median.
        """
        stored, threshold = self._targets[1], self.experiment.threshold
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
            return f"<p>{html.escape(self._words())}; <code>.compute()</code> runs it</p>"
        return f"<p>{html.escape(self._words())}</p>" + "".join(
            shown._repr_html_() for shown in self.matrices()
        )


def _model(spec: ModelSpec, categorical: bool) -> Model:
    found = model_class(spec.kind)
    return found(spec.with_default_grid(found.default_grid(categorical)))


def _check_threshold(store: Store, threshold: float | None) -> None:
    """Refuse a threshold that puts all samples on one side, or that classes have no use for."""
    if threshold is None:
        return
    if store.spec.label_kind == "categorical":
        raise InvalidOptionError("a threshold is for real labels; classes are compared directly")
    labels = restore_labels(store.spec, store.labels[:])
    low, high = float(labels.min()), float(labels.max())
    if not low < threshold <= high:
        raise InvalidOptionError(
            f"the threshold {threshold:g} is out of range: labels go from {low:g} to {high:g}"
        )


def summary_of(failures: Sequence[Failure], steps: int) -> EvaluationError:
    """Return the error that ends a run in which steps failed."""
    return EvaluationError(
        f"{len(failures):,} of {steps:,} steps failed; run the same command again to try them again"
    )
