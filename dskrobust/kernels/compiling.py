"""How kernels are compiled: without the GIL, and kept on disk where a folder can be written.

Numba keeps compiled code beside the source or in the home folder. Where neither can be written it
refuses to compile at all; then a private folder among the temporary files takes the code.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..errors import InvalidOptionError

try:
    import numba
    from numba.core import event
except ValueError as error:  # what NUMBA_… say in the environment
    raise InvalidOptionError(
        f"Numba does not take what its NUMBA_ environment variables say: {error}; unset them"
    ) from error

Function = Callable[..., Any]
CONFIG: Any = numba.config

if CONFIG.DISABLE_JIT:
    raise InvalidOptionError(
        "NUMBA_DISABLE_JIT is set in the environment, but kernels are compiled; unset it"
    )


def compiled(function: Function | None = None, **options: Any) -> Any:
    """Compile a kernel on its first call and keep it on disk, as far as that can be.

    Used as ``@compiled`` or ``@compiled(fastmath=…)`` with the options of `numba.njit`.
    """
    options = {"nogil": True, **options}
    return _compile(function, options) if function else lambda f: _compile(f, options)


def _compile(function: Function, options: dict[str, Any]) -> Any:
    for folder in (_numbas_choice, private_folder):
        with suppress(RuntimeError), _cache_in(folder()):  # Numba found nothing it can write
            return numba.njit(cache=True, **options)(function)
    _say_once()
    return numba.njit(**options)(function)


# Kernels in which nothing is allocated need not count who holds an array. Counting every array of
# every tuple at every call took longer than the pairs (leaves of 125,000 × 8: 12.9 s, not 7.7 s).
kernel = partial(compiled, _nrt=False)
# A call also passes every array as some seven words, so what runs per pair or box is inlined.
inlined = partial(kernel, forceinline=True)


def _numbas_choice() -> str:
    return str(CONFIG.CACHE_DIR)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Have Numba look there first for the cache of what is decorated inside the block."""
    before = CONFIG.CACHE_DIR
    CONFIG.CACHE_DIR = folder
    try:
        yield
    finally:
        CONFIG.CACHE_DIR = before


@cache
def private_folder() -> str:
    """Return a folder for temporary files that only this user can use; "" where there is none.

    It has one name for all processes of a user. Numba runs what it finds there, so nobody else may
    have made it or be able to write into it.
    """
    user = os.getuid() if hasattr(os, "getuid") else None  # on Windows they are private anyway
    try:
        folder = Path(tempfile.gettempdir(), f"dskrobust-kernels-{'own' if user is None else user}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError:
        return ""
    ours = user is None or (found.st_uid == user and not stat.S_IMODE(found.st_mode) & 0o077)
    return str(folder) if ours and stat.S_ISDIR(found.st_mode) else ""


class _Clock(event.Listener):
    """How long this process has compiled, and who wants to know when it begins and ends.

    Numba compiles under one lock, and a kernel's callees within its own event.
    """

    def __init__(self) -> None:
        self.seconds, self.started, self._depth = 0.0, 0.0, 0
        self.hearers: list[tuple[Callable[[], None], Callable[[float], None]]] = []

    def on_start(self, event: Any) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        self.started = time.perf_counter()
        for begin, _ in tuple(self.hearers):
            begin()

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth:
            return
        seconds = time.perf_counter() - self.started
        self.seconds += seconds
        for _, end in tuple(self.hearers):
            end(seconds)


_CLOCK = _Clock()
event.register("numba:compile", _CLOCK)


def compile_seconds() -> float:
    """Return how long this process has compiled so far; loading from the cache is no compiling."""
    return _CLOCK.seconds


@contextmanager
def watch_compiling(begin: Callable[[], None], end: Callable[[float], None]) -> Iterator[None]:
    """Call begin() whenever this process starts to compile a kernel, and end(seconds) after it."""
    _CLOCK.hearers.append((begin, end))
    try:
        yield
    finally:
        _CLOCK.hearers.remove((begin, end))


@cache
def _say_once() -> None:
    # no warning: where those are errors, the import would fail
    logging.getLogger(__name__).warning(
        "No folder can be written to keep compiled kernels in, so every process compiles its own; "
        "name one by NUMBA_CACHE_DIR in the environment"
    )
