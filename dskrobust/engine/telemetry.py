"""What tiles came to, as metrics that Prometheus reads beside Dask's own.

Dask serves /metrics on the scheduler and on every worker where the library prometheus_client is
installed there, from that library's one registry of the process. So a worker counts its tiles, a
scheduler those that it hears of, and both add what they counted to that registry.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from ..processes import ProcessLock, peak_memory

NAME = "dskrobust-telemetry"
LIBRARY = "prometheus_client"


class Family(NamedTuple):
    """A counter: its name without prefix, what it is, and what it adds up of an event."""

    name: str
    what: str
    key: str


FAMILIES = (
    Family("pairs", "Pairs of rows that count, in finished tiles.", "pairs"),
    Family("screened_pairs", "Pairs that the first bounds left over.", "screened"),
    Family("proven_pairs", "Pairs whose distance was computed in float64.", "proven"),
    Family("read_bytes", "Decoded bytes of features that tiles read.", "bytes_read"),
    Family("tile_seconds", "Seconds that tiles took, without compiling.", "seconds"),
    Family("compiling_seconds", "Seconds in which tiles waited for kernels.", "compiling"),
)


class Totals:
    """Sums over the tiles that one process has run, or heard of.

    Parameters
    ----------
    place : {"worker", "scheduler"}
        Where that is, which is a part of the metrics' names.
    """

    def __init__(self, place: str) -> None:
        self._place, self._prefix = place, f"dskrobust_{place}"
        self._lock = ProcessLock()
        self._sums: Counter[str] = Counter()
        self._planned = 0
        self._projected = 0
        self._registered = False

    def add(self, event: Mapping[str, Any]) -> None:
        """Count a tile that is done; one that runs again counts again."""
        with self._lock:
            self._sums["kept" if event["resumed"] else "computed"] += 1
            for family in FAMILIES:
                self._sums[family.key] += event[family.key]
            self._projected = event["projected"]
        self.register()

    def expect(self, tiles: int, projected: int) -> None:
        """Note what a run that begins consists of."""
        with self._lock:
            self._planned += tiles
            self._projected = projected
        self.register()

    def register(self) -> None:
        """Have the totals served where this process serves metrics at all."""
        if self._registered or LIBRARY not in sys.modules:  # Dask has loaded it where it serves
            return
        with self._lock:
            first, self._registered = not self._registered, True
        if first:
            sys.modules[LIBRARY].REGISTRY.register(self)

    def describe(self) -> list[Any]:
        """Return nothing: what is collected is looked at when it is asked for."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the metrics, as prometheus_client wants them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        with self._lock:
            sums, planned, projected = Counter(self._sums), self._planned, self._projected
        tiles = CounterMetricFamily(
            f"{self._prefix}_tiles", "Tiles that are done, by where they came from.", labels=["by"]
        )
        for source in ("computed", "kept"):
            tiles.add_metric([source], sums[source])
        yield tiles
        for name, what, key in FAMILIES:
            yield CounterMetricFamily(f"{self._prefix}_{name}", what, value=sums[key])
        yield GaugeMetricFamily(
            f"{self._prefix}_projected_bytes",
            "Memory that the newest plan projects for a worker at its peak.",
            value=projected,
        )
        if self._place == "worker":
            yield GaugeMetricFamily(
                f"{self._prefix}_peak_bytes",
                "Most memory that this process has held.",
                value=peak_memory() or 0,
            )
        else:
            yield CounterMetricFamily(
                f"{self._prefix}_planned_tiles", "Tiles of the runs that were watched.",
                value=planned,
            )  # fmt: skip


_of_worker = Totals("worker")
_of_scheduler = Totals("scheduler")


def count_tile(event: Mapping[str, Any]) -> None:
    """Count a tile that a worker of this process is through with."""
    _of_worker.add(event)


class Telemetry(SchedulerPlugin):
    """Counts on the scheduler what workers tell of their tiles, and clients of their plans.

    Parameters
    ----------
    tiles, plans : str
        The topics of these events.
    """

    name = NAME
    idempotent = True

    def __init__(self, tiles: str, plans: str) -> None:
        self._tiles, self._plans = tiles, plans

    async def start(self, scheduler: Scheduler) -> None:
        """Be served from the beginning, with zeros."""
        _of_scheduler.register()

    def log_event(self, topic: str, msg: Any) -> None:
        """Count what is of ours among all events."""
        if topic == self._tiles:
            _of_scheduler.add(msg)
        elif topic == self._plans:
            _of_scheduler.expect(msg["tiles"], msg["projected"])
