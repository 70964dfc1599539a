"""Where things lie, and what several tests do alike."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parent
ROOT = TESTS.parent
NOTEBOOKS = ROOT / "notebooks"


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
