"""Something is killed at a random moment; then the same command runs once more, undisturbed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from . import writes
from .bench import Bench, Site, State, made_anew
from .children import Ran
from .commands import (
    CLEANED,
    COMMANDS,
    HANG,
    RIGHT,
    TWO,
    WRONG,
    Cluster,
    Command,
    Process,
    Start,
    judge,
    wait_until,
)
from .forks import pid_of
from .found import Found

ANY = ("process group",)
LOCAL = (*ANY, "worker")
OWN = ("client", "scheduler", "worker of one's own scheduler", "nanny", "all nannies")
CLUSTERED = [name for name, command in COMMANDS.items() if command.cluster]
NOT_THERE = ("there is no store", "was never finished")


def victims(command: Command) -> tuple[str, ...]:
    """What can be killed while a command runs."""
    return (*LOCAL, *OWN) if command.cluster else ANY


@dataclass
class Moment:
    """When: at a share of the time, or of the writes, that the command takes undisturbed."""

    rng: random.Random

    def __post_init__(self) -> None:
        self.by_writes, self.share = self.rng.random() < 0.5, self.rng.random()

    def wait(self, process: Process, plan: writes.Plan, whole: tuple[float, int]) -> None:
        """Wait for it, or for the end of the process."""
        seconds, count = whole
        if self.by_writes and count:
            at = self.share * count
            wait_until(lambda: writes.tally_of(plan) >= at, process, 2 * seconds)
        else:
            wait_until(lambda: False, process, self.share * seconds)


def attempt(bench: Bench, seed: int) -> list[Found]:
    """Kill once."""
    rng = random.Random(f"kills {seed}")
    command = list(COMMANDS.values())[seed % len(COMMANDS)]
    victim = rng.choice(victims(command))
    with bench.site(command.base) as site:
        outcome, note = _attempt(site, command, victim, rng)
    return [Found(f"kill: {victim}", command.name, outcome, note)]


def _attempt(site: Site, command: Command, victim: str, rng: random.Random) -> tuple[str, str]:
    undisturbed = site.bench.undisturbed(command)
    own = site.folder / "cluster", site.bench.place.environment
    cluster = Cluster(*own) if victim in OWN else None
    try:
        if cluster is not None and not cluster.ready(site.bench.limit):
            return WRONG, "the scheduler did not start"
        plan = writes.Plan("count", 0, site.name, str(site.folder / "tally"))
        where = cluster.where if cluster else TWO
        process = site.start(command, where, Start(site.folder, plan.variable()))
        Moment(rng).wait(process, plan, (undisturbed.seconds, undisturbed.writes))
        meant = _kill(victim, process, cluster, rng)
        ran = process.wait(site.bench.limit)
        ended = (RIGHT, "") if meant and ran.code == -signal.SIGKILL else judge(ran)
        if ended[0] in (WRONG, HANG):
            return ended
        return _once_more(site, command, ran, ended)
    finally:
        if cluster is not None:
            cluster.close()


def _kill(victim: str, process: Process, cluster: Cluster | None, rng: random.Random) -> bool:
    """Kill the victim; tell whether the command itself is among it."""
    if victim == "process group":
        process.kill()
        return True
    targets: dict[str, Callable[[], list[int]]] = {
        "client": lambda: [process.pid],
        "worker": process.workers,
    }
    if cluster is not None:
        nannies = [pid_of(nanny) for nanny in cluster.nannies]
        targets |= {
            "scheduler": lambda: [pid_of(cluster.scheduler)],
            "worker of one's own scheduler": cluster.workers,
            "nanny": lambda: [rng.choice(nannies)],
            "all nannies": lambda: [*nannies, *cluster.workers()],
        }
    found = targets[victim]()
    if "worker" in victim and found:
        found = [rng.choice(found)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return victim == "client"


def _once_more(site: Site, command: Command, ran: Ran, ended: tuple[str, str]) -> tuple[str, str]:
    """Look at what is left, run the command again, and look whether all is as undisturbed."""
    states = site.bench.undisturbed(command).states
    left = site.state()
    mixed = mixture(left, states) or half_made(site, command, left)
    if mixed:
        return WRONG, f"after the kill: {mixed}"
    if ran.code == 0:
        wrong = unlike(site, command, left)
        return (WRONG, f"exit 0, but {wrong}") if wrong else compared(site, command, left, 0)
    done = int(left == states[1] != states[2])  # it was finished: then it is done twice
    kind, note = judge(site.run(command).ran)
    if kind != RIGHT:
        return (HANG if kind == HANG else WRONG), f"once more: {note}"
    kind, note = compared(site, command, site.state(), done)
    return ended if kind == RIGHT else (kind, note)


def compared(site: Site, command: Command, state: State, done: int) -> tuple[str, str]:
    """Whether state and product are those of an undisturbed run, after `done` runs before it."""
    undisturbed = site.bench.undisturbed(command)
    if state != undisturbed.states[done + 1]:
        return WRONG, difference(state, undisturbed.states[done + 1])
    made, wanted = site.product(command), undisturbed.products[done]
    if made != wanted:
        return WRONG, f"the file that it wrote is another: {first_difference(made, wanted)}"
    return RIGHT, ""


def first_difference(made: bytes | None, wanted: bytes | None) -> str:
    """Quote two files from a little before they part."""
    if made is None or wanted is None:
        return f"{'none' if made is None else 'one'} was written"
    pairs = enumerate(zip(made, wanted, strict=False))
    at = next((k for k, (one, other) in pairs if one != other), min(len(made), len(wanted)))
    part = slice(max(at - 80, 0), at + 160)
    return f"{made[part]!r} instead of {wanted[part]!r}"


def half_made(site: Site, command: Command, left: State) -> str:
    """Say what is wrong with a store that a review or `apply` left; nothing where all is well.

    What the page said is kept is in the log; a cleaned store is not there, or has all its rows.
    """
    lost = site.kept_rows() - {int(row) for row in left.get("decisions", {})}
    if lost:
        return f"{len(lost)} decisions that the page said are kept are lost"
    if command.ends != CLEANED:
        return ""
    made, wanted = site.cleaned(), site.bench.undisturbed(command).cleaned
    if "error" in made:
        return "" if any(sign in made["error"] for sign in NOT_THERE) else made["error"][:300]
    return mixture(made, (wanted,))


def unlike(site: Site, command: Command, state: State) -> str:
    """Say in what a store is not as a command leaves it that ended well; nothing where it is.

    A review may end before all is decided: its page said so of what could not be kept.
    """
    wanted = site.bench.undisturbed(command).states[1]
    if "review" in command.words:
        made = state.get("decisions", {})
        wanted = {**wanted, "decisions": {r: wanted["decisions"].get(r) for r in made}}
    return "" if state == wanted else difference(state, wanted)


def mixture(state: State, states: tuple[State, ...]) -> str:
    """Say what in a state is of none of these states; nothing where all of it is."""
    if "error" in state:
        return f"the store cannot be read: {state['error'][:300]}"
    if state["rows"] not in {s.get("rows") for s in states}:
        return f"{state['count']} rows of neither state"
    if made_anew(state) - set().union(*map(made_anew, states)):
        return "a result of neither state"
    return ""


def difference(state: State, wanted: State) -> str:
    """Say in a few words in what a state is not as wanted."""
    if "error" in state:
        return f"the store cannot be read: {state['error'][:300]}"
    if state["rows"] != wanted["rows"]:
        return f"{state['count']} rows, not the {wanted['count']} wanted, or others"
    missing, more = made_anew(wanted) - made_anew(state), made_anew(state) - made_anew(wanted)
    return f"results: {len(missing)} are missing, {len(more)} are others"
