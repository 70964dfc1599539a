"""What is told of a tile that is done: how much work it was, and R so far of its rows.

Q of some pairs is at most Q of all, so R so far is an upper bound of R; of several tiles the least
one is what all of them prove together. Events hold it as 16-bit steps, rounded up, and of a large
data set only for a sample of rows: all events of a run together stay below some 15 MB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clients import this_worker
from ..definitions import robustness_of
from .plan import Plan, pairs_of

if TYPE_CHECKING:
    from distributed import Client

TOPIC, PLANS = "dskrobust-tile", "dskrobust-plan"
PHASES = "dskrobust-phase"  # topic of what a run does beside tiles
SAMPLE, PREFIXES, MERGING, WRITING = "sample", "prefixes", "merging", "writing"
BOUND_ROWS = 50_000  # of a run, about, of which events tell R so far
BOUND_STEPS = 2**16 - 1  # of R in an event

Event = dict[str, Any]
_listeners: dict[str, list[Callable[[Event], None]]] = {TOPIC: [], PHASES: []}


@contextlib.contextmanager
def listening(hear: Callable[[Event], None], topic: str = TOPIC) -> Iterator[None]:
    """Call hear(event) for every tile that threads of this process are through with.

    Workers tell their scheduler instead; subscribe to the topic there. topic: PHASES for phases.
    """
    _listeners[topic].append(hear)
    try:
        yield
    finally:
        _listeners[topic].remove(hear)


def announce(event: Event, topic: str = TOPIC) -> None:
    """Tell whoever listens, on the scheduler or in this process."""
    worker = this_worker()
    if worker is not None:
        worker.log_event(topic, event)
        if topic == TOPIC:
            from .telemetry import count_tile  # which needs Dask's scheduler

            count_tile(event)
        return
    for hear in tuple(_listeners[topic]):
        hear(event)


def announce_phase(run: str | None, phase: str) -> None:
    """Tell what a run begins to do; nothing where nobody knows which run it is."""
    if run:
        announce({"run": run, "phase": phase}, PHASES)


def write_announced(
    run: str | None,
    write: Callable[[int, dict[str, NDArray[Any]]], Any],
    start: int,
    names: Sequence[str],
    pieces: Sequence[Sequence[NDArray[Any]]],
) -> Any:
    """Write rows of several tables, of each in pieces, and tell that a run has come to that."""
    announce_phase(run, WRITING)
    joined = (part[0] if len(part) == 1 else np.concatenate(part) for part in pieces)
    return write(start, dict(zip(names, joined, strict=True)))


@contextlib.contextmanager
def watch_phases(
    client: Client | None, begin: Callable[[str], None], run: str | None
) -> Iterator[None]:
    """Call begin(phase) whenever a task of a run begins something else than a tile.

    Tasks of several phases run side by side: who is told chooses what to show.
    """

    def hear(event: Event) -> None:
        if event["run"] == run:
            begin(event["phase"])

    with _subscribed(client, PHASES, hear):
        yield


@contextlib.contextmanager
def _subscribed(client: Client | None, topic: str, hear: Callable[[Event], None]) -> Iterator[None]:
    """Hear what workers tell the client's scheduler, and threads of this process."""
    if client is not None:
        client.subscribe_topic(topic, lambda event: hear(event[1]))
    try:
        with listening(hear, topic):
            yield
    finally:
        if client is not None:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                client.unsubscribe_topic(topic)


@contextlib.contextmanager
def watch_tiles(
    client: Client | None,
    plan: Plan,
    tell: Callable[[int, Event], None],
    run: str | None = None,
) -> Iterator[None]:
    """Call tell(pairs, event) once for every tile of a plan that is done.

    A tile that runs twice, because its worker died, is told of once; tiles of other runs on the
    same scheduler never. Without a client only tiles that this process runs are told of.

    Parameters
    ----------
    run : str, optional
        `Scores.run`; without it tiles are known by their rows alone.
    """
    waiting = {(plan.blocks[i], plan.blocks[j]) for i, j in plan.tiles}
    lock = threading.Lock()  # threads of this process tell themselves

    def hear(event: Event) -> None:
        tile = tuple(event["rows"]), tuple(event["columns"])
        with lock:
            if run not in (None, event.get("run")) or tile not in waiting:
                return
            waiting.remove(tile)
            tell(pairs_of(*tile), event)

    with _subscribed(client, TOPIC, hear):
        yield


def tell_of_plan(client: Client, plan: Plan, run: str | None, title: str) -> None:
    """Have the scheduler count tiles as metrics, and tell it what the run consists of.

    title: what is computed, in words, for those who look at the scheduler.
    """
    from .telemetry import Telemetry

    client.register_plugin(Telemetry(TOPIC, PLANS))
    client.log_event(
        PLANS,
        {
            "run": run,
            "title": title,
            "tiles": len(plan.tiles),
            "pairs": plan.pairs,
            "starts": [lo for lo, _ in plan.blocks],
            "rows": sum(plan.segments),
            "projected": plan.peak_bytes,
        },
    )


def bounds_of(
    lipschitz: NDArray[np.float64],
    split: NDArray[np.int16] | None,
    label_norm: float,
    place: tuple[int, int],
) -> bytes:
    """Return R so far of a block's rows in their own groups, as events hold it.

    Parameters
    ----------
    lipschitz : ndarray (n, groups) float64
        Q of the pairs that were looked at.
    split : ndarray (n,) int16, optional
        The rows' groups, where there are several.
    label_norm : float
    place : (int, int)
        Number of the first row, and of the rows of the whole data set.
    """
    first, total = place
    rows = _told_of(first, first + len(lipschitz), total)
    own = lipschitz[rows, 0 if split is None else split[rows]]
    steps = np.ceil(robustness_of(own, label_norm) * BOUND_STEPS)
    return bytes(steps.astype("<u2").tobytes())


def read_bounds(told: bytes) -> NDArray[np.uint16]:
    """Return what `bounds_of` wrote: R in BOUND_STEPS."""
    return np.frombuffer(told, "<u2").astype(np.uint16)


def _told_of(lo: int, hi: int, total: int) -> NDArray[np.int64]:
    """Positions in lo:hi of the rows that events tell of: all, or a sample that is spread evenly.

    Multiples of the golden ratio fall everywhere alike, so the order of rows does not matter.
    """
    if total <= BOUND_ROWS:
        return np.arange(hi - lo)
    spread = np.arange(lo, hi, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    share = np.uint64(2**32 * BOUND_ROWS // total)
    return np.flatnonzero((spread >> np.uint64(32)) < share)
