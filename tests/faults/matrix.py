"""The fault matrix: its parts, how many tries each has, and running them.

A try is a part and a seed, nothing else: the seed says what is tried, on which command and when.
What a moment meets also hangs on how fast the machine is just then; the seed gives the same share
of the undisturbed run, and for damage the same bit of the same file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import calls, damage, disks, kills, pairs
from .bench import Bench
from .children import Pool
from .commands import WRONG
from .found import Found, Row
from .places import Folder, plain_folder, s3_bucket

Attempt = Callable[[Bench, int], list[Found]]


class Part(NamedTuple):
    """One kind of fault: how often it is tried at length, by which seeds in short, where, how."""

    name: str
    tries: int | Callable[[Bench], int]
    few: Sequence[int]
    place: str
    attempt: Attempt


PARTS = {
    part.name: part
    for part in (
        Part("kills", 228, (0, 1), "folder", kills.attempt),  # each command 12 times
        Part("pairs", 124, (0, 4), "folder", pairs.attempt),  # each pair 4 times
        Part("flips", 700, range(6), "folder", damage.flip),  # one in eight meets an empty file
        Part("files", damage.every_cut, range(6), "folder", damage.cut),
        Part("disks", 56, (0, 1), "folder", disks.attempt),  # each writer once in every way
        Part("calls", 300, range(4), "folder", calls.attempt),
        Part("s3-kills", 19, (1,), "s3", kills.attempt),
        Part("s3-pairs", 31, (), "s3", pairs.attempt),
        Part("s3-flips", 60, range(2), "s3", damage.flip),
        Part("plain-kills", 19, (), "plain", kills.attempt),
        Part("plain-pairs", 31, (4,), "plain", pairs.attempt),
        Part("plain-flips", 60, range(2), "plain", damage.flip),
    )
}


@contextmanager
def benches(
    folder: Path, lanes: int, limit: float, bases: Sequence[str] = damage.DAMAGED
) -> Iterator[Callable[[str], Bench]]:
    """Yield a function that returns the bench of a place, made when it is first asked for.

    bases: the stores whose pieces are damaged.
    """
    made: dict[str, Bench] = {}
    with ExitStack() as stack:
        pool = Pool(lanes)
        stack.callback(pool.close)

        def bench(name: str) -> Bench:
            if name not in made:
                stores = folder / name
                stores.mkdir(parents=True)
                ways: dict[str, Callable[[], Any]] = {
                    "folder": lambda: Folder(stores),
                    "plain": lambda: plain_folder(stores),
                    "s3": lambda: stack.enter_context(s3_bucket()),
                }
                place = ways[name]()
                pool.environment |= place.environment
                made[name] = Bench(folder / "bench", place, pool, tuple(bases), limit)
                made[name].folder.mkdir(exist_ok=True)
            return made[name]

        yield bench


def seeds(part: Part, bench: Bench, short: bool) -> Iterable[int]:
    """Return the seeds of a part's tries."""
    if short:
        return part.few
    return range(part.tries if isinstance(part.tries, int) else part.tries(bench))


def attempts(part: Part, bench: Bench, chosen: Iterable[int], lanes: int) -> Iterator[Row]:
    """Yield what tries find, several at the same time, in the order of their seeds."""
    with ThreadPoolExecutor(lanes) as lane:
        for seed, found in lane.map(partial(_attempt, part, bench), chosen):
            yield from (Row(part.name, seed, one) for one in found)


def _attempt(part: Part, bench: Bench, seed: int) -> tuple[int, list[Found]]:
    try:
        return seed, part.attempt(bench, seed)
    except Exception as error:  # a try that cannot be judged is not a good one
        return seed, [Found("the try itself", "", WRONG, f"{type(error).__name__}: {error}")]


class Told(NamedTuple):
    """What a part came to."""

    rows: list[Row]
    seconds: dict[str, float]


def run(
    names: Iterable[str], bench_of: Callable[[str], Bench], chosen: Callable[..., Iterable[int]],
    lanes: int, hear: Callable[[Row], None],
) -> Told:  # fmt: skip
    """Run parts one after the other; `chosen` says which seeds of a part on a bench."""
    rows: list[Row] = []
    seconds = {}
    for name in names:
        part, began = PARTS[name], time.monotonic()
        bench = bench_of(part.place)
        for row in attempts(part, bench, chosen(part, bench), lanes):
            rows.append(row)
            hear(row)
        seconds[name] = time.monotonic() - began
    return Told(rows, seconds)
