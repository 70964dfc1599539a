"""Clusters on this machine: their processes, environment and memory, or threads of this process."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import dask
import psutil
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from ..clients import current_client
from ..display import error_line
from ..engine.plan import MIB, Resources
from ..errors import ClusterError
from .blas import VARIABLE, faster_core
from .checks import await_workers
from .nanny import PatientNanny
from .options import HOST, ClusterOptions
from .presence import watch_workers
from .workers import cores_here

DASHBOARD_PORT = 8787
SHARE_OF_FREE = 0.8  # of the free memory, for all workers together
NO_WORKERS = "distributed.scheduler.no-workers-timeout"
CONFIG = {
    "distributed.scheduler.allowed-failures": 20,  # a killed worker blames all its tasks
    NO_WORKERS: "600s",  # also for tasks that no worker can run
    # The profile a worker keeps grows by 50 to 70 KiB every cycle, of which it keeps 3,600: with
    # Dask's one second, a long run would need 250 MiB more than any plan says.
    "distributed.worker.profile.cycle": "60s",
    "distributed.worker.profile.interval": "100ms",  # every 10 ms costs 7 % of a run
    # Dask's own upkeep takes 4 % of two cores as it comes: ticks of 20 ms, figures every 500
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "1s",
}


# Dask has malloc give every larger array back to the system at once, so that each read and product
# pays for fresh pages: up to half of the time of reading. So one arena keeps at most KEPT for the
# next one (each of several would keep as much), and arrays as large as a unit of the store, 4 MiB
# at most, come from there.
KEPT = 16 * MIB
MALLOC = {
    "MALLOC_ARENA_MAX": 1,
    "MALLOC_MMAP_THRESHOLD_": 5 * MIB,
    "MALLOC_TRIM_THRESHOLD_": KEPT,
}


class Machine(NamedTuple):
    """Cores and free bytes that workers may share."""

    cores: int
    free: int


def this_machine() -> Machine:
    """Return what this process may use of its machine now."""
    return Machine(cores_here(), min(psutil.virtual_memory().available, MEMORY_LIMIT))


def local_resources(options: ClusterOptions, machine: Machine | None = None) -> Resources:
    """Return what a local cluster of these options will have, before it is started."""
    machine = machine or this_machine()
    workers, threads = options.workers, options.threads
    if workers is None:
        cores = max(1, machine.cores // (threads or 1))
        workers = cores if threads or cores <= 4 else -(-cores // 4)
    threads = threads or max(1, machine.cores // workers)
    limit = options.memory_limit
    if limit is None:
        limit = int(SHARE_OF_FREE * machine.free) // workers
    return Resources(workers, threads, limit)


@contextmanager
def local_cluster(options: ClusterOptions) -> Iterator[Client]:
    """Yield a client of worker processes, which come back when they die."""
    resources, dashboard = local_resources(options), options.dashboard
    patience = options.patience
    config = {**CONFIG, NO_WORKERS: patience.no_workers if patience.no_workers < inf else None}
    with dask.config.set(config), _environment(), contextlib.ExitStack() as stack:
        with _interrupt_later():
            cluster = stack.enter_context(
                _started(
                    n_workers=resources.workers,
                    threads_per_worker=resources.threads,
                    memory_limit=resources.memory_limit or 0,
                    worker_class=PatientNanny,
                    host=HOST,
                    dashboard_address=_dashboard_address() if dashboard else f"{HOST}:0",
                    scheduler_kwargs={"dashboard": dashboard},
                    silence_logs=logging.CRITICAL,
                    preload=[__name__],
                )
            )
            client = stack.enter_context(Client(cluster, set_as_default=False))
            # for workers whose nanny gave up, or was told to
            cluster.adapt(minimum=resources.workers, maximum=resources.workers)
            await_workers(client, resources.workers, patience.workers)
        try:
            with watch_workers(client, patience.no_workers):
                yield client
        finally:
            with _interrupt_later():
                stack.close()


def _started(**options: Any) -> LocalCluster:
    """Return a cluster whose workers have started.

    Raises
    ------
    ClusterError
        Where one cannot start.
    """
    try:
        return LocalCluster(**options)
    except (RuntimeError, OSError) as error:
        reason = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ClusterError(f"a local cluster cannot be started: {error_line(reason)}") from error


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """Keep Ctrl-C until the block is done: a cluster that is half started cannot be closed.

    Pressed twice it interrupts at once. Processes started meanwhile never get it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    resource_tracker.ensure_running()  # once it runs, starting a process leaves the mask alone
    before = signal.signal(signal.SIGINT, remember)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _environment() -> Any:
    """Start workers with MALLOC and the BLAS kernels that the processor has (`faster_core`)."""
    core, setting = faster_core(), "distributed.nanny.pre-spawn-environ"
    blas = {} if core is None else {VARIABLE: core}
    return dask.config.set({setting: {**dask.config.get(setting, {}), **MALLOC, **blas}})


def _dashboard_address() -> str:
    """Return Dask's usual port where it is free, else any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, DASHBOARD_PORT))
        except OSError:
            return f"{HOST}:0"
    return f"{HOST}:{DASHBOARD_PORT}"


def dask_setup(worker: Any) -> None:
    """Let a local worker ignore the Ctrl-C that a terminal sends it too; called by Dask."""
    with contextlib.suppress(ValueError):  # not in the main thread: nothing to be done
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def some_client(client: Client | None, resources: Mapping[str, int]) -> Iterator[Client]:
    """Yield the given client, the current one, or one of threads in this process.

    resources: what the threads have besides cores.
    """
    client = current_client() if client is None else client
    if client is not None:
        yield client
        return
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=cores_here(),
            processes=False,
            protocol="tcp",
            host=HOST,
            dashboard_address=f"{HOST}:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
            resources=dict(resources) or None,
            silence_logs=logging.CRITICAL,  # no traceback of what a failure says in a line
        ) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        yield own
