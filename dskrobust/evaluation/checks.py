"""Whether workers can run the models of an experiment, asked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distributed import Client

from ..cluster.workers import ask, gpu_here, tasks_of, workers_of
from ..display import error_line
from ..engine.footprint import USABLE
from ..engine.plan import MIB, base_bytes
from ..errors import ClusterError, Hint, MemoryPlanError
from .models.base import GPU, Model, Problem

LIBRARY_BYTES = 80 * MIB  # of a worker: scikit-learn, pandas, rows being read (measured)


def check_workers(client: Client, models: Sequence[Model], problem: Problem) -> None:
    """Check that there are workers for every model, and that they have what it needs.

    Raises
    ------
    ClusterError
        In one line, before anything runs.
    """
    for model in models:
        needs = model.resources
        able = list(workers_of(client, needs))
        for name in needs if not able else ():
            raise ClusterError(
                f"model {model.spec.name}: no worker has a {name} resource; start workers with "
                f"--resources {name}=1 (or dask-cuda's with it)",
                Hint("or take device='cpu'", "or take --option device=cpu"),
            )
        if model.distributed:
            continue
        for address, lack in ask(client, model.lacks, problem, of=able).items():
            if isinstance(lack, Exception):
                lack = error_line(lack)
            if lack:
                raise ClusterError(f"model {model.spec.name}: worker {address} {lack}")


def check_memory(client: Client, models: Sequence[Model], problem: Problem) -> None:
    """Check that the workers can hold what models train on.

    One-task models need it in every worker, twice where a worker has several threads, as they
    go over from one training subset to the next one by one.

    Raises
    ------
    MemoryPlanError
        Naming model and subset, before anything runs.
    """
    name, rows = _largest(problem)
    own = base_bytes() + LIBRARY_BYTES
    for model in models:
        workers = workers_of(client, model.resources).values()
        limits = [
            (w["memory_limit"], tasks_of(w, model.resources)) for w in workers if w["memory_limit"]
        ]
        if not limits:
            continue
        limit, threads = min(limits, key=lambda pair: (pair[0], -pair[1]))
        data = model.task_bytes(rows, problem)[0]
        most, needed = limit, own + _training_bytes(model, models, problem, threads)
        where = f"a worker of {threads} threads, whose limit is"
        if model.distributed and not fit_together(client, data):
            streamed = model.streamed_bytes(rows, problem)
            if streamed is None or own + streamed > limit * USABLE:
                most, needed = sum(limit for limit, _ in limits), len(limits) * own + data
                where = f"{len(limits)} workers together, whose limits add up to"
        if needed > most * USABLE:
            raise MemoryPlanError(
                f"model {model.spec.name}: {name} has {rows:,} rows and needs about "
                f"{needed / MIB:,.0f} MiB in {where} {most / MIB:,.0f} MiB, of which Dask leaves "
                f"{USABLE:.0%} usable; raise the limit{model.instead}"
            )


def training_memory(models: Sequence[Model], problem: Problem, threads: int) -> int:
    """Return how many bytes models, and their libraries, take at most in threads of a process."""
    taken = []
    for model in models:
        together = model.task_bytes(_largest(problem)[1], problem)[0] if model.distributed else 0
        taken.append(together + _training_bytes(model, models, problem, threads))
    return LIBRARY_BYTES + max(taken)


def _largest(problem: Problem) -> tuple[str, int]:
    return max(problem.train.items(), key=lambda pair: pair[1])


def _training_bytes(model: Model, models: Sequence[Model], problem: Problem, threads: int) -> int:
    """Return what a process has to hold for a model beside what all workers hold together."""
    held = min(threads, 2, len(problem.train) * len(models))
    data, each = model.task_bytes(_largest(problem)[1], problem)
    return (0 if model.distributed else held * data) + threads * each


def fit_together(client: Client, data: int) -> bool:
    """Whether all workers together can hold some bytes of training data; true without limits."""
    limits = [worker["memory_limit"] for worker in workers_of(client).values()]
    needed = len(limits) * (base_bytes() + LIBRARY_BYTES) + data
    return not all(limits) or needed <= sum(limits) * USABLE


def local_gpu(models: Sequence[Model]) -> Mapping[str, int]:
    """Return this machine's GPU as a worker's resource, where one of the models asks for it."""
    return {GPU: 1} if any(GPU in model.resources for model in models) and gpu_here() else {}
