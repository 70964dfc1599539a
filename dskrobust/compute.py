"""A computation on a cluster from start to end: connect, watch the tiles, write the results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from distributed import Client

from .cluster import ClusterOptions, connect
from .cluster.checks import check_plan, check_source
from .cluster.local import local_resources
from .cluster.workers import peak_memory, resources_of, workers_of
from .engine.events import watch_tiles
from .engine.plan import Plan, Resources
from .engine.spec import PairSpec
from .robustness import score
from .runs import PairData, RunOptions
from .scores import Scores
from .store import Store, made_once


class Writable(Protocol):
    """What is computed on a cluster and written into a store: scores, neighbours."""

    @property
    def plan(self) -> Plan | None:
        """How it runs; None where it is in the store already."""
        ...

    @property
    def run(self) -> str | None:
        """What the events of its tiles are named by."""
        ...

    def write(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, wait: bool = True
    ) -> Any:
        """Compute, write and return it as read from the store."""
        ...


W = TypeVar("W", bound=Writable)


def run_scores(
    store: Store,
    spec: PairSpec,
    options: ClusterOptions,
    *,
    start: Callable[[Client, Plan], None],
    tell: Callable[[int, dict[str, Any]], None],
    wait: bool = True,
) -> Scores:
    """Compute the scores of a store on a cluster and write them; see `run_and_write`."""

    def prepare(resources: Resources) -> Scores:
        data = PairData(store, scale=spec.scale)
        return score(data, spec.metric, spec.labels, RunOptions(resources), rule=spec.rule)

    with made_once(store, spec.parameters(), wait=wait):
        return run_and_write(store, prepare, options, start=start, tell=tell)


def run_and_write(
    store: Store,
    prepare: Callable[[Resources], W],
    options: ClusterOptions,
    *,
    start: Callable[[Client, Plan], None],
    tell: Callable[[int, dict[str, Any]], None],
) -> W:
    """Compute something on a cluster and write it into the store.

    Whoever calls it takes its turn before (`store.made_once`): no cluster is started to wait.

    Parameters
    ----------
    store : Store
    prepare : callable
        Makes it, lazily, for some resources.
    options : ClusterOptions
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
    lazy = None if options.is_remote else prepare(local_resources(options))
    with connect(options) as client:
        lazy = lazy or prepare(resources_of(client))
        plan = lazy.plan
        if plan is None:  # another run wrote these results meanwhile
            return lazy
        check_plan(client, plan)
        check_source(client, store.address)
        start(client, plan)
        with watch_tiles(client, plan, tell, lazy.run):
            fresh = set() if options.is_remote else set(workers_of(client))
            done: W = lazy.write(lambda: _run_facts(client, plan, fresh))
            return done


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
    if fresh and fresh == set(workers_of(client)):  # of one that died nobody knows the peak
        with contextlib.suppress(Exception):  # no figure is worth the results
            facts["peak_measured"] = max(client.run(peak_memory).values())
    return facts
