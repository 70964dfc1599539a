"""Whether somebody is there to work: who is missing is told, and waited for only so long.

Dask's own `no-workers-timeout` is the scheduler's, and that of a user's own may have none.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import NamedTuple

from distributed import Client
from distributed.utils import LoopRunner

from ..display import clock
from ..errors import ClusterError, Hint
from .workers import address_of

LOOK = 2.0  # seconds between two looks
ANSWER = 10.0  # that a scheduler has for an answer
BRIEF = 5.0  # of a gap that nobody needs to hear of: a worker that died is being replaced
AGAIN = "what is finished is kept: run the same command again to go on from there"
LOST = f"the connection to the scheduler was lost; {AGAIN}"

_log = logging.getLogger(__name__)


class Gap(NamedTuple):
    """What is missing at which scheduler, and since when.

    Attributes
    ----------
    scheduler : str
        Its address.
    answers : bool
        Whether it is only workers that are missing.
    since : float
        Seconds of the monotonic clock.
    """

    scheduler: str
    answers: bool
    since: float

    @property
    def seconds(self) -> float:
        """For how long."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        began = time.strftime("%H:%M:%S", time.localtime(time.time() - self.seconds))
        what = "has had no workers" if self.answers else "has not answered"
        return f"the scheduler at {self.scheduler} {what} since {began}"


@contextmanager
def watch_workers(
    client: Client,
    patience: float,
    tell: Callable[[Gap | None], None] | None = None,
    admit: Callable[[Client, list[str]], None] | None = None,
) -> Iterator[None]:
    """Look, while the block runs, whether its workers are there; end it when they stay away.

    Parameters
    ----------
    client : Client
        It is closed to end the block: all that waits for it then fails.
    patience : float
        Seconds after which that happens.
    tell : callable, optional
        Called with every gap that is not brief, and with None when it is over; both are logged by
        default.
    admit : callable, optional
        Called with the client and the addresses of workers that have come since the block began;
        a `ClusterError` that it raises ends the block.

    Raises
    ------
    ClusterError
        Saying who stayed away since when.
    """
    watch = _Watch(client, patience, tell or _Log(patience), admit)
    loop = LoopRunner(client.loop)  # whoever waits needs it to hear that the client was closed
    thread = threading.Thread(target=watch.run, name="dskrobust-presence", daemon=True)
    loop.start()
    thread.start()
    try:
        yield
    except Exception as error:
        if watch.reason is not None:
            raise watch.reason from error
        raise
    else:
        watch.close_gap()
    finally:
        watch.over.set()
        thread.join(timeout=1)  # it may wait for an answer, and ends with the client
        loop.stop()


class _Watch:
    """Looks from a thread of its own: who waits for results cannot.

    Attributes
    ----------
    reason : ClusterError or None
        Why the block has to end.
    over : threading.Event
    """

    def __init__(
        self,
        client: Client,
        patience: float,
        tell: Callable[[Gap | None], None],
        admit: Callable[[Client, list[str]], None] | None,
    ) -> None:
        self._client, self._patience, self._tell, self._admit = client, patience, tell, admit
        self._known = None if admit is None else set(client.nthreads())
        self._gap: Gap | None = None
        self._told = False
        self.reason: ClusterError | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while self.reason is None and not self.over.wait(min(LOOK, self._patience)):
            try:
                self._look()
            except ClusterError as error:
                self._end(error)
            except Exception:  # the connection is lost, which whoever waits for it hears at once
                continue

    def _look(self) -> None:
        scheduler = self._client.scheduler
        if scheduler is None:  # Dask has given it up, or the block's own code has closed it
            raise ClusterError(LOST)
        try:
            workers = set(self._client.sync(scheduler.ncores, callback_timeout=ANSWER))
        except TimeoutError:
            self._note(answers=False)
            return
        if not workers:
            self._note(answers=True)
            return
        self.close_gap()
        if self._admit is not None and self._known is not None and workers - self._known:
            self._admit(self._client, sorted(workers - self._known))
            self._known |= workers

    def close_gap(self) -> None:
        """Note that somebody is there."""
        told, self._gap, self._told = self._told, None, False
        if told:
            self._tell(None)

    def _note(self, *, answers: bool) -> None:
        """Note that nobody is there; tell of it, or end it, when that has lasted."""
        if self._gap is None or self._gap.answers != answers:
            since = time.monotonic() if self._gap is None else self._gap.since
            self._gap = Gap(address_of(self._client), answers, since)
            self._told = False
        if self._gap.seconds >= self._patience:
            raise ClusterError(
                f"{self._gap}, which is {clock(self._gap.seconds)}; {AGAIN}",
                Hint(
                    "Patience(no_workers=SECONDS) waits longer",
                    "--no-workers-timeout waits longer",
                ),
            )
        if self._gap.seconds >= BRIEF and not self._told and not self.over.is_set():
            self._tell(self._gap)
            self._told = True

    def _end(self, reason: ClusterError) -> None:
        """Close the client, so that who waits for it does not any more."""
        if self.over.is_set():
            return
        self.reason = reason
        with contextlib.suppress(Exception):  # nobody answers, most likely
            self._client.cancel(list(self._client.futures), force=True)
        with contextlib.suppress(Exception):
            self._client.close(timeout=ANSWER)
        if self._client.loop is not None:
            self._client.loop.add_callback(_cancel_futures, self._client)


def _cancel_futures(client: Client) -> None:
    """End all waiting for a closed client's futures.

    Dask forgets to where they were made while it noticed that its scheduler is gone.
    """
    for state in list(client.futures.values()):
        state.cancel()


class _Log:
    """Logs gaps, which Python writes to stderr where nothing else is set up."""

    def __init__(self, patience: float) -> None:
        self._until = f", for {clock(patience)} at most" if patience < inf else ""

    def __call__(self, gap: Gap | None) -> None:
        if gap is None:
            _log.warning("Workers are there again; going on.")
        else:
            _log.warning("Waiting: %s; the run goes on when one is there%s.", gap, self._until)
