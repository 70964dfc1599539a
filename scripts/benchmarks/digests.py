"""Digests of every result table, to show that a change of the engine changed no result by a bit.

    python scripts/benchmarks/digests.py [WORK ...] [--out FILE]
    python scripts/benchmarks/digests.py --check notebooks/results/digests.json [WORK ...]

The first form keeps the digests of all works, or of those named, in a file (others in it stay);
the second computes again, prints every table that differs and exits with 1 if one does. Results go
the public path: a store on disk, a local cluster of two one-thread workers, the results read from
the store; some go from arrays in memory. Real and vector labels are made of the data's own labels
and of row numbers where it has none; a work's data has digests of its own, under data/LABELS.

Works whose names begin with mnist, cifar10, news and table5 need DSKROBUST_DATA, the folder of the
official files. A number at the end of a name is that of the first rows that the work takes, where
all of them would take minutes a combination.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.datasets import ingest
from dskrobust.neighbours import compute_neighbours

Tables = dict[str, Any]  # table → its values
Found = Iterator[tuple[str, Tables]]  # combination (metric/labels) and its tables
Lists = dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]]  # subset → distance, index
Digests = dict[str, dict[str, str]]  # combination → table → digest

OWN = ("robustness", "lipschitz", "reach", "witness", "nearest")
TABLES = (*OWN, *(f"{name}_by_group" for name in OWN[1:]))
QUALITY = ("same_distance", "same", "ratio", "witness_of", "score")
METRICS = ("euclidean", "cityblock", "angular")
OTHERS = ("chebyshev", "minkowski(3)", "hamming")
ALL_METRICS = (*METRICS, *OTHERS)
LABELS = ("categorical", "real", "vector")
LIBRARIES = ("dskrobust", "numpy", "scikit-learn", "numba", "dask", "distributed", "zarr")
NEIGHBOURS = 15
FOLDER = Path(tempfile.gettempdir())  # replaced by main


# -- digests -----------------------------------------------------------------------------------


def digest(values: Any) -> str:
    """16 hexadecimal digits of an array's dtype, shape and bytes."""
    array = np.ascontiguousarray(values)
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    found.update(array.tobytes())
    return found.hexdigest()[:16]


def tables_of(scores: Any) -> Tables:
    """The result tables of computed scores."""
    return {name: getattr(scores, name) for name in TABLES}


def data_of(store: dr.Store) -> Tables:
    """What is computed on: where this differs, all else does."""
    return {"features": store.features[:], "labels": store.labels[:], "split": store.split}


def score(store: dr.Store, metric: Any, labels: str | None = None) -> Tables:
    """Tables of a store's samples, as they are read from the store."""
    return tables_of(dr.sample_robustness(store, metric=metric, labels=labels).write().compute())


def neighbour_lists(
    store: dr.Store, queries: Any, references: Mapping[str, Any], k: int, metric: Any = "euclidean"
) -> Lists:
    """The k nearest rows of the queries in every subset."""
    lists = dr.nearest_neighbours(store, k, queries=queries, references=references, metric=metric)
    return {name: (one.distance, one.index) for name, one in compute_neighbours(lists).items()}


def list_tables(lists: Lists) -> Tables:
    """Neighbour lists as tables."""
    parts = {"distance": 0, "index": 1}
    return {f"{name} {part}": both[k] for name, both in lists.items() for part, k in parts.items()}


# -- data --------------------------------------------------------------------------------------


def official(name: str) -> dr.Store:
    """A data set of the paper, ingested once."""
    url = FOLDER / f"{name}.zarr"
    if url.exists():
        return dr.open_store(str(url))
    source = os.environ.get("DSKROBUST_DATA")
    if not source:
        raise SystemExit(f"{name} needs DSKROBUST_DATA, the folder of the official files")
    return ingest(name, str(url), source=source)


def relabelled(store: dr.Store, y: NDArray[Any], kind: str) -> dr.Store:
    """A store's first rows, as many as there are labels; of fewer than all every fifth tests."""
    spec = replace(store.spec, label_kind=kind, classes=None, scaling=None)
    rows, split = len(y), store.split
    if rows < store.rows:
        split = np.where(np.arange(rows) % 5 == 4, "test", "train")
    url = str(FOLDER / "relabelled.zarr")  # the one before is done with
    return dr.create_store(url, store.features[:rows], y, split, spec=spec, overwrite=True)


