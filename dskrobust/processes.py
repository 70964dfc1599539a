"""What belongs to one process only, such as its peak of memory; what a forked child is rid of."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

inherited_clients: list[Any] = []  # of Dask, from the parent: their connections stay there


def in_children(begin: Callable[[], object]) -> None:
    """Have something called in every forked child of this process before it goes on."""
    if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
        os.register_at_fork(after_in_child=begin)


class ProcessLock:
    """A lock that is free in a forked child, whoever held it in the parent.

    For locks that live as long as the process: it is never forgotten.
    """

    def __init__(self) -> None:
        self._renew()
        in_children(self._renew)

    def _renew(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def peak_memory() -> int | None:
    """Return the most memory that this process has held so far, in bytes; None without /proc.

    Not from getrusage: its figure survives exec, so a worker would report its parent's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return None


def _begin_with_dask() -> None:
    """Give Dask's default scheduler new threads, and remember whose connection is not here.

    Dask takes the threads and connections it had for alive, and waits for them for ever.
    """
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        vars(threaded).update(default_pool=None, pools_lock=Lock())
        threaded.pools.clear()
    find = getattr(sys.modules.get("distributed"), "default_client", None)
    if find is not None:
        with suppress(ValueError):  # there is none
            inherited_clients.append(find())


in_children(_begin_with_dask)
