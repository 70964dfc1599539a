"""Calls that no one can mean: each ends in one line of error, and leaves nothing behind."""

from __future__ import annotations

from .bench import Bench
from .commands import ERROR, HANG, WRONG
from .found import Found


def attempt(bench: Bench, seed: int) -> list[Found]:
    """Make the call of this number."""
    answer = bench.pool.ask(bench.limit, "call", seed)
    if not answer:
        return [Found("malformed call", "", HANG if answer is None else WRONG, "no answer")]
    command, fault, call = answer
    outcome = {"": ERROR, "hang": HANG}.get(fault, WRONG)
    return [Found("malformed call", command, outcome, f"{fault}: {call}")]
