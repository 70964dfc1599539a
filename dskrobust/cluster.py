"""Connect to a Dask scheduler, or start a local cluster, and check its workers against a plan."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
import psutil
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security
from distributed.client import AllExit, FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker, NoWorkerError
from distributed.system import MEMORY_LIMIT

from .blas import VARIABLE, faster_core
from .errors import ClusterError
from .evaluation.running import check_source
from .events import peak_memory, watch_tiles
from .plan import MIB, USABLE, Plan, Resources
from .robustness import Options, score_store
from .scores import Scores
from .store import Store
from .tiles import PairSpec

PACKAGE = "dskrobust"
HOST = "127.0.0.1"  # nothing of ours listens to the network
DASHBOARD_PORT = 8787
CONNECT_SECONDS = 10
WORKER_SECONDS = 60
QUEUE_SECONDS = 3_600  # for workers that are waited for by number: their jobs may be in a queue
SHARE_OF_FREE = 0.8  # of the free memory, for all workers together
CONFIG = {
    "distributed.scheduler.allowed-failures": 20,  # a killed worker blames all its tasks
    "distributed.scheduler.no-workers-timeout": "120s",
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


@dataclass(frozen=True)
class ClusterOptions:
    """Which scheduler to use, or which local cluster to start.

    Attributes
    ----------
    scheduler : str, optional
        Address of a running scheduler, such as ``tcp://10.0.0.1:8786``.
    scheduler_file : str, optional
        The file that a scheduler wrote its address to.
    workers, threads : int, optional
        Of a local cluster: processes, and threads of each.
    memory_limit : int, optional
        Bytes of each local worker; 80 % of the free memory over all of them by default.
    dashboard : bool
        Whether a local cluster has a dashboard.
    wait_for : int, optional
        Of a running scheduler: how many workers must be there before a plan is made for them.
    tls_ca, tls_cert, tls_key : str, optional
        Files of a running scheduler's TLS; what Dask's configuration says by default.
    """

    scheduler: str | None = None
    scheduler_file: str | None = None
    workers: int | None = None
    threads: int | None = None
    memory_limit: int | None = None
    dashboard: bool = True
    wait_for: int | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    def __post_init__(self) -> None:
        local = (self.workers, self.threads, self.memory_limit)
        remote = (self.wait_for, *self.tls.values())
        if self.scheduler and self.scheduler_file:
            raise ClusterError("give either the address of a scheduler or its file, not both")
        if self.is_remote and any(value is not None for value in local):
            raise ClusterError(
                "workers, threads and memory limit are those of a local cluster; a running "
                "scheduler has its own: leave either out"
            )
        if not self.is_remote and any(value is not None for value in remote):
            raise ClusterError(
                "TLS files and a number of workers to wait for are for a running scheduler; name "
                "it by --scheduler or --scheduler-file"
            )
        if any(self.tls.values()) and not all(self.tls.values()):
            raise ClusterError("TLS needs all three of --tls-ca, --tls-cert and --tls-key")

    @property
    def is_remote(self) -> bool:
        """Whether a scheduler is running already."""
        return bool(self.scheduler or self.scheduler_file)

    @property
    def tls(self) -> dict[str, str | None]:
        """TLS files by the names that Dask's `Security` gives them."""
        return {
            "tls_ca_file": self.tls_ca,
            "tls_client_cert": self.tls_cert,
            "tls_client_key": self.tls_key,
        }


