"""Connecting to schedulers, local clusters, and the checks of their workers."""

import json
import os
import signal
import threading
from dataclasses import replace
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker, NoWorkerError

from dskrobust import compute
from dskrobust.cluster import ClusterOptions, checks, connect, connection, local
from dskrobust.cluster.options import Patience
from dskrobust.cluster.workers import resources_of
from dskrobust.datasets import create_store
from dskrobust.engine.events import TOPIC, watch_tiles
from dskrobust.engine.plan import MIB, Resources, make_plan
from dskrobust.engine.workload import Workload
from dskrobust.errors import ClusterError, MemoryPlanError
from dskrobust.runs import pair_spec
from dskrobust.store import SourceAddress


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 5)), rng.integers(0, 3, 600)
    return create_store(str(tmp_path / "data.zarr"), X, y)


@pytest.fixture(scope="module")
def remote():
    """Yield the address of a scheduler with one worker, in this process, without limits."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        host="127.0.0.1",
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    ) as cluster:
        yield cluster.scheduler_address


def small_plan(resources):
    return make_plan(Workload((1000,), 10, 8, 8, True, 1), resources)


def test_local_defaults_use_all_cores_and_most_free_memory():
    large, small = local.Machine(32, 2**34), local.Machine(2, 2**34)
    many = local.local_resources(ClusterOptions(), large)
    assert (many.workers, many.threads) == (8, 4)
    assert many.memory_limit == int(0.8 * 2**34) // 8
    assert local.local_resources(ClusterOptions(workers=4), large).threads == 8
    assert local.local_resources(ClusterOptions(threads=16), large).workers == 2
    asked = ClusterOptions(workers=3, threads=1, memory_limit=7)
    assert local.local_resources(asked, large) == Resources(3, 1, 7)
    few = local.local_resources(ClusterOptions(), small)
    assert (few.workers, few.threads) == (2, 1)


def test_options_that_exclude_each_other():
    with pytest.raises(ClusterError, match="not both"):
        ClusterOptions(scheduler="tcp://127.0.0.1:1", scheduler_file="s.json")
    with pytest.raises(ClusterError, match="leave either out"):
        ClusterOptions(scheduler="tcp://127.0.0.1:1", workers=2)


def test_local_cluster(store):
    options = ClusterOptions(workers=1, threads=2, memory_limit=400 * MIB)
    before = signal.getsignal(signal.SIGINT)
    with connect(options) as client:
        assert Client.current() is client
        assert dask.delayed(os.getpid)().compute() in client.run(os.getpid).values()
        assert resources_of(client) == Resources(1, 2, 400 * MIB)
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        assert "//127.0.0.1:" in client.dashboard_link
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures) >= 10
        (limit,) = client.run(lambda: os.environ["OMP_NUM_THREADS"]).values()
        assert limit == "1"
        checks.check_installed(client)
        with pytest.raises(ClusterError, match=r"scheduler tcp.* has no no-such-package; install"):
            checks.check_installed(client, package="no-such-package")
        with pytest.raises(ClusterError, match="use one version"):
            checks.check_installed(client, package="numpy")
        checks.check_source(client, store.address)
        with pytest.raises(ClusterError, match=r"worker tcp.* cannot use the store /nowhere"):
            checks.check_source(client, SourceAddress("/nowhere", 10))
        with pytest.raises(ClusterError, match="holds other data than when"):
            checks.check_source(client, replace(store.address, digest="other"))
        # a terminal sends Ctrl-C to the workers too
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGINT)
        assert client.submit(sum, [1, 2]).result() == 3
        # and one that dies comes back
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        assert client.submit(sum, [1, 2, 3]).result(timeout=60) == 6
    assert signal.getsignal(signal.SIGINT) is before


def test_a_plan_that_does_not_fit_starts_nothing(store, monkeypatch):
    monkeypatch.setattr(
        "dskrobust.cluster.connect", lambda options: pytest.fail("a cluster was started")
    )
    with pytest.raises(MemoryPlanError, match="does not fit"):
        compute.run_scores(
            store,
            pair_spec(store),
            ClusterOptions(workers=1, memory_limit=50 * MIB),
            compute.Watch(),
        )


def test_running_scheduler_by_address_and_by_file(remote, tmp_path):
    with connect(ClusterOptions(scheduler=remote)) as client:
        assert resources_of(client) == Resources(1, 2, None)
        address = client.scheduler.address
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": remote}))
    with connect(ClusterOptions(scheduler_file=str(path))) as client:
        assert client.scheduler.address == address


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x", "127.0.0.1:port"])
def test_unreachable_scheduler(address):
    options = ClusterOptions(scheduler=address, patience=Patience(connect=1))
    message = "no scheduler can be reached"
    with pytest.raises(ClusterError, match=message) as failed, connect(options):
        pass
    # while the failed client still lives, in the traceback, later work must not wait for it
    assert failed.value.__cause__ is not None
    with pytest.raises(ValueError, match="No clients found"):
        Client.current()
    assert dask.config.get("scheduler", None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no scheduler file"),
        ("{", "is no scheduler file"),
        ("[]", "is no scheduler"),
    ],
)
def test_wrong_scheduler_file(text, message, tmp_path):
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    with (
        pytest.raises(ClusterError, match=message),
        connect(ClusterOptions(scheduler_file=str(path))),
    ):
        pass


def test_a_client_that_could_not_connect_is_closed_at_once(monkeypatch):
    """Collected later it may stop its loop while another client starts one: a deadlock."""
    made = []
    monkeypatch.setattr(connection, "_greet", lambda *given: None)
    monkeypatch.setattr(connection, "Client", type("Noted", (Client,), {"__init__": _noting(made)}))
    with (
        pytest.raises(ClusterError, match="no scheduler can be reached"),
        connect(ClusterOptions(scheduler="tcp://127.0.0.1:9", patience=Patience(connect=1))),
    ):
        pass
    assert [client.status for client in made] == ["closed"]


def _noting(made):
    def start(self, *given, **named):
        made.append(self)
        Client.__init__(self, *given, **named)

    return start


def test_scheduler_without_workers():
    with LocalCluster(
        n_workers=0,
        processes=False,
        host="127.0.0.1",
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
    ) as empty:
        options = ClusterOptions(scheduler=empty.scheduler_address, patience=Patience(no_workers=1))
        with (
            pytest.raises(ClusterError, match="0 workers after 1 s, 1 were expected"),
            connect(options),
        ):
            pass
        with Client(empty) as client, pytest.raises(ClusterError, match="has no workers"):
            resources_of(client, seconds=0.1)


def test_workers_are_checked_against_the_plan(client):
    limit = min(w["memory_limit"] for w in client.scheduler_info(n_workers=-1)["workers"].values())
    checks.check_plan(client, small_plan(resources_of(client)))
    greedy = replace(small_plan(Resources(2, 1)), peak_bytes=limit)
    with pytest.raises(ClusterError, match=r"worker tcp.* has a memory limit of .* the plan needs"):
        checks.check_plan(client, greedy)


def test_workers_with_more_threads_than_planned(remote):
    plan = small_plan(Resources(1, 1))
    message = "runs 2 tasks at a time, but the plan is for 1"
    with (
        connect(ClusterOptions(scheduler=remote)) as client,
        pytest.raises(ClusterError, match=message),
    ):
        checks.check_plan(client, plan)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KilledWorker("tile-1", SimpleNamespace(address="tcp://w"), 20), "ran tile-1, .* tcp://w"),
        (NoWorkerError("task", 120.0), "all workers are gone"),
        (FutureCancelledError("key", "why"), "the connection to the scheduler was lost"),
    ],
)
def test_what_dask_raises_becomes_one_line(error, message):
    with pytest.raises(ClusterError, match=message) as caught, connection.cluster_errors():
        raise error
    assert "run the same command again" in str(caught.value)


def test_tiles_are_told_of_once(client, store):
    plan = small_plan(Resources(1, 1))
    told, done = [], threading.Event()

    def tell(pairs, event):
        told.append((pairs, event["resumed"]))
        if len(told) == len(plan.tiles):
            done.set()

    with watch_tiles(client, plan, tell):
        for _ in range(2):
            client.log_event(TOPIC, {"rows": [0, 1], "columns": [5, 6], "resumed": False})
            for i, j in plan.tiles:
                ranges = {"rows": list(plan.blocks[i]), "columns": list(plan.blocks[j])}
                client.log_event(TOPIC, {**ranges, "resumed": i == j})
        assert done.wait(30)
    assert len(told) == len(plan.tiles)
    assert sum(pairs for pairs, _ in told) == plan.pairs


def test_scores_of_a_running_scheduler_are_those_of_this_process(remote, store):
    events = []
    scores = compute.run_scores(
        store,
        pair_spec(store),
        ClusterOptions(scheduler=remote),
        compute.Watch(
            lambda client, plan: events.append(len(plan.tiles)),
            lambda pairs, event: events.append(pairs),
        ),
    )
    assert scores.result is not None
    assert scores.result.facts["tiles"] == events[0]
    assert scores.result.facts["threads"] == 2
    distance = np.linalg.norm(store.features[:][:, None] - store.features[:][None], axis=2)
    labels = store.labels[:]
    distance[labels[:, None] == labels] = np.inf
    np.testing.assert_allclose(np.asarray(scores.reach), distance.min(axis=1))


def test_an_interrupt_waits_until_the_block_is_done():
    steps = []

    def interrupted():
        with local._interrupt_later():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["went on"]
    with local._interrupt_later():
        pass
