"""The stores that tries start from, copies of them, and what undisturbed commands make of them."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any, NamedTuple

import numpy as np

from . import reviewer, writes
from .children import HERE, Pool, Ran
from .commands import ALL, CLEANED, COMMANDS, TWO, Command, Process, Start, judge, wait_until

ROWS, COLUMNS = 4_000, 128  # the least for which a run keeps prefixes
SIDE, IMAGES = 16, 120  # of images, for networks
SCHEDULER = ("--scheduler", HERE)
State = dict[str, Any]


class BenchError(AssertionError):
    """The stores cannot even be made undisturbed."""


def arrays(rows: int, columns: int, seed: int) -> dict[str, Any]:
    """Rows around ten centres in a plane of few dimensions; columns enough for prefixes."""
    turn = np.random.default_rng(0).standard_normal((10, columns))
    centres = 4 * np.random.default_rng(1).standard_normal((10, 10))
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 10, rows)
    X = (centres[label] + rng.standard_normal((rows, 10))) @ turn
    X = (X + 0.1 * rng.standard_normal((rows, columns))).astype(np.float32)
    y = np.array([f"c{k}" for k in range(10)])[label]
    return {"X": X, "y": y, "split": _groups(rows)}


def images(count: int, side: int) -> dict[str, Any]:
    """Noise around two pictures: enough for a network to train on."""
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, count)
    X = rng.integers(0, 100, (count, side, side)) + 100 * np.eye(side, dtype=int)
    X[label == 1] = X[label == 1, ::-1]
    return {"X": X.astype(np.uint8), "y": label, "split": _groups(count)}


def _groups(rows: int) -> Any:
    return np.where(np.arange(rows) % 4 > 0, "train", "test")


class Answer(NamedTuple):
    """What a command came to: its end, the file that it wrote, and the store afterwards."""

    ran: Ran
    product: bytes | None
    state: State


class Undisturbed(NamedTuple):
    """What a command makes of its store when nothing happens.

    states: before, after it, and after a second time; products: of the first and the second time;
    seconds and writes of the first; cleaned: what the store that it makes holds.
    """

    states: tuple[State, State, State]
    products: tuple[bytes | None, bytes | None]
    seconds: float
    writes: int
    cleaned: State


class Serial(NamedTuple):
    """What commands come to one after the other: the store, what each wrote, how long it took."""

    state: State
    products: list[bytes | None]
    seconds: float


@dataclass
class Site:
    """The place of one try: a copy of a store, and a folder for everything else."""

    bench: Bench
    name: str
    folder: Path
    url: str

    def start(self, command: Command, where: Sequence[str], start: Start | None = None) -> Process:
        """Start a command in a process of its own."""
        given = start or Start(self.folder)
        given.environment = {**self.bench.place.environment, **given.environment}
        return Process(self.argv(command, where), given)

    def argv(self, command: Command, where: Sequence[str]) -> list[str]:
        """What is typed."""
        out = self.folder / command.name.replace(" ", "-")
        return command.argv(self.url, self.bench.folder, out, where)

    def product(self, command: Command) -> bytes | None:
        """What the command wrote beside the store; of another store what it holds."""
        if command.ends == CLEANED:
            return json.dumps(self.cleaned(), sort_keys=True).encode()
        made = command.product(self.folder / command.name.replace(" ", "-"))
        return made and made.replace(self.name.encode(), b"the.zarr")  # reports name the store

    def state(self) -> State:
        """What the store holds."""
        return self.bench.pool.state(self.url, self.bench.limit)

    def cleaned(self) -> State:
        """What the cleaned store beside this one holds."""
        return self.bench.pool.state(f"{self.url}{CLEANED}", self.bench.limit)

    def kept_rows(self) -> set[int]:
        """The rows whose decisions the page of a review said are kept."""
        return reviewer.kept_rows(self.folder / reviewer.KEPT)

    def run(self, command: Command) -> Answer:
        """Run a command in one of the long-lived children."""
        ran = self.bench.pool.run(self.argv(command, SCHEDULER), self.bench.limit)
        said = ran.out.encode() if "--json" in command.words else None
        return Answer(ran, said or self.product(command), {})


@dataclass
class Bench:
    """Everything that tries share.

    Attributes
    ----------
    folder : Path
        For all files; places share the stores that tries begin with.
    place : Folder or Bucket
        Where stores of tries lie; those that they are copies of lie in `folder`.
    pool : Pool
    bases : tuple of str
        The stores whose pieces are damaged.
    limit : float
        Seconds after which a command hangs.
    """

    folder: Path
    place: Any
    pool: Pool
    bases: tuple[str, ...]
    limit: float = 180
    _known: dict[Any, Any] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def base(self, name: str) -> Path:
        """A store that tries copy, made the first time that it is asked for."""
        with self._lock:
            path = self.folder / "bases" / f"{name}.zarr"
            if not path.exists():
                self._make(name, path)
            return path

    def _make(self, name: str, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        if name in ("fresh", "pictures"):
            self._ingest(name, path)
            return
        before, steps, *killed = {
            "scored": ("fresh", ("compute",)),
            "done": ("scored", ("neighbours", "issues", "evaluate knn", "evaluate forest")),
            "measured": ("scored", ("hardness", "match", "evaluate folds", "tailor", "spectrum")),
            "reviewed": ("scored", ("review",)),
            "cleaned": ("reviewed", ("apply",)),
            "compared": ("cleaned", ("compute",)),
            "half": ("fresh", (), "compute", "tiles/*/*.blob"),
            "scored pictures": ("pictures", ("compute",)),
            "trained": ("scored pictures", (), "evaluate cnn", "**/record.checkpoint"),
        }[name]
        part = path.with_name(f"{name}.partial")
        copytree(self.base(before), part)
        if killed:
            self._interrupt(part, ALL[killed[0]], killed[1])
        for step in steps:
            out = self.folder / "bases" / "out"
            self._need(COMMANDS[step].argv(str(part), self.folder, out, SCHEDULER))
        made = part.with_name(f"{part.name}{CLEANED}")
        (made if made.exists() else part).rename(path)
        rmtree(part, ignore_errors=True)

    def _ingest(self, name: str, path: Path) -> None:
        """Make a store of one of the files that are ingested, and these."""
        if name == "fresh":
            for file, rows, seed in (("own", ROWS, 2), ("other", ROWS // 2, 3), ("more", 150, 4),
                                     ("others", 100, 5)):  # fmt: skip
                np.savez(self.folder / f"{file}.npz", **arrays(rows, COLUMNS, seed))
        else:
            np.savez(self.folder / "pictures.npz", **images(IMAGES, SIDE))
        source = self.folder / {"fresh": "own.npz"}.get(name, f"{name}.npz")
        self._need(["ingest", str(source), "--split", "split", "--out", str(path)])

    def _need(self, argv: Sequence[str]) -> None:
        ran = self.pool.run(argv, 600)  # kernels may have to be compiled
        if judge(ran) != ("right", ""):
            raise BenchError(f"dskrobust {' '.join(argv)}: {ran.err[-600:]}")

    def _interrupt(self, path: Path, command: Command, left: str) -> None:
        """Leave a store as a run leaves it that is killed when there are two of some files."""
        argv = command.argv(str(path), self.folder, self.folder / "out", TWO)
        process = Process(argv, Start(self.folder / path.stem))
        wait_until(lambda: len(list(path.glob(left))) >= 2, process, self.limit)
        process.kill()
        process.wait(self.limit)

    @contextmanager
    def site(self, base: str) -> Iterator[Site]:
        """Lend a copy of a store, which is removed afterwards."""
        source = self.base(base)
        name = f"try-{next(self._numbers)}"
        folder = self.folder / "tries" / name
        folder.mkdir(parents=True)
        try:
            yield Site(self, f"{name}.zarr", folder, self.place.put(source, f"{name}.zarr"))
        finally:
            self.place.remove(f"{name}.zarr")
            self.place.remove(f"{name}.zarr{CLEANED}")
            rmtree(folder, ignore_errors=True)

    def known(self, key: Any, make: Any) -> Any:
        """Return what is made once only."""
        with self._lock:
            if key not in self._known:
                self._known[key] = make()
            return self._known[key]

    def undisturbed(self, command: Command) -> Undisturbed:
        """What a command comes to when nothing happens, in a process of its own."""
        found: Undisturbed = self.known(command, lambda: self._undisturbed(command))
        return found

    def _undisturbed(self, command: Command) -> Undisturbed:
        with self.site(command.base) as site:
            before = site.state()
            plan = writes.Plan("count", 0, site.name, str(site.folder / "tally"))
            began = time.monotonic()
            ran = site.start(command, TWO, Start(site.folder, plan.variable())).wait(600)
            seconds = time.monotonic() - began
            first, after = site.product(command), site.state()
            cleaned = site.cleaned() if command.ends == CLEANED else {}
            again = site.run(command)
            for ended in (ran, again.ran):
                if judge(ended)[0] != "right":
                    raise BenchError(f"{command.name}: {ended.err[-600:]}")
            states = (before, after, site.state())
            products, count = (first, again.product), writes.tally_of(plan)
            return Undisturbed(states, products, seconds, count, cleaned)

    def serial(self, base: str, names: tuple[str, ...]) -> Serial:
        """What commands come to one after the other."""
        return self.known((base, names), lambda: self._serial(base, names))  # type: ignore[no-any-return]

    def _serial(self, base: str, names: tuple[str, ...]) -> Serial:
        with self.site(base) as site:
            began = time.monotonic()
            answers = [site.run(ALL[name]) for name in names]
            seconds = time.monotonic() - began
            return Serial(site.state(), [answer.product for answer in answers], seconds)


def made_anew(state: State) -> set[tuple[str, str]]:
    """The results and decisions of a state, as pairs of what they are of and what they are."""
    decided = {f"row {row}": str(made) for row, made in state.get("decisions", {}).items()}
    return {*state.get("results", {}).items(), *decided.items()}
