"""A store larger than the workers' memory, computed to the end within the projected peak.

The features are noise around one of a few centres, made block by block, with planted pairs: two
rows of different labels at a known, small distance from each other. Every other pair of rows is
farther apart, so the reach of the planted rows is known without a brute force.

    python scripts/benchmarks/memory.py [--rows 65600] [--columns 16384] [--memory-limit 512MiB]
    python scripts/benchmarks/memory.py --rows 32800 --workers 1 --enough 12GiB
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dask.utils import parse_bytes

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.engine.plan import Plan
from dskrobust.processes import peak_memory
from dskrobust.store import Block, Store, StoreSpec, write_store

MIB = 2**20
BLOCK = 1_000
STEP = np.float32(2.0**-6)  # planted rows differ by this in some columns


def blocks(rows: int, columns: int, planted: np.ndarray) -> Iterator[Block]:
    """Rows made from their number alone; planted[k] = (row, its partner, columns that differ)."""
    partner = {int(b): (int(a), int(k)) for a, b, k in planted}
    for lo in range(0, rows, BLOCK):
        numbers = np.arange(lo, min(lo + BLOCK, rows))
        features = np.stack([row_of(r, columns, partner) for r in numbers])
        yield Block(features, labels_of(numbers), np.zeros(len(numbers), np.int16))


def row_of(number: int, columns: int, partner: dict[int, tuple[int, int]]) -> np.ndarray:
    """A row of noise, or its partner's noise with a few columns moved by STEP."""
    source, differing = partner.get(int(number), (int(number), 0))
    row = np.random.default_rng(source).random(columns, np.float32)
    row = np.round(row * 256) / np.float32(256)  # so that adding STEP is exact
    row[:differing] += STEP
    return row


def labels_of(numbers: np.ndarray) -> np.ndarray:
    """Even rows and odd rows differ in label."""
    return (numbers % 2).astype(np.int64)


def plant(rows: int, columns: int, count: int) -> np.ndarray:
    """Choose `count` pairs of an even and an odd row all over the data."""
    rng = np.random.default_rng(0)
    even = rng.choice(rows // 2, count, replace=False) * 2
    odd = rng.choice(rows // 2, count, replace=False) * 2 + 1
    return np.stack([even, odd, rng.integers(1, min(64, columns), count)], axis=1)


def spilled(dask_worker: Any) -> int:
    """Bytes that a worker has written to disk."""
    return int(getattr(dask_worker.data, "spilled_total", (0, 0))[1])


@dataclass(frozen=True)
class Run:
    """What one computation took: wall clock and processor seconds, peaks and spill in bytes."""

    plan: Plan
    seconds: float
    processor_seconds: float
    peaks: list[int]
    spilled: int


def compute(store: Store, planted: np.ndarray, workers: int, limit: int) -> Run:
    """Compute a store that has no results yet, check the planted rows, and remove the results."""
    resources = ClusterOptions(workers=workers, threads=1, memory_limit=limit)
    data = set(os.listdir(store.url))
    with connect(resources) as client:
        scores = dr.sample_robustness(store)
        plan = scores.plan
        assert plan is not None
        print(
            f"{workers} worker(s) of {limit / MIB:,.0f} MiB: {len(plan.tiles)} tiles, panels "
            f"{plan.panel_rows}, projected peak {plan.peak_bytes / MIB:,.0f} MiB",
            flush=True,
        )
        before = sum(client.run(time.process_time).values())
        started = time.perf_counter()
        scores = scores.write()
        seconds = time.perf_counter() - started
        busy = sum(client.run(time.process_time).values()) - before
        peaks = list(client.run(peak_memory).values())
        spill = sum(client.run(spilled).values())
        reach, witness = np.asarray(scores.reach), np.asarray(scores.witness)
    check(planted, reach, witness)
    for name in set(os.listdir(store.url)) - data:
        shutil.rmtree(Path(store.url, name))
    return Run(plan, seconds, busy, peaks, spill)


def run(options: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Make the store, compute it on a cluster that cannot hold it, and perhaps on one that can."""
    from pairs import machine  # here: workers import this script, and scikit-learn with it

    limit = parse_bytes(options.memory_limit)
    planted = plant(options.rows, options.columns, options.planted)
    spec = StoreSpec("planted", "categorical")
    store = write_store(
        f"{folder}/planted.zarr", spec, blocks(options.rows, options.columns, planted)
    )
    size = options.rows * options.columns * 4
    print(f"{size / MIB:,.0f} MiB of features", flush=True)
    small = compute(store, planted, options.workers, limit)
    figures = {
        "machine": machine(),
        "load average before": os.getloadavg()[0],  # of other work
        "rows": options.rows,
        "columns": options.columns,
        "features MiB": size / MIB,
        "workers": options.workers,
        "memory limit MiB": limit / MIB,
        "times the workers' memory": size / limit / options.workers,
        "seconds": small.seconds,
        "processor seconds": small.processor_seconds,
        "projected peak MiB": small.plan.peak_bytes / MIB,
        "measured peaks MiB": [p / MIB for p in small.peaks],
        "spilled bytes": small.spilled,
        "bytes read GiB": small.plan.bytes_read / 2**30,
        "TFLOP": small.plan.operations / 1e12,
        "planted pairs found": len(planted),
    }
    if options.enough:
        ample = compute(store, planted, options.workers, parse_bytes(options.enough))
        figures |= {
            "memory limit that is enough MiB": parse_bytes(options.enough) / MIB,
            "seconds with enough memory": ample.seconds,
            "processor seconds with enough memory": ample.processor_seconds,
            "wall against enough memory": small.seconds / ample.seconds,
            "processor time against enough memory": small.processor_seconds
            / ample.processor_seconds,
        }
    return figures


def check(planted: np.ndarray, reach: np.ndarray, witness: np.ndarray) -> None:
    """Every planted row has its partner as witness, at exactly the planted distance."""
    for a, b, differing in planted:
        expected = np.sqrt(np.float64(differing) * np.float64(STEP) ** 2)
        for row, other in ((a, b), (b, a)):
            assert witness[row] == other, (row, other, witness[row])
            assert reach[row] == expected, (row, reach[row], expected)
    others = np.setdiff1d(np.arange(len(reach)), planted[:, :2])
    assert reach[others].min() > 1.0, "an unplanted row is closer than noise can be"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=65_600)
    parser.add_argument("--columns", type=int, default=16_384)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-limit", default="512MiB")
    parser.add_argument(
        "--enough", help="compute it once more with workers of this limit, such as 8GiB"
    )
    parser.add_argument("--planted", type=int, default=500)
    parser.add_argument("--folder", help="where to put the store; a temporary folder without it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = run(options, folder)
    print(json.dumps(figures, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
