"""Running jobs on a cluster: tasks in a bounded window, a failure costs its own job only."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, LocalCluster, as_completed, default_client
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import NoWorkerError

from ..errors import ClusterError, MemoryPlanError
from ..plan import BASE_BYTES, MIB, USABLE
from ..store import SourceAddress
from .jobs import run_job
from .models import Job, Model, Problem, model_class
from .rows import forget_training_data

HOST = "127.0.0.1"  # nothing of ours listens to the network
LIBRARY_BYTES = 80 * MIB  # of a worker: scikit-learn, pandas, rows being read (measured)
AHEAD = 2  # tasks per thread that the scheduler has at a time
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
        return f"{job.model.name} on {on}{f' ({what})' if what else ''}, trial {job.trial}: " + (
            self.reason
        )

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
    for job, found in itertools.chain(_run_tasks(client, tasks), _run_alone(client, alone)):
        if isinstance(found, Failure):
            failures.append(found)
        tell(job, found)
    with contextlib.suppress(Exception):  # a worker that is gone keeps nothing
        client.run(forget_training_data, on_error="ignore")
    order = {job.name: k for k, job in enumerate(jobs)}
    return sorted(failures, key=lambda failure: order[failure.job.name])


def _run_tasks(client: Client, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
    """Run one task a job; the scheduler gives those of a worker that died to another."""
    waiting = iter(jobs)
    running: dict[Any, Job] = {}
    futures = as_completed(loop=client.loop)

    def submit(count: int) -> None:
        for job in itertools.islice(waiting, count):
            future = client.submit(run_job, job, pure=False)
            running[future.key] = job
            futures.add(future)

    try:
        submit(AHEAD * max(2, sum(client.nthreads().values())))
        for future in futures:
            job = running.pop(future.key)
            try:
                found = future.result()
            except LOST:
                raise
            except Exception as error:
                found = Failure(job, _line(error))
            submit(1)
            yield job, found
    finally:
        if running:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.cancel(list(running), force=True)


def _run_alone(client: Client, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
    for job in jobs:
        try:
            with client.as_current():  # xgboost asks for the current one too
                found: Any = run_job(job, client)
        except Exception as error:
            if isinstance(error, LOST) and not _has_workers(client):
                raise
            found = Failure(job, _line(error))
        yield job, found


def _has_workers(client: Client) -> bool:
    """Whether the cluster is still there: then what was lost is one job."""
    with contextlib.suppress(Exception):
        return client.status == "running" and bool(client.nthreads())
    return False


def _line(error: Exception) -> str:
    text = " ".join(str(error).split("Stack trace:")[0].split())  # of xgboost's C++
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_source(client: Client, source: SourceAddress) -> None:
    """Check that every worker sees the store, with the same data.

    Raises
    ------
    ClusterError
        Naming the first worker that does not.
    """
    seen = client.run(_digest_of, source, on_error="return")
    for address, digest in seen.items():
        if digest != source.digest:
            what = digest if isinstance(digest, Exception) else "there is other data"
            raise ClusterError(
                f"worker {address} cannot use the store {source.url}: {what}; keep it where all "
                "workers see it under the same path, or at an fsspec URL"
            )


def _digest_of(source: SourceAddress) -> str:
    return source.open().segments[-1][1]


def check_memory(client: Client, models: Sequence[Model], problem: Problem) -> None:
    """Check that the workers can hold what models train on.

    One-task models need it in every worker, twice where a worker has several threads, as they
    go over from one training subset to the next one by one.

    Raises
    ------
    MemoryPlanError
        Naming model and subset, before anything runs.
    """
    workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    limits = [(w["memory_limit"], w["nthreads"]) for w in workers if w["memory_limit"]]
    if not limits:
        return
    limit, threads = min(limits, key=lambda pair: (pair[0], -pair[1]))
    name, rows = max(problem.train.items(), key=lambda pair: pair[1])
    own = BASE_BYTES + LIBRARY_BYTES
    held = min(threads, 2, len(problem.train) * len(models))
    for model in models:
        kept, each = model.task_bytes(rows, problem)
        if not model.distributed:
            most, needed = limit, own + held * kept + threads * each
            where = f"a worker of {threads} threads, whose limit is"
        elif kept and len(limits) == len(workers):
            most, needed = sum(limit for limit, _ in limits), len(limits) * own + kept
            where = f"{len(limits)} workers together, whose limits add up to"
        else:
            continue
        if needed > most * USABLE:
            raise MemoryPlanError(
                f"model {model.spec.name}: {name} has {rows:,} rows and needs about "
                f"{needed / MIB:,.0f} MiB in {where} {most / MIB:,.0f} MiB, of which Dask leaves "
                f"{USABLE:.0%} usable; raise the limit{model.instead}"
            )


@contextmanager
def some_client(client: Client | None) -> Iterator[Client]:
    """Yield the given client, the current one, or one of threads in this process."""
    if client is None:
        with contextlib.suppress(ValueError):
            client = default_client()
    if client is not None:
        yield client
        return
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=dask.system.CPU_COUNT,
            processes=False,
            protocol="tcp",
            host=HOST,
            dashboard_address=f"{HOST}:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # no traceback of what `Failure` says in a line
        ) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        yield own
