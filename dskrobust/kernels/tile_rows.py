"""What a tile reads, made into panels; how much of it was read and looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .bounds.byte_grid import Grid
from .bounds.prefix import Depths
from .job import PairJob, Rows, kernel_rows
from .panel import Panel, make_panel, make_prefix_panel, with_rows
from .reductions import State
from .twins import find_twins


class TileRows(Protocol):
    """The rows of a tile's sides, by their positions; side 0 are the rows, 1 the columns."""

    @property
    def depths(self) -> Depths | None:
        """How deep prefixes are, None where there are none."""
        ...

    def rows(self, side: int, lo: int, hi: int) -> Rows:
        """Row numbers, labels and parts."""
        ...

    def features(self, side: int, lo: int, hi: int) -> NDArray[Any]:
        """Features (n, d); may be overwritten by the next call for the same side."""
        ...

    def prefixes(self, side: int, lo: int, hi: int) -> NDArray[np.float32]:
        """Prefixes (n, k + 2)."""
        ...

    def cached(self, side: int, lo: int, hi: int, make: Callable[[], Panel]) -> Panel | None:
        """A panel that other tiles use too, made where there is none; None where none is kept."""
        ...


@dataclass
class Counters:
    """What a tile did.

    Attributes
    ----------
    pairs : int
        Pairs looked at. Between leaves a pair that a row of either side looked at counts twice,
        and pairs of boxes do not count.
    screened : int
        Pairs that were bounded a second time, by their long prefixes.
    proven : int
        Pairs computed in float64.
    rows_read, prefixes_read : int
        Rows whose features, whose prefixes were asked for.
    bytes_read : int
        Of both, decoded, where they were not kept; for the caller to fill in.
    leaves : int
        Leaves compared.
    """

    pairs: int = 0
    proven: int = 0
    rows_read: int = 0
    prefixes_read: int = 0
    screened: int = 0
    bytes_read: int = 0
    leaves: int = 0


class TilePanels:
    """Makes the panels of a tile, of whole rows or of their prefixes.

    Parameters
    ----------
    source : TileRows
    most : (int, int)
        How many rows of either side are held at once.
    job : PairJob
    counters : Counters
        Written to.
    grid : callable
        What `make_panel` makes bytes with.
    """

    def __init__(
        self,
        source: TileRows,
        most: tuple[int, int],
        job: PairJob,
        counters: Counters,
        grid: Callable[[NDArray[Any]], Grid | None],
    ) -> None:
        self._source, self._most, self._job = source, most, job
        self._counters, self._grid = counters, grid
        self._screens: dict[int, NDArray[np.float32]] = {}

    def panel(self, side: int, lo: int, hi: int, state: State) -> Panel:
        """Rows lo:hi of a side, whose results so far are `state`."""
        if self._source.depths is not None:
            return self._of_prefixes(side, lo, hi, state)
        features, who = self._features(side, lo, hi), self._source.rows(side, lo, hi)
        buffer = self._screen(side, features.shape[1])
        return make_panel(who, features, self._job, buffer, self._grid, self._terms(state))

    def _of_prefixes(self, side: int, lo: int, hi: int, state: State) -> Panel:
        """A panel of prefixes; its rows are read once they are needed."""
        source, job, depths = self._source, self._job, self._source.depths
        terms = self._terms(state)
        assert depths is not None
        read: list[NDArray[Any]] = []

        def make(buffer: NDArray[np.float32] | None = None) -> Panel:
            prefix, who = source.prefixes(side, lo, hi), source.rows(side, lo, hi)
            twins = find_twins(prefix, who, terms, job)
            if twins is not None:  # not all rows whose prefixes are equal need be equal
                read.append(kernel_rows(self._features(side, lo, hi), who.numbers, job))
                twins = find_twins(read[0], who, terms, job)
            return make_prefix_panel(who, prefix, depths, job, buffer, twins)

        kept = source.cached(side, lo, hi, make)
        made = kept or make(self._screen(side, depths.short + 1))
        self._counters.prefixes_read += hi - lo
        if read:
            return replace(made, load=lambda: read[0])
        return with_rows(made, lambda: self._features(side, lo, hi), job)

    def _terms(self, state: Any) -> NDArray[np.float64] | None:
        """What rows ask for, where equal rows may ask for different things."""
        return None if self._job.reduction.warm else state.terms

    def _features(self, side: int, lo: int, hi: int) -> NDArray[Any]:
        self._counters.rows_read += hi - lo
        return self._source.features(side, lo, hi)

    def _screen(self, side: int, columns: int) -> NDArray[np.float32] | None:
        """The buffer for a side's rounded rows, None where there is no screen."""
        if self._job.form.screened and side not in self._screens:
            self._screens[side] = np.empty((self._most[side], columns), np.float32)
        return self._screens.get(side)
