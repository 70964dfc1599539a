"""Our seconds beside FAISS IndexFlatL2 and scikit-learn, in one run on the same data.

The work: for every sample of a training set its nearest differently labelled sample (distance and
index), which is Q, R, reach and witness. FAISS and scikit-learn search, class by class, all samples
of the other classes. Ours is the public path: a store on disk, a local cluster of two one-thread
workers, results written to the store; ingest and cluster start-up are not counted, nor are the
others' copies of the data.

    python scripts/bench_pairs.py [--repeats 3] [--cifar-rows 10000] [--out figures.json]

MNIST and CIFAR-10 need DSKROBUST_DATA, the folder of the official files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances_argmin_min

import dskrobust as dr
from dskrobust.datasets import ingest


def data_sets(folder: str, cifar_rows: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, features (n, d) and labels (n,) of the sets to run."""
    digits = load_digits()
    found = [("digits", digits.data.astype(np.uint8), digits.target)]
    source = os.environ.get("DSKROBUST_DATA")
    if not source:
        print("DSKROBUST_DATA is not set: only digits")
        return found
    for what, rows in (("mnist", 60_000), ("cifar10", cifar_rows)):
        store = ingest(what, f"{folder}/{what}.zarr", source=source)
        found.append((f"{what} {rows:,} rows", store.features[:rows], store.labels[:rows]))
    return found


def ours(store: dr.Store) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds, reach and witness from the public path."""
    started = time.perf_counter()
    scores = dr.sample_robustness(store).write()
    seconds = time.perf_counter() - started
    found = scores.compute()
    return seconds, np.asarray(found.reach), np.asarray(found.witness)


def faiss_search(X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """FAISS as its users run it: float32, its own threads and BLAS, one flat index a class."""
    import faiss

    rows = np.ascontiguousarray(X, np.float32)
    started = time.perf_counter()
    reach, witness = np.empty(len(X)), np.empty(len(X), np.int64)
    for label in np.unique(y):
        mine, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        index = faiss.IndexFlatL2(X.shape[1])
        index.add(rows[others])
        square, found = index.search(rows[mine], 1)
        reach[mine], witness[mine] = np.sqrt(np.maximum(square[:, 0], 0)), others[found[:, 0]]
    return time.perf_counter() - started, reach, witness


def scikit_learn(X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """scikit-learn's pairwise_distances_argmin_min on float32, class by class."""
    rows = np.ascontiguousarray(X, np.float32)
    started = time.perf_counter()
    reach, witness = np.empty(len(X)), np.empty(len(X), np.int64)
    for label in np.unique(y):
        mine, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        found, distance = pairwise_distances_argmin_min(rows[mine], rows[others])
        reach[mine], witness[mine] = distance, others[found]
    return time.perf_counter() - started, reach, witness


def measure(name: str, X: np.ndarray, y: np.ndarray, repeats: int, folder: str) -> dict[str, Any]:
    """Run the three in turn and compare: medians, ratios and the others' errors."""
    seconds: dict[str, list[float]] = {"dskrobust": [], "faiss": [], "scikit-learn": []}
    results = {}
    peers: dict[str, Callable[..., Any]] = {"faiss": faiss_search, "scikit-learn": scikit_learn}
    for k in range(repeats):
        store = dr.create_store(f"{folder}/run{k}.zarr", X, y, overwrite=True)
        took, *results["dskrobust"] = ours(store)
        seconds["dskrobust"].append(took)
        shutil.rmtree(f"{folder}/run{k}.zarr")
        for peer, search in peers.items():
            took, *results[peer] = search(X, y)
            seconds[peer].append(took)
    reach, _ = results["dskrobust"]
    row: dict[str, Any] = {"data": name, "rows": len(X), "columns": X.shape[1]}
    row["seconds"] = {peer: statistics.median(values) for peer, values in seconds.items()}
    for peer in peers:
        row[f"times faster than {peer}"] = row["seconds"][peer] / row["seconds"]["dskrobust"]
        their_reach, theirs = results[peer]
        true = np.sqrt(((X.astype(np.float64) - X[theirs]) ** 2).sum(axis=1))
        row[f"{peer}: wrong neighbours"] = int((true > reach * (1 + 1e-12)).sum())
        row[f"{peer}: largest error"] = float(np.abs(their_reach - reach).max())
    return row


def machine() -> dict[str, Any]:
    """Cores and instruction set, which is what figures depend on."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    sets = [name for name in ("avx512f", "avx2") if name in flags]
    return {"cores": os.cpu_count(), "instructions": sets, "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cifar-rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        for name, X, y in data_sets(folder, options.cifar_rows):
            row = measure(name, X, y, options.repeats, folder)
            rows.append(row)
            times = "  ".join(f"{peer} {s:.2f} s" for peer, s in row["seconds"].items())
            print(f"{name:22} {times}")
            for peer in ("faiss", "scikit-learn"):
                print(
                    f"{'':22} {row[f'times faster than {peer}']:.2f} × {peer}'s speed; {peer} has "
                    f"{row[f'{peer}: wrong neighbours']} wrong neighbours, errors up to "
                    f"{row[f'{peer}: largest error']:.1e}",
                    flush=True,
                )
    if options.out:
        figures = {"machine": machine(), "repeats": options.repeats, "rows": rows}
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
