"""Where things lie, and what several tests do alike."""

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parent
ROOT = TESTS.parent
NOTEBOOKS = ROOT / "notebooks"
SECONDS = TESTS / "seconds.txt"


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """Let a bit of a file be the other one meanwhile."""
    good = file.read_bytes()
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    try:
        file.write_bytes(bad)
        yield
    finally:
        file.write_bytes(good)


def array_folder(store: str | Path, name: str, segment: int = 0) -> Path:
    """Return where an array of a segment of a store lies."""
    from dskrobust.store.objects import Objects, Place
    from dskrobust.store.state import newest

    state = newest(Objects(Place(str(store), {}))).state
    return Path(store) / state.segments[segment].path / name


@cache
def slow_tests() -> frozenset[str]:
    """Return what slow.txt names: files, and tests as FILE::TEST."""
    lines = (TESTS / "slow.txt").read_text().splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@cache
def seconds_of_files() -> dict[str, float]:
    """Return how long test files took when that was last written down, by their paths in tests."""
    lines = (line for line in SECONDS.read_text().splitlines() if not line.startswith("#"))
    return {path: float(seconds) for seconds, path in map(str.split, lines)}


def keep_seconds(timed: Iterable[tuple[str, float]]) -> None:
    """Write down how long files took, of phases of tests, the longest first; others stay."""
    total: Counter[str] = Counter()
    for path, seconds in timed:
        total[path.removeprefix("tests/")] += seconds
    known = {p: s for p, s in (seconds_of_files() | total).items() if (TESTS / p).exists()}
    head = [line for line in SECONDS.read_text().splitlines() if line.startswith("#")]
    ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
    SECONDS.write_text("\n".join([*head, *(f"{s:.1f} {p}" for p, s in ordered), ""]))


def load_script(name: str) -> ModuleType:
    """Return a script of the repository, such as "benchmarks/pairs", as a module of its own name.

    Its folder comes first in the module search path, as when the script is run; workers that are
    started later find it there too.
    """
    path = ROOT / "scripts" / f"{name}.py"
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if path.stem in sys.modules and sys.modules[path.stem].__spec__.origin == str(path):
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up what their annotations mean
    spec.loader.exec_module(module)
    return module


@contextmanager
def watched(client: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the list that the events of tiles are added to, which workers tell of meanwhile."""
    from dskrobust.engine.events import TOPIC

    events: list[dict[str, Any]] = []
    client.subscribe_topic(TOPIC, lambda event: events.append(event[1]))
    try:
        yield events
    finally:
        client.unsubscribe_topic(TOPIC)


def wait_until(reached: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for what others bring about, and fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
