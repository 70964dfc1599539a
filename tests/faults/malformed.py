"""Calls of every command with every option that no one can mean, and what becomes of each.

`calls` looks at the commands themselves, so that a new option is tried too. None of the calls can
be done as it stands: each has to end in time with another exit code than 0 and one line of error,
and to leave no file behind.
"""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import zarr
from click.testing import CliRunner

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.cli.completion import Text
from dskrobust.cli.options import Address, Bytes, File, NewStore, Number
from dskrobust.store import DecisionWriter

HUGE = "9" * 24
ROWS = 24
BASES = {  # a call of each command that would do something, in the folder that `ground` makes
    "ingest": ("own.csv", "--target", "y", "--out", "new.zarr"),
    "link": ("new.zarr", "--x", "x.zarr", "--y", "y.zarr"),
    "append": ("own.zarr", "own.npz"),
    "embed": ("own.zarr", "--model", "odd:pooled", "--out", "new.zarr"),
    "plan": ("own.zarr",),
    "compute": ("own.zarr",),
    "show": ("own.zarr",),
    "subsets": ("own.zarr",),
    "neighbours": ("own.zarr", "--k", "3"),
    "align": ("own.zarr", "all:L12", "all:M12"),
    "match": ("own.zarr", "--within", "all", "--to", "all:M12", "--size", "6"),
    "spectrum": ("own.zarr", "--model", "knn", "--grid", "neighbors=1:2"),
    "tailor": ("own.zarr", "--model", "knn", "--grid", "neighbors=1:2"),
    "bound": ("own.zarr", "--model", "knn", "--train", "all:L12", "--test", "all:M12"),
    "adversarials": ("own.zarr", "--train", "all", "--test", "all"),
    "hardness": ("own.zarr",),
    "susceptibility": ("own.zarr", "--train", "x=all", "--test", "t=all"),
    "evaluate": ("own.zarr", "--model", "forest", "--train", "x=all", "--test", "t=all"),
    "run": ("own.toml", "own.zarr"),
    "score": ("own.zarr", "own.npz", "--out", "new.csv"),
    "issues": ("own.zarr",),
    "review": ("own.zarr", "--idle", "1"),
    "apply": ("own.zarr", "new.zarr"),
    "report": ("own.zarr", "--out", "new.html"),
    "compare": ("own.zarr", "--after-metric", "cityblock", "--out", "new.html"),
    "export": ("own.zarr", "--out", "new.csv"),
    "verify": ("own.zarr",),
    "demo": (),
}
BLANK = ("", " ", "a\0b")
SOURCES = (*BLANK, "nosuch.csv", "fifo.csv", "zero.csv", "/dev/zero", "/dev/stdin", "socket.csv",
           "folder", "folder.csv", "broken.csv", "circle.csv", "row.npz", "nested.npy",
           "~nobody/x.csv", "empty.csv", "openml:", "nofs://x.csv", "bomb", "own.toml")  # fmt: skip
STORES = (*BLANK, "/", ".", "nosuch.zarr", "own.csv", "fifo.csv", "/dev/zero", "nofs://x", "folder",
          "~nobody/x.zarr")  # fmt: skip
NEW_STORES = (*BLANK, "/", ".", "..", "own.csv", "own.zarr", "folder", "fifo.csv",
              "/dev/null/x.zarr", "/proc/new.zarr", "own.csv/new.zarr", "nofs://x",
              "circle.csv/new.zarr")  # fmt: skip
FILES = (*BLANK, "/", "folder", "fifo.csv", "/dev/full", "/proc/new.csv", "nosuch/new.csv",
         "own.csv/new.csv", "circle.csv", "nofs://x.csv", "x" * 300 + ".csv")  # fmt: skip
SELECTIONS = ("nosuch", "all:", "all:L0", "all:L-1", f"all:L{HUGE}", "all:X5", "all:L5:", ":L5")
METRICS = ("nosuch", "minkowski()", "minkowski(0)", "minkowski(nan)", "minkowski(x)",
           "minkowski(-2)", "sys.exit", "euclidean(3)", f"minkowski({HUGE}")  # fmt: skip
