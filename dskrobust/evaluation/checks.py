"""Whether workers can run the models of an experiment, asked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Client

from ..engine.plan import MIB, USABLE, base_bytes
from ..errors import ClusterError, MemoryPlanError
from .models.base import GPU, Model, Problem

LIBRARY_BYTES = 80 * MIB  # of a worker: scikit-learn, pandas, rows being read (measured)


def _tasks_of(worker: Mapping[str, Any], needs: Mapping[str, int]) -> int:
    """How many jobs with these needs a worker runs at a time."""
    of = [worker["resources"].get(name, 0) // count for name, count in needs.items()]
    return int(min([worker["nthreads"], *of]))


def _able(client: Client, needs: Mapping[str, int]) -> dict[str, Any]:
    """Return the workers that have what a job needs, by address."""
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    return {
        address: worker
        for address, worker in workers
        if all(worker["resources"].get(name, 0) >= count for name, count in needs.items())
    }


def _line(error: Exception) -> str:
    text = " ".join(str(error).split("Stack trace:")[0].split())  # of xgboost's C++
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_workers(client: Client, models: Sequence[Model], problem: Problem) -> None:
    """Check that there are workers for every model, and that they have what it needs.

    Raises
    ------
    ClusterError
        In one line, before anything runs.
    """
    for model in models:
        needs = model.resources
        able = list(_able(client, needs))
        for name in needs if not able else ():
            raise ClusterError(
                f"model {model.spec.name}: no worker has a {name} resource; start workers with "
                f"--resources {name}=1 (or dask-cuda's with it), or take --option device=cpu"
            )
        if model.distributed:
            continue
        found = client.run(model.lacks, problem, workers=able, on_error="return")
        for address, lack in found.items():
            if isinstance(lack, Exception):
                lack = _line(lack)
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
    name, rows = max(problem.train.items(), key=lambda pair: pair[1])
    own = base_bytes() + LIBRARY_BYTES
    for model in models:
        workers = _able(client, model.resources).values()
        limits = [
            (w["memory_limit"], _tasks_of(w, model.resources)) for w in workers if w["memory_limit"]
        ]
        if not limits:
            continue
        limit, threads = min(limits, key=lambda pair: (pair[0], -pair[1]))
        held = min(threads, 2, len(problem.train) * len(models))
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


def needs_gpu(models: Sequence[Model]) -> bool:
    """Whether one of the models asks for a GPU."""
    return any(GPU in model.resources for model in models)
