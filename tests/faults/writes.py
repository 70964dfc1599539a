"""The n-th write to a store fails, ends its process, or is only counted.

Python tells audit hooks of every file that is opened, renamed, made or removed, before it happens;
what a hook raises takes its place. So real processes meet a full disk, or end in the middle of a
commit, without a privilege and without a word of the code under test being changed.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "FAULTS_WRITES"
CHANGES = {"os.rename": 2, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1}
NEEDS_SPACE = {"open", "os.rename", "os.link", "os.mkdir"}  # on a full disk one can still remove


class Plan(NamedTuple):
    """What happens at which write: count (nothing), ENOSPC or EIO (from then on), kill (once).

    within: what a path must contain: a store's name, which its temporary neighbours have too.
    """

    action: str
    at: int
    within: str
    tally: str

    def variable(self) -> dict[str, str]:
        """The environment that tells child processes of it."""
        return {VARIABLE: "|".join(map(str, self))}


def planned(environment: Mapping[str, str]) -> Plan | None:
    """The plan that an environment tells of."""
    if VARIABLE not in environment:
        return None
    action, at, within, tally = environment[VARIABLE].split("|")
    return Plan(action, int(at), within, tally)


def written_paths(event: str, args: tuple[Any, ...]) -> list[str]:
    """The paths that an audit event is about to change."""
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        named = [path] if writes else []
    else:
        named = list(args[: CHANGES.get(event, 0)])
    return [os.fsdecode(path) for path in named if isinstance(path, str | bytes | os.PathLike)]


@dataclass
class Hook:
    """Watches writes to a store, by all processes that share the tally, a file."""

    plan: Plan

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" and event not in CHANGES:
            return
        paths = [p for p in written_paths(event, args) if self.plan.within in p]
        if not paths:
            return
        count = self._counted()
        if count < self.plan.at or self.plan.action == "count":
            return
        if self.plan.action == "kill":
            self._kill_once()
        elif event in NEEDS_SPACE:
            number = getattr(errno, self.plan.action)
            raise OSError(number, os.strerror(number), paths[-1])

    def _counted(self) -> int:
        """Add a byte to the tally, which all processes append to, and return its length."""
        file = os.open(self.plan.tally, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b".")
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def _kill_once(self) -> None:
        try:
            os.close(os.open(f"{self.plan.tally}.killed", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def install(environment: Mapping[str, str] = os.environ) -> None:
    """Watch this process's writes where its environment asks for it."""
    plan = planned(environment)
    if plan is not None:
        sys.addaudithook(Hook(plan))


def tally_of(plan: Plan) -> int:
    """How many writes there were."""
    path = Path(plan.tally)
    return path.stat().st_size if path.exists() else 0
