"""Connecting to a Dask scheduler or a new local cluster, and what goes wrong with it in a line."""

from __future__ import annotations

import contextlib
import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client, Security
from distributed.client import AllExit, ClosedClientError, FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.comm.core import connect as open_comm
from distributed.scheduler import KilledWorker, NoWorkerError
from distributed.utils import LoopRunner, sync

from ..declared_types import checked_arguments
from ..errors import ClusterError
from ..paths import expand, expand_path
from .checks import await_workers, check_installed, check_times
from .local import local_cluster
from .options import HOST, TLS_FILES, ClusterOptions
from .presence import AGAIN, LOST, watch_workers


@checked_arguments()
@contextmanager
def connect(options: ClusterOptions) -> Iterator[Client]:
    """Yield a client of the scheduler that the options name, or of a new local cluster.

    What goes wrong with the cluster inside the block becomes a `ClusterError`.

    Parameters
    ----------
    options : ClusterOptions

    Raises
    ------
    ClusterError
        Where the scheduler cannot be reached, has no workers, or they lack this package; where
        Dask's configuration gives something else for a time.
    """
    check_times()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_reports())
        if options.is_remote:
            client = stack.enter_context(_remote(options))
        else:
            client = stack.enter_context(local_cluster(options))
        # Not `set_as_default`: a client that fails to connect would stay the default, and whatever
        # is computed later would wait for it without end.
        with client.as_current(), cluster_errors():
            yield client


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep Dask from logging tracebacks of what is told in a line: a lost scheduler, Ctrl-C."""
    logging.getLogger("asyncio").addFilter(_was_wanted)  # stays: futures are dropped later on
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("batched", "client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _was_wanted(record: logging.LogRecord) -> bool:
    """Tell whether a log record is not just of a result that nobody waits for any more."""
    return not (record.exc_info and isinstance(record.exc_info[1], AllExit))


@contextmanager
def _remote(options: ClusterOptions) -> Iterator[Client]:
    address = options.scheduler or _address_in(options.scheduler_file or "")
    seconds = options.patience.connect
    security = _security(address, options)
    try:
        _greet(address, security, seconds)
        client = Client(address, timeout=seconds, set_as_default=False, security=security)
    except (OSError, ValueError, TypeError) as error:
        _close_failed_client(error)
        raise ClusterError(
            f"no scheduler can be reached at {address} within {seconds} s; "
            "is the address right, and is it running?"
        ) from error
    patience = options.patience
    first = patience.no_workers if options.wait_for is None else patience.queue
    with client:
        try:
            with watch_workers(client, first):
                await_workers(client, options.wait_for or 1, first)
                check_installed(client)
        except OSError as error:  # of a scheduler that answered a moment ago
            raise ClusterError(LOST) from error
        with watch_workers(client, patience.no_workers, admit=check_installed):
            yield client


def _greet(address: str, security: Security, seconds: float) -> None:
    """Exchange greetings with a scheduler, for which Dask's client itself would wait for ever.

    Raises
    ------
    OSError
        Where it does not answer in time.
    """

    async def greet() -> None:
        options = security.get_connection_args("client")
        comm = await open_comm(address, timeout=seconds, **options)
        await comm.close()

    runner = LoopRunner()
    runner.start()
    try:
        sync(runner.loop, greet, callback_timeout=seconds)
    finally:
        runner.stop()


def _close_failed_client(error: BaseException) -> None:
    """Close a client that could not connect, now; only the traceback knows it.

    Left to the garbage collection it would stop its loop at any moment, and where another client is
    just starting one, both wait for the same lock for ever.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        client = frame.f_locals.get("self")
        if isinstance(client, Client):
            client.close(timeout=1)
            return


def _security(address: str, options: ClusterOptions) -> Security:
    """Return the TLS files to connect with: the options', else those of Dask's configuration."""
    files = {name: expand(path) for name, path in options.tls.items() if path is not None}
    security = Security(**files)
    if not address.startswith("tls://"):
        return security
    for name in options.tls:
        path = getattr(security, name)
        if path is None:
            raise ClusterError(
                f"{address} wants TLS, and Dask's configuration has no distributed.comm.tls",
                TLS_FILES,
            )
        if not ("\n" in path or Path(path).is_file()):
            raise ClusterError(f"there is no TLS file {path}")
    return security


def _address_in(path: str) -> str:
    """Return the address in a scheduler's file."""
    try:
        return str(json.loads(expand_path(path).read_text())["address"])
    except FileNotFoundError as error:
        raise ClusterError(
            f"there is no scheduler file {path}; start one with "
            f"`dask scheduler --host {HOST} --scheduler-file {path}`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is no scheduler file: {error!r}") from error


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Dask raises for lost workers and schedulers into one clear error."""
    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"workers died again and again while they ran {error.task}, the last one at "
            f"{error.last_worker.address}; often that is too little memory. {AGAIN.capitalize()}"
        ) from error
    except NoWorkerError as error:
        raise ClusterError(
            f"all workers are gone that have the memory which was planned for; {AGAIN}"
        ) from error
    except (FutureCancelledError, CommClosedError, ClosedClientError) as error:
        raise ClusterError(LOST) from error
