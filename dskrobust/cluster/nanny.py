"""A nanny whose worker may die at any moment, also while either of them starts."""

from __future__ import annotations

from typing import Any

from distributed import Nanny
from distributed.core import Status

STARTS = 20  # of one worker in a row; a machine where that many fail is not fit for it


class PatientNanny(Nanny):
    """Start a worker again that dies before its nanny has started.

    Dask's own nanny takes that for its own failure, with which a whole `LocalCluster` ends; once
    it has started it replaces every worker that dies.
    """

    async def instantiate(self) -> Status:
        """Start a worker process until one is there; return how the last one stands."""
        status = await super().instantiate()
        for _ in range(STARTS - 1):
            if status == Status.running or not self._starts:
                break
            status = await super().instantiate()
        return status

    async def start_unsafe(self) -> Any:
        """Start, and see to a worker that died after its own start but before its nanny's."""
        await super().start_unsafe()
        if await self.instantiate() != Status.running:
            raise RuntimeError(f"a worker process died {STARTS} times while it started")
        return self

    @property
    def _starts(self) -> bool:
        """Whether nobody else replaces the worker yet."""
        return self.status in (Status.init, Status.starting)
