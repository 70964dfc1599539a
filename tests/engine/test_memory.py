"""Memory is promised: a worker's measured peak stays below what the plan projects."""

import argparse
import ctypes
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from helpers import load_script

import dskrobust as dr
from dskrobust.engine.plan import Resources, base_bytes
from dskrobust.processes import peak_memory
from dskrobust.runs import RunOptions

knn, memory = (load_script(f"benchmarks/{name}") for name in ("knn", "memory"))

MIB = 2**20


@pytest.mark.cluster
def test_a_store_larger_than_the_workers_memory(tmp_path):
    options = argparse.Namespace(
        rows=8_192, columns=32_768, workers=1, memory_limit="512MiB", enough=None, planted=40
    )
    figures = memory.run(options, str(tmp_path))
    assert figures["times the workers' memory"] == 2
    assert max(figures["measured peaks MiB"]) <= figures["projected peak MiB"] <= 0.7 * 512
    assert figures["spilled bytes"] == 0
    assert figures["planted pairs found"] == 40


@pytest.mark.cluster
def test_neighbours_in_training_data_larger_than_the_workers_memory(tmp_path):
    options = argparse.Namespace(
        rows=16_384, columns=16_384, memory_limit="512MiB", workers=1, queries=200
    )
    figures = knn.beyond_memory(options, str(tmp_path))
    assert figures["times the workers' memory"] == 2
    assert max(figures["measured peaks MiB"]) <= figures["projected peak MiB"] <= 0.7 * 512
    assert figures["spilled bytes"] == 0


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("dtype", "labels", "threads", "metric", "limit", "keeps"),
    [
        ("uint8", "categorical", 2, "euclidean", 700, True),
        ("float64", "real", 1, "euclidean", 750, True),
        ("float32", "categorical", 1, "angular", 500, False),
        ("uint8", "categorical", 1, "cityblock", 500, True),
    ],
)
def test_measured_peak_is_below_the_projection(
    tmp_path, dtype, labels, threads, metric, limit, keeps
):
    rng = np.random.default_rng(0)
    rows = 3_000 if metric == "cityblock" else 12_000
    X = rng.integers(0, 255, (rows, 784)).astype(dtype)
    y = rng.integers(0, 5, rows) if labels == "categorical" else rng.random(rows)
    split = np.where(rng.random(rows) < 0.8, "train", "test")
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=threads,
            memory_limit=limit * MIB,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        scores = dr.sample_robustness(store, metric=metric, labels=labels)
        plan = scores.plan
        scores.write()
        (peak,) = client.run(peak_memory).values()
        (imported,) = client.run(lambda: "dask.array" in sys.modules).values()
    assert not imported  # nor SciPy's sparse matrices, nor xarray and pandas
    assert plan.resources.memory_limit == limit * MIB
    assert bool(plan.kept_bytes) == keeps  # blocks from tile to tile, where there is room
    assert peak <= plan.peak_bytes <= 0.7 * limit * MIB, (peak / MIB, plan.peak_bytes / MIB)


def rise(run):
    """Bytes that this process holds at most while something runs, beyond those it holds now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_memory()
    run()
    return peak_memory() - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not Linux")
@pytest.mark.parametrize(("rows", "columns", "k"), [(400_000, 3, 0), (80_000, 2, 10)])
def test_a_large_block_searched_by_boxes_is_below_the_projection(tmp_path, rows, columns, k):
    """Where a byte more a row shows: leaves, sorts, states, what is written of them."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, columns)).astype(np.float32), np.arange(rows) % 10
    options = RunOptions(Resources(1, 1, 2**30))

    def started(name, count):
        store = dr.create_store(str(tmp_path / name), X[:count], y[:count])
        if k:
            return dr.nearest_neighbours(store, k, options=options)
        return dr.sample_robustness(store, options=options)

    with dask.config.set(scheduler="synchronous"):
        started("small.zarr", 2_000).write()  # compiles, imports
        asked = started("large.zarr", rows)
        grown = rise(asked.write)
    assert len(asked.plan.tiles) == 3
    projected = asked.plan.peak_bytes - base_bytes()
    assert projected / 4 < grown <= projected, (grown / rows, projected / rows)
