"""The exact neighbour graph of all MNIST images beside scikit-learn, FAISS and PyNNDescent.

    python scripts/benchmarks/graph.py [--rows 70000] [--k 15] [--skip PEER ...] [--out FILE]

Ours is the public path: a store on disk, a local cluster of two one-thread workers, the lists
written into the store. scikit-learn searches by brute force in float64 with all cores; images are
whole numbers, so its squared distances are exact, and its lists are compared with ours index by
index: of equal distances the lower row number comes first in ours, so enough of its neighbours are
taken to sort the ties. FAISS (IndexFlatL2) and PyNNDescent, which approximates, run on float32 as
their users would; their recall is the share of the true neighbours that they find, ties counted.
Seconds include all of a call; what is compiled is compiled before. Needs DSKROBUST_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pairs import machine

import dskrobust as dr

Lists = tuple[
    NDArray[np.float64], NDArray[np.int64]
]  # squared distance, index; with the row itself
TIES = 32  # neighbours beyond k that are taken to sort equal distances


def ours(url: str, k: int) -> tuple[float, Lists]:
    """Seconds and lists of the public path."""
    with dr.connect(dr.ClusterOptions(workers=2, threads=1, dashboard=False)):
        some = dr.open_store(url).features[:4_000]
        dr.nearest_neighbours(some, k).compute()  # workers load the kernels
        started = time.perf_counter()
        lists = dr.nearest_neighbours(url, k).write()
        index = np.asarray(lists.index)
        seconds = time.perf_counter() - started
        return seconds, (np.asarray(lists.distance), index)


def scikit_learn(X: NDArray[Any], k: int) -> Lists:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k + 1 + TIES, algorithm="brute", n_jobs=2)
    distance, index = search.fit(X.astype(np.float64)).kneighbors(X.astype(np.float64))
    return np.rint(distance**2), index


def faiss_flat(X: NDArray[Any], k: int) -> Lists:
    import faiss

    index = faiss.IndexFlatL2(X.shape[1])
    index.add(X.astype(np.float32))
    square, found = index.search(X.astype(np.float32), k + 1)
    return square.astype(np.float64), found


def pynndescent(X: NDArray[Any], k: int) -> Lists:
    from pynndescent import NNDescent

    index, distance = NNDescent(X.astype(np.float32), n_neighbors=k + 1).neighbor_graph
    return distance.astype(np.float64) ** 2, index


PEERS: dict[str, Callable[[NDArray[Any], int], Lists]] = {
    "scikit-learn": scikit_learn,
    "faiss": faiss_flat,
    "pynndescent": pynndescent,
}


def sorted_lists(lists: Lists, k: int) -> NDArray[np.int64]:
    """The first k rows by (distance, row number), the row itself left out."""
    square, index = lists
    square = np.where(index == np.arange(len(index))[:, None], np.inf, square)
    order = np.lexsort((index, square), axis=1)[:, :k]
    return np.take_along_axis(index, order, axis=1)


def recall(X: NDArray[Any], index: NDArray[np.int64], farthest: NDArray[np.float64]) -> float:
    """Share of the listed rows that are no farther than the true k-th neighbour."""
    right = 0
    for lo in range(0, len(X), 2_000):
        near = X[index[lo : lo + 2_000]].astype(np.float64) - X[lo : lo + 2_000, None]
        square = np.einsum("ijk,ijk->ij", near, near)
        right += int((square <= farthest[lo : lo + 2_000, None] ** 2 * (1 + 1e-12)).sum())
    return right / index.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=70_000)
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--skip", action="append", default=[], choices=sorted(PEERS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = dr.ingest("mnist", f"{folder}/mnist.zarr", source=os.environ["DSKROBUST_DATA"])
        X, y = store.features[: options.rows], store.labels[: options.rows]
        url = f"{folder}/some.zarr"
        dr.create_store(url, X, y)
        seconds, (distance, index) = ours(url, options.k)
    row: dict[str, Any] = {
        "work": f"neighbour graph, MNIST, k = {options.k}",
        "rows": len(X),
        "columns": X.shape[1],
        "seconds": {"dskrobust": seconds},
    }
    print(f"dskrobust      {seconds:8.1f} s", flush=True)
    for name, search in PEERS.items():
        if name in options.skip:
            continue
        search(X[:2_000], options.k)  # what it compiles, it compiles here
        started = time.perf_counter()
        lists = search(X, options.k)
        took = row["seconds"][name] = time.perf_counter() - started
        row[f"times faster than {name}"] = took / seconds
        theirs = sorted_lists(lists, options.k)
        if name == "scikit-learn":
            row["indices that differ from scikit-learn's"] = int((theirs != index).sum())
        row[f"{name}: recall"] = recall(X, theirs, distance[:, -1])
        print(f"{name:14s} {took:8.1f} s, recall {row[f'{name}: recall']:.5f}", flush=True)
    row["machine"] = machine()
    print(json.dumps(row, indent=2))
    if options.out:
        options.out.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
