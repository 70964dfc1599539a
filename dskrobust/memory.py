"""Whether what a person asks for fits into one process, told before anything runs."""

from __future__ import annotations

from .display import size
from .errors import Hint, MemoryPlanError

SMALL = 256 * 2**20  # bytes that any process has: nobody looks for more


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
    needed = int(rows * row_bytes)
    if needed <= SMALL:
        return
    from .cluster.local import this_machine

    free = this_machine().free
    if needed > free:
        raise MemoryPlanError(
            f"{what} is {rows:,} rows and takes about {size(needed)} in this process, which may "
            f"use {size(free)}",
            instead,
        )
