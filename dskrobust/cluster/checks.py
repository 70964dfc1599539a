"""Whether scheduler and workers can do the work, asked before anything runs."""

from __future__ import annotations

import importlib.metadata

from distributed import Client

from ..engine.plan import MIB, USABLE, Plan
from ..errors import ClusterError
from ..store import SourceAddress
from .blas import faster_core
from .options import PACKAGE
from .workers import address_of, workers_of


def await_workers(client: Client, count: int, seconds: float) -> None:
    """Wait until the scheduler has so many workers.

    Raises
    ------
    ClusterError
        Where it has fewer after so many seconds.
    """
    try:
        client.wait_for_workers(count, timeout=seconds)
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler at {address_of(client)} has {len(workers_of(client))} workers after "
            f"{seconds} s, {count} were expected; start some with "
            f"`dask worker {address_of(client)}`"
        ) from error


def check_plan(client: Client, plan: Plan) -> None:
    """Check that every worker has the memory that a plan projects.

    Raises
    ------
    ClusterError
        Naming the first worker that has not.
    """
    planned = plan.resources.threads
    for address, worker in workers_of(client).items():
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
    versions = client.run(find, package, on_error="return")
    scheduler = f"scheduler {address_of(client)}"
    try:
        versions = {scheduler: client.run_on_scheduler(find, package), **versions}
    except importlib.metadata.PackageNotFoundError as error:
        versions = {scheduler: error, **versions}
    for address, version in versions.items():
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


def slow_workers(client: Client) -> list[str]:
    """Return the workers whose BLAS runs at half the processor's speed."""
    return [address for address, core in client.run(faster_core).items() if core]
