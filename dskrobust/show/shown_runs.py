"""Runs that are about to start, as the scheduler that they run on is told of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..clients import current_client, shares_process
from ..engine.events import tell_of_plan

if TYPE_CHECKING:
    from distributed import Client

    from ..engine.plan import Plan

_log = logging.getLogger(__name__)
_shown: set[str | None] = set()  # runs that blocks of this process have told of


def show_run(plan: Plan | None, run: str | None, title: str, client: Client | None = None) -> None:
    """Have a scheduler show a run on its dashboard, and count its tiles.

    Nothing where tasks run in this process, or where the run is shown already. A scheduler that
    takes no plugins, or has no such version of dskrobust, shows none: no picture is worth a run.

    Parameters
    ----------
    plan : Plan, optional
        None where nothing is left to compute.
    run : str, optional
        What events of its tiles are named by.
    title : str
        What is computed, in words.
    client : distributed.Client, optional
        The current one by default.
    """
    if plan is None or run is None or run in _shown:
        return
    try:
        if client is None and (shares_process() or (client := current_client()) is None):
            return
        from .board import Board

        client.register_plugin(Board())
        tell_of_plan(client, plan, run, title)
    except Exception:
        _log.info("the scheduler does not show this run", exc_info=True)


@contextmanager
def run_shown(
    plan: Plan | None, run: str | None, title: str, client: Client | None = None
) -> Iterator[None]:
    """Have a scheduler show a run that a block computes; inside, nobody tells of it again."""
    show_run(plan, run, title, client)
    if run in _shown:
        yield
        return
    _shown.add(run)
    try:
        yield
    finally:
        _shown.discard(run)
