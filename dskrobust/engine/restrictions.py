"""Which workers may have the tasks that one was too small for; this runs on the scheduler."""

from __future__ import annotations

from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from .footprint import Footprint

NAME = "dskrobust-restrictions"
NOBODY = "a worker that is still to come"  # an address: without any, a task may run anywhere


def restrict(dask_scheduler: Scheduler, key: Any, need: Footprint) -> None:
    """Leave a task to the workers that fit, those that join later included."""
    plugin = dask_scheduler.plugins.get(NAME)
    if not isinstance(plugin, Restrictions):
        plugin = Restrictions()
        dask_scheduler.add_plugin(plugin, name=NAME)
    plugin.restrict(dask_scheduler, key, need)


class Restrictions(SchedulerPlugin):
    """Keeps the restrictions of tasks that were sent back up to date while workers come and go."""

    name = NAME

    def __init__(self) -> None:
        self._needs: dict[Any, Footprint] = {}

    def restrict(self, scheduler: Scheduler, key: Any, need: Footprint) -> None:
        """Leave a task to the workers that fit."""
        there = scheduler.workers.items()
        fit = [a for a, w in there if need.fits(w.memory_limit, w.nthreads)]
        if key in scheduler.tasks:
            self._needs[key] = need
            scheduler.set_restrictions({key: [*fit, NOBODY]})

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Let a new worker have the tasks that it fits; Dask places them right afterwards."""
        state = scheduler.workers[worker]
        for key, need in self._needs.items():
            allowed = scheduler.tasks[key].worker_restrictions
            if allowed and need.fits(state.memory_limit, state.nthreads):
                allowed.add(worker)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Forget what the scheduler forgets."""
        if finish == "forgotten":
            self._needs.pop(key, None)
