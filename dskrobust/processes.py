"""What belongs to one process only: a forked child has its parent's memory, not its threads."""

from __future__ import annotations

import os
from threading import Lock


class ProcessLock:
    """A lock that is free in a forked child, whoever held it in the parent.

    For locks that live as long as the process: it is never forgotten.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
