"""What five folds cost beside one: the pass over the pairs, and an evaluation by knn.

    python scripts/benchmarks/folds.py MNIST.zarr [--rows 60000] [--repeats 3] [--out FILE]

Of the store's first rows three stores are made: one with a training and a test group (the last
fold), one whose groups are the folds, one without a split whose folds are drawn. Of each all scores
are computed and written by a local cluster of two one-thread workers, in turn. Seconds are those of
the workers' processors, as other work on the machine changes its pace; the best of each counts. The
evaluation is knn with K from 1 to 15 and both weightings, x and its halves on t and its halves: of
the one split, and of all folds. Every fold's scores are compared with those of a store of its own,
bit by bit, on some rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import default_client
from numpy.typing import NDArray

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect

CHECKED = 4_000  # rows whose folds are computed as stores of their own too
TABLES = ("robustness", "lipschitz_by_group", "reach_by_group", "nearest_by_group")


def stores(source: dr.Store, options: argparse.Namespace, folder: str) -> dict[str, dr.Store]:
    """Return the same rows with one split, with folds as groups, and without a split."""
    X, y = source.features[: options.rows], source.labels[: options.rows]
    folds = np.arange(options.rows) % options.folds
    splits = {
        "one split": np.where(folds == options.folds - 1, "test", "train"),
        "folds as groups": np.array([f"fold-{k + 1}" for k in folds]),
        "folds drawn": None,
    }
    spec = dr.StoreSpec("rows", "categorical", scale=source.spec.scale)
    return {
        name: dr.create_store(f"{folder}/{name}.zarr", X, y, split, spec=spec)
        for name, split in splits.items()
    }


def seconds_of(task: Callable[[], Any]) -> float:
    """Return the seconds that a task takes of the workers' processors."""
    client = default_client()
    before = sum(client.run(time.process_time).values())
    task()
    return float(sum(client.run(time.process_time).values()) - before)


def passes(source: dr.Store, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of every pass, writing included, of fresh stores in turn."""
    times: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for name, store in stores(source, options, folder).items():
                times.setdefault(name, []).append(seconds_of(partial(score, name, store, options)))
    return times


def score(name: str, store: dr.Store, options: argparse.Namespace) -> None:
    """Score one of these stores, against its folds where it has some."""
    if name == "one split":
        dr.sample_robustness(store).write()
    else:
        dr.make_folds(store, options.folds).robustness().write()


def evaluations(source: dr.Store, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of the evaluation of one split and of all folds."""
    train = options.rows * (options.folds - 1) // options.folds
    halves = {"x": train // 2, "t": options.rows // options.folds // 2}
    chosen = [
        {a: g, f"{a}_L": f"{g}:L{halves[a]}", f"{a}_M": f"{g}:M{halves[a]}"}
        for a, g in (("x", "train"), ("t", "test"))
    ]
    asked = {"train": chosen[0], "test": chosen[1], "models": [dr.Model("knn")]}
    times = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made = stores(source, options, folder)
        for name in ("one split", "folds as groups"):
            dr.sample_robustness(made[name]).write()
            more = {} if name == "one split" else {"folds": options.folds}
            evaluation = dr.evaluate(made[name], **asked, **more)
            times[name] = seconds_of(evaluation.compute)
    return times


def different(source: dr.Store, options: argparse.Namespace) -> int:
    """Return how many scores of folds differ from those of stores with each split."""
    few = argparse.Namespace(**{**vars(options), "rows": min(CHECKED, options.rows)})
    wrong = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = stores(source, few, folder)["folds as groups"]
        folds = dr.make_folds(store)
        scores = folds.robustness().compute()
        X, y, codes = store.features[:], store.labels[:], store.split_codes[:]
        for number in range(1, folds.count + 1):
            split = np.where(codes == number - 1, "test", "train")
            alone = dr.sample_robustness(X, y, split, scale=store.spec.scale).compute()
            view = folds.scores(scores, number)
            order = [alone.groups.index(group) for group in view.groups]
            for name in TABLES:
                one, other = np.asarray(getattr(view, name)), np.asarray(getattr(alone, name))
                wrong += unequal(one, other[:, order] if other.ndim == 2 else other)
    return wrong


def unequal(one: NDArray[Any], other: NDArray[Any]) -> int:
    """Return how many values are not the same to the last bit."""
    return int((one != other).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", default=None, help="for the stores; the system's by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    source = dr.open_store(options.store)
    with connect(ClusterOptions(workers=2, threads=1)):
        some = argparse.Namespace(**{**vars(options), "rows": 2_000, "repeats": 1})
        passes(source, some)  # workers load the kernels
        times = passes(source, options)
        evaluated = evaluations(source, options)
        wrong = different(source, options)
    best = {name: min(seconds) for name, seconds in times.items()}
    beside = {name: best[name] / best["one split"] for name in list(best)[1:]}
    from pairs import machine  # here: workers import this script, and scikit-learn with it

    found = {
        "rows": options.rows,
        "folds": options.folds,
        "pass: processor seconds": times,
        "pass: times one split": beside,
        "evaluation (knn): processor seconds": evaluated,
        "evaluation (knn): times one split": evaluated["folds as groups"] / evaluated["one split"],
        "scores that differ from stores of their own": wrong,
        "machine": machine(),
    }
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
