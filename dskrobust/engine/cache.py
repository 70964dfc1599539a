"""What a worker keeps of the blocks it has met, from one tile of a run to the next.

The cache is the result of a task like any other. Dask hands every worker process a copy, empty as
it comes, gives the same one to all its tiles and drops it with the run: nothing outlives a
computation, and nothing has to be tidied up. Caches of runs that share a process share a budget.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Protocol, TypeVar
from weakref import WeakSet

from ..processes import ProcessLock


class Sized(Protocol):
    """Anything that says how many bytes it takes."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class BlockCache:
    """Values by key, the last used of them, within a budget. Nobody may write into a value.

    Parameters
    ----------
    budget : int
        Bytes that all values together may take, those of other caches in this process included.
    """

    _all: ClassVar[WeakSet[BlockCache]] = WeakSet()
    _lock: ClassVar[ProcessLock] = ProcessLock()

    def __init__(self, budget: int) -> None:
        self.budget, self.held = budget, 0
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        with self._lock:
            self._all.add(self)

    def __reduce__(self) -> tuple[type[BlockCache], tuple[int]]:
        return BlockCache, (self.budget,)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, or make it and keep it where it fits.

        Threads that miss at the same moment each make their own.
        """
        found: T | None = self.find(key)
        if found is not None:
            return found
        made = make()
        self.put(key, made)
        return made

    def find(self, key: Hashable) -> Any:
        """Return what is kept under a key, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: Sized) -> None:
        """Keep a value in place of what the key had, where it fits."""
        with self._lock:
            if key in self._values:
                self.held -= self._values.pop(key).nbytes
            if value.nbytes > self.budget:
                return
            self._values[key] = value
            self.held += value.nbytes
            while sum(cache.held for cache in self._all) > self.budget:
                others = (cache for cache in self._all if cache is not self and cache.held)
                next(others, self)._drop()

    def _drop(self) -> None:
        """Drop what was not used for longest."""
        self.held -= self._values.popitem(last=False)[1].nbytes
