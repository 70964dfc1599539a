"""Every command on data of awkward shapes: the peak of each of its processes beside what it says.

Wide and tall data, as many classes as rows, hundreds of groups. A command's processes are watched
from outside (VmHWM of the command itself and of all that it starts); what it projects is read from
what it prints, "… at most, … projected" and "peak … a worker".

    python scripts/benchmarks/peaks.py [--shape wide --shape tall …] [--command compute …]
        [--limit 2GiB] [--folder DIR] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from dask.utils import parse_bytes

MIB = 2**20
SIZE = r"([\d.,]+ [KMGT]?i?B)"


class Shape(NamedTuple):
    """Rows, columns, classes and groups of a data set, and how fast the spectrum falls."""

    rows: int
    columns: int
    classes: int
    groups: int = 2
    falling: float = 0.0  # the k-th direction's deviation is k to the minus this power


SHAPES = {
    "wide": Shape(2_000, 20_000, 10),
    "tall": Shape(1_000_000, 8, 10),
    "classes": Shape(200_000, 8, 200_000),
    "as-many-classes": Shape(1_000_000, 2, 1_000_000),
    "groups": Shape(100_000, 8, 10, 500),
    "million": Shape(1_000_000, 3, 10),
    "ten-million": Shape(10_000_000, 3, 10),
    "thirty-million": Shape(30_000_000, 3, 10),
    "five-million": Shape(5_000_000, 16, 10),
    "noise": Shape(40_000, 4_096, 10),
    "long": Shape(20_000, 100_000, 10),
    "embeddings": Shape(1_000_000, 256, 100, falling=0.8),
}
LOCAL = ["--workers", "2", "--threads", "1", "--no-dashboard"]
# in the order in which one leaves what the next one needs
COMMANDS: dict[str, list[str]] = {
    "ingest": ["ingest", "{data}.npz", "--split", "split", "--out", "{store}", "--overwrite"],
    "link": ["link", "{data}-linked.zarr", "--x", "{data}-x.zarr", "--y", "{data}-y.zarr",
             "--overwrite"],
    "plan": ["plan", "{store}", "--workers", "2", "--threads", "1"],
    "compute": ["compute", "{store}", *LOCAL],
    "neighbours": ["neighbours", "{store}", "--k", "15", *LOCAL],
    "issues": ["issues", "{store}", *LOCAL],
    "hardness": ["hardness", "{store}", *LOCAL],
    "show": ["show", "{store}"],
    "subsets": ["subsets", "{store}"],
    "knn": ["evaluate", "{store}", "--model", "knn", "--test", "{group}", "--trials", "2",
            "--train", "{group}", *LOCAL],
    "knn-part": ["evaluate", "{store}", "--model", "knn", "--grid", "neighbors=1:5",
                 "--train", "{group}", "--test", "{group}:L2000", *LOCAL],
    "forest": ["evaluate", "{store}", "--model", "forest", "--grid", "trees=1:2", "--trials", "2",
               "--train", "{group}", "--test", "{group}", *LOCAL],
    "estimator": ["evaluate", "{store}", "--model", "sklearn.neighbors.NearestCentroid",
                  "--trials", "1", "--train", "{group}", "--test", "{group}", *LOCAL],
    "align": ["align", "{store}", "{group}", "{other}"],
    "match": ["match", "{store}", "--within", "{group}", "--to", "{other}", "--size", "90"],
    "bound": ["bound", "{store}", "--model", "sklearn.neighbors.NearestCentroid",
              "--train", "{group}", "--test", "{other}", *LOCAL],
    "spectrum": ["spectrum", "{store}", "--model", "sklearn.neighbors.NearestCentroid",
                 "--windows", "3", *LOCAL],
    "score": ["score", "{store}", "{data}-more.npz", "--out", "{data}-scores.parquet"],
    "report": ["report", "{store}", "--out", "{data}.html", "--overwrite"],
    "cityblock": ["compute", "{store}", "-m", "cityblock", *LOCAL],
    "compare": ["compare", "{store}", "--after-metric", "cityblock", "--out", "{data}-2.html",
                "--overwrite"],
    "export": ["export", "{store}", "--out", "{data}.parquet"],
    "verify": ["verify", "{store}", "--sample", "20"],
    "append": ["append", "{store}", "{data}-more.npz", "--split", "split"],
}  # fmt: skip


@dataclass
class Peaks:
    """What was seen of a command: its end, time, and the peak of each of its processes in bytes."""

    code: int
    seconds: float
    text: str
    client: int
    workers: list[int] = field(default_factory=list)

    @property
    def projected(self) -> dict[str, int]:
        """What the command said of itself, in bytes: of its own process, and of each worker."""
        said = {}
        for who, pattern in (("client", rf"at most, {SIZE} projected$"),
                             ("worker", rf"peak {SIZE} a worker")):  # fmt: skip
            found = re.search(pattern, self.text, re.MULTILINE)
            if found:
                said[who] = parse_bytes(found[1].replace(",", ""))
        return said


def high_water(process: psutil.Process) -> int:
    """Bytes that a process has held at most; 0 where it has gone."""
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return 0


def watch(command: list[str], limit_seconds: float) -> Peaks:
    """Run a command; look ten times a second at it and at all that it has started."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        texts: list[str] = []
        assert run.stdout is not None
        reader = threading.Thread(target=lambda: texts.extend(run.stdout or ()))
        reader.start()
        parent, peaks = psutil.Process(run.pid), {run.pid: 0}
        while run.poll() is None:
            with suppress(psutil.Error):
                for process in (parent, *parent.children(recursive=True)):
                    seen = max(peaks.get(process.pid, 0), high_water(process))
                    peaks[process.pid] = seen
            if time.perf_counter() - started > limit_seconds:
                for process in parent.children(recursive=True):
                    with suppress(psutil.Error):
                        process.kill()
                run.kill()
            time.sleep(0.1)
        reader.join(10)
    client = peaks.pop(run.pid)
    workers = sorted((p for p in peaks.values() if p > 50 * MIB), reverse=True)  # no trackers
    return Peaks(run.returncode, time.perf_counter() - started, "".join(texts), client, workers)


