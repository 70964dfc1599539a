"""k nearest neighbours on every subset, beside scikit-learn; and with training data beyond memory.

    python scripts/benchmarks/knn.py --cifar10 cifar10.zarr [--out FILE]     # the paper's Table 5
    python scripts/benchmarks/knn.py --memory [--rows 65600] [--out FILE]

Table 5: five training subsets, the whole test set, K from 1 to 15, both weightings. scikit-learn
runs as its users would: for each subset one brute-force search for the 15 nearest (float64, all
cores), from which all K and weightings are voted. Reading and voting count on both sides.

--memory: rows of noise and queries made from some of them, four times the workers' memory; the
nearest row of a query is the one it was made from, at a known distance.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.utils import parse_bytes
from memory import BLOCK, STEP, row_of, spilled

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.engine.plan import MIB
from dskrobust.neighbours import Neighbours, compute_neighbours
from dskrobust.processes import peak_memory
from dskrobust.store import Block, StoreSpec, write_store

if TYPE_CHECKING:  # workers import this file too: what they do not need would count as theirs
    from dskrobust.evaluation import Evaluation

EXPERIMENT = Path(__file__).parents[2] / "notebooks" / "experiments" / "table5-cifar10-knn.toml"


def table5(address: str) -> dict[str, Any]:
    """Seconds of both for the whole of Table 5, and whether all cells agree."""
    from dskrobust.evaluation import Evaluation, read_experiment

    store = dr.open_store(address)
    with connect(ClusterOptions(workers=2, threads=1)) as client:
        some = dr.nearest_neighbours(store, 15, queries=[0], references=np.arange(1, 4_000))
        some.compute(scheduler=client)  # workers load the kernels
        made = Evaluation(store, read_experiment(EXPERIMENT))
        if made.finished():
            raise SystemExit(f"{address} has this experiment already; time it on a fresh copy")
        started = time.perf_counter()
        table = made.compute(client).table
        ours = time.perf_counter() - started
    started = time.perf_counter()
    theirs = scikit_learn(store, made)
    seconds = time.perf_counter() - started
    mine = table.set_index(["train", "test", "neighbors", "weights"])["acc"]
    apart = max(abs(mine[key] - value) for key, value in theirs.items())
    return {
        "work": "Table 5: 5 subsets, K 1 to 15, 2 weightings, CIFAR-10",
        "seconds": {"dskrobust": ours, "scikit-learn": seconds},
        "times faster than scikit-learn": seconds / ours,
        "cells": len(theirs),
        "largest difference of ACC": apart,
    }


def scikit_learn(store: dr.Store, made: Evaluation) -> dict[tuple[Any, ...], float]:
    """ACC of every training subset, test subset, K and weighting by scikit-learn's search."""
    from sklearn.neighbors import NearestNeighbors

    from dskrobust.evaluation.models.knn import Votes

    job = made.jobs[0]
    features, labels = store.features[:] * store.spec.scale, np.asarray(store.labels[:])
    tests = {name: job.records.rows(key) for name, key in job.test}
    queries = np.unique(np.concatenate(list(tests.values())))
    classes, found = np.unique(labels), {}
    for name, key in job.train:
        rows = job.records.rows(key)
        search = NearestNeighbors(n_neighbors=15, algorithm="brute", n_jobs=2).fit(features[rows])
        distance, index = search.kneighbors(features[queries])
        nearest = Neighbours(distance, rows[index], queries, store.rows)
        for weights in ("uniform", "distance"):
            votes = Votes(labels[nearest.index], nearest, weights)
            for k in range(1, 16):
                right = classes[votes.most(k, classes)] == labels[queries]
                for test, chosen in tests.items():
                    places = np.searchsorted(queries, chosen)
                    found[name, test, k, weights] = float(right[places].mean())
    return found


def beyond_memory(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Search training data several times the workers' memory; check the planted neighbours."""
    limit, rows = parse_bytes(options.memory_limit), options.rows
    count, workers = options.queries, options.workers
    rng = np.random.default_rng(0)
    origin = rng.choice(rows, count, replace=False)
    differing = rng.integers(1, 64, count)

    def blocks() -> Iterator[Block]:
        for lo in range(0, rows + count, BLOCK):
            numbers = range(lo, min(lo + BLOCK, rows + count))
            partner = {rows + k: (int(origin[k]), int(differing[k])) for k in range(count)}
            features = np.stack([row_of(r, options.columns, partner) for r in numbers])
            split = (np.array(numbers) >= rows).astype(np.int16)
            yield Block(features, np.array(numbers) % 2, split)

    spec = StoreSpec("planted", "categorical", groups=("train", "test"))
    store = write_store(f"{folder}/planted.zarr", spec, blocks())
    subsets = {"x": np.arange(rows), "even": np.arange(0, rows, 2)}
    with connect(ClusterOptions(workers=workers, threads=1, memory_limit=limit)) as client:
        asked = np.arange(rows, rows + count)
        search = dr.nearest_neighbours(store, 15, queries=asked, references=subsets)
        started = time.perf_counter()
        found = compute_neighbours(search, scheduler=client)
        seconds = time.perf_counter() - started
        peaks, spill = client.run(peak_memory), client.run(spilled)
    assert (found["x"].index[:, 0] == origin).all()
    assert (found["x"].distance[:, 0] == np.sqrt(differing * np.float64(STEP) ** 2)).all()
    size = rows * options.columns * 4
    return {
        "work": f"15 nearest of {count:,} queries, training data beyond memory",
        "features MiB": size / MIB,
        "times the workers' memory": size / limit / workers,
        "seconds": seconds,
        "projected peak MiB": search["x"].plan.peak_bytes / MIB,
        "measured peaks MiB": [peak / MIB for peak in peaks.values()],
        "spilled bytes": sum(spill.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cifar10", help="a store with results")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--rows", type=int, default=65_600)
    parser.add_argument("--columns", type=int, default=16_384)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-limit", default="512MiB")
    parser.add_argument("--folder", help="where to put the store; a temporary folder without it")
    parser.add_argument("--out", type=Path, help="figures already in it are kept")
    options = parser.parse_args()
    figures = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    if options.cifar10:
        figures["table 5"] = table5(options.cifar10)
    if options.memory:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            figures["memory"] = beyond_memory(options, folder)
    print(json.dumps(figures, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
