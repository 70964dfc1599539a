"""What a command shows of a run over pairs: what is begun, how far it is, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from distributed import Client

    from ..cluster import ClusterOptions
    from ..engine.plan import Plan
    from ..show.terminal import Progress


class RunView:
    """Shows a run while a block lasts; `start`, `tell` and `begin` make a `compute.Watch`.

    Parameters
    ----------
    title : str
    options : ClusterOptions
    quiet : bool
        Whether nothing is said on standard output.
    before : callable, optional
        Called with the plan before anything runs.
    """

    def __init__(
        self,
        title: str,
        options: ClusterOptions,
        *,
        quiet: bool = False,
        before: Callable[[Plan], None] | None = None,
    ) -> None:
        from ..show.bounds import Bounds

        self.title, self.options, self.quiet, self._before = title, options, quiet, before
        self._stack, self._starting = ExitStack(), ExitStack()
        self._bar: Progress | None = None
        self._plan: Plan | None = None
        self._bounds = Bounds()
        self._done = self._resumed = 0
        self._work = dict.fromkeys(("pairs", "proven", "bytes_read"), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._starting.close()
        self._stack.__exit__(*error)

    def begin(self, phase: str) -> None:
        """Show what is begun; before the plan is known that is all there is to say."""
        from ..show import terminal
        from ..show.live import show_phase

        if self._bar is not None:
            show_phase(self._bar, phase)
            return
        self._starting.close()
        bar = self._starting.enter_context(terminal.progress(self.title, unit=""))
        bar.begin_phase(phase)

    def start(self, client: Client | None, plan: Plan) -> None:
        """Say what runs where, and show how far it is from now on."""
        from ..show import terminal
        from ..show.live import compiling_shown

        self._starting.close()
        if self._before is not None:
            self._before(plan)
        if not self.quiet:
            if client is not None and (self.options.is_remote or self.options.dashboard):
                terminal.fact("dashboard", client.dashboard_link)
            terminal.fact("workers", workers_line(plan))
            terminal.fact("plan", plan_line(plan))
        if client is not None and self.options.is_remote:
            say_slow_workers(client, stderr=self.quiet)
        shown = terminal.progress(self.title, plan.pairs, unit="", below=self._bounds)
        self._plan, self._bar = plan, self._stack.enter_context(shown)
        self._stack.enter_context(compiling_shown(self._bar))

    def tell(self, pairs: int, event: dict[str, Any]) -> None:
        """Take in that a tile is done."""
        bar, plan = self._bar, self._plan
        assert bar is not None
        assert plan is not None
        self._bounds.take(event)
        if not plan.resources.here:  # of other processes
            bar.end_waiting(event["compiling"] / plan.resources.workers)
        self._done += 1
        self._resumed += bool(event["resumed"])
        for name in self._work:
            self._work[name] += event[name]
        bar.note = f"{self._done:,} of {len(plan.tiles):,} tiles"
        if self._resumed:
            bar.note += f" ({self._resumed:,} resumed)"
        bar.begin_phase("")
        bar.add(pairs, found=bool(event["resumed"]))

    def say_work(self) -> None:
        """Say how many tiles were done before, and how much work the others were."""
        from ..show import terminal

        if self._resumed and self._plan is not None:
            terminal.fact("resumed", f"{self._resumed:,} of {len(self._plan.tiles):,} tiles")
        if self._work["pairs"]:
            share = self._work["proven"] / self._work["pairs"]
            read = terminal.size(self._work["bytes_read"])
            terminal.fact("work", f"{share:.2%} of the pairs proven, {read} read")


@contextmanager
def connected(options: ClusterOptions, *, here: bool = False) -> Iterator[Client]:
    """Yield a client of workers; while those of a local cluster start, a line says so.

    here: take threads of this process instead, which start at once.
    """
    from ..cluster import connect
    from ..cluster.local import some_client
    from ..compute import STARTING
    from ..show import terminal

    with ExitStack() as stack:
        if here:
            client = stack.enter_context(some_client(None, {}))
            stack.enter_context(client.as_current())
        elif options.is_remote:
            client = stack.enter_context(connect(options))
        else:
            command = click.get_current_context(silent=True)
            title = ((command and command.info_name) or "Running").capitalize()
            with terminal.progress(title, unit="") as bar:
                bar.begin_phase(STARTING)
                client = stack.enter_context(connect(options))
        yield client


def say_slow_workers(client: Client, *, stderr: bool) -> None:
    """Say where the workers' BLAS takes no notice of what their processors can do."""
    from ..cluster.blas import FASTER, VARIABLE
    from ..cluster.checks import slow_workers
    from ..show import terminal

    if slow_workers(client):
        terminal.say(
            f"The workers' BLAS uses half of their processors: start them with "
            f"{VARIABLE}={FASTER} in the environment.",
            style="yellow",
            stderr=stderr,
        )


def workers_line(plan: Plan) -> str:
    """Return in a line what a plan runs on."""
    from ..show import terminal

    has = plan.resources
    if has.here:
        return threads_line(has.threads)
    limit = f", {terminal.size(has.memory_limit)} each" if has.memory_limit else ""
    workers, threads = (
        terminal.counted(has.workers, "worker"),
        terminal.counted(has.threads, "thread"),
    )
    return f"{workers} × {threads}{limit}"


def threads_line(threads: int) -> str:
    """Return in a line what runs without workers."""
    from ..show import terminal

    return f"this process, {terminal.counted(threads, 'thread')}"


def plan_line(plan: Plan) -> str:
    """Return a plan in a line."""
    from ..show import terminal

    return (
        f"{terminal.counted(len(plan.tiles), 'tile')}, {terminal.big(plan.pairs)} pairs, "
        f"{terminal.size(plan.bytes_read)} to read, peak {terminal.size(plan.peak_bytes)} a worker"
    )
