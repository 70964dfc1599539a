"""Long-lived child processes that run the command line many times, and say what a store holds.

Where no process is to be killed, starting one for every command would be most of the time. A
child has its own small cluster, whose address commands are given; where it hangs or dies it is
replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import queue
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import reviewer

HERE = "{scheduler}"  # in a command: the child's own cluster


class Ran(NamedTuple):
    """How a command ended; the code is None where it did not, negative where a signal ended it."""

    code: int | None
    out: str
    err: str


# -- in the child ------------------------------------------------------------------------------


def serve(connection: Any) -> None:
    """Do what the parent asks for until it closes the connection."""
    os.environ["BROWSER"] = reviewer.command(os.devnull)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    from distributed import LocalCluster

    from .plain import register

    register()
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
        dashboard_address=":0", silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        while True:
            try:
                environment, task, *given = connection.recv()
            except EOFError:
                return
            os.environ.update(environment)
            connection.send(TASKS[task](*given, cluster.scheduler_address))


def run_command(argv: Sequence[str], scheduler: str) -> Ran:
    """Run a command in this process."""
    from click.testing import CliRunner

    from dskrobust import cli

    done = CliRunner().invoke(cli.main, [word.replace(HERE, scheduler) for word in argv])
    raw = done.exception if not isinstance(done.exception, SystemExit | None) else None
    said = f"\nTraceback: {type(raw).__name__}: {raw}" if raw is not None else ""
    return Ran(done.exit_code, done.stdout, done.stderr + said)


def read_state(url: str, scheduler: str) -> dict[str, Any]:
    """Return digests of what a store holds, as the library reads it, or why it cannot."""
    from dskrobust.errors import DskrobustError

    try:
        return _state(url)
    except DskrobustError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"Traceback: {type(error).__name__}: {error}"}


def _state(url: str) -> dict[str, Any]:
    import dskrobust as dr
    from dskrobust.store import find_results, read_decisions

    store = dr.open_store(url)
    block = store.read_block(0, store.rows)
    names = [store.groups[k] for k in block.split]
    results = {}
    for result in find_results(store, everything=True):
        if not result.is_prefix_of(store):  # of what was replaced: who leaves last clears it up
            continue
        tables = {}
        for name in sorted(result.tables()):
            values = result.read(name, 0, result.rows)
            tables[name] = digest(str(values.dtype), str(values.shape), values.tobytes())
        n = result.rows
        covered = digest(block.features[:n].tobytes(), block.labels[:n].tobytes(), str(names[:n]))
        facts = {k: str(v) for k, v in sorted(result.parameters.items())}
        results[json.dumps([covered, facts])] = digest(json.dumps(tables))
    rows = digest(block.features.tobytes(), block.labels.tobytes(), str(names))
    decisions = {
        str(row): [made.decision, made.label] for row, made in read_decisions(store).newest.items()
    }
    return {"rows": rows, "count": store.rows, "results": results, "decisions": decisions}


def digest(*parts: bytes | str) -> str:
    """A short name of bytes."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode() if isinstance(part, str) else part)
    return made.hexdigest()[:16]


def make_call(number: int, scheduler: str) -> tuple[str, str, str]:
    """Make a malformed call; return the command, what is wrong with its end, and the call."""
    from . import malformed

    with tempfile.TemporaryDirectory() as folder:
        call = malformed.calls(0)[number]
        found = malformed.check(call, malformed.ground(Path(folder)))
    return call[0], "hang" if found.code is None else found.fault, repr(call)[:200]


TASKS = {"run": run_command, "state": read_state, "call": make_call}


# -- in the parent -----------------------------------------------------------------------------


@dataclass
class Child:
    """One child process; it is started when it is first asked."""

    process: Any = None
    connection: Any = None

    def ask(self, limit: float, environment: dict[str, str], *question: Any) -> Any:
        """Return what the child answers; None where it hangs, False where it dies."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.connection.send((environment, *question))
            if self.connection.poll(limit):
                return self.connection.recv()
            self.close()
            return None
        except (EOFError, OSError):
            self.close()
            return False

    def close(self) -> None:
        """End the child, however it is."""
        if self.process is not None:
            self.connection.close()
            self.process.kill()
            self.process.join()
            self.process = None


@dataclass
class Pool:
    """So many children, each lent to one caller at a time; their environment may grow."""

    size: int
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.free: queue.Queue[Child] = queue.Queue()
        for _ in range(self.size):
            self.free.put(Child())

    def ask(self, limit: float, *question: Any) -> Any:
        """Ask a child that is free; None: it hung, False: it died."""
        child = self.free.get()
        try:
            return child.ask(limit, dict(self.environment), *question)
        finally:
            self.free.put(child)

    def run(self, argv: Sequence[str], limit: float) -> Ran:
        """Run a command in a child; code None: it hung, -1: the process died."""
        answer = self.ask(limit, "run", list(argv))
        return answer or Ran(None if answer is None else -1, "", "the process died")

    def state(self, url: str, limit: float) -> dict[str, Any]:
        """Return what a store holds, as digests."""
        return self.ask(limit, "state", url) or {"error": "Traceback: the reader hung or died"}

    def close(self) -> None:
        """End all children."""
        while not self.free.empty():
            self.free.get().close()
