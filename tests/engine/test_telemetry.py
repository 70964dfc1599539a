"""What a scheduler and its workers serve for Prometheus is what the tiles came to."""

import re
import subprocess
import sys
from urllib.request import urlopen

import numpy as np
import pytest
from distributed import Client, LocalCluster

import dskrobust as dr

pytest.importorskip("prometheus_client", reason="it is in the extra metrics")


def served(address):
    """Return the metrics at an address that are ours, by name and labels."""
    with urlopen(address, timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(r"^(dskrobust_\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found if "_created" not in name}


@pytest.fixture(scope="module")
def cluster():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1",
                     dashboard_address="127.0.0.1:0", memory_limit="1GiB") as made,
        Client(made) as client,
    ):  # fmt: skip
        yield made, client


def of_workers(client):
    ports = client.run(lambda dask_worker: dask_worker.http_server.port).values()
    return [served(f"http://127.0.0.1:{port}/metrics") for port in ports]


@pytest.mark.cluster
def test_tiles_are_counted(cluster, tmp_path):
    made, client = cluster
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3_000, 40)), rng.integers(0, 3, 3_000)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, y)
    scores = dr.sample_robustness(store, options=dr.RunOptions(block_rows=500))
    tiles = len(scores.plan.tiles)
    assert tiles == 21
    address = made.dashboard_link.replace("/status", "/metrics")
    before = served(address)  # this process may have had other schedulers
    with dr.live(scores):
        scores.write()
    workers = of_workers(client)
    scheduler = served(address)
    for name in scheduler:
        if "_total" in name:
            scheduler[name] -= before.get(name, 0)
    alike = np.bincount(y)
    pairs = (3_000**2 - (alike**2).sum()) // 2  # of different labels

    def over_workers(name):
        return sum(worker[f"dskrobust_worker_{name}"] for worker in workers)

    for count in (over_workers, lambda name: scheduler[f"dskrobust_scheduler_{name}"]):
        assert count('tiles_total{by="computed"}') == tiles
        assert count('tiles_total{by="kept"}') == 0
        assert count("pairs_total") == pairs
        assert 0 < count("proven_pairs_total") <= pairs
        assert count("read_bytes_total") > 0
        assert count("tile_seconds_total") > 0
    assert scheduler["dskrobust_scheduler_planned_tiles_total"] == tiles
    projected = scores.plan.peak_bytes
    assert scheduler["dskrobust_scheduler_projected_bytes"] == projected
    for worker in workers:
        assert worker["dskrobust_worker_projected_bytes"] == projected
        assert 0 < worker["dskrobust_worker_peak_bytes"] < 2**30


@pytest.mark.cluster
def test_the_scheduler_counts_run_after_run(cluster, tmp_path):
    made, _ = cluster
    address = made.dashboard_link.replace("/status", "/metrics")
    rng = np.random.default_rng(1)
    store = dr.create_store(str(tmp_path / "own.zarr"), rng.normal(size=(300, 5)),
                            rng.integers(0, 3, 300))  # fmt: skip
    counted = []
    for metric in ("euclidean", "cityblock"):
        scores = dr.sample_robustness(store, metric=metric)
        with dr.live(scores):
            scores.write()
        counted.append(served(address)['dskrobust_scheduler_tiles_total{by="computed"}'])
    assert counted[1] == counted[0] + len(scores.plan.tiles)


def test_nobody_loads_the_library_for_it():
    """Nor Dask, where it does not run, nor Zarr, where nothing is stored."""
    code = (
        "import sys, numpy as np, dskrobust as dr\n"
        "dr.sample_robustness(np.eye(4), [0, 1, 0, 1]).compute()\n"
        "print({'prometheus_client', 'distributed', 'zarr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
