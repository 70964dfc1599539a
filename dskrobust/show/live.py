"""A live view of a computation: tiles done, time left, and how the bounds of R narrow."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from .. import display
from ..clients import current_client
from ..declared_types import checked_arguments
from ..engine.events import MERGING, WRITING, Event, watch_phases, watch_tiles
from ..kernels import watch_compiling
from ..scores import Scores
from . import terminal
from .bounds import Bounds
from .shown_runs import run_shown

if TYPE_CHECKING:
    from distributed import Client

    from ..cluster.presence import Gap

REFRESH = 0.5  # seconds between two looks of a notebook
LATE = 2.0  # seconds that events may take to arrive
TEXT_BINS = 14
LAST = (MERGING, WRITING)  # phases after tiles


def compiling_shown(progress: terminal.Progress) -> AbstractContextManager[None]:
    """Say while kernels are compiled, once on a machine, and leave it out of the time left."""
    said: list[str] = []

    def begin() -> None:
        if not said:
            said.append("compiling kernels, once on this machine")
            progress.begin_waiting(said[0])
        progress.waiting = said[0]

    return watch_compiling(begin, progress.end_waiting)


def show_phase(progress: terminal.Progress, phase: str) -> None:
    """Say what a run begins beside tiles.

    Merges and writes of some blocks come before the last tiles of others: they are said once all
    tiles are done.
    """
    at_end = progress.total is not None and progress.done >= progress.total
    if at_end == (phase in LAST):
        progress.begin_phase(phase)


class LiveView:
    """What `live` shows: in a notebook as HTML, in a terminal as bars, elsewhere as lines.

    Attributes
    ----------
    bounds : Bounds
    """

    def __init__(self, scores: Scores, dashboard: str = "") -> None:
        name = scores.spec.metric.name.capitalize() if scores.spec else ""
        self.title = scores.title
        self.bounds, self._dashboard = Bounds(), dashboard
        self._rows = scores.rows
        self._tiles = len(scores.plan.tiles) if scores.plan else 0
        pairs = scores.plan.pairs if scores.plan else None
        self.progress = terminal.Progress(name, pairs, unit="")
        self._done, self.state = 0, "computing"

    def tell(self, pairs: int, event: Event) -> None:
        """Take in that a tile is done."""
        self.bounds.take(event)
        self._done += 1
        self.progress.begin_phase("")
        self.progress.note = f"{self._done:,} of {display.counted(self._tiles, 'tile')}"
        self.progress.add(pairs, found=bool(event["resumed"]))

    def miss(self, gap: Gap | None) -> None:
        """Say that nobody is there to compute, or that somebody is again."""
        self.state = "computing" if gap is None else f"waiting, {gap}"
        self.progress.remark("" if gap is None else f"waiting, {gap}")

    @property
    def complete(self) -> bool:
        """Whether all tiles are done."""
        return self._done == self._tiles

    def await_events(self) -> None:
        """Wait for what was done, but not told of yet; not if nothing was done at all."""
        until = time.monotonic() + LATE
        while self._done and not self.complete and time.monotonic() < until:
            time.sleep(0.02)

    def __rich__(self) -> Group:
        counts = self.bounds.counts(TEXT_BINS)
        if counts is None:
            return Group()
        edges, now, first = counts
        most, digits, width = max(1, now.max(), first.max()), display.digits_of(edges), 40
        shown = terminal.table("R so far", "samples", text=(0, 1))
        for k in range(len(now)):
            full = terminal.bar(now[k] / most, width) if now[k] else ""
            gone = max(0, round(first[k] / most * width) - len(full))
            cells = ((full, terminal.ACCENT), ("░" * gone, terminal.QUIET))
            share = (f" {now[k] / now.sum():.1%}" if now[k] else "", terminal.QUIET)
            terminal.add_row(shown, f"{edges[k]:.{digits}f}", Text.assemble(*cells, share))
        return Group(shown, Text(f"{self.bounds.words()}; ░ before it narrowed", terminal.QUIET))

    def __str__(self) -> str:
        return str(self.bounds)

    def _repr_html_(self) -> str:
        job, words = self.progress, self.bounds.words()
        share = job.done / job.total if job.total else 1.0
        parts: list[display.Html | str] = [display.meter(share), " · ".join(job.words())]
        counts = self.bounds.counts(display.BINS)
        if counts is not None:
            edges, now, first = counts
            parts.append(display.histograms({"R so far": now}, edges, before=first))
            samples = f"{now.sum():,} of {display.counted(self._rows, 'sample')}"
            parts.append(f"{words}. Bounds only fall; the line is where they started. {samples}.")
        if self._dashboard:
            parts.append(display.link("Dashboard", self._dashboard))
        return display.card(self.title, f"{self.state} · {job.percent().strip()}", *parts)


@checked_arguments("scores")
@contextmanager
def live(scores: Scores, client: Client | None = None) -> Iterator[LiveView]:
    """Show how far a computation is, and the distribution of R so far, while the block runs.

    In a notebook that is a picture, in a terminal bars, elsewhere a line every tenth. Nothing is
    computed for it, and results are the same without it.

    Parameters
    ----------
    scores : Scores
        Lazy ones. Those that the store has already show nothing.
    client : distributed.Client, optional
        Where the block computes them; the current client by default, threads without one.

    Examples
    --------
    >>> with dr.live(scores):  # doctest: +SKIP
    ...     scores = scores.write()
    """
    client = client or current_client()
    view = LiveView(scores, client.dashboard_link if client else "")
    if scores.plan is None or scores.run is None:
        yield view
        return
    shown = (
        nullcontext() if client is None else run_shown(scores.plan, scores.run, view.title, client)
    )
    with (
        shown,
        _shown(view),
        watch_tiles(client, scores.plan, view.tell, scores.run),
        watch_phases(client, partial(show_phase, view.progress), scores.run),
        _missed(client, view),
        compiling_shown(view.progress),
    ):
        try:
            yield view
            view.await_events()
            view.progress.begin_phase("")
            view.state = "done"
        except BaseException:
            view.state = "stopped"
            raise


def _missed(client: Client | None, view: LiveView) -> AbstractContextManager[None]:
    """Have a view say when the client's workers are gone; whose they are decides how long."""
    if client is None or client.asynchronous:
        return nullcontext()
    from ..cluster.presence import watch_workers

    return watch_workers(client, inf, view.miss)


@contextmanager
def _shown(view: LiveView) -> Iterator[None]:
    if _in_notebook():
        with _shown_in_notebook(view):
            yield
        return
    with terminal.progress(view.progress.what, view.progress.total, "", below=view) as job:
        view.progress = job
        yield


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs us; a terminal's IPython is a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _shown_in_notebook(view: LiveView) -> Iterator[None]:
    """Show a view as one output that is replaced while a block runs; it stays in the notebook."""
    from IPython.display import display as show

    handle, over = show(view, display_id=True), threading.Event()

    def refresh() -> None:
        while not over.wait(REFRESH):
            handle.update(view)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        handle.update(view)
