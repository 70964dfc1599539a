"""Who the workers are, what they have, and what a process knows of itself.

Dask's scheduler is only imported where somebody has made a client: tasks may run without it.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import psutil

from ..clients import current_client, shares_process
from ..display import clock
from ..engine.plan import Resources, has_xarray
from ..errors import ClusterError, Hint
from .options import Patience

if TYPE_CHECKING:
    from distributed import Client

CONTAINER_LIMITS = (  # of memory, by either version of Linux's control groups
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
QUIET = 5.0  # seconds that nobody is told of
RETURN = 30.0  # seconds in which a worker that died is replaced, also on a machine that is busy

_log = logging.getLogger(__name__)


def workers_of(client: Client, needs: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return what the scheduler knows of its workers, by their addresses.

    needs: of those that have so much of every resource.
    """
    # not scheduler_info(): the client's own timer replaces its answer by one without workers
    assert client.scheduler is not None
    scheduler: Any = client.scheduler
    workers = client.sync(scheduler.identity, n_workers=-1)["workers"]
    return {
        address: worker
        for address, worker in workers.items()
        if all(worker["resources"].get(k, 0) >= count for k, count in (needs or {}).items())
    }


def ask(
    client: Client, function: Callable[..., Any], *args: Any, of: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return what a function returns, or the exception that it raises, on every worker.

    A worker that dies meanwhile has no answer.

    Parameters
    ----------
    client : Client
    function : callable
    *args
        Of the function.
    of : sequence of str, optional
        Addresses of the workers to ask; all by default.
    """
    asked = None if of is None else [address for address in workers_of(client) if address in of]
    if asked == []:
        return {}
    answers = client.run(function, *args, workers=asked, on_error="return")
    if not any(isinstance(answer, Exception) for answer in answers.values()):
        return answers
    there = workers_of(client)
    if of is None and not there.keys() & answers.keys():
        resources_of(client)  # waits for those that come instead
        return ask(client, function, *args)
    return {address: answer for address, answer in answers.items() if address in there}


def tasks_of(worker: Mapping[str, Any], needs: Mapping[str, int]) -> int:
    """Return how many tasks with these needs a worker runs at a time."""
    of = [worker["resources"].get(name, 0) // count for name, count in needs.items()]
    return int(min([worker["nthreads"], *of]))


def address_of(client: Client) -> str:
    """Return the scheduler's address."""
    return str(client.scheduler.address) if client.scheduler else "?"


def resources_of(client: Client, seconds: float = RETURN) -> Resources:
    """Return the workers that a client's scheduler has now.

    Parameters
    ----------
    client : Client
    seconds : float
        That are given to workers to come where there are none: one may have died just now, or an
        adaptive cluster have had nothing to do.

    Raises
    ------
    ClusterError
        Where it has none.
    """
    workers = workers_of(client) or _first_workers(client, seconds)
    if not workers:
        raise ClusterError(
            f"the scheduler at {address_of(client)} has no workers after {clock(seconds)}, and a "
            "plan is made for the memory of one",
            Hint(
                "start workers, or say what they will have: RunOptions(Resources(workers, threads, "
                "memory_limit))",
                f"start some with `dask worker {address_of(client)}`",
            ),
        )
    limits = [w["memory_limit"] for w in workers.values() if w["memory_limit"]]
    threads = max(w["nthreads"] for w in workers.values())
    installed = [has for has in ask(client, has_xarray).values() if isinstance(has, bool)]
    xarray = any(installed) if installed else None
    return Resources(len(workers), threads, min(limits, default=None), xarray)


def _first_workers(client: Client, seconds: float) -> dict[str, Any]:
    """Wait for the first worker, and say so; an adaptive cluster starts one for a task only."""
    task, left = client.submit(int, pure=False), seconds
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=min(QUIET, left))
    if left > QUIET and not workers_of(client):
        _log.warning(
            "the scheduler at %s has no workers; a plan waits for one, %s at most",
            address_of(client), clock(left),
        )  # fmt: skip
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=left - QUIET)
    task.release()
    return workers_of(client)


def found_resources() -> Resources:
    """Return the connected cluster's workers, or this machine's cores and half its free memory."""
    client = None if shares_process() else current_client()
    if client is not None:
        return resources_of(client, Patience().no_workers)
    threads = dask.config.get("num_workers", None) or cores_here()
    free, held = memory_here()
    return Resources(1, threads, free // 2 + held, here=True)


def threads_of_a_task(client: Client) -> int:
    """Return how many threads a library of its own threads may use in one task.

    One where workers run several tasks at a time, else a worker's share of its machine.
    """
    workers = workers_of(client).values()
    if any(w["nthreads"] > 1 for w in workers):
        return 1
    hosts = Counter(w["host"] for w in workers)
    cores = client.run(cores_here, on_error="ignore").values()
    return max(1, min(cores, default=1) // max(hosts.values(), default=1))


# -- this process ----------------------------------------------------------------------------


def cores_here() -> int:
    """Return how many cores this process may use."""
    return int(dask.system.CPU_COUNT)


def memory_here() -> tuple[int, int]:
    """Return the bytes that this process may still take, and those that it holds.

    A container has less than its machine; Dask counts alike, but loading it takes longer than a
    small job.
    """
    held = int(psutil.Process().memory_info().rss)
    limits = [_number_in(path) for path in CONTAINER_LIMITS]
    most = min((limit for limit in limits if limit), default=sys.maxsize)
    return max(0, min(psutil.virtual_memory().available, most - held)), held


def _number_in(path: str) -> int:
    """Return the number in a file of the system; 0 where there is none."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such file; "max"
        return 0


def gpu_here() -> bool:
    """Whether this process sees a GPU that torch can use."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
