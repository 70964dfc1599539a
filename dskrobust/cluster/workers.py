"""What is asked of workers: who they are, what they have, whether they can do the work."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import psutil
from distributed import Client, default_client

from ..engine.plan import MIB, USABLE, Plan, Resources
from ..errors import ClusterError
from ..store import (
    SourceAddress,
)
from .blas import faster_core
from .options import PACKAGE

if TYPE_CHECKING:
    from distributed import Client


WORKER_SECONDS = 60
QUEUE_SECONDS = 3_600  # for workers that are waited for by number: their jobs may be in a queue


def resources_of(client: Client) -> Resources:
    """Return the workers that a client's scheduler has now."""
    workers = _workers(client)
    if not workers:
        raise ClusterError(f"the scheduler at {_address(client)} has no workers")
    limits = [w["memory_limit"] for w in workers.values() if w["memory_limit"]]
    threads = max(w["nthreads"] for w in workers.values())
    return Resources(len(workers), threads, min(limits, default=None))


def slow_workers(client: Client) -> list[str]:
    """Return the workers whose BLAS runs at half the processor's speed."""
    return [address for address, core in client.run(faster_core).items() if core]


def _await_workers(client: Client, count: int, seconds: float | None = None) -> None:
    seconds = WORKER_SECONDS if seconds is None else seconds
    try:
        client.wait_for_workers(count, timeout=seconds)
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler at {_address(client)} has {len(_workers(client))} workers after "
            f"{seconds} s, {count} were expected; start some with "
            f"`dask worker {_address(client)}`"
        ) from error


def check_workers(client: Client, plan: Plan) -> None:
    """Check that every worker has the memory that a plan projects.

    Raises
    ------
    ClusterError
        Naming the first worker that has not.
    """
    planned = plan.resources.threads
    for address, worker in _workers(client).items():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        if threads > planned:
            raise ClusterError(
                f"worker {address} runs {threads} tasks at a time, but the plan is for {planned}; "
                "plan for the largest worker"
            )
        if limit and plan.peak_bytes > limit * USABLE:
            raise ClusterError(
                f"worker {address} has a memory limit of {limit / MIB:,.0f} MiB, of which Dask "
                f"leaves {USABLE:.0%} usable; the plan needs {plan.peak_bytes / MIB:,.0f} MiB. "
                "Raise the limit, or use fewer threads per worker"
            )


def check_installed(client: Client, package: str = PACKAGE) -> None:
    """Check that scheduler and workers have our version of this package.

    Raises
    ------
    ClusterError
        Naming the machine that has not.
    """
    ours = importlib.metadata.version(PACKAGE)
    find = importlib.metadata.version
    found = client.run(find, package, on_error="return")
    try:
        found = {f"scheduler {_address(client)}": client.run_on_scheduler(find, package), **found}
    except importlib.metadata.PackageNotFoundError as error:
        found = {f"scheduler {_address(client)}": error, **found}
    for address, version in found.items():
        name = address if address.startswith("scheduler") else f"worker {address}"
        if isinstance(version, Exception):
            raise ClusterError(
                f"{name} has no {package}; install {PACKAGE} {ours} there (scheduler and workers "
                "need it)"
            )
        if version != ours:
            raise ClusterError(
                f"{name} has {package} {version}, but this is {ours}; use one version"
            )


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1)["workers"])


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"


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


def threads_of_a_task(client: Client) -> int:
    """Return how many threads a library of its own threads may use in one task.

    One where workers run several tasks at a time, else a worker's share of its machine.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if any(w["nthreads"] > 1 for w in workers):
        return 1
    hosts = Counter(w["host"] for w in workers)
    cores = client.run(_cores, on_error="ignore").values()
    return max(1, min(cores, default=1) // max(hosts.values(), default=1))


def _cores() -> int:
    return int(dask.system.CPU_COUNT)


def gpu_here() -> bool:
    """Whether this process sees a GPU that torch can use."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def peak_memory() -> int | None:
    """Return the most memory that this process has held so far, in bytes; None without /proc.

    Not from getrusage: its figure survives exec, so a worker would report its parent's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return None


def current_client() -> Client | None:
    """Return the client that computations would use now, None where they run in this process."""

    try:
        return default_client()
    except ValueError:
        return None


def found_resources() -> Resources:
    """Return the connected cluster's workers, or this machine's cores and half its free memory."""
    if not shares_process():
        with contextlib.suppress(ImportError, ValueError):
            from distributed import default_client

            workers = default_client().scheduler_info(n_workers=-1)["workers"].values()
            limits = [w["memory_limit"] for w in workers if w["memory_limit"]]
            if workers:
                threads = max(w["nthreads"] for w in workers)
                return Resources(len(workers), threads, min(limits, default=None))
    threads = dask.config.get("num_workers", None) or dask.system.CPU_COUNT
    return Resources(
        1, threads, psutil.virtual_memory().available // 2 + psutil.Process().memory_info().rss
    )


def shares_process() -> bool:
    """Tell whether tasks will run in this process (threads), as far as can be known now."""
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str):
        return scheduler.lower() in (
            "threads",
            "threading",
            "sync",
            "synchronous",
            "single-threaded",
        )
    try:
        from distributed import default_client

        default_client()
    except (ImportError, ValueError):
        return True
    return False
