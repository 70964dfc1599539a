"""Our seconds beside FAISS, scikit-learn, SciPy and NumPy, in one run on the same data.

Ours is the public path: a store on disk, a local cluster of one-thread workers, from the features
in the store to the results in the store; ingest and the cluster's start are not counted, nor are
the others' copies of the data. Every work is repeated in turn with its peers; medians are kept.

    python scripts/benchmarks/pairs.py [WORK ...] [--repeats 3] [--skip PEER] [--out FILE]
    python scripts/benchmarks/pairs.py --table notebooks/results/pairs.json

Works: digits, mnist, cifar10, metrics, news, columns8, embedding, growth, share, workers. MNIST,
CIFAR-10 and Online News need DSKROBUST_DATA, the folder of the official files. Figures in an
existing --out file are kept where a work is not run again; every row says on which processor.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from peaks import unit_rows
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.datasets import ingest
from dskrobust.engine.cache import BlockCache

Found = tuple[float, NDArray[np.float64], NDArray[np.int64]]  # seconds, reach, witness
Peer = Callable[[NDArray[Any], NDArray[Any]], Found]
FOLDER = Path(tempfile.gettempdir())  # replaced by main
PASSES = 3
SKIPPED: set[str] = set()


# -- data --------------------------------------------------------------------------------------


@cache
def official(name: str) -> dr.Store:
    """A data set of the paper, ingested once."""
    source = os.environ.get("DSKROBUST_DATA")
    if not source:
        raise SystemExit(f"{name} needs DSKROBUST_DATA, the folder of the official files")
    return ingest(name, str(FOLDER / f"{name}.zarr"), source=source)


def training(name: str, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The training rows of MNIST or CIFAR-10."""
    store = official(name)
    return store.features[:rows], store.labels[:rows]


def clustered(rows: int, columns: int = 8) -> tuple[NDArray[Any], NDArray[Any]]:
    """40 Gaussian clusters of unit spread, centres of spread 2, 5 classes by cluster."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((40, columns))
    cluster = rng.integers(0, 40, rows)
    X = centres[cluster] + rng.standard_normal((rows, columns))
    return X.astype(np.float32), cluster % 5


def embeddings(rows: int, columns: int = 256) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows as of a network's last layer, 100 classes."""
    rng = np.random.default_rng(0)
    y = rng.permutation(rows) % 100
    return unit_rows(rng.standard_normal((rows, columns), np.float32), y, rng, 0.8), y


