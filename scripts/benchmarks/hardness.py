"""Instance hardness: time and memory on MNIST, and the measures beside PyHard's.

    python scripts/benchmarks/hardness.py --mnist mnist.zarr [--rows 20000 60000] [--out FILE]
    python scripts/benchmarks/hardness.py --against SOURCE [--out FILE]

--mnist: all measures of training rows, from nothing in the store to the table in a Parquet file,
each number of rows in a process of its own with one local worker of two threads. PyHard holds three
n × n tables of 8 bytes (distances, their order, and distances in order): that is arithmetic.

--against: PyHard's own functions for kDN, N2, LSC, usefulness and harmfulness, cut out of
`pyhard/measures.py` of an unpacked release (it pins versions that nothing else here has), run on
three tables of scikit-learn. PyHard's distance of numbers is cityblock after every column is
divided by its range; dskrobust gets the columns so divided. Where distances are equal, as they are
in digits, PyHard's order is that of an unstable sort; a little noise breaks these ties.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dskrobust as dr

MIB = 2**20
K = 10
FUNCTIONS = ("k_disagreeing_neighbors", "intra_extra_ratio",
             "local_set_cardinality", "harmfulness", "usefulness")  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compute and export the hardness of some rows, here and in one worker."""
    from dskrobust.cluster import ClusterOptions, connect
    from dskrobust.processes import peak_memory

    source, rows = dr.open_store(options.mnist), options.rows[0]
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "mnist.zarr")
        X, y = source.features[:rows], np.asarray(source.labels[:rows])
        store = dr.create_store(address, X, y)
        del X
        with connect(ClusterOptions(workers=1, threads=2)) as client:
            dr.instance_hardness(np.eye(40), np.arange(40) % 2).compute()  # imports and compiles
            started = time.perf_counter()
            found = dr.instance_hardness(store).write()
            seconds = time.perf_counter() - started
            found.export(Path(folder) / "hardness.parquet")
            exported = time.perf_counter() - started
            peak = max(client.run(peak_memory).values())
        kdn, link = np.asarray(found.kdn), np.asarray(found.tomek_link)
    return {
        "seconds": seconds,
        "with export": exported,
        "peak MiB of the worker": peak / MIB,
        "peak MiB of the client": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
        "PyHard's tables MiB": 3 * 8 * rows**2 / MIB,
        "hard samples": int((kdn > 0.5).sum()),
        "samples in Tomek links": int((link >= 0).sum()),
    }


def mnist(options: argparse.Namespace) -> dict[str, Any]:
    """Run every number of rows in a process of its own."""
    figures: dict[str, Any] = {"work": f"MNIST, all measures, k = {K}", "cores": os.cpu_count()}
    for rows in options.rows:
        command = [sys.executable, __file__, "--mnist", options.mnist, "--alone"]
        load = os.getloadavg()[0]
        done = subprocess.run([*command, "--rows", str(rows)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        measured = json.loads(done.stdout.splitlines()[-1])
        figures[f"{rows:,} rows"] = {"load before": load, **measured}
    return figures


def pyhard(source: Path, X: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, Any]:
    """Return PyHard's measures, by its own functions."""
    import logging

    import pandas as pd
    from sklearn.metrics import DistanceMetric
    from sklearn.neighbors import NearestNeighbors

    known = {"np": np, "pd": pd, "DistanceMetric": DistanceMetric, "logging": logging,
             "NearestNeighbors": NearestNeighbors}  # fmt: skip
    wanted = [
        node
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS
    ]
    first = {node.name: node for node in reversed(wanted)}  # the classification's, not others'
    exec(compile(ast.Module(list(first.values()), []), str(source), "exec"), known)
    frame = pd.DataFrame(X)
    frame["y"] = y

    size = np.ptp(X, axis=0)
    distance = np.zeros((len(y), len(y)))
    for k in range(X.shape[1]):
        distance += np.abs(X[:, k, None] - X[:, k]) / max(size[k], 1e-8) / X.shape[1]
    given = SimpleNamespace(data=frame, target_col="y", N=len(y), y=frame["y"])
    given.indices_gower = np.argsort(distance - np.eye(len(y)), axis=1)
    given.distances_gower = np.sort(distance, axis=1)
    return {name: known[name](given) for name in FUNCTIONS}


def against(source: Path) -> dict[str, Any]:
    """Compare measures on three tables of scikit-learn."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine

    figures: dict[str, Any] = {"work": "PyHard's functions on the same distances"}
    loaders = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
    tables = {name: load(return_X_y=True) for name, load in loaders.items()}
    X, y = tables["digits"]
    tables["digits, ties broken"] = X + np.random.default_rng(0).random(X.shape) / 1e6, y
    for name, (X, y) in tables.items():
        X = X[:, np.ptp(X, axis=0) > 1e-3]
        theirs = pyhard(source, X, y)
        ours = dr.instance_hardness(X / np.ptp(X, axis=0), y, metric="cityblock").compute()
        size = np.bincount(y)[y]
        mine = {
            "k_disagreeing_neighbors": ours.kdn,
            "intra_extra_ratio": ours.n2,
            "local_set_cardinality": 1 - (ours.local_set + 1) / size,
            "harmfulness": ours.harmfulness / (len(y) - size),
            "usefulness": 1 - ours.usefulness / size,
        }
        apart = {measure: np.abs(values - theirs[measure]) for measure, values in mine.items()}
        figures[name] = {"rows": len(y)} | {
            measure: {"rows that differ": int((d > 1e-9).sum()), "largest": float(d.max())}
            for measure, d in apart.items()
        }
    return figures


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", metavar="STORE")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 60_000])
    parser.add_argument("--against", type=Path, metavar="SOURCE", help="pyhard/measures.py")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", dr.errors.ContradictionWarning)
    if options.alone:
        print(json.dumps(measure(options)))
        return
    figures = {} if options.out is None or not options.out.exists() else json.loads(
        options.out.read_text()
    )  # fmt: skip
    if options.mnist:
        figures["memory and time"] = mnist(options)
    if options.against:
        figures["beside PyHard"] = against(options.against)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
