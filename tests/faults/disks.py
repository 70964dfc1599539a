"""A disk is full, fails, or a folder is gone in the middle of a command."""

from __future__ import annotations

import random

from . import writes
from .bench import Bench, Site
from .commands import HANG, RIGHT, TWO, WRITERS, WRONG, Command, Start, judge, wait_until
from .found import Found
from .kills import compared, half_made, mixture, unlike

FAULTS = ("full at a file", "full in a file", "failing", "folder gone")


def attempt(bench: Bench, seed: int) -> list[Found]:
    """Let one command meet one of them at a random write."""
    rng = random.Random(f"disks {seed}")
    command = WRITERS[seed % len(WRITERS)]
    fault = FAULTS[seed // len(WRITERS) % len(FAULTS)]
    with bench.site(command.base) as site:
        outcome, note = _attempt(site, command, fault, rng)
    return [Found(f"disk: {fault}", command.name, outcome, note)]


def _attempt(site: Site, command: Command, fault: str, rng: random.Random) -> tuple[str, str]:
    undisturbed = site.bench.undisturbed(command)
    at = rng.randint(1, max(1, undisturbed.writes))
    action = {"full at a file": "ENOSPC", "failing": "EIO"}.get(fault, "count")
    plan = writes.Plan(action, at, site.name, str(site.folder / "tally"))
    size = rng.choice([0, 64, 500, 4_000, 30_000, 200_000]) if fault == "full in a file" else None
    process = site.start(command, TWO, Start(site.folder, plan.variable(), size))
    if fault == "folder gone":
        wait_until(lambda: writes.tally_of(plan) >= at, process, 2 * undisturbed.seconds)
        site.bench.place.remove(site.name)
    kind, note = judge(process.wait(site.bench.limit))
    if kind in (WRONG, HANG) or fault == "folder gone":
        return kind, note  # a folder that is gone is gone
    left = site.state()
    if mixed := mixture(left, undisturbed.states) or half_made(site, command, left):
        return WRONG, f"with a full disk: {mixed}; {note}"
    if kind == RIGHT:
        wrong = unlike(site, command, left)
        if wrong or "review" in command.words:
            return (WRONG, f"exit 0, but {wrong}") if wrong else (RIGHT, "")
        return compared(site, command, left, 0)
    done = int(left == undisturbed.states[1] != undisturbed.states[2])
    again = judge(site.run(command).ran)
    if again[0] != RIGHT:
        return WRONG, f"with space again: {again[1]}"
    good = compared(site, command, site.state(), done)
    return (kind, note) if good[0] == RIGHT else good
