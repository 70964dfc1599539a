"""A CSV table of 2,000,000 × 30 becomes a store: gaps filled, text encoded, numbers scaled.

Its peak of memory and time, and how far the features are from those of scikit-learn's own
`SimpleImputer`, `OneHotEncoder` and `StandardScaler`, and of dask-ml's `StandardScaler`, over the
same rows. The ingest runs in a process of its own, whose peak is measured.

    python scripts/benchmarks/ingest.py [--rows 2000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

NUMBERS, TEXTS = 26, 3
WORDS = ("red", "green", "blue", "white", "black", "none of these")
STEP = 100_000
CHILD = """
import json, resource, sys, time
import dskrobust as dr
start = time.perf_counter()
store = dr.ingest(sys.argv[1], sys.argv[2], target="label", id="id", impute="median",
                  encode="onehot", scale="standard", overwrite=True)
took = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": took, "peak": peak, "columns": store.columns}))
"""


def write(path: Path, rows: int) -> None:
    """Write the table in parts; every tenth number and some texts are missing."""
    names = [f"n{k}" for k in range(NUMBERS)]
    for first in range(0, rows, STEP):
        rng = np.random.default_rng(first)
        count = min(STEP, rows - first)
        values = rng.normal(size=(count, NUMBERS)) * 10.0 ** rng.integers(-2, 5, NUMBERS)
        values = np.round(values, 4)
        values[rng.random(values.shape) < 0.1] = np.nan
        frame = pd.DataFrame(values, columns=names)
        for k in range(TEXTS):
            text = rng.choice(WORDS[: k + 4], count).astype(object)
            text[rng.random(count) < 0.05] = None
            frame[f"t{k}"] = text
        frame.insert(0, "id", np.arange(first, first + count))
        frame["label"] = rng.integers(0, 2, count)
        frame.to_csv(path, mode="a" if first else "w", header=not first, index=False)


def expected(path: Path) -> np.ndarray:
    """Return the features of scikit-learn's own pipeline."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.read_csv(path, dtype={f"t{k}": object for k in range(TEXTS)})
    numbers = [name for name in frame.columns if name[0] == "n"]
    texts = [name for name in frame.columns if name[0] == "t"]
    most = SimpleImputer(strategy="most_frequent")
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (make_pipeline(most, OneHotEncoder(sparse_output=False)), texts),
    ).fit_transform(frame)


def scaled_by_dask(path: Path) -> np.ndarray:
    """Return the numbers, filled with their medians, as dask-ml's `StandardScaler` has them."""
    import dask.array as da
    from dask_ml.preprocessing import StandardScaler

    frame = pd.read_csv(path, usecols=lambda name: name[0] == "n")
    filled = frame.fillna(frame.median()).to_numpy()
    return StandardScaler().fit_transform(da.from_array(filled, chunks=(STEP, -1))).compute()


def farthest(store: object, other: np.ndarray) -> float:
    """Return the largest difference of features, a part of the rows at a time."""
    features = store.features  # type: ignore[attr-defined]
    width = other.shape[1]
    parts = range(0, len(other), STEP)
    return max(float(np.abs(features[a : a + STEP][:, :width] - other[a : a + STEP]).max())
               for a in parts)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", action="store_true", help="Compare with nothing.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        path = folder / f"own{options.rows}.csv"
        if not path.exists():
            write(path, options.rows)
        call = [sys.executable, "-c", CHILD, str(path), str(folder / "own.zarr")]
        done = subprocess.run(call, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        result |= {"rows": options.rows, "file": path.stat().st_size}
        if not options.only:
            import dskrobust as dr

            start = time.perf_counter()
            store = dr.open_store(folder / "own.zarr")
            result["scikit-learn"] = farthest(store, expected(path))
            result["scikit-learn, seconds"] = time.perf_counter() - start
            result["dask-ml"] = farthest(store, scaled_by_dask(path))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            result["their peak"] = peak
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