def unit_rows(
    X: np.ndarray[Any, Any], y: np.ndarray[Any, Any], rng: np.random.Generator, falling: float
) -> np.ndarray[Any, Any]:
    """Rows of length 1 around a centre per class, turned: what embeddings look like."""
    columns = X.shape[1]
    deviations = np.arange(1, columns + 1, dtype=np.float32) ** np.float32(-falling)
    turned, _ = np.linalg.qr(rng.standard_normal((columns, columns)))
    centres = rng.standard_normal((y.max() + 1, columns)).astype(np.float32) * deviations
    X *= deviations
    X += centres[y]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X @ turned.astype(np.float32)


def write_data(shape: Shape, stem: Path) -> None:
    """Write clusters of a shape to .npz files, and what `link` takes."""
    import zarr

    rng = np.random.default_rng(0)
    rows, columns, classes, groups, falling = shape
    y = rng.permutation(rows) % classes
    X = rng.standard_normal((rows, columns), np.float32)
    if falling:
        X = unit_rows(X, y, rng, falling)
    else:
        X += (y % 10)[:, None].astype(np.float32) * np.float32(0.5)
    names = np.array([f"g{k:03}" for k in range(groups)]) if groups > 2 else ["train", "test"]
    split = np.asarray(names)[np.arange(rows) % groups]
    np.savez(f"{stem}.npz", X=X, y=y, split=split)
    more = max(groups, rows // 20)
    np.savez(f"{stem}-more.npz", X=X[:more] + np.float32(0.01), y=y[:more], split=split[:more])
    zarr.save(f"{stem}-x.zarr", X)
    zarr.save(f"{stem}-y.zarr", y)


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Run every command on every shape; what was seen of each."""
    for name in options.shape:
        stem, shape = folder / name, SHAPES[name]
        if not Path(f"{stem}.npz").exists():
            write_data(shape, stem)
        group, other = ("g000", "g001") if shape.groups > 2 else ("train", "test")
        for command in options.command:
            words = [
                w.format(data=stem, store=f"{stem}.zarr", group=group, other=other)
                for w in COMMANDS[command]
            ]
            if options.limit and "--workers" in words:
                words += ["--memory-limit", options.limit]
            seen = watch([sys.executable, "-m", "dskrobust", *words], options.seconds)
            last = (seen.text.strip().splitlines() or [""])[-1]
            yield {
                "shape": name,
                "command": command,
                "exit code": seen.code,
                "seconds": round(seen.seconds, 1),
                "client MiB": round(seen.client / MIB),
                "worker MiB": [round(w / MIB) for w in seen.workers],
                "projected MiB": {who: round(b / MIB) for who, b in seen.projected.items()},
                "said": last if seen.code else "",
            }


def above(row: dict[str, Any]) -> bool:
    """Whether a process of a measured command held more than the command says."""
    said, most = row["projected MiB"], max(row["worker MiB"], default=0)
    return bool(row["client MiB"] > said.get("client", np.inf) or most > said.get("worker", np.inf))


def line_of(row: dict[str, Any]) -> str:
    """Return a measured command in a line."""
    said, most = row["projected MiB"], max(row["worker MiB"], default=0)
    remark = " ABOVE" if above(row) else ""
    return (
        f"{row['shape']:>16} {row['command']:>10} {row['seconds']:>7.1f} s  exit {row['exit code']}"
        f"  client {row['client MiB']:>6,} of {said.get('client', '–'):>6}"
        f"  worker {most:>6,} of {said.get('worker', '–'):>6} MiB{remark}  {row['said'][:120]}"
    )


def asked(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--limit", help="memory limit of each worker")
    parser.add_argument("--seconds", type=float, default=900, help="that a command may take")
    parser.add_argument("--folder", help="where the data lie; a temporary folder without it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(words)
    options.shape = options.shape or list(SHAPES)
    options.command = options.command or list(COMMANDS)
    return options


def main() -> None:
    options = asked()
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for row in measure(options, Path(options.folder or folder)):
            rows.append(row)
            print(line_of(row), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
