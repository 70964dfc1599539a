"""What the dashboard's page shows of one run: which tiles are done, R so far, and how it went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.plan import pairs_of
from .bounds import Bounds

CELLS = 200  # of the picture of tiles in either direction, at most
POINTS = 400  # of a curve over time, at most


class RunBoard:
    """What is known of one run.

    Parameters
    ----------
    plan : mapping
        What the event of a plan says (`engine/events`).

    Attributes
    ----------
    title : str
    bounds : Bounds
    done, found : int
        Tiles that are done; those of them that a store had already.
    looked_at : int
        Pairs of rows of the tiles that are done.
    totals : dict
        Proven pairs and bytes read of all tiles so far.
    curve : list of (seconds, pairs, bytes read)
        How the run went, thinned out to POINTS at most.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.title, self.bounds = str(plan["title"]) or "A run", Bounds()
        self.tiles, self.pairs, self.projected = plan["tiles"], plan["pairs"], plan["projected"]
        self.starts, self.rows = np.asarray(plan["starts"], np.int64), plan["rows"]
        self.started = self.changed = time.monotonic()
        self.done = self.found = self.looked_at = 0
        self.totals = dict.fromkeys(("proven", "bytes_read"), 0.0)
        self.curve: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]
        cells = min(CELLS, len(self.starts))
        self._cell = np.arange(len(self.starts)) * cells // max(1, len(self.starts))
        self._done = np.zeros((cells, cells), np.int64)
        self._seen = np.zeros((len(self.starts),) * 2, np.bool_)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in that a tile is done; one that runs again changes nothing."""
        places = (event["rows"][0], event["columns"][0])
        i, j = np.sort(np.searchsorted(self.starts, places))
        if self._seen[i, j]:
            return
        self._seen[i, j] = True
        self._done[self._cell[i], self._cell[j]] += 1
        self.bounds.take(dict(event))
        self.done, self.found = self.done + 1, self.found + bool(event["resumed"])
        for name in self.totals:
            self.totals[name] += event[name]
        self.looked_at += pairs_of(tuple(event["rows"]), tuple(event["columns"]))
        self.changed = time.monotonic()
        at = self.changed - self.started, float(self.looked_at), self.totals["bytes_read"]
        self.curve.append(at)
        if len(self.curve) > POINTS:
            self.curve = self.curve[:-1:2] + self.curve[-1:]

    @property
    def complete(self) -> bool:
        """Whether all tiles are done."""
        return self.done >= self.tiles

    def shares(self) -> NDArray[np.float64]:
        """Return which share of every cell's tiles is done, (cells, cells); NaN where none are.

        A tile is a pair of blocks, first ≤ second, so one triangle has none.
        """
        sizes = np.bincount(self._cell, minlength=len(self._done)).astype(np.float64)
        tiles = np.triu(np.outer(sizes, sizes), 1) + np.diag(sizes * (sizes + 1) / 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            done = self._done / tiles
        return np.where(tiles > 0, np.minimum(done, 1.0), np.nan)
