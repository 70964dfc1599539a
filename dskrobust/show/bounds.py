"""R so far: the bounds of R that a run's tiles tell of, put together.

Tiles tell R so far of their rows (`engine/events`): an upper bound that only falls, until it is R.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.text import Text

from .. import display
from ..engine.events import BOUND_STEPS, Event, read_bounds
from . import terminal

SPARK_BINS = 24


class Bounds:
    """R so far of the samples that events tell of; in a terminal a line of its distribution."""

    def __init__(self) -> None:
        self._now: dict[int, NDArray[np.uint16]] = {}  # by the first row of a block
        self._first: dict[int, NDArray[np.uint16]] = {}
        self._lock = threading.Lock()  # events arrive in another thread than they are shown in

    def take(self, event: Event) -> None:
        """Take in what a tile tells."""
        with self._lock:
            sides = (event["rows"], event["columns"])  # on the diagonal only the first counts
            for (first, _), bounds in zip(sides, event["bounds"], strict=False):
                new = read_bounds(bounds)
                self._first.setdefault(first, new)
                self._now[first] = np.minimum(self._now.get(first, new), new)

    def _values(self, parts: dict[int, NDArray[np.uint16]]) -> NDArray[np.float64]:
        with self._lock:
            bounds = np.concatenate([np.zeros(0, np.uint16), *parts.values()])
        return bounds[bounds < BOUND_STEPS] / BOUND_STEPS  # R ≤ 1 says nothing

    @property
    def values(self) -> NDArray[np.float64]:
        """R so far, shape (k,), of all samples with a bound; upper bounds of R."""
        return self._values(self._now)

    @property
    def first(self) -> NDArray[np.float64]:
        """The same when their first tile was done."""
        return self._values(self._first)

    def counts(
        self, most: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]] | None:
        """Return edges of at most `most` bins and the counts now and at first; None without any."""
        now, first = self.values, self.first
        if not len(now) or not len(first):
            return None
        edges = display.round_edges(float(now.min()), float(first.max()), most)
        return edges, np.histogram(now, edges)[0], np.histogram(first, edges)[0]

    def words(self) -> str:
        """Return the least, the median and the largest R so far."""
        values = self.values
        if not len(values):
            return ""
        least, median, largest = values.min(), np.median(values), values.max()
        return f"R at most {least:.4f} (least), {median:.4f} (median), {largest:.4f} (largest)"

    def __rich__(self) -> Text | Group:
        counts = self.counts(SPARK_BINS)
        if counts is None:
            return Group()
        edges, now, _ = counts
        digits = display.digits_of(edges)
        line = Text.assemble(
            ("R so far  ", terminal.STRONG),
            (f"{edges[0]:.{digits}f} ", terminal.QUIET),
            (terminal.spark(now), terminal.ACCENT),
            (f" {edges[-1]:.{digits}f}", terminal.QUIET),
            (f"  at most {np.median(self.values):.4f} for half of them", terminal.QUIET),
        )
        line.no_wrap, line.overflow = True, "ellipsis"
        return line

    def __str__(self) -> str:
        return self.words()
