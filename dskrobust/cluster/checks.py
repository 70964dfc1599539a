"""Whether scheduler and workers can do the work, asked before anything runs."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import uuid
from pathlib import Path

import dask
from dask.utils import parse_timedelta
from distributed import Client

from ..engine.footprint import USABLE
from ..engine.plan import MIB, Plan
from ..errors import ClusterError, InvalidOptionError
from ..store import SourceAddress
from .blas import faster_core
from .options import PACKAGE
from .workers import address_of, ask, workers_of

TIMES = (  # of Dask's configuration, which it reads only when they are used
    "distributed.comm.timeouts.connect",
    "distributed.comm.timeouts.tcp",
    "distributed.scheduler.worker-ttl",
)


def check_times() -> None:
    """Check that the times which Dask's configuration gives for connections are times.

    Raises
    ------
    ClusterError
        Naming the entry and the variable that may hold it.
    """
    for entry in TIMES:
        value = dask.config.get(entry, None)
        try:
            parse_timedelta(value)
        except (AttributeError, KeyError, ValueError, TypeError) as error:
            variable = f"DASK_{entry.replace('.', '__').replace('-', '_').upper()}"
            raise ClusterError(
                f"Dask's configuration has {value!r} for {entry}, which is no time, such as 30s or "
                f"5min; see {variable} in the environment, or the files in {dask.config.PATH}"
            ) from error


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
            f"{seconds:g} s, {count} were expected; start some with "
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


def check_installed(
    client: Client, only: list[str] | None = None, *, package: str = PACKAGE
) -> None:
    """Check that scheduler and workers have our version of this package.

    Parameters
    ----------
    client : Client
    only : list of str, optional
        Addresses of the workers to ask; all, and the scheduler, by default.
    package : str

    Raises
    ------
    ClusterError
        Naming the machine that has not.
    """
    ours = importlib.metadata.version(PACKAGE)
    find = importlib.metadata.version
    versions = ask(client, find, package, of=only)
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
    seen = ask(client, _digest_of, source)
    for address, digest in seen.items():
        if digest != source.digest:
            what = digest if isinstance(digest, Exception) else "there is other data"
            raise ClusterError(
                f"worker {address} cannot use the store {source.url}: {what}; keep it where all "
                "workers see it under the same path, or at an fsspec URL"
            )


def _digest_of(source: SourceAddress) -> str:
    return source.open().segments[-1][1]


def check_scratch(client: Client, folder: str | None) -> None:
    """Check that all workers share the folder that arrays are written to before tiles read them.

    Parameters
    ----------
    client : Client
    folder : str, optional
        The folder for temporary files without it, which this process has to share too.

    Raises
    ------
    InvalidOptionError
        Naming the first worker that does not.
    """
    workers = list(workers_of(client))
    if not workers:  # they are still to come
        return
    first, *others = workers
    remedy = "name a folder that all workers share: options=RunOptions(scratch=FOLDER)"
    mark = str(Path(folder or tempfile.gettempdir(), f"dskrobust-mark-{uuid.uuid4().hex}"))
    left = ask(client, _leave, mark, of=[first])
    if not left:  # it is gone; those that come meet the folder when they write into it
        return
    for made in left.values():
        if isinstance(made, Exception):
            raise InvalidOptionError(
                f"worker {first} cannot write into {Path(mark).parent}, where arrays lie before "
                f"they are compared: {made}; {remedy}"
            ) from made
    try:
        seen = ask(client, os.path.exists, mark, of=others)
        here = folder is not None or Path(mark).exists()
    finally:
        client.run(_take_away, mark, workers=[first], on_error="ignore")
    blind = [f"worker {address}" for address, answer in seen.items() if answer is not True]
    if blind or not here:
        raise InvalidOptionError(
            f"{[*blind, 'this process'][0]} does not share the folder {Path(mark).parent} with "
            f"worker {first}, and arrays lie there before they are compared; {remedy}"
        )


def _leave(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).touch(exist_ok=False)


def _take_away(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def slow_workers(client: Client) -> list[str]:
    """Return the workers whose BLAS runs at half the processor's speed."""
    answers = ask(client, faster_core)
    return [address for address, core in answers.items() if isinstance(core, str)]
