"""What a scheduler knows of the runs on it, for the page *Robustness* of Dask's dashboard.

A plugin of the scheduler hears of plans and of tiles that are done (`engine/events`), keeps of
every run what the page shows, and adds the page to the dashboard that the scheduler serves: behind
the same port, prefix and proxy as Dask's own pages, in their menu, and as single plots for the
extension of JupyterLab. Nothing is asked of workers for it.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from ..engine.events import PLANS, TOPIC
from .run_board import RunBoard

if TYPE_CHECKING:
    from distributed import Scheduler

_log = logging.getLogger(__name__)

NAME = "dskrobust-board"
RUNS = 8  # that are remembered


class Board(SchedulerPlugin):
    """Keeps what a scheduler hears of runs, and serves it on the dashboard.

    Attributes
    ----------
    runs : OrderedDict of RunBoard
        By run; the newest last.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.runs: OrderedDict[str | None, RunBoard] = OrderedDict()

    async def start(self, scheduler: Scheduler) -> None:
        """Add the page where the scheduler serves a dashboard at all."""
        if "distributed.dashboard.scheduler" not in sys.modules:
            return
        try:
            from .dashboard import add_pages

            add_pages(scheduler, lambda: self.newest)
        except Exception:  # no picture is worth a run
            _log.warning("the page of Dask's dashboard could not be added", exc_info=True)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take in what is of ours among all events."""
        if topic == PLANS:
            self.runs.pop(msg["run"], None)
            self.runs[msg["run"]] = RunBoard(msg)
            while len(self.runs) > RUNS:
                self.runs.popitem(last=False)
        elif topic == TOPIC and (board := self.runs.get(msg.get("run"))) is not None:
            board.take(msg)

    @property
    def newest(self) -> RunBoard | None:
        """The run that began last."""
        return next(reversed(self.runs.values()), None)