MODELS = ("nosuch", "sys.exit", "os.abort", "builtins.exit", "..x", "a..b", "knn ", ".", "torch:",
          "torch:os.abort", "odd.leaving", "odd.NoEstimator", "numpy.zeros", "odd")  # fmt: skip
VALUES = ("trees", "trees=", "=1", "nosuch=1", "trees=1:100000000", f"trees=1:{HUGE}",
          "trees=x", "trees=[[[[", "trees=" + "[" * 5_000, "trees=nan", "trees=-1",
          "other.trees=1")  # fmt: skip
OWN_VALUES = {  # by the name of an option, beside what its type says
    "what": SOURCES,
    "metric": METRICS,
    "after_metric": METRICS,
    "after_labels": ("nosuch", "vector-l9"),
    "model": MODELS,
    "kinds": MODELS,
    "within": SELECTIONS,
    "train": (*(f"x={s}" for s in SELECTIONS), "x="),
    "test": (*(f"t={s}" for s in SELECTIONS), "t="),
    "grid": VALUES,
    "fixed": VALUES,
    "options": ("nested", "nosuch=1", "nested=7"),
    "subsets": SELECTIONS,
    "figure": ("99", "nosuch", "../../x", "-1"),
    "labels": ("nosuch", "vector-l9"),
    "resize": ("0x0", "-1x5", "5x", f"{HUGE}x{HUGE}", "64x48"),
    "delimiter": ("ab", "\n", ""),
    "thousands": ("12", "x"),
    "encoding": ("nosuch",),
    "drop": ("nosuch",),
    "id": ("nosuch",),
    "target": ("nosuch",),
    "split": ("nosuch",),
    "x": ("nosuch",),
    "y": ("nosuch",),
    "test_size": ("nan", "inf", "-1", "0", "1.5", HUGE, "1e999", "x"),
    "folds": ("0", "1", "-3", HUGE),
    "group": ("nosuch",),
    "scale": ("nan", "inf", "0", "1e999", "nosuch"),
    "rows": ("-1", HUGE, "1.5", "nan"),
    "least": (HUGE, "25"),
    "most": (HUGE, "25"),
    "to": SELECTIONS,
    "sizes": (HUGE, "25"),
    "k": (HUGE, "24"),
    "width": ("nan", "0", "1", "-1", "x", HUGE),
    "remove": ("nan", "0", "1", "-1", "x", HUGE),
    "candidates": (*(f"x={s}" for s in SELECTIONS), "x="),
    "predictions": ("own.csv", "x.zarr", "folder"),
    "probabilities": ("own.csv", "row.npz", "nested.npy", "folder"),
    "sample": (HUGE, "25"),
    "classes": ("0",),
    "mark": ("1",),
    "images": ("own.npz",),
}
TABLE = ("ingest", "own.csv", "--target", "y", "--out", "new.zarr")
CONFLICTS = (
    (*TABLE, "--test-size", "0.2", "--folds", "3"),
    (*TABLE, "--decimal", ",", "--thousands", ","),
    (*TABLE, "--task", "regression", "--labels", "categorical"),
    (*TABLE, "--stratify"),
    ("ingest", "own.npz", "--decimal", ",", "--out", "new.zarr"),
    ("ingest", "own.npz", "--gray", "--out", "new.zarr"),
    ("ingest", "iris", "--source", "folder", "--out", "new.zarr"),
    ("append", "own.zarr", "own.npz", "--into", ""),
    ("compute", "own.zarr", "--scheduler", "tcp://127.0.0.1:1", "--workers", "2"),
    ("compute", "own.zarr", "--scheduler", "tcp://127.0.0.1:1", "--scheduler-file", "own.csv"),
    ("compute", "own.zarr", "--scheduler-file", "own.csv"),
    ("compute", "own.zarr", "--scheduler", "nonsense"),
    ("issues", "own.zarr", "--scheduler", "nonsense"),
    ("neighbours", "own.zarr", "--k", "3", "--scheduler", "nonsense"),
    ("evaluate", "own.zarr", "--model", "forest", "--balanced", "--train", "x=nosuch"),
    ("report", "own.zarr", "--figure", "9", "--samples", "3"),
    ("report", "--list", "--figure", "9"),
    ("report",),
    ("nosuch",),
    ("--nosuch",),
    ("export", "own.zarr", "--out", "new.xls"),
    ("neighbours", "own.zarr", "--k", "3", "--out", "new.csv"),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes
    ----------
    call : tuple of str
    code : int or None
        Exit code; None where the call did not end in time.
    said : str
        All that it wrote.
    seconds : float
    left : tuple of str
        Files and folders that were not there before, or are no longer.
    """

    call: tuple[str, ...]
    code: int | None
    said: str
    seconds: float
    left: tuple[str, ...]

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where all is well."""
        lines = [line for line in self.said.splitlines() if line.startswith("Error: ")]
        wrong = {
            "it hangs": self.code is None,
            "exit code 0": self.code == 0,
            "a traceback": "Traceback" in self.said,
            "a raw error": "DSKROBUST_DEBUG" in self.said,
            f"{len(lines)} lines of error": len(lines) != 1,
            f"left behind: {', '.join(self.left)}": bool(self.left),
        }
        return next((what for what, is_so in wrong.items() if is_so), "")


class OvertimeError(BaseException):
    """A call takes too long; no command catches it."""


def ground(folder: Path) -> Path:
    """Fill a folder with what the calls name: a store with results, and files of every bad kind."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 3)), np.arange(ROWS) % 2
    store = dr.create_store(folder / "own.zarr", X, y)
    for metric in ("euclidean", "cityblock"):
        dr.sample_robustness(store, metric=metric).write()
    dr.nearest_neighbours(store, 3).write()
    DecisionWriter(store).add(0, "drop")
    np.savez(folder / "own.npz", X=X, y=y)
    lines = (",".join([*(f"{v:.6f}" for v in x), str(k)]) for x, k in zip(X, y, strict=True))
    (folder / "own.csv").write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    for name, values in (("x", X), ("y", y)):
        zarr.save_array(str(folder / f"{name}.zarr"), values)
    models = '[[models]]\nkind = "forest"\n'
    (folder / "own.toml").write_text(f'[train]\nx = "nosuch"\n[test]\nt = "all"\n{models}')
    (folder / "odd.py").write_text(
        "import sys\n\nclass NoEstimator:\n    pass\n\ndef leaving(*given):\n    sys.exit(0)\n"
        "\ndef pooled(batch):\n    sys.exit(0)\n"
    )
    _special(folder)
    return folder


def _special(folder: Path) -> None:
    """Make pipes, devices, sockets, links to nothing, and headers that promise too much."""
    (folder / "folder").mkdir()
    (folder / "folder" / "inside.txt").write_text("own")
    (folder / "folder.csv").mkdir()
    (folder / "empty.csv").touch()
    os.mkfifo(folder / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(folder):
        bound.bind("socket.csv")
    for name, target in (("zero", "/dev/zero"), ("broken", "/nowhere"), ("circle", "circle.csv")):
        (folder / f"{name}.csv").symlink_to(target)
    np.savez(folder / "row.npz", X=np.zeros((1, 1)), y=np.zeros(1))
    packed = (folder / "row.npz").read_bytes().replace(b"(1, 1), }     ", b"(1, 9999999), ")
    (folder / "row.npz").write_bytes(packed)
    text = b"(" * 9_000 + b"\n"
    (folder / "nested.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    )
    for name in "ab":
        (folder / "bomb" / name).mkdir(parents=True)
        edge = (40_000).to_bytes(4, "little")
        head = b"BM" + bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little") + edge * 2
        rest = (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
        (folder / "bomb" / name / "large.bmp").write_bytes(head + rest)


def calls(seed: int = 0) -> list[tuple[str, ...]]:
    """Return all calls in an order of the seed, so that the first ones are a sample."""
    made = [call for name in main.commands for call in _of_command(name)] + list(CONFLICTS)
    made = list(dict.fromkeys(made))
    random.Random(seed).shuffle(made)
    return made


def _of_command(name: str) -> Iterator[tuple[str, ...]]:
    command, base = main.commands[name], BASES[name]
    yield (name, *base, "--nosuch")
    yield (name, *base, *["more"] * 9) if name != "show" else (name, *base, "more")
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    if any(p.required for p in arguments):
        yield (name,)
    for parameter in command.params:
        for value in _bad_values(name, parameter):
            yield (name, *_with(base, parameter, arguments, value))
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            yield (name, *base, parameter.opts[0])  # without a value


def _with(
    base: Sequence[str], parameter: click.Parameter, arguments: list[click.Argument], value: str
) -> list[str]:
    """Return a call with a value in the place of that of an argument or option."""
    words = list(base)
    if isinstance(parameter, click.Argument):
        place = arguments.index(parameter)
        return [*words[:place], value, *words[place + 1 :]]
    option = next((name for name in parameter.opts if name in words), None)
    if option is not None:
        place = words.index(option)
        del words[place : place + 2]
    return [*words, f"{parameter.opts[0]}={value}" if parameter.opts[0][:2] == "--" else
            f"{parameter.opts[-1]}={value}"]  # fmt: skip


def _bad_values(command: str, parameter: click.Parameter) -> Iterator[str]:
    kind = parameter.type
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return
    by_type: tuple[tuple[type, Callable[[], Sequence[str]]], ...] = (
        (NewStore, lambda: NEW_STORES),
        (Address, lambda: STORES),
        (File, lambda: FILES if parameter.name == "out" else _missing_files(parameter)),
        (Number, lambda: ("", "nan", "inf", "-inf", "1e999", "x", "1,5")),
        (click.IntRange, lambda: _whole(kind)),
        (click.Choice, lambda: ("", "nosuch", "a\0b")),
        (Bytes, lambda: ("", "0", "-1GiB", "nan", "5 parsecs")),
        (Text, lambda: BLANK),
    )
    yield from next((make() for known, make in by_type if isinstance(kind, known)), ())
    if (command, parameter.name) != ("append", "group"):  # any name is that of a new group
        yield from OWN_VALUES.get(parameter.name or "", ())


def _missing_files(parameter: click.Parameter) -> Sequence[str]:
    return (*BLANK, "fifo.csv", "/dev/zero", "nosuch.csv") if parameter.name != "source" else BLANK


def _whole(kind: click.IntRange) -> tuple[str, ...]:
    beyond = () if kind.max is None else (HUGE, str(int(kind.max) + 1))
    return ("", "x", "1.5", "nan", "1e3", "-1", *beyond)


def check(call: Sequence[str], folder: Path, limit: int = 60) -> Outcome:
    """Make a call in this process, with a folder that `ground` filled as the working one."""
    before, started = _listed(folder), time.perf_counter()

    def ring(number: int, frame: object) -> None:
        raise OvertimeError

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(limit)
    try:
        with contextlib.chdir(folder):
            done = CliRunner().invoke(main, list(call), prog_name="dskrobust")
        code, said = done.exit_code, done.output
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            said += f"\nTraceback: {done.exception!r}"
    except OvertimeError:
        code, said = None, ""
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    left = tuple(sorted(before ^ _listed(folder)))
    return Outcome(tuple(call), code, said, time.perf_counter() - started, left)


def _listed(folder: Path) -> set[str]:
    return {
        os.path.relpath(Path(top) / name, folder)
        for top, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if "__pycache__" not in top + name
    }
