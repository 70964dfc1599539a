"""A computation on a cluster from start to end: connect, watch the tiles, write the results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .clients import current_client, shares_process
from .cluster.options import ClusterOptions
from .cluster.workers import found_resources
from .engine.events import watch_phases, watch_tiles
from .engine.plan import WAVE_TILES, Plan, Resources
from .engine.spec import PairSpec
from .engine.workload import SMALL_ROWS
from .label_fit import LabelQuality
from .memory import CLUSTER, searching_memory
from .neighbours import Neighbours
from .processes import peak_memory
from .robustness import score
from .runs import PairData, RunOptions
from .scores import Scores, run_memo
from .space import check_space
from .store import Store, TileMemo, made_once

if TYPE_CHECKING:
    from distributed import Client

STARTING = "starting workers"  # a phase of a run on a local cluster
TASK_BYTES = 8 * 2**10  # of a task in its graph, and on a scheduler in this process
PACKED = 0.7  # of distances and row numbers: what zstd leaves of them, about


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


def _nobody(*told: Any) -> None:
    """Hear what nobody asked for."""


@dataclass(frozen=True)
class Watch:
    """Who is told how a run goes.

    Attributes
    ----------
    start : callable
        Called with the client, None in this process, and the plan before anything runs.
    tell : callable
        Called with pairs of rows and an event for every tile that is done.
    begin : callable
        Called with what is begun beside tiles: STARTING before a local cluster is there, and what
        `engine.events` names.
    """

    start: Callable[[Client | None, Plan], None] = _nobody
    tell: Callable[[int, dict[str, Any]], None] = _nobody
    begin: Callable[[str], None] = _nobody


W = TypeVar("W", bound=Writable)


def run_scores(
    store: Store,
    spec: PairSpec,
    options: ClusterOptions,
    watch: Watch,
    *,
    wait: bool = True,
    references: Mapping[str, Any] | None = None,
) -> Scores:
    """Compute the scores of a store on a cluster and write them; see `run_and_write`.

    references: those that `spec` has, see `sample_robustness`.
    """

    def prepare(resources: Resources) -> Scores:
        data = PairData(store, scale=spec.scale)
        rule, how = spec.rule, RunOptions(resources)
        return score(data, spec.metric, spec.labels, how, rule=rule, references=references)

    with made_once(store, spec.parameters(), wait=wait):
        return run_and_write(store, prepare, options, watch)


def run_and_write(
    store: Store,
    prepare: Callable[[Resources], W],
    options: ClusterOptions,
    watch: Watch,
) -> W:
    """Compute something on a cluster, or in this process, and write it into the store.

    A job that is done before a cluster would have started stays in this process, unless the
    options name workers or a scheduler: the same plan, graph and tasks without a client.
    Whoever calls it takes its turn before (`store.made_once`): no cluster is started to wait.

    Parameters
    ----------
    store : Store
    prepare : callable
        Makes it, lazily, for some resources.
    options : ClusterOptions
    watch : Watch

    Raises
    ------
    MemoryPlanError
        Where the plan does not fit; for a local cluster before it is started.
    OutputError
        Where the store's disk has no room for tiles and results.
    ClusterError
    """
    if stays_here(store, options):
        lazy = prepare(found_resources())
        plan = lazy.plan
        if plan is None:  # another run wrote these results meanwhile
            return lazy
        if plan.small:
            _check_room(store, lazy, plan)
            watch.start(None, plan)
            with _watched(None, plan, watch, lazy.run):
                return lazy.write(lambda: _plan_facts(plan))
    return _write_on_cluster(store, prepare, options, watch)


def stays_here(store: Store, options: ClusterOptions) -> bool:
    """Tell whether rows are few, and nobody has said what to compute on: this process may do it."""
    return options.is_open and store.rows <= SMALL_ROWS and current_client() is None


@contextlib.contextmanager
def _watched(client: Client | None, plan: Plan, watch: Watch, run: str | None) -> Iterator[None]:
    """Tell of the tiles of a run, and of its phases."""
    with watch_phases(client, watch.begin, run), watch_tiles(client, plan, watch.tell, run):
        yield


def _write_on_cluster(
    store: Store,
    prepare: Callable[[Resources], W],
    options: ClusterOptions,
    watch: Watch,
) -> W:
    """Compute on a scheduler's workers and write; see `run_and_write`."""
    from .cluster import connect
    from .cluster.checks import check_plan, check_source
    from .cluster.local import local_resources
    from .cluster.workers import resources_of, workers_of

    lazy = None if options.is_remote else prepare(local_resources(options))
    if not options.is_remote:
        watch.begin(STARTING)
    with connect(options) as client:
        lazy = lazy or prepare(resources_of(client))
        plan = lazy.plan
        if plan is None:  # another run wrote these results meanwhile
            return lazy
        check_plan(client, plan)
        check_source(client, store.address)
        _check_room(store, lazy, plan)
        watch.start(client, plan)
        with _watched(client, plan, watch, lazy.run):
            fresh = set() if options.is_remote else set(workers_of(client))
            done: W = lazy.write(lambda: _run_facts(client, plan, fresh))
            return done


