"""What this process will hold, and whether it fits, told before anything runs.

How much a step holds is arithmetic beside its code: `overview_memory`, `frames_memory` and others.
"""

from __future__ import annotations

from collections.abc import Iterable

import dask

from .clients import shares_process
from .cluster.workers import cores_here
from .display import size
from .engine.plan import MIB, Plan, base_bytes
from .errors import Hint, MemoryPlanError
from .processes import peak_memory

LATE = 80 * MIB  # bytes of what libraries load only when they are used (measured: 48 to 67)
CLUSTER = 80 * MIB  # of a client and a local cluster's scheduler, once it runs (measured: 64)
KERNELS = 96 * MIB  # that are loaded, with what loads them, once pairs are searched
SMALL = 256 * MIB  # bytes that any process has: nobody looks for more


def check_memory(what: str, rows: int, row_bytes: float, instead: Hint) -> None:
    """Refuse n of something in this process where it does not fit.

    Parameters
    ----------
    what : str
        What is asked for.
    rows : int
    row_bytes : float
        That a row takes at most while it is made.
    instead : Hint
        What holds only a part of it at a time.

    Raises
    ------
    MemoryPlanError
        With rows, bytes, and what this process may use.
    """
    _check(f"{what} is {rows:,} rows and", int(rows * row_bytes), instead)


def projected_peak(what: str, needed: int, instead: Hint) -> int:
    """Return how many bytes this process holds at most, or refuse what does not fit.

    Parameters
    ----------
    what : str
        What is about to run; what it imports should be imported by now.
    needed : int
        Bytes beyond those that are held so far, at most.
    instead : Hint
        What needs less.

    Raises
    ------
    MemoryPlanError
        With the bytes, and what this process may use.
    """
    _check(what, needed, instead)
    return (peak_memory() or 0) + needed + LATE


def searching_memory(plans: Iterable[Plan]) -> int:
    """Return how many bytes searches of one graph take in this process; none where workers do."""
    if not shares_process():
        return 0
    needed = [plan.peak_bytes - base_bytes(plan.resources.xarray) for plan in plans]
    return KERNELS + max(needed) if needed else 0


def tasks_at_once() -> int:
    """Return how many of Dask's tasks run in this process at once, where no client takes them."""
    return dask.config.get("num_workers", None) or cores_here()


def _check(what: str, needed: int, instead: Hint) -> None:
    if needed <= SMALL:
        return
    from .cluster.local import this_machine

    free = this_machine().free
    if needed > free:
        raise MemoryPlanError(
            f"{what} takes about {size(needed)} in this process, which may use {size(free)}",
            instead,
        )
