"""Processes that begin with all modules loaded: forks of a server that has nothing but those.

What a fault meets does not hang on how its process came to be, but importing is most of a short
command's time. Workers that a command starts import for themselves, as everywhere.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import resource
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from . import plain, writes

if TYPE_CHECKING:
    from .commands import Start

LOADED = [
    "dask.__main__", "dask_ml", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker",
    "dskrobust.cli.data", "dskrobust.cli.evaluate", "dskrobust.cli.report", "dskrobust.report.page",
    "dskrobust.evaluation", "dskrobust.label_issues", "dskrobust.neighbours", "dskrobust.verify",
    "pyarrow.csv", "pyarrow.parquet", "s3fs", "sklearn.ensemble", "sklearn.neighbors", "zarr",
]  # fmt: skip
Said = tuple[Path, Path]  # files for standard output and standard error, which are added to


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


def forked(module: str, argv: Sequence[str], start: Start, said: Said) -> BaseProcess:
    """Start ``python -m module argv`` in a process group of its own."""
    given = (start.variables(), said, start.largest_file)
    process: BaseProcess = _server().Process(target=_run, args=(module, list(argv), *given))
    process.start()
    return process


def pid_of(process: BaseProcess) -> int:
    """Return the number of a process that was started."""
    assert process.pid is not None
    return process.pid


def kill_group(process: BaseProcess) -> None:
    """Kill a process and its group, which it may not have made yet."""
    if process.is_alive():
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(pid_of(process), signal.SIGKILL)


def _run(
    module: str, argv: list[str], environment: dict[str, str], said: Said, largest: int | None
) -> None:
    """Be that process, from its environment to its last words."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    dask.config.refresh()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, path in enumerate((os.devnull, *said)):
        os.dup2(os.open(path, flags if number else os.O_RDONLY), number)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    plain.register()
    writes.install()
    sys.argv = [module, *argv]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # what a child of multiprocessing leaves out
