"""Plans and tiles on clusters whose workers come, go, and differ."""

import logging

import numpy as np
import pytest
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster
from helpers import wait_until, watched

import dskrobust as dr
from dskrobust.cluster import workers
from dskrobust.cluster.workers import resources_of, workers_of
from dskrobust.engine.footprint import USABLE
from dskrobust.engine.plan import MIB, Resources, base_bytes
from dskrobust.engine.restrictions import NAME
from dskrobust.runs import RunOptions

pytestmark = pytest.mark.cluster
LIMIT = 640 * MIB
HERE = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3_000, 40)).astype(np.float32), rng.integers(0, 4, 3_000)


def test_a_plan_waits_for_the_first_worker_of_an_adaptive_cluster(data):
    with LocalCluster(n_workers=0, threads_per_worker=1, memory_limit=LIMIT, **HERE) as cluster:
        cluster.adapt(minimum=0, maximum=1, interval="100ms")
        with Client(cluster):
            plan = dr.sample_robustness(*data).plan
    assert plan.resources == Resources(1, 1, LIMIT)
    assert plan.peak_bytes <= LIMIT * USABLE


@pytest.fixture
def sizes():
    """A cluster of a small worker, to which a large one can be added."""
    small, large = (
        {"cls": Nanny, "options": {"nthreads": 1, "memory_limit": limit, "host": "127.0.0.1"}}
        for limit in (300 * MIB, 900 * MIB)
    )
    scheduler = {"cls": Scheduler, "options": HERE}
    with SpecCluster({0: small}, scheduler, worker=large, silence_logs=logging.CRITICAL) as cluster:
        yield cluster


def test_workers_with_less_memory_than_planned_get_no_tile(sizes, data):
    """Tiles that a small worker got wait for a large one, and go to it alone when it comes."""
    options = RunOptions(Resources(1, 1, 900 * MIB), block_rows=500)
    alone = dr.sample_robustness(*data, options=options).compute(scheduler="threads")
    with Client(sizes) as client, watched(client) as events:
        scores = dr.sample_robustness(*data, options=options)
        (small,) = workers_of(client)
        assert not scores.plan.footprint.fits(300 * MIB, 1)
        running = client.compute(scores.robustness)
        wait_until(lambda: client.run_on_scheduler(_sent_back))
        assert not events
        sizes.scale(2)
        assert np.array_equal(running.result(timeout=60), alone.robustness)
        wait_until(lambda: len(events) == len(scores.plan.tiles))
        (large,) = set(workers_of(client)) - {small}
        assert {event["worker"] for event in events} == {large}
        del running
        wait_until(lambda: not client.run_on_scheduler(_sent_back))  # nothing is kept of a run


def _sent_back(dask_scheduler):
    plugin = dask_scheduler.plugins.get(NAME)
    return len(plugin._needs) if plugin else 0


def test_xarray_is_looked_for_on_the_workers(client, monkeypatch):
    monkeypatch.setattr(workers, "ask", lambda client, function: {"a": False, "b": True})
    assert resources_of(client).xarray is True
    monkeypatch.setattr(workers, "ask", lambda client, function: {"a": False, "b": OSError()})
    assert resources_of(client).xarray is False
    assert base_bytes(True) > base_bytes(False)
