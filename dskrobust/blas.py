"""Matrix products by BLAS: floating-point flags that say nothing, and one thread of it a task."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from .processes import ProcessLock, in_children


def matmul(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return ``a @ b``, shapes (r, k) and (k, c); finite operands of ours give finite products.

    Vector kernels of BLAS also compute on lanes that they drop. What lies there may raise a
    flag, of which NumPy makes a warning (numpy issue 24067): an error to who makes errors of
    warnings, and false.
    """
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out=out)


class _BlasThreads:
    """Limits BLAS to one thread while any task of ours runs in this process.

    Dask's threads and processes already use every core, and bits depend on the number of threads.

    The limit belongs to the process, so nested and concurrent tasks share one: the first sets it,
    the last restores it. threadpoolctl lets only the thread that set a limit lift it, so a thread
    of our own does both. A forked child has no such thread, so it begins anew. Looking for the
    libraries takes milliseconds (all that is mapped into the process is read), so they are known
    until something more is imported.
    """

    def __init__(self) -> None:
        self._lock, self._limits = ProcessLock(), ExitStack()
        self._libraries: ThreadpoolController
        self._modules = 0  # that were imported when these were looked for
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
        if self._modules != len(sys.modules):  # then one may have brought a BLAS of its own
            self._libraries, self._modules = ThreadpoolController(), len(sys.modules)
        self._limits.enter_context(self._libraries.limit(limits=1, user_api="blas"))


one_blas_thread = _BlasThreads()
