"""A nanny whose worker may die or hang at any moment, also while either of them starts."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Nanny
from distributed.core import Status

STARTS = 10  # of one worker in a row; a machine where that many fail is not fit for it
START = 180.0  # seconds for one of them, on a machine that may be busy


class PatientNanny(Nanny):
    """Start a worker again that dies, or hangs, before its nanny has started.

    Dask's own nanny takes that for its own failure, with which a whole `LocalCluster` ends; once
    it has started it replaces every worker that dies.
    """

    async def instantiate(self) -> Status:
        """Start a worker process until one is there; return how the last one stands."""
        status = await self._start_one()
        for _ in range(STARTS - 1):
            if status == Status.running or self.status not in (Status.init, Status.starting):
                break
            status = await self._start_one()
        return status

    async def start_unsafe(self) -> Any:
        """Start, and see to a worker that died after its own start but before its nanny's."""
        await super().start_unsafe()
        if await self.instantiate() != Status.running:
            raise RuntimeError(f"a worker process died {STARTS} times while it started")
        return self

    async def _start_one(self) -> Status:
        end = asyncio.get_running_loop().call_later(START, self._kill_hung)
        try:
            return await super().instantiate()
        finally:
            end.cancel()

    def _kill_hung(self) -> None:
        """Kill a process that is stopped, or waits for a file without end; it is dead then."""
        worker = self.process
        if worker is not None and worker.status == Status.starting and worker.process is not None:
            worker.process.kill()