def client_memory(plan: Plan) -> int:
    """Return how many bytes a run takes at most in the process that starts it."""
    if shares_process():
        return searching_memory([plan])
    return CLUSTER + TASK_BYTES * min(plan.tasks, 2 * WAVE_TILES)


def _check_room(store: Store, lazy: Writable, plan: Plan) -> None:
    """Refuse a run whose tiles and results may not fit onto the store's disk."""
    tables, memo = _written(store, lazy)
    row = sum(table.nbytes for table in tables) // store.rows
    spans = [hi - lo for lo, hi in plan.blocks]
    if plan.in_rounds:  # one state of every row, and those that are just taking another's place
        kept = store.rows + 2 * sum(sorted(spans)[-plan.resources.workers :])
    else:
        left = 1 - min(1.0, memo.count() / len(plan.tiles)) if memo else 0.0
        kept = int(left * sum(spans[i] + (spans[j] if i != j else 0) for i, j in plan.tiles))
    needed = int(PACKED * row * (kept + 2 * store.rows))
    check_space(store.url, needed, f"{len(plan.tiles):,} tiles and the results of them")


def _written(store: Store, lazy: Writable) -> tuple[list[Any], TileMemo | None]:
    """Return what a state has of every row, as lazy arrays, and where finished tiles are kept."""
    if isinstance(lazy, LabelQuality):
        pair = lazy.scores, lazy.same_scores
        tables = [table for one in pair for table in (one.reach_by_group, one.nearest_by_group)]
        assert lazy.scores.searched is not None
        return tables, run_memo(store, lazy.scores.searched)
    if isinstance(lazy, Neighbours):
        return [lazy.distance, lazy.index], None if lazy.search is None else lazy.search.memo
    assert isinstance(lazy, Scores)
    assert lazy.spec is not None
    tables = [lazy.reach_by_group, lazy.nearest_by_group]
    if not lazy.categorical:
        tables += [lazy.lipschitz_by_group, lazy.witness_by_group]
    return tables, run_memo(store, lazy.spec)


def _plan_facts(plan: Plan) -> dict[str, Any]:
    """What is kept of a plan with its results."""
    return {
        "tiles": len(plan.tiles),
        "pairs": plan.pairs,
        "workers": plan.resources.workers,
        "threads": plan.resources.threads,
        "memory_limit": plan.resources.memory_limit,
        "peak_projected": plan.peak_bytes,
    }


def _run_facts(client: Client, plan: Plan, fresh: set[str]) -> dict[str, Any]:
    """What is kept of a run with its results; fresh: workers that had done nothing before."""
    from .cluster.workers import workers_of

    facts = _plan_facts(plan)
    if fresh and fresh == set(workers_of(client)):  # of one that died nobody knows the peak
        with contextlib.suppress(Exception):  # no figure is worth the results
            facts["peak_measured"] = max(client.run(peak_memory).values())
    return facts
