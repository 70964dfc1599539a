"""What a worker keeps of the blocks it has read, from one tile of a run to the next.

The cache is the result of a task like any other. Dask hands every worker a copy, empty as it
comes, gives the same one to all its tiles and drops it with the run: nothing outlives a
computation, and nothing has to be tidied up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray


class BlockCache:
    """Arrays by key, the last used of them, within a budget.

    Parameters
    ----------
    budget : int
        Bytes that all arrays together may take.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.held = budget, 0
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[BlockCache], tuple[int]]:
        return BlockCache, (self.budget,)

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what is kept under a key, or make it and keep it where it fits.

        Nobody may write into it. Threads that miss at the same moment each make their own.
        """
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        made = make()
        with self._lock:
            if key not in self._arrays and made.nbytes <= self.budget:
                self._arrays[key] = made
                self.held += made.nbytes
                while self.held > self.budget:
                    self.held -= self._arrays.popitem(last=False)[1].nbytes
        return made