def local_resources(options: ClusterOptions) -> Resources:
    """Return what a local cluster of these options will have, before it is started."""
    workers, threads = options.workers, options.threads
    if workers is None:
        cores = max(1, CPU_COUNT // (threads or 1))
        workers = cores if threads or cores <= 4 else -(-cores // 4)
    threads = threads or max(1, CPU_COUNT // workers)
    limit = options.memory_limit
    if limit is None:
        free = min(psutil.virtual_memory().available, MEMORY_LIMIT)
        limit = int(SHARE_OF_FREE * free) // workers
    return Resources(workers, threads, limit)


def resources_of(client: Client) -> Resources:
    """Return the workers that a client's scheduler has now."""
    workers = _workers(client)
    if not workers:
        raise ClusterError(f"the scheduler at {_address(client)} has no workers")
    limits = [w["memory_limit"] for w in workers.values() if w["memory_limit"]]
    threads = max(w["nthreads"] for w in workers.values())
    return Resources(len(workers), threads, min(limits, default=None))


@contextmanager
def connect(options: ClusterOptions) -> Iterator[Client]:
    """Yield a client of the scheduler that the options name, or of a new local cluster.

    What goes wrong with the cluster inside the block becomes a `ClusterError`.

    Raises
    ------
    ClusterError
        Where the scheduler cannot be reached, has no workers, or they lack this package.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_reports())
        if options.is_remote:
            client = stack.enter_context(_remote(options))
        else:
            client = stack.enter_context(_local(local_resources(options), options.dashboard))
        # Not `set_as_default`: a client that fails to connect would stay the default, and whatever
        # is computed later would wait for it without end.
        with client.as_current(), cluster_errors():
            yield client


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep Dask from logging tracebacks of what is told in a line: a lost scheduler, Ctrl-C."""
    logging.getLogger("asyncio").addFilter(_was_wanted)  # stays: futures are dropped later on
    client = logging.getLogger("distributed.client")
    level = client.level
    client.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        client.setLevel(level)


def _was_wanted(record: logging.LogRecord) -> bool:
    """Tell whether a log record is not just of a result that nobody waits for any more."""
    return not (record.exc_info and isinstance(record.exc_info[1], AllExit))


@contextmanager
def _local(resources: Resources, dashboard: bool) -> Iterator[Client]:
    with dask.config.set(CONFIG), _environment(), contextlib.ExitStack() as stack:
        with _interrupt_later():
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=resources.workers,
                    threads_per_worker=resources.threads,
                    memory_limit=resources.memory_limit or 0,
                    processes=True,
                    host=HOST,
                    dashboard_address=_dashboard_address() if dashboard else f"{HOST}:0",
                    scheduler_kwargs={"dashboard": dashboard},
                    silence_logs=logging.CRITICAL,
                    preload=[__name__],
                )
            )
            client = stack.enter_context(Client(cluster, set_as_default=False))
            _await_workers(client, resources.workers)
            # brings back workers that die, also while they start (a nanny alone does not)
            cluster.adapt(minimum=resources.workers, maximum=resources.workers)
        try:
            yield client
        finally:
            with _interrupt_later():
                stack.close()


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


def slow_workers(client: Client) -> list[str]:
    """Return the workers whose BLAS runs at half the processor's speed."""
    return [address for address, core in client.run(faster_core).items() if core]


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
def _remote(options: ClusterOptions) -> Iterator[Client]:
    address = options.scheduler or _address_in(options.scheduler_file or "")
    security = _security(address, options)
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
    except (OSError, ValueError, TypeError) as error:
        _close_failed_client(error)
        raise ClusterError(
            f"no scheduler can be reached at {address} within {CONNECT_SECONDS} s; "
            "is the address right, and is it running?"
        ) from error
    with client:
        if options.wait_for is None:
            _await_workers(client, 1)
        else:
            _await_workers(client, options.wait_for, QUEUE_SECONDS)
        check_installed(client)
        yield client


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
    given = {name: path for name, path in options.tls.items() if path is not None}
    security = Security(**given)
    if not address.startswith("tls://"):
        return security
    for name in options.tls:
        path = getattr(security, name)
        if path is None:
            raise ClusterError(
                f"{address} wants TLS: give --tls-ca, --tls-cert and --tls-key, or set "
                "distributed.comm.tls in Dask's configuration"
            )
        if not ("\n" in path or Path(path).is_file()):
            raise ClusterError(f"there is no TLS file {path}")
    return security


def _address_in(path: str) -> str:
    """Return the address in a scheduler's file."""
    try:
        return str(json.loads(Path(path).read_text())["address"])
    except FileNotFoundError as error:
        raise ClusterError(
            f"there is no scheduler file {path}; start one with "
            f"`dask scheduler --host {HOST} --scheduler-file {path}`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is no scheduler file: {error!r}") from error


def _await_workers(client: Client, count: int, seconds: float | None = None) -> None:
    seconds = WORKER_SECONDS if seconds is None else seconds
    try:
        client.wait_for_workers(count, timeout=seconds)
    except TimeoutError as error:
        raise ClusterError(
            f"the scheduler at {_address(client)} has {len(_workers(client))} workers after "
            f"{seconds} s, {count} were expected; start some with "
            f"`dask worker {_address(client)}`"
        ) from error


# -- checks ----------------------------------------------------------------------------------


def check_workers(client: Client, plan: Plan) -> None:
    """Check that every worker has the memory that a plan projects.

    Raises
    ------
    ClusterError
        Naming the first worker that has not.
    """
    planned = plan.resources.threads
    for address, worker in _workers(client).items():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        if threads > planned:
            raise ClusterError(
                f"worker {address} runs {threads} tasks at a time, but the plan is for {planned}; "
                "plan for the largest worker"
            )
        if limit and plan.peak_bytes > limit * USABLE:
            raise ClusterError(
                f"worker {address} has a memory limit of {limit / MIB:,.0f} MiB, of which Dask "
                f"leaves {USABLE:.0%} usable; the plan needs {plan.peak_bytes / MIB:,.0f} MiB. "
                "Raise the limit, or use fewer threads per worker"
            )


def check_installed(client: Client, package: str = PACKAGE) -> None:
    """Check that scheduler and workers have our version of this package.

    Raises
    ------
    ClusterError
        Naming the machine that has not.
    """
    ours = importlib.metadata.version(PACKAGE)
    find = importlib.metadata.version
    found = client.run(find, package, on_error="return")
    try:
        found = {f"scheduler {_address(client)}": client.run_on_scheduler(find, package), **found}
    except importlib.metadata.PackageNotFoundError as error:
        found = {f"scheduler {_address(client)}": error, **found}
    for address, version in found.items():
        name = address if address.startswith("scheduler") else f"worker {address}"
        if isinstance(version, Exception):
            raise ClusterError(
                f"{name} has no {package}; install {PACKAGE} {ours} there (scheduler and workers "
                "need it)"
            )
        if version != ours:
            raise ClusterError(
                f"{name} has {package} {version}, but this is {ours}; use one version"
            )


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn what Dask raises for lost workers and schedulers into one clear error."""
    again = "what is finished is kept: run the same command again to go on from there"
    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"workers died again and again while they ran {error.task}, the last one at "
            f"{error.last_worker.address}; often that is too little memory. {again.capitalize()}"
        ) from error
    except NoWorkerError as error:
        raise ClusterError(f"all workers are gone; {again}") from error
    except (FutureCancelledError, CommClosedError) as error:
        raise ClusterError(f"the connection to the scheduler was lost; {again}") from error


# -- running ----------------------------------------------------------------------------------


def run_scores(
    store: Store,
    spec: PairSpec,
    options: ClusterOptions,
    *,
    start: Callable[[Client, Plan], None],
    tell: Callable[[int, dict[str, Any]], None],
) -> Scores:
    """Compute the scores of a store on a cluster and write them into the store.

    Parameters
    ----------
    start : callable
        Called with the client and the plan before anything runs.
    tell : callable
        Called with pairs of rows and an event for every tile that is done.

    Raises
    ------
    MemoryPlanError
        Where the plan does not fit; for a local cluster before it is started.
    ClusterError
    """

    def prepare(resources: Resources) -> Scores:
        return score_store(store, spec.metric, spec.labels, Options(resources))

    scores = None if options.is_remote else prepare(local_resources(options))
    with connect(options) as client:
        scores = scores or prepare(resources_of(client))
        plan = scores.plan
        if plan is None:  # another run wrote these results meanwhile
            return scores
        check_workers(client, plan)
        check_source(client, store.address)
        start(client, plan)
        with watch_tiles(client, plan, tell, scores.run):
            fresh = set() if options.is_remote else set(_workers(client))
            return scores.write(lambda: _run_facts(client, plan, fresh))


def _run_facts(client: Client, plan: Plan, fresh: set[str]) -> dict[str, Any]:
    """What is kept of a run with its results; fresh: workers that had done nothing before."""
    facts: dict[str, Any] = {
        "tiles": len(plan.tiles),
        "pairs": plan.pairs,
        "workers": plan.resources.workers,
        "threads": plan.resources.threads,
        "memory_limit": plan.resources.memory_limit,
        "peak_projected": plan.peak_bytes,
    }
    if fresh and fresh == set(_workers(client)):  # of one that died nobody knows the peak
        with contextlib.suppress(Exception):  # no figure is worth the results
            facts["peak_measured"] = max(client.run(peak_memory).values())
    return facts


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1)["workers"])


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"