def digits(dtype: Any) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.str_]]:
    """scikit-learn's digits: features, classes, and three groups by row number."""
    X, y = load_digits(return_X_y=True)
    groups = np.array(["train", "test", "train", "train", "rest"])
    return X.astype(dtype), y.astype(np.int64), groups[np.arange(len(y)) % 5]


def clustered(rows: int, columns: int = 8) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """40 Gaussian clusters of unit spread, centres of spread 2, 5 classes by cluster."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((40, columns))
    cluster = rng.integers(0, 40, rows)
    X = centres[cluster] + rng.standard_normal((rows, columns))
    return X.astype(np.float32), cluster % 5


def real_labels(y: NDArray[Any]) -> NDArray[np.float64]:
    """Real numbers near the classes: every class has four values, by row number."""
    return np.asarray(y + np.arange(len(y)) % 4 / 16, np.float64)


def vector_labels(y: NDArray[Any]) -> NDArray[np.float64]:
    """Two components: half the label, and one of three values by row number."""
    return np.stack([y / 2, np.arange(len(y)) % 3 / 4], axis=1)


def one_hot(y: NDArray[Any]) -> NDArray[np.float64]:
    """Ten components: the class's one is 1 or 1.25, by row number."""
    return np.eye(10)[y] * (1 + np.arange(len(y)) % 2 / 4)[:, None]


def bidiagonal(columns: int) -> dr.Mahalanobis:
    """A Mahalanobis distance whose factor is exact whatever LAPACK: VI = L Lᵀ in powers of two."""
    factor = np.diag(2.0 ** (np.arange(columns) % 3)) + 0.5 * np.eye(columns, k=-1)
    return dr.Mahalanobis(factor @ factor.T, np.arange(columns) / 8)


