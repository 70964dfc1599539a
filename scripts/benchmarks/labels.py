"""Wrong labels on MNIST: find_label_issues beside cleanlab's Datalab, from the same features.

    pip install -c scripts/constraints.txt cleanlab datasets
    python scripts/benchmarks/labels.py --mnist mnist.zarr [--rows 30000 60000] [--out FILE]
    python scripts/benchmarks/labels.py --mnist mnist.zarr --model --rows 5000 [--out FILE]

A share of the training labels is changed to another class at random, with a seed. Both get the same
rows and labels, as their users would give them: dskrobust the stored bytes, Datalab the pixels in
[0, 1] as float32. Each runs in a process of its own, with all cores; imports, reading and the
compilation of kernels are over when the clock starts. Precision is the average precision of the
ranking, memory the process's largest resident size, processor seconds those of all its threads and
children. Datalab ranks by votes of nearest neighbours here; with a trained classifier's predictions
it can do better, and then training counts too.

With --model nothing is timed: it is measured what a forest's out-of-sample probabilities add, and
what the thresholds that planted errors tell are worth. What FILE holds already stays.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

import dskrobust as dr

MIB = 2**20
CLASSES = 10
PACKAGES = {"dskrobust": "dskrobust", "datalab": "cleanlab"}


def changed_labels(
    y: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return labels of which a share is changed, and which ones are."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(y), round(share * len(y)), replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, CLASSES, len(wrong))) % CLASSES
    return noisy, np.isin(np.arange(len(y)), wrong)


def dskrobust(X: NDArray[np.uint8], y: NDArray[np.int64]) -> Callable[[], dict[str, Any]]:
    """Return a function that scores all labels: the lower, the worse."""
    dr.find_label_issues(X[:200], y[:200])  # compiles

    def run() -> dict[str, Any]:
        table = dr.find_label_issues(X, y).set_index("row").sort_index()
        return {"score": table["score"].to_numpy(), "is_issue": table["is_issue"].to_numpy()}

    return run


def datalab(X: NDArray[np.uint8], y: NDArray[np.int64]) -> Callable[[], dict[str, Any]]:
    """Return a function that scores all labels: the lower, the worse."""
    from cleanlab import Datalab

    pixels = X.astype(np.float32) / 255

    def run() -> dict[str, Any]:
        lab = Datalab(data={"y": y}, label_name="y", verbosity=0)
        lab.find_issues(features=pixels, issue_types={"label": {}})
        found = lab.get_issues("label")
        return {"score": found["label_score"].to_numpy(), "is_issue": found["is_label_issue"]}

    return run


def processor_seconds() -> float:
    """Processor seconds of this process and its children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def measure(contender: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let one contender run in this process."""
    store, rows = dr.open_store(options.mnist), options.rows[0]
    X = store.features[:rows]
    y, wrong = changed_labels(
        np.asarray(store.labels[:rows]).astype(np.int64), options.share, options.seed
    )
    run = {"dskrobust": dskrobust, "datalab": datalab}[contender](X, y)
    before, started = processor_seconds(), time.perf_counter()
    found = run()
    seconds, busy = time.perf_counter() - started, processor_seconds() - before
    issues = np.asarray(found["is_issue"])
    return {
        "average precision": float(average_precision_score(wrong, -found["score"])),
        "issues": int(issues.sum()),
        "precision of issues": float(wrong[issues].mean()),
        "recall of issues": float(issues[wrong].mean()),
        "seconds": seconds,
        "processor seconds": busy,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB,
        "version": importlib.metadata.version(PACKAGES[contender]),
    }


def compare(rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run both, one after the other, each in a process of its own."""
    figures: dict[str, Any] = {"changed": round(options.share * rows)}
    figures["load before"] = os.getloadavg()[0]  # others' work slows both, not always alike
    for name in PACKAGES:
        command = [sys.executable, __file__, "--mnist", options.mnist, "--contender", name]
        command += ["--rows", str(rows), "--share", str(options.share), "--seed", str(options.seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        figures[name] = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = (figures[name] for name in PACKAGES)
    figures["datalab over dskrobust"] = {
        name: theirs[name] / ours[name] for name in ("seconds", "processor seconds", "peak MiB")
    }
    return figures


def with_model(rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure neighbours, a forest, and both together; and the thresholds of the neighbours."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_predict

    store = dr.open_store(options.mnist)
    X, y = store.features[:rows], np.asarray(store.labels[:rows]).astype(np.int64)
    noisy, wrong = changed_labels(y, options.share, options.seed)
    forest = RandomForestClassifier(100, n_jobs=-1, random_state=options.seed)
    said = cross_val_predict(forest, X, noisy, cv=3, method="predict_proba")
    own = said[np.arange(rows), noisy]
    others = np.where(np.arange(CLASSES) == noisy[:, None], -1, said).max(axis=1)
    quality = dr.label_quality(X, noisy).compute()
    figures: dict[str, Any] = {"forest": float(average_precision_score(wrong, others - own))}
    for name, probabilities in (("neighbours", None), ("together", said)):
        table = dr.find_label_issues(quality, probabilities=probabilities).sort_values("row")
        issues = table["is_issue"].to_numpy()
        figures[name] = {
            "average precision": float(average_precision_score(wrong, -table["score"])),
            "issues": int(issues.sum()),
            "precision of issues": float(wrong[issues].mean()),
            "recall of issues": float(issues[wrong].mean()),
            "thresholds": table.attrs["thresholds"],
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", required=True, help="a store of `dskrobust ingest mnist`")
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000])
    parser.add_argument("--share", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--contender", choices=tuple(PACKAGES), help=argparse.SUPPRESS)
    parser.add_argument("--model", action="store_true", help="what a model adds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(measure(options.contender, options)))
        return
    figures: dict[str, Any] = {
        "work": f"MNIST training data, {options.share:.0%} of the labels changed",
        "seed": options.seed,
        "cores": os.cpu_count(),
    }
    if options.model and options.out and options.out.exists():
        figures = json.loads(options.out.read_text())
    for rows in options.rows:
        if options.model:
            figures[f"{rows:,} rows, with a model"] = with_model(rows, options)
        else:
            figures[f"{rows:,} rows"] = compare(rows, options)
    print(json.dumps(figures, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
