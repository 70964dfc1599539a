"""A computation on a cluster from start to end: connect, watch the tiles, write the results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

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
from .store import Store


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
        return score(
            PairData(store, scale=spec.scale), spec.metric, spec.labels, RunOptions(resources),
            rule=spec.rule,
        )  # fmt: skip

    scores = None if options.is_remote else prepare(local_resources(options))
    with connect(options) as client:
        scores = scores or prepare(resources_of(client))
        plan = scores.plan
        if plan is None:  # another run wrote these results meanwhile
            return scores
        check_plan(client, plan)
        check_source(client, store.address)
        start(client, plan)
        with watch_tiles(client, plan, tell, scores.run):
            fresh = set() if options.is_remote else set(workers_of(client))
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
    if fresh and fresh == set(workers_of(client)):  # of one that died nobody knows the peak
        with contextlib.suppress(Exception):  # no figure is worth the results
            facts["peak_measured"] = max(client.run(peak_memory).values())
    return facts
