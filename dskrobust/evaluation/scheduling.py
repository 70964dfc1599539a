"""Running jobs on a cluster: tasks in a bounded window, a failure costs its own job only."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from distributed import Client, as_completed
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import NoWorkerError

from ..cluster.workers import tasks_of, workers_of
from ..display import error_line
from ..errors import EvaluationError
from .job import Job
from .jobs import run_job
from .models import model_class
from .models.base import TOPIC
from .rows import forget_training_data

AHEAD = 2  # tasks per thread, or per GPU, that the scheduler has at a time
LOST = (FutureCancelledError, CommClosedError, NoWorkerError)  # the cluster is gone, not one job


@dataclass(frozen=True, repr=False)
class Failure:
    """A job that failed for good; it is tried again by the next run.

    Attributes
    ----------
    job : Job
    reason : str
        In one line.
    """

    job: Job
    reason: str

    def __str__(self) -> str:
        job = self.job
        setting = [", ".join(f"{k}={v}" for k, v in s.items()) for s in job.settings[:1]]
        more = f" and {len(job.settings) - 1} more" if len(job.settings) > 1 else ""
        on = ", ".join(name for name, _ in job.train)
        what = " ".join(filter(None, setting)) + more
        trial = f"{len(job.seeds)} trials" if job.seeds else f"trial {job.trial}"
        return f"{job.model.name} on {on}{f' ({what})' if what else ''}, {trial}: {self.reason}"

    def __repr__(self) -> str:
        return f"<Failure of {self}>"


Tell = Callable[[Job, "dict[str, Any] | Failure"], None]


def run_jobs(client: Client, jobs: Sequence[Job], tell: Tell) -> list[Failure]:
    """Run jobs and keep their records; return those that failed, in the order of the jobs.

    Jobs that are tasks come first, then those that use the cluster themselves, one by one.

    Parameters
    ----------
    tell : callable
        Called with every job that is done and its record or failure.
    """
    failures: list[Failure] = []
    tasks = [job for job in jobs if not model_class(job.model.kind).distributed]
    alone = [job for job in jobs if model_class(job.model.kind).distributed]
    for job, outcome in itertools.chain(_run_tasks(client, tasks), _run_alone(client, alone)):
        if isinstance(outcome, Failure):
            failures.append(outcome)
        tell(job, outcome)
    with contextlib.suppress(Exception):  # a worker that is gone keeps nothing
        client.run(forget_training_data, on_error="ignore")
    order = {job.name: k for k, job in enumerate(jobs)}
    return sorted(failures, key=lambda failure: order[failure.job.name])


def _run_tasks(client: Client, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
    """Run one task a job; the scheduler gives those of a worker that died to another.

    Jobs with the same needs make a pool. The scheduler pushes tasks that need a resource to
    workers at once, however many they are: so every pool has a window of its own.
    """
    pools: dict[str, list[Job]] = {}
    for job in jobs:
        pools.setdefault(json.dumps(_resources(job), sort_keys=True), []).append(job)
    waiting = {name: iter(pool) for name, pool in pools.items()}
    running: dict[Any, tuple[str, Job]] = {}
    futures = as_completed(loop=client.loop)

    def submit(pool: str, count: int) -> None:
        for job in itertools.islice(waiting[pool], count):
            needs = _resources(job) or None
            key = f"{job}-{uuid4().hex}"  # what the dashboard shows, up to the dash
            future = client.submit(run_job, job, key=key, resources=needs, pure=False)
            running[future.key] = pool, job
            futures.add(future)

    try:
        for name, pool in pools.items():
            submit(name, AHEAD * _at_once(client, _resources(pool[0])))
        for future in futures:
            name, job = running.pop(future.key)
            try:
                outcome = future.result()
            except LOST:
                raise
            except Exception as error:
                outcome = Failure(job, error_line(error))
            submit(name, 1)
            yield job, outcome
    finally:
        if running:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.cancel(list(running), force=True)


def _resources(job: Job) -> Mapping[str, int]:
    return model_class(job.model.kind)(job.model).resources


def _at_once(client: Client, needs: Mapping[str, int]) -> int:
    """How many jobs with these needs can run at a time."""
    count = sum(tasks_of(worker, needs) for worker in workers_of(client, needs).values())
    return max(1 if needs else 2, count)


def _run_alone(client: Client, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
    for job in jobs:
        try:
            outcome: Any = run_job(job, client)  # the current one: xgboost asks for that too
        except Exception as error:
            lost = isinstance(error, LOST) or client.status == "closed"
            if lost and not _has_workers(client):
                raise
            outcome = Failure(job, error_line(error))
        yield job, outcome


def _has_workers(client: Client) -> bool:
    """Whether the cluster is still there: then what was lost is one job."""
    with contextlib.suppress(Exception):
        return client.status == "running" and bool(client.nthreads())
    return False


@contextmanager
def watch_epochs(
    client: Client, jobs: Sequence[Job], tell: Callable[[Job, dict[str, Any]], None] | None
) -> Iterator[None]:
    """Call tell(job, event) for every epoch that one of the jobs is through with."""
    if tell is None:
        yield
        return
    known, report = {job.name: job for job in jobs}, tell

    def handle(event: tuple[float, dict[str, Any]]) -> None:
        job = known.get(event[1]["step"])
        if job is not None:
            report(job, event[1])

    client.subscribe_topic(TOPIC, handle)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.unsubscribe_topic(TOPIC)


def summary_of(failures: Sequence[Failure], steps: int) -> EvaluationError:
    """Return the error that ends a run in which steps failed."""
    return EvaluationError(
        f"{len(failures):,} of {steps:,} steps failed; run the same command again to try them again"
    )
