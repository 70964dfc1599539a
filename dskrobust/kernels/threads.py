"""BLAS with one thread while tiles run: Dask's threads and processes already use every core."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from threadpoolctl import threadpool_limits

from ..processes import ProcessLock, in_children


class _BlasThreads:
    """Limits BLAS to one thread while any tile runs in this process.

    The limit belongs to the process, so nested and concurrent tiles share one: the first sets it,
    the last restores it. threadpoolctl lets only the thread that set a limit lift it, so a thread
    of our own does both. A forked child has no such thread, so it begins anew.
    """

    def __init__(self) -> None:
        self._lock, self._limits = ProcessLock(), ExitStack()
        self._begin()
        in_children(self._begin)

    def _begin(self) -> None:
        self._users = 0
        self._keeper: ThreadPoolExecutor | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._keeper = self._keeper or ThreadPoolExecutor(1, "blas-limits")
                self._keeper.submit(self._limit).result()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    assert self._keeper is not None
                    self._keeper.submit(self._limits.close).result()

    def _limit(self) -> None:
        self._limits.close()  # what a child was forked with in the middle of a tile
        self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))


one_blas_thread = _BlasThreads()
