"""The client of Dask that computations of this process use.

Dask's scheduler is only imported where somebody has made a client: tasks may run without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dask
from dask.local import get_sync

from . import processes
from .errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Worker

LOCAL = ("threads", "threading", "sync", "synchronous", "single-threaded")  # Dask's schedulers
ELSEWHERE = ("processes", "multiprocessing", "distributed", "dask.distributed")


def current_client() -> Client | None:
    """Return the client that computations would use now, None where they run in this process."""
    if "distributed" not in sys.modules:  # then nobody has one
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    if client in processes.inherited_clients:  # whatever is asked of it would wait for ever
        raise ClusterError(
            "this process was forked from one that has a Dask client, and cannot use its "
            "connection; connect a client here, set dask.config.set(scheduler='threads'), or start "
            "processes by 'spawn'"
        )
    if client.asynchronous:
        raise ClusterError(
            "the Dask client is asynchronous, and nobody here awaits its answers; connect one "
            "without asynchronous=True, or set dask.config.set(scheduler='threads')"
        )
    return client


def this_worker() -> Worker | None:
    """Return the worker of Dask's scheduler that runs this task, None in any other process."""
    if "distributed" not in sys.modules:  # whose import takes longer than a small job
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


@contextmanager
def in_place(little: bool) -> Iterator[None]:
    """Have Dask do a little work in this thread, unless somebody chose where it computes.

    To hand it to threads would take longer than it does.
    """
    chosen = dask.config.get("scheduler", None) is not None or current_client() is not None
    if chosen or not little:
        yield
        return
    with dask.config.set(scheduler=get_sync):  # by name Dask would import its scheduler
        yield


def shares_process() -> bool:
    """Tell whether tasks will run in this process (threads), as far as can be known now."""
    scheduler = dask.config.get("scheduler", None)
    if isinstance(scheduler, str):
        if scheduler.lower() not in (*LOCAL, *ELSEWHERE):
            raise ClusterError(
                f"Dask's configuration names the scheduler {scheduler!r}, which there is not; "
                "choose threads, synchronous, processes or distributed (dask.config.set, or "
                "DASK_SCHEDULER in the environment)"
            )
        return scheduler.lower() in LOCAL
    return current_client() is None
