"""Tiles run where there is the memory that they were planned for; who joins later may have less.

Dask never queues tasks with restrictions, so tiles start without any. One that a smaller worker
gets goes back to the scheduler, for those that fit, also those that come later.
"""

from __future__ import annotations

from ..clients import this_worker
from .footprint import Footprint


def admit(need: Footprint | None) -> None:
    """Send the task that this worker runs elsewhere where the worker is too small for it.

    Raises
    ------
    distributed.Reschedule
    """
    worker = this_worker()
    if need is None or worker is None:
        return
    limit, threads = worker.memory_manager.memory_limit, worker.state.nthreads
    if need.fits(limit, threads):
        return
    from distributed import Reschedule, get_client

    from .restrictions import restrict

    get_client().run_on_scheduler(restrict, key=worker.get_current_task(), need=need)
    raise Reschedule