def canberra(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """A metric of a user's own, of rows that are not negative."""
    return float((np.abs(a - b) / (a + b + 1)).sum())


# -- works -------------------------------------------------------------------------------------


def all_of(stores: Iterable[tuple[str, dr.Store]], metrics: Iterable[Any]) -> Found:
    """Every metric on every store; stores come with the name of their labels."""
    for labels, store in stores:
        yield f"data/{labels}", data_of(store)
        for metric in metrics:
            name = str(metric).partition("(")[0] if isinstance(metric, dr.Mahalanobis) else metric
            yield f"{name}/{labels}", score(store, metric)


def digits_store(dtype: Any) -> Found:
    """Digits with all metrics; the label map is named, and a store has classes or vectors."""
    X, y, split = digits(dtype)
    classes = dr.create_store(str(FOLDER / "digits.zarr"), X, y, split, overwrite=True)
    vectors = dr.create_store(
        str(FOLDER / "digits-v.zarr"), X, vector_labels(y), split, overwrite=True
    )
    yield "data/categorical", data_of(classes)
    yield "data/vector", data_of(vectors)
    for metric in ALL_METRICS:
        for labels in LABELS:
            store = vectors if labels == "vector" else classes
            yield f"{metric}/{labels}", score(store, metric, labels)
        for labels in ("vector-l1", "vector-linf"):
            yield f"{metric}/{labels}", score(vectors, metric, labels)


def digits_uint8() -> Found:
    yield from digits_store(np.uint8)


def digits_float64() -> Found:
    yield from digits_store(np.float64)


def digits_arrays() -> Found:
    """From arrays in memory, scaled; also a function of two rows, on fewer rows."""
    X, y, split = digits(np.uint8)
    labelled = {"categorical": y, "real": real_labels(y), "vector": one_hot(y)}
    for labels, values in labelled.items():
        for metric in METRICS:
            scores = dr.sample_robustness(
                X, values, split, metric=metric, labels=labels, scale=1 / 16
            )
            yield f"{metric}/{labels}", tables_of(scores.compute())
        few = X[:600], values[:600], split[:600]
        scores = dr.sample_robustness(*few, metric=canberra, labels=labels)
        yield f"canberra/{labels}", tables_of(scores.compute())


def digits_others() -> Found:
    """What else searches pairs: neighbour lists, label quality, new samples against fitted ones."""
    X, y, split = digits(np.uint8)
    store = dr.create_store(str(FOLDER / "digits.zarr"), X, y, split, overwrite=True)
    queries = np.arange(len(y))[::-3]
    rows = {name: np.flatnonzero(split == name) for name in ("train", "test")}
    rows |= {"all": np.arange(len(y)), "odd": np.arange(1, len(y), 2)}
    for metric in ALL_METRICS:
        lists = neighbour_lists(store, queries, rows, NEIGHBOURS, metric)
        yield f"{metric}/neighbours", list_tables(lists)
        quality = dr.label_quality(store, metric=metric).compute()
        yield f"{metric}/quality", {name: getattr(quality, name) for name in QUALITY}
    labelled = {"categorical": y, "real": real_labels(y), "vector": vector_labels(y)}
    for labels, values in labelled.items():
        for metric in METRICS:
            model = dr.SampleRobustness(metric, labels, scale=1 / 16).fit(X[:1_400], values[:1_400])
            new = model.score_samples(X[1_400:], values[1_400:])
            yield f"{metric}/{labels} of new samples", {"robustness": new}


def mnist() -> Found:
    """MNIST's 70,000 rows as ingested, and with real labels."""
    store = official("mnist")
    yield from all_of([("categorical", store)], METRICS)
    y = real_labels(np.asarray(store.labels[:]))
    yield from all_of([("real", relabelled(store, y, "real"))], ("euclidean",))


def mnist_20000() -> Found:
    """The first 20,000 rows, with one-hot vectors too."""
    store = official("mnist")
    y = np.asarray(store.labels[:20_000])
    for kind, values in (("real", real_labels(y)), ("vector", one_hot(y))):
        yield from all_of([(kind, relabelled(store, values, kind))], METRICS)


def cifar10() -> Found:
    """CIFAR-10's 60,000 rows as ingested."""
    yield from all_of([("categorical", official("cifar10"))], ("euclidean", "angular"))


def cifar10_20000() -> Found:
    """The first 20,000 rows: what would take minutes for all."""
    store = official("cifar10")
    y = np.asarray(store.labels[:20_000])
    classes = relabelled(store, y, "categorical")
    yield from all_of([("categorical", classes)], ("cityblock",))
    for kind, values in (("real", real_labels(y)), ("vector", vector_labels(y))):
        yield from all_of([(kind, relabelled(store, values, kind))], METRICS)


def news_labels(store: dr.Store) -> dict[str, NDArray[Any]]:
    """Popular or not, shares as ingested, and vectors with shares in them."""
    shares = np.asarray(store.labels[:])
    popular = shares >= np.partition(shares, len(shares) // 2)[len(shares) // 2]
    return {
        "categorical": popular.astype(np.int64),
        "real": shares,
        "vector": vector_labels(shares),
    }


def news() -> Found:
    """Online News' 39,644 rows; with real labels as ingested."""
    store = official("online-news")
    stores = (
        (kind, store if kind == "real" else relabelled(store, y, kind))
        for kind, y in news_labels(store).items()
    )
    yield from all_of(stores, (*METRICS, bidiagonal(store.columns)))


def news_10000() -> Found:
    """The first 10,000 rows: what would take minutes for all."""
    store = official("online-news")
    stores = ((kind, relabelled(store, y[:10_000], kind)) for kind, y in news_labels(store).items())
    yield from all_of(stores, OTHERS)


def clustered_rows(rows: int, metrics: Iterable[Any]) -> Found:
    """Rows of eight clustered columns, in one group."""
    X, y = clustered(rows)
    labelled = {"categorical": y, "real": real_labels(y), "vector": vector_labels(y)}
    for kind, values in labelled.items():
        store = dr.create_store(str(FOLDER / "clustered.zarr"), X, values, overwrite=True)
        yield from all_of([(kind, store)], metrics)


def clustered8() -> Found:
    yield from clustered_rows(60_000, (*METRICS, "chebyshev", "minkowski(3)", bidiagonal(8)))


def clustered8_4000() -> Found:
    yield from clustered_rows(4_000, ("hamming",))


def table5() -> Found:
    """Neighbour lists of CIFAR-10's test rows in the training subsets of the paper's Table 5."""
    store = official("cifar10")
    scores = dr.sample_robustness(store).write()
    rows = {"x": np.flatnonzero(store.split == "train")}
    for size in (40, 25):
        for letter, choose in (("L", dr.least_robust), ("M", dr.most_robust)):
            chosen = choose(scores, 1_000 * size, within="train").compute()
            rows[f"x_{letter}{size}"] = np.asarray(chosen.indices)
    yield "euclidean/subsets", rows
    queries = np.flatnonzero(store.split == "test")
    for metric in ("euclidean", "angular"):
        lists = neighbour_lists(store, queries, rows, NEIGHBOURS, metric)
        yield f"{metric}/neighbours", list_tables(lists)


WORKS: dict[str, Callable[[], Found]] = {
    work.__name__.replace("_", "-"): work
    for work in (
        digits_uint8,
        digits_float64,
        digits_arrays,
        digits_others,
        mnist,
        mnist_20000,
        cifar10,
        cifar10_20000,
        news,
        news_10000,
        clustered8,
        clustered8_4000,
        table5,
    )
}


# -- keeping and comparing ---------------------------------------------------------------------


def versions() -> dict[str, str]:
    """What results are made with."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}


def run(name: str) -> Digests:
    """Digests of a work; a line for every combination as soon as it is done."""
    found: Digests = {}
    started = time.perf_counter()
    for combination, tables in WORKS[name]():
        if combination in found:
            raise RuntimeError(f"{name} has {combination} twice")
        found[combination] = {table: digest(values) for table, values in tables.items()}
        now = time.perf_counter()
        print(f"{name:15}  {combination:34} {now - started:8.2f} s", flush=True)
        started = now
    return found


def differences(name: str, kept: Digests, found: Digests) -> list[str]:
    """A line for every table of a work that differs from what was kept, or is in one of them."""
    lines = []
    for combination in sorted({*kept, *found}):
        old, new = kept.get(combination), found.get(combination)
        if old is None or new is None:
            lines.append(f"{name} {combination}: {'not kept' if old is None else 'not computed'}")
            continue
        for table in sorted({*old, *new}):
            if old.get(table) != new.get(table):
                was, now = old.get(table, "nothing"), new.get(table, "nothing")
                lines.append(f"{name} {combination} {table}: was {was}, is {now}")
    return lines


def keep(file: Path | None, works: Mapping[str, Digests]) -> None:
    """Write the digests; those of other works in the file stay."""
    if file is None:
        return
    have = json.loads(file.read_text())["works"] if file.exists() else {}
    have.update(works)
    ordered = {name: have[name] for name in (*WORKS, *have) if name in have}
    file.write_text(json.dumps({"versions": versions(), "works": ordered}, indent=1) + "\n")


def main() -> None:
    global FOLDER
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="all where none is named")
    parser.add_argument("--out", type=Path, help="keep the digests in this file")
    parser.add_argument("--check", type=Path, help="compare with the digests in this file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*differently labelled twin")
    kept = json.loads(options.check.read_text()) if options.check else None
    started, works = time.perf_counter(), {}
    print(f"dskrobust of {Path(dr.__file__).parent}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(folder)
        with connect(ClusterOptions(workers=2, threads=1, dashboard=False)):
            for name in options.works or WORKS:
                works[name] = run(name)
                keep(options.out, works)
    count = sum(map(len, works.values()))
    print(f"{count} combinations in {time.perf_counter() - started:.0f} s")
    if kept is not None:
        compare(kept, works)


def compare(kept: Mapping[str, Any], works: Mapping[str, Digests]) -> None:
    """Print every difference from the digests of a file; exit with 1 if there is one."""
    for name, old in kept["versions"].items():
        if old != (new := versions().get(name)):
            print(f"note: {name} was {old}, is {new}")
    lines = [
        line
        for name, found in works.items()
        for line in differences(name, kept["works"].get(name, {}), found)
    ]
    print("\n".join(lines) if lines else "all tables are those that were kept")
    raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    main()