def uniform(rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Three columns without structure, labels by chance."""
    rng = np.random.default_rng(1)
    return rng.random((rows, 3), np.float32), rng.integers(0, 5, rows)


# -- ours --------------------------------------------------------------------------------------


@contextmanager
def cluster(workers: int = 2) -> Iterator[Client]:
    """A local cluster of one-thread workers, as `dskrobust compute` starts it, warmed up."""
    with connect(ClusterOptions(workers=workers, threads=1)) as client:
        X, y = load_digits(return_X_y=True)
        ours(X.astype(np.uint8), y)
        yield client


def ours(X: NDArray[Any], y: NDArray[Any], **options: Any) -> Found:
    """The public path on a fresh store."""
    url = str(FOLDER / "run.zarr")
    labels = "real" if np.issubdtype(y.dtype, np.floating) else "categorical"
    store = dr.create_store(url, X, y, spec=dr.StoreSpec("run", labels), overwrite=True)
    started = time.perf_counter()
    scores = dr.sample_robustness(store, **options).write()
    seconds = time.perf_counter() - started
    reach, witness = np.asarray(scores.reach), np.asarray(scores.witness)
    shutil.rmtree(url)
    return seconds, reach, witness


# -- peers -------------------------------------------------------------------------------------


def by_class(
    X: NDArray[Any],
    y: NDArray[Any],
    search: Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]],
) -> Found:
    """Search, class by class, all samples of the other classes; rows are float32."""
    rows = np.ascontiguousarray(X, np.float32)
    started = time.perf_counter()
    reach, witness = np.empty(len(X)), np.empty(len(X), np.int64)
    for label in np.unique(y):
        mine, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        reach[mine], found = search(rows[others], rows[mine])
        witness[mine] = others[found]
    return time.perf_counter() - started, reach, witness


def faiss_flat(X: NDArray[Any], y: NDArray[Any]) -> Found:
    """FAISS as its users run it: its own threads and BLAS, one flat index a class."""
    import faiss

    def search(others: NDArray[Any], mine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        index = faiss.IndexFlatL2(others.shape[1])
        index.add(others)
        square, found = index.search(mine, 1)
        return np.sqrt(np.maximum(square[:, 0], 0)), found[:, 0]

    return by_class(X, y, search)


def scikit_learn(X: NDArray[Any], y: NDArray[Any]) -> Found:
    """scikit-learn's pairwise_distances_argmin_min, class by class."""

    def search(others: NDArray[Any], mine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        found, distance = pairwise_distances_argmin_min(mine, others)
        return distance, found

    return by_class(X, y, search)


def kd_tree(X: NDArray[Any], y: NDArray[Any]) -> Found:
    """scikit-learn's NearestNeighbors with a k-d tree, class by class."""

    def search(others: NDArray[Any], mine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        tree = NearestNeighbors(n_neighbors=1, algorithm="kd_tree", n_jobs=2).fit(others)
        distance, found = tree.kneighbors(mine)
        return distance[:, 0], found[:, 0]

    return by_class(X, y, search)


def numpy_quotients(X: NDArray[Any], y: NDArray[Any]) -> Found:
    """Largest quotients in chunks of NumPy float64, ‖a‖² + ‖b‖² − 2ab by BLAS with two threads."""
    rows, started = X.astype(np.float64), time.perf_counter()
    square = np.einsum("ij,ij->i", rows, rows)
    quotient, witness = np.empty(len(X)), np.empty(len(X), np.int64)
    for lo in range(0, len(X), 2048):
        part = slice(lo, min(lo + 2048, len(X)))
        distance = square[part, None] + square - 2 * (rows[part] @ rows.T)
        np.maximum(distance, 1e-300, out=distance)
        ratio = y[part, None] - y
        ratio *= ratio
        ratio /= distance
        witness[part] = ratio.argmax(axis=1)
        quotient[part] = np.sqrt(ratio[np.arange(part.stop - lo), witness[part]])
    return time.perf_counter() - started, quotient, witness


# -- works -------------------------------------------------------------------------------------


def compare(name: str, X: NDArray[Any], y: NDArray[Any], peers: dict[str, Peer]) -> dict[str, Any]:
    """Run ours and the peers in turn: medians, ratios, and the peers' errors."""
    peers = {peer: search for peer, search in peers.items() if peer not in SKIPPED}
    seconds: dict[str, list[float]] = {"dskrobust": [], **{peer: [] for peer in peers}}
    found: dict[str, Any] = {}
    with cluster():
        for _ in range(PASSES):
            took, *found["dskrobust"] = ours(X, y)
            seconds["dskrobust"].append(took)
            for peer, search in peers.items():
                took, *found[peer] = search(X, y)
                seconds[peer].append(took)
    row: dict[str, Any] = {"work": name, "rows": len(X), "columns": X.shape[1]}
    row["all seconds"] = seconds
    row["seconds"] = {peer: statistics.median(values) for peer, values in seconds.items()}
    reach, _ = found["dskrobust"]
    for peer in peers:
        row[f"times faster than {peer}"] = row["seconds"][peer] / row["seconds"]["dskrobust"]
        if not np.issubdtype(y.dtype, np.floating):
            their_reach, theirs = found[peer]
            true = np.concatenate(
                [
                    np.sqrt(
                        ((X[k : k + 999].astype(np.float64) - X[theirs[k : k + 999]]) ** 2).sum(1)
                    )
                    for k in range(0, len(X), 999)
                ]
            )
            row[f"{peer}: wrong neighbours"] = int((true > reach * (1 + 1e-12)).sum())
            row[f"{peer}: largest error"] = float(np.abs(their_reach - reach).max())
    return row


def digits() -> list[dict[str, Any]]:
    X, y = load_digits(return_X_y=True)
    peers = {"faiss": faiss_flat, "scikit-learn": scikit_learn}
    return [compare("digits", X.astype(np.uint8), y, peers)]


def mnist() -> list[dict[str, Any]]:
    peers = {"faiss": faiss_flat, "scikit-learn": scikit_learn}
    return [compare("MNIST train", *training("mnist", 60_000), peers)]


def cifar10() -> list[dict[str, Any]]:
    peers = {"faiss": faiss_flat, "scikit-learn": scikit_learn}
    return [compare("CIFAR-10 train", *training("cifar10", 50_000), peers)]


def metrics() -> list[dict[str, Any]]:
    """CIFAR-10 under other metrics beside SciPy's cdist, extrapolated from a slice of its rows."""
    from scipy.spatial.distance import cdist

    X, y = training("cifar10", 50_000)
    rows, slice_rows = [], 50
    with cluster():
        for metric in ("chebyshev", "cityblock"):
            mine, theirs = [], []
            for _ in range(PASSES):
                mine.append(ours(X, y, metric=metric)[0])
                wide = X[:slice_rows].astype(np.float64), X.astype(np.float64)
                started = time.perf_counter()
                cdist(*wide, metric)
                theirs.append((time.perf_counter() - started) * len(X) / slice_rows)
                del wide
            row: dict[str, Any] = {"work": f"CIFAR-10 train, {metric}", "rows": len(X)}
            row["columns"], row["all seconds"] = X.shape[1], {"dskrobust": mine, "cdist": theirs}
            row["seconds"] = {k: statistics.median(v) for k, v in row["all seconds"].items()}
            row["times faster than cdist"] = row["seconds"]["cdist"] / row["seconds"]["dskrobust"]
            row["note"] = f"cdist timed on {slice_rows} rows against all, one thread, extrapolated"
            rows.append(row)
    return rows


def news() -> list[dict[str, Any]]:
    store = official("online-news")
    X, y = store.features[:32_000], store.labels[:32_000].astype(np.float64)
    return [compare("Online News, quotients", X, y, {"numpy": numpy_quotients})]


def columns8() -> list[dict[str, Any]]:
    return [compare("500,000 × 8", *clustered(500_000), {"kd_tree": kd_tree})]


def embedding() -> list[dict[str, Any]]:
    data = embeddings(200_000)
    return [compare("200,000 × 256 embedding-like", *data, {"faiss": faiss_flat})]


def growth() -> list[dict[str, Any]]:
    """Seconds at n and 4n rows, and the exponent of n between them."""
    makes: list[tuple[str, int, Callable[[int], Any]]] = [
        ("3 columns", 250_000, uniform),
        ("8 clustered columns", 250_000, clustered),
        ("MNIST", 15_000, lambda n: training("mnist", n)),
    ]
    rows = []
    with cluster():
        for name, n, make in makes:
            few, many = (
                statistics.median(ours(*make(k))[0] for _ in range(PASSES)) for k in (n, 4 * n)
            )
            exponent = np.log(many / few) / np.log(4)
            row = {"work": f"growth, {name}", "rows": [n, 4 * n], "exponent": float(exponent)}
            rows.append({**row, "seconds": {"n": few, "4n": many}})
    return rows


def share() -> list[dict[str, Any]]:
    """`compute` beside the same kernels in one process, on arrays in memory, two threads each."""
    rows = []
    for name, n in (("mnist", 60_000), ("cifar10", 50_000)):
        X, y = training(name, n)
        through, alone = [], []
        with cluster():
            for _ in range(PASSES):
                through.append(ours(X, y)[0])
                alone.append(kernels_alone(X, y))
        seconds = {"dskrobust": statistics.median(through), "kernels": statistics.median(alone)}
        ratio = seconds["dskrobust"] / seconds["kernels"]
        rows.append({"work": f"share of Dask and Zarr, {name}", "rows": n, "seconds": seconds})
        rows[-1]["times the kernels' seconds"] = ratio
    return rows


def kernels_alone(X: NDArray[Any], y: NDArray[Any]) -> float:
    """Seconds of the tasks' functions called by two threads, without Dask and without a store."""
    from dskrobust.datasets.labelled import check_arrays
    from dskrobust.engine import prefixes, tasks
    from dskrobust.engine.plan import Resources
    from dskrobust.engine.sources import array_source
    from dskrobust.engine.spec import TileSpec, TileTask, make_context
    from dskrobust.runs import RunOptions

    arrays = check_arrays(X, y, None)
    lazy = dr.sample_robustness(X, y, options=RunOptions(Resources(2, 1)))
    plan, spec, source = lazy.plan, lazy.spec, array_source(arrays)
    assert plan is not None
    assert spec is not None
    context = make_context(tasks.summarise_rows(source, 0, len(X)), spec)
    tiles = TileSpec(spec, plan.panel_rows, budget=plan.panel_bytes)
    kept: dict[int, BlockCache] = {}  # one a thread, as workers have one each

    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        shared = tiles, source, context, len(X)
        samples = pool.map(lambda k: tasks.take_sample(*shared, (k, 2)), range(2))
        choice = tasks.choose_prefixes(*shared, list(samples))
        cuts = prefixes.cut_parts((len(X),), 1, 8)
        parts = pool.map(
            lambda cut: tasks.make_prefixes(tiles, source, context, choice, *cut), cuts
        )
        made = prefixes.finish(choice, list(parts))

        def tile(i: int, j: int, known: list[Any]) -> Any:
            task = TileTask(plan.blocks[i], plan.blocks[j], "", "", len(X))
            mine = kept.setdefault(threading.get_ident(), BlockCache(2**29))
            return tasks.run_tile(task, (tiles, source, context, made, mine), known)

        diagonal = list(pool.map(lambda k: tile(k, k, []), range(len(plan.blocks))))
        others = [(i, j) for i, j in plan.tiles if i != j]
        list(pool.map(lambda t: tile(*t, [diagonal[t[0]], diagonal[t[1]]]), others))
    return time.perf_counter() - started


def workers() -> list[dict[str, Any]]:
    """Two workers beside one; in turn, as a machine's pace changes by more than the difference."""
    rows = []
    with cluster(1) as one, cluster(2) as two:
        for name, n in (("mnist", 60_000), ("cifar10", 50_000)):
            X, y = training(name, n)
            seconds: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
            for _ in range(PASSES + 1):
                for client, taken in zip((one, two), seconds.values(), strict=True):
                    with client.as_current():
                        taken.append(ours(X, y)[0])
            medians = {k: statistics.median(taken[1:]) for k, taken in seconds.items()}
            row = {"work": f"two workers beside one, {name}", "rows": n, "seconds": medians}
            rows.append({**row, "times faster": medians["1 worker"] / medians["2 workers"]})
    return rows


WORKS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    work.__name__: work
    for work in (digits, mnist, cifar10, metrics, news, columns8, embedding, growth, share, workers)
}


# -- what is printed ---------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Cores and instruction set, which is what figures depend on, the day and the commit."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    sets = [name for name in ("avx512f", "avx2") if name in flags]
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "cores": os.cpu_count(),
        "instructions": sets[:1],
        "python": platform.python_version(),
        "commit": told.stdout.strip() or None,
        "date": date.today().isoformat(),
    }


def line(row: dict[str, Any]) -> str:
    """One row as a line of a Markdown table."""
    seconds = ", ".join(f"{name} {s:.3g} s" for name, s in row["seconds"].items())
    ratios = [f"{value:.3g} × ({key[18:]})" for key, value in row.items() if "faster than" in key]
    for key, form in (
        ("exponent", "n^{:.2f}"),
        ("times the kernels' seconds", "{:.2f} ×"),
        ("times faster", "{:.2f} ×"),
    ):
        if key in row:
            ratios.append(form.format(row[key]))
    wrong = [f"{k.split(':')[0]} {v}" for k, v in row.items() if "wrong neighbours" in k and v]
    remark = f"wrong neighbours: {', '.join(wrong)}" if wrong else ""
    has = row["machine"]
    when = [str(has[key]) for key in ("date", "commit") if has.get(key)]
    where = f"{has['cores']} cores, {' '.join(has['instructions'])}"
    cells = (
        row["work"],
        seconds,
        ", ".join(ratios),
        row["repeats"],
        ", ".join((where, *when)),
        remark,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def table(figures: dict[str, Any]) -> str:
    """The table of the documentation's benchmark page."""
    lines = ["| work | seconds | ratio | passes | machine | peers |", "|---|---|---|---|---|---|"]
    kept = [figures["works"][name] for name in WORKS if name in figures["works"]]
    return "\n".join(lines + [line(row) for rows in kept for row in rows])


def main() -> None:
    global FOLDER, PASSES
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="all where none is named")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", action="append", default=[], help="a peer not to run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, help="only print the table of such a file")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    PASSES = options.repeats
    SKIPPED.update(options.skip)
    figures: dict[str, Any] = {"works": {}}
    if options.out and options.out.exists():
        figures["works"] = json.loads(options.out.read_text())["works"]
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(folder)
        for name in options.works or WORKS:
            rows = WORKS[name]()
            for row in rows:
                row["repeats"], row["machine"] = PASSES, machine()
                print(line(row), flush=True)
            figures["works"][name] = rows
            if options.out:
                options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
