"""Commands in processes of their own, what they should leave behind, and how an end is judged."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from . import reviewer
from .children import Ran
from .forks import forked, kill_group, pid_of

TESTS = Path(__file__).parents[1]
LOCAL = ("--workers", "1", "--threads", "1", "--no-dashboard")
TWO = ("--workers", "2", "--threads", "1", "--no-dashboard")
SITE = "from faults import plain, writes\nplain.register()\nwrites.install()\n"
WRITTEN = re.compile(rb"Written [^.]* by ")  # of a report: the minute


@dataclass(frozen=True)
class Command:
    """A command of dskrobust that the matrix tries.

    Attributes
    ----------
    name : str
    base : str
        The store it is tried on, one of `bench.BASES`.
    words : tuple of str
        What is typed; {store}, {out} and {folder} (of the files that are ingested) are filled in.
    ends : str
        Of the file that it writes beside the store; `CLEANED` of the store that it makes there.
    cluster : bool
        Whether it starts a local cluster, or takes a scheduler.
    """

    name: str
    base: str
    words: tuple[str, ...]
    ends: str = ""
    cluster: bool = True

    def argv(self, url: str, folder: Path, out: Path, where: Sequence[str] = LOCAL) -> list[str]:
        """What is typed after `dskrobust`."""
        values = {"store": url, "folder": str(folder), "out": f"{out}{self.ends}"}
        return [w.format(**values) for w in self.words] + list(where if self.cluster else ())

    def product(self, out: Path) -> bytes | None:
        """The bytes of the file that it wrote, without the minute."""
        path = Path(f"{out}{self.ends}")
        if not self.ends or not path.is_file():
            return None
        return WRITTEN.sub(b"Written by ", path.read_bytes())


def _command(name: str, base: str, line: str, ends: str = "", cluster: bool = True) -> Command:
    return Command(name, base, tuple(line.split()), ends, cluster)


KNN = "evaluate {store} --model knn --grid neighbors=1:5 --out {out}.csv"
FOREST = "evaluate {store} --model forest --grid trees=1:3 --trials 2 --out {out}.csv"
KNN, FOREST = KNN.replace("{out}.csv", "{out}"), FOREST.replace("{out}.csv", "{out}")
FOLDS = "evaluate {store} --model knn --folds 3 --grid neighbors=1:3 --out {out}"
TAILOR = (
    "tailor {store} --model knn --grid neighbors=1,3 --windows 2 --parts 2 --folds 3 --out {out}"
)
SPECTRUM = "spectrum {store} --model knn --grid neighbors=1,3 --windows 2 --out {out}"
CLEANED = "-cleaned"
COMPARE = "compare {folder}/bases/scored.zarr {store} --overwrite --out {out}"
REVIEW = "review {store} --top 24 --reviewer me --open --idle 60s"
MATCH = "match {store} --within train --to test:L500 --size 300 --out {out}"
CNN = (
    "evaluate {store} --model cnn --grid epochs=2:9 --trials 1 --option device=cpu "
    "--option checkpoint_every=1 --option torch_threads=1 --out {out}"
)

WRITERS = (
    _command("compute", "fresh", "compute {store}"),
    _command("append", "scored", "append {store} {folder}/more.npz --into train", cluster=False),
    _command(
        "ingest", "scored", "ingest {folder}/other.npz --split split --out {store} --overwrite",
        cluster=False,
    ),
    _command("neighbours", "scored", "neighbours {store} --k 3 --out {out}", ".npz"),
    _command("issues", "scored", "issues {store} --out {out}", ".csv"),
    _command("evaluate knn", "scored", KNN, ".csv"),
    _command("evaluate forest", "scored", FOREST, ".csv"),
    _command("hardness", "scored", "hardness {store} --k 3 --out {out}", ".csv"),
    _command("match", "scored", MATCH, ".csv"),
    _command("evaluate folds", "scored", FOLDS, ".csv"),
    _command("tailor", "scored", TAILOR, ".csv"),
    _command("spectrum", "scored", SPECTRUM, ".csv"),
    _command("review", "scored", REVIEW),
    _command("apply", "reviewed", "apply {store} {store}" + CLEANED + " --overwrite", CLEANED,
             cluster=False),
)  # fmt: skip
READERS = (
    _command("report", "done", "report {store} --overwrite --out {out}", ".html", cluster=False),
    _command("export", "done", "export {store} --out {out}", ".csv", cluster=False),
    _command("verify", "done", "verify {store} --sample 20", cluster=False),
    _command("subsets", "done", "subsets {store} --least 100 --out {out}", ".npz", cluster=False),
    _command("compare", "compared", COMPARE, ".html", cluster=False),
)
COMMANDS = {command.name: command for command in (*WRITERS, *READERS)}
FURTHER = {
    command.name: command
    for command in (
        _command("compute cityblock", "done", "compute {store} -m cityblock"),
        _command("append others", "scored", "append {store} {folder}/others.npz --into test",
                 cluster=False),
        _command("neighbours of 4", "done", "neighbours {store} --k 4 --out {out}", ".npz"),
        _command("kept neighbours", "done", "neighbours {store} --k 3 --out {out}", ".npz"),
        _command("kept issues", "done", "issues {store} --out {out}", ".csv"),
        _command("kept knn", "done", KNN, ".csv"),
        _command("kept forest", "done", FOREST, ".csv"),
        _command("more of knn", "done", KNN.replace("1:5", "1:7"), ".csv"),
        _command("interrupted compute", "half", "compute {store}"),
        _command("evaluate cnn", "scored pictures", CNN, ".csv"),
        _command("interrupted cnn", "trained", CNN, ".csv"),
        _command("show", "done", "show {store}", cluster=False),
        _command("kept hardness", "measured", "hardness {store} --k 3 --out {out}", ".csv"),
        _command("kept match", "measured", MATCH, ".csv"),
        _command("kept align", "measured", "align {store} train test:L500 --json"),
        _command("kept folds", "measured", FOLDS, ".csv"),
        _command("kept tailor", "measured", TAILOR, ".csv"),
        _command("kept spectrum", "measured", SPECTRUM, ".csv"),
        _command("adversarials", "measured", "adversarials {store} --json"),
        _command("bound", "measured", "bound {store} --model knn --json"),
        _command("review of all", "reviewed", REVIEW.replace("24", "40")),
        _command("compute cleaned", "cleaned", "compute {store}"),
        _command("issues cleaned", "cleaned", "issues {store} --out {out}", ".csv"),
        _command("verify anything", "done", "verify {store} --sample 5", cluster=False),
    )
}  # fmt: skip
ALL = COMMANDS | FURTHER


# -- one process -------------------------------------------------------------------------------


@dataclass
class Start:
    """How a command is started.

    Attributes
    ----------
    folder : Path
        A folder of its own, for what is said and for temporary files.
    environment : dict
        More of it.
    largest_file : int, optional
        In bytes: as of a disk that is full in the middle of a file.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    largest_file: int | None = None

    def variables(self) -> dict[str, str]:
        """The environment of the process."""
        site = self.folder / "site"
        site.mkdir(parents=True, exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE)
        search = [str(site), str(TESTS), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
        scratch = str(self.folder / "scratch")
        more = {
            "PYTHONPATH": ":".join(search),
            "DASK_TEMPORARY_DIRECTORY": scratch,
            "BROWSER": reviewer.command(self.folder / reviewer.KEPT),
        }
        return {**os.environ, **more, **self.environment}


class Process:
    """A command that runs in a process group of its own."""

    def __init__(self, argv: Sequence[str], start: Start) -> None:
        out, err = (start.folder / f"{name}-{time.monotonic_ns()}" for name in ("out", "err"))
        self._said = [_pipe(path) for path in (out, err)]  # no file: a full disk takes nothing in
        self._running = forked("dskrobust", argv, start, (out, err))

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return pid_of(self._running)

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._running.is_alive()

    def workers(self) -> list[int]:
        """The worker processes of its local cluster."""
        return workers_below(self.pid)

    def kill(self) -> None:
        """Kill the whole process group."""
        kill_group(self._running)

    def wait(self, limit: float) -> Ran:
        """Wait for the end, and end what it leaves behind."""
        self._running.join(limit)
        code = self._running.exitcode
        self.kill()
        self._running.join()
        return Ran(code, *map(_text, self._said))


def _pipe(path: Path) -> int:
    """Make a pipe with a name, and open the end that is read from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def _text(pipe: int) -> str:
    """What was said, as far as it fits into a pipe."""
    with open(pipe, "rb") as file:
        return (file.read() or b"").decode(errors="replace")


def workers_below(pid: int) -> list[int]:
    """The processes below one that run tasks, not those that only look after resources."""
    try:
        below = psutil.Process(pid).children(recursive=True)
        return [p.pid for p in below if "spawn_main" in " ".join(_line(p))]
    except psutil.NoSuchProcess:
        return []


def _line(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
        return found
    except psutil.Error:
        return []


def wait_until(ready: Callable[[], bool], process: Process, limit: float) -> bool:
    """Look again and again until something is so, the process has ended or the time is over."""
    end = time.monotonic() + limit
    while time.monotonic() < end and process.running():
        if ready():
            return True
        time.sleep(0.003)
    return False


# -- a cluster of one's own --------------------------------------------------------------------


class Cluster:
    """A scheduler and two nannies with a worker each: processes to be killed one by one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"scheduler-{time.monotonic_ns()}.json"
        self._folder, self._environment = folder, environment
        file = ("--scheduler-file", str(self._file))
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0",
                                     "--no-dashboard", *file)  # fmt: skip
        self.nannies = [
            self._start("worker", *file, "--nworkers", "1", "--nthreads", "1", "--no-dashboard",
                        "--memory-limit", "2GiB", "--local-directory", str(folder))
            for _ in range(2)
        ]  # fmt: skip

    def _start(self, *words: str) -> BaseProcess:
        said = self._folder / "cluster-said"
        return forked("dask", words, Start(self._folder, self._environment), (said, said))

    @property
    def where(self) -> tuple[str, ...]:
        """The options that name it."""
        patience = ("--no-workers-timeout", "20")
        return ("--scheduler-file", str(self._file), *patience)

    def ready(self, limit: float) -> bool:
        """Wait until the scheduler has written its address."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self._file.exists() and self._file.stat().st_size:
                return True
            time.sleep(0.05)
        return False

    def workers(self) -> list[int]:
        """The processes of the workers, below their nannies."""
        return [pid for nanny in self.nannies for pid in workers_below(pid_of(nanny))]

    def close(self) -> None:
        """End all of it."""
        for process in (*self.nannies, self.scheduler):
            kill_group(process)
            process.join()


# -- how an end is judged ----------------------------------------------------------------------

RIGHT, ERROR, WRONG, HANG = "right", "one-line error", "wrong", "hang"
OUTCOMES = (RIGHT, ERROR, WRONG, HANG)
RAW = ("Traceback", "DSKROBUST_DEBUG=1", "core dumped", "Fatal Python error")


def error_line(ran: Ran) -> str:
    """What is said of a failure: the one line, after those of single steps of an experiment."""
    lines = [line for line in ran.err.splitlines() if line.startswith(("Failed", "Error"))]
    return " ".join(lines) if lines else ran.err.strip()[-300:]


def judge(ran: Ran) -> tuple[str, str]:
    """Tell how a command ended, as far as one sees without its results: outcome and note."""
    if ran.code is None:
        return HANG, "it did not end"
    if ran.code == 0:
        return RIGHT, ""
    said = error_line(ran)
    if ran.code < 0:
        return WRONG, f"ended by signal {-ran.code}"
    if any(sign in ran.err for sign in RAW):
        return WRONG, f"raw: {said[:300]}"
    count = sum(line.startswith("Error") for line in ran.err.splitlines())
    if count != 1:
        return WRONG, f"{count} lines of errors: {said[:300]}"
    return ERROR, said[:300]
