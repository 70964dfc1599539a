"""An evaluation as a Dask collection: its steps are tasks, and its table is their result.

One task prepares what all steps need: it has the subsets' rows written and cuts the test rows.
Steps that use the whole cluster do so from within their task and follow each other; the others run
as they come. Records are kept in the store as ever, so a step that has one is not done again; one
that fails ends the computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from dask import threaded
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from ..cluster.local import some_client
from ..store import EvaluationRecords, RowRange
from .jobs import run_job
from .models import model_class
from .table import ModelRecords, grid_of, trials_table

if TYPE_CHECKING:
    from distributed import Client

    from .job import Job
    from .models.base import Model


class Prepared(NamedTuple):
    """What is known of the data and the workers once an evaluation begins; see `Job`."""

    classes: tuple[Any, ...]
    threshold: float | None
    threads: int
    blocks: tuple[RowRange, ...]

    def ready(self, job: Job) -> Job:
        """Return a job that can run."""
        return replace(job, **self._asdict())


@dataclass(frozen=True)
class TableForm:
    """How records of steps become a table of trials.

    Attributes
    ----------
    models : tuple of (name, grid, own_sweep)
    train, test : tuple of str
        Names of the subsets.
    balanced : bool
        Whether there is a LOSS re-weighted by class.
    """

    models: tuple[tuple[str, Mapping[str, Sequence[Any]], tuple[str, ...]], ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    balanced: bool

    def table(self, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
        """Return the table of records by the names of their models; see `Evaluation.table`."""
        made = [model_records(model, records.get(model[0], ())) for model in self.models]
        return trials_table(made, self.train, self.test, balanced=self.balanced)


def model_records(
    model: tuple[str, Mapping[str, Sequence[Any]], tuple[str, ...]],
    records: Sequence[Mapping[str, Any]],
) -> ModelRecords:
    """Return a model's records with its grid, of what it chose itself as they have it."""
    name, grid, own = model
    searched = grid_of(records, {}) if own else {}
    return ModelRecords(name, {**grid, **{key: searched.get(key, ()) for key in own}}, records)


class StepsMixin:
    """Dask's protocol for an evaluation: what it needs of one is declared here."""

    models: list[Model]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Its steps."""
        raise NotImplementedError

    @property
    def records(self) -> EvaluationRecords:
        """Where the finished steps lie."""
        raise NotImplementedError

    @property
    def _form(self) -> TableForm:
        raise NotImplementedError

    def _preparing(self) -> tuple[Any, ...]:
        """Return the task that returns what is `Prepared`."""
        raise NotImplementedError

    def compute(self, client: Client | None = None) -> StepsMixin:
        """Run the steps that the store does not have; return self."""
        raise NotImplementedError

    @cached_property
    def dask(self) -> HighLevelGraph:
        """Graph of the steps, a layer a model: what `client.compute(evaluation)` runs.

        Its result is the table. A step that fails ends it; those that were finished before have
        their records, as with `compute`.
        """
        return self._graph[0]

    @cached_property
    def _graph(self) -> tuple[HighLevelGraph, list[tuple[str, int]]]:
        return graph_of(self.models, self.jobs, self._preparing(), tokenize(self))

    def __dask_graph__(self) -> HighLevelGraph:
        return self.dask

    def __dask_keys__(self) -> list[tuple[str, int]]:
        return self._graph[1]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(name for name in self.dask.layers if not name.startswith("prepare-"))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self.records, [job.name for job in self.jobs]

    __dask_optimize__ = None
    __dask_scheduler__ = staticmethod(threaded.get)

    def __dask_postcompute__(self) -> tuple[Callable[..., pd.DataFrame], tuple[Any, ...]]:
        names = [model.spec.name for model in self.models]
        owners = sorted((job.model.name for job in self.jobs), key=names.index)
        return finished_table, (owners, self._form)

    def __dask_postpersist__(self) -> tuple[Callable[..., StepsMixin], tuple[()]]:
        return self._persisted, ()

    def _persisted(self, graph: Mapping[Any, Any], **names: Any) -> StepsMixin:
        """Return the evaluation over steps that the cluster runs, and keeps."""
        made = copy(self)
        layers: dict[str, dict[Any, Any]] = {}
        for key, value in graph.items():
            layers.setdefault(key[0], {})[key] = value
        made.__dict__["dask"] = HighLevelGraph(layers, {name: set() for name in layers})
        return made

    def persist(self, client: Client | None = None) -> StepsMixin:
        """Run the steps that the store does not have, which keeps them; the same as `compute`.

        Parameters
        ----------
        client : distributed.Client, optional
            Where to run.
        """
        return self.compute(client)


def graph_of(
    models: Sequence[Model], jobs: Sequence[Job], preparing: tuple[Any, ...], token: str
) -> tuple[HighLevelGraph, list[tuple[str, int]]]:
    """Return the graph of an evaluation's steps, and their keys; nothing runs yet.

    A layer a model, whose annotations name the resources that its steps need.

    Parameters
    ----------
    preparing : tuple
        The task that returns what is `Prepared`.
    """
    begin = f"prepare-{token}"
    layers: dict[str, Any] = {begin: MaterializedLayer({begin: preparing})}
    needs: dict[str, set[str]] = {begin: set()}
    keys: list[tuple[str, int]] = []
    before: tuple[str, int] | None = None
    for model in models:
        layer, name = f"{model.spec.name}-{token}", model.spec.name
        tasks: dict[tuple[str, int], tuple[Any, ...]] = {}
        needs[layer] = {begin}
        for k, job in enumerate(job for job in jobs if job.model.name == name):
            if model.distributed and before:
                needs[layer] |= {before[0]} - {layer}
            tasks[layer, k] = (run_step, job, begin, before if model.distributed else None)
            before = (layer, k) if model.distributed else before
        layers[layer] = MaterializedLayer(tasks, annotations=_annotations(model))
        keys += list(tasks)
    return HighLevelGraph(layers, needs), keys


def _annotations(model: Model) -> dict[str, Any] | None:
    return {"resources": dict(model.resources)} if model.resources else None


# -- tasks -------------------------------------------------------------------------------------


def run_step(job: Job, prepared: Prepared, before: Any) -> dict[str, Any]:
    """Run a job after another one; return its record."""
    job = prepared.ready(job)
    if not model_class(job.model.kind).distributed:
        return run_job(job)
    with client_of_task() as client:
        return run_job(job, client)


def finished_table(
    records: Sequence[Mapping[str, Any]], owners: Sequence[str], form: TableForm
) -> pd.DataFrame:
    """Return the table of steps' records; owners are the names of their models."""
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for name, record in zip(owners, records, strict=True):
        by_model.setdefault(name, []).append(record)
    return form.table(by_model)


@contextmanager
def client_of_task() -> Iterator[Client]:
    """Yield a client of the cluster that this task runs on, and make it the current one."""
    from distributed import get_worker, worker_client

    try:
        get_worker()
    except ValueError:  # a thread of Dask's local scheduler
        with some_client(None, {}) as client, client.as_current():
            yield client
        return
    with worker_client() as client, client.as_current():
        yield client
