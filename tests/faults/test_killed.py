"""Workers, schedulers and clients that are killed or stop: replaced, or an end in one line."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
from click.testing import CliRunner
from distributed import Client
from faults.own_cluster import own_cluster, worker_processes
from helpers import ROOT

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli.options import cluster_options
from dskrobust.cluster import ClusterOptions, connect, nanny, presence
from dskrobust.cluster.options import Patience
from dskrobust.cluster.workers import workers_of
from dskrobust.datasets import create_store
from dskrobust.engine.plan import Resources
from dskrobust.errors import ClusterError, InvalidOptionError

LOST = "connection to the scheduler was lost; what is finished is kept"
LOCAL = ClusterOptions(workers=2, threads=1, memory_limit=2**29, dashboard=False)


@pytest.fixture
def own(tmp_path):
    with own_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def hasty(monkeypatch):
    """Have presence looked after quickly, and every gap told of."""
    monkeypatch.setattr(presence, "LOOK", 0.1)
    monkeypatch.setattr(presence, "ANSWER", 0.5)
    monkeypatch.setattr(presence, "BRIEF", 0.0)


def patient(cluster, seconds):
    return ClusterOptions(scheduler=cluster.address, patience=Patience(no_workers=seconds))


class _Killer(threading.Thread):
    """Sends a signal to workers that this process starts as soon as they have come so far."""

    def __init__(self, ready, most, number=signal.SIGKILL):
        super().__init__(daemon=True)
        self.ready, self.most, self.number, self.killed = ready, most, number, set()
        self.over = threading.Event()
        self.before = set(worker_processes(os.getpid()))  # of the tests' own cluster

    def run(self):
        while not self.over.wait(0.002) and len(self.killed) < self.most:
            for process in worker_processes(os.getpid()):
                try:
                    if process not in self.killed | self.before and self.ready(process):
                        process.send_signal(self.number)
                        self.killed.add(process)
                        break
                except psutil.Error:
                    continue

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()


def _exists(process):
    return True


def _listens(process):
    """It is about to tell the scheduler of itself."""
    return any(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp"))


@pytest.mark.parametrize(("ready", "most"), [(_exists, 3), (_listens, 2)])
def test_workers_that_are_killed_while_they_start_are_replaced(ready, most):
    with _Killer(ready, most) as killer, connect(LOCAL) as client:
        assert len(workers_of(client)) == 2
        assert client.submit(sum, [1, 2], pure=False).result(timeout=60) == 3
    assert len(killer.killed) == most


def test_a_worker_that_hangs_while_it_starts_is_replaced(monkeypatch):
    def stops(process):
        monkeypatch.setattr(nanny, "START", 180.0)  # for the next one
        return True

    monkeypatch.setattr(nanny, "START", 10.0)  # longer than a busy machine takes to start one
    options = replace(LOCAL, workers=1)
    with _Killer(stops, 1, signal.SIGSTOP) as stopper:
        with connect(options) as client:
            assert client.submit(sum, [1, 2], pure=False).result(timeout=60) == 3
        (stopped,) = stopper.killed
        stopped.wait(timeout=30)


def test_workers_that_never_start_end_in_a_line(monkeypatch):
    monkeypatch.setattr(nanny, "STARTS", 2)
    with (
        _Killer(_exists, 100),
        pytest.raises(ClusterError, match="a local cluster cannot be started") as caught,
        connect(LOCAL),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_who_is_gone_is_told_and_may_come_back(own, hasty, caplog):
    worker = own.start_worker()
    with connect(patient(own, 60)) as client:
        worker.kill()
        future = client.submit(sum, [1, 2], pure=False)
        told = threading.Event()
        caplog.handler.addFilter(lambda record: told.set() or True)
        assert told.wait(30)
        assert "has had no workers since" in caplog.messages[-1]
        own.start_worker()
        assert future.result(timeout=60) == 3
    assert caplog.messages[-1] == "Workers are there again; going on."


def test_workers_that_stay_away_end_a_run(own, hasty):
    worker = own.started_worker()
    message = r"the scheduler at tcp\S+ has had no workers since .*run the same command again"
    with pytest.raises(ClusterError, match=message), connect(patient(own, 2)) as client:
        worker.kill()
        client.submit(sum, [1, 2], pure=False).result()


def test_a_scheduler_that_stops_ends_a_run(own, hasty):
    own.started_worker()
    with (
        pytest.raises(ClusterError, match="has not answered since"),
        connect(patient(own, 2)) as client,
    ):
        own.scheduler.send_signal(signal.SIGSTOP)
        client.run(os.getpid)
    options = ClusterOptions(scheduler=own.address, patience=Patience(connect=1))
    with pytest.raises(ClusterError, match="no scheduler can be reached"), connect(options):
        pass


def test_a_client_that_gave_up_its_scheduler_leaves_nobody_waiting(own, hasty):
    """As where a run is sent just while the connection is lost: Dask never ends its futures."""

    def give_up(client):
        client.scheduler, client.status = None, "closed"
        client.scheduler_comm.comm.abort()

    own.started_worker()
    with pytest.raises(ClusterError, match=LOST), connect(patient(own, 60)) as client:
        future = client.submit(time.sleep, 60)
        client.loop.add_callback(give_up, client)
        future.result()


def test_what_is_sent_by_a_closed_client_ends_in_a_line(own):
    own.started_worker()
    with pytest.raises(ClusterError, match=LOST), connect(patient(own, 60)) as client:
        client.close()
        client.submit(time.sleep, 60)


def test_workers_of_another_version_are_refused_by_name(own, hasty, tmp_path):
    """At once where they are there, and when they come later."""
    other = tmp_path / "other" / "dskrobust-0.0.7.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: dskrobust\nVersion: 0.0.7\n")
    own.start_worker()
    message = r"worker tcp\S+ has dskrobust 0\.0\.7, but this is"
    with pytest.raises(ClusterError, match=message), connect(patient(own, 60)) as client:
        own.start_worker(other.parent)
        client.submit(time.sleep, 60, pure=False).result()
    with pytest.raises(ClusterError, match=message), connect(patient(own, 60)):
        pass


def test_a_command_without_workers_ends_in_a_line(own, tmp_path):
    store = create_store(str(tmp_path / "data.zarr"), [[0.0], [1.0], [2.0]], [0, 1, 0])
    words = ["compute", store.url, "--scheduler", own.address, "--no-workers-timeout", "1"]
    ended = CliRunner().invoke(cli.main, words)
    assert ended.exit_code == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "0 workers after 1 s, 1 were expected" in ended.stderr


def test_the_live_view_says_that_nobody_is_there(own, hasty, tmp_path):
    store = create_store(str(tmp_path / "data.zarr"), [[0.0], [1.0], [2.0]], [0, 1, 0])
    lazy = dr.sample_robustness(store, options=dr.RunOptions(Resources(1, 1)))
    with Client(own.address, set_as_default=False) as client, dr.live(lazy, client) as view:
        _await(lambda: view.state.startswith("waiting, the scheduler at tcp"))
        assert "has had no workers since" in view.progress.note
        own.start_worker()
        _await(lambda: view.state == "computing")


def _await(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("5min", 300), ("0", float("inf")), ("never", float("inf"))]
)
def test_durations(text, seconds):
    words = ["compute", "nowhere.zarr", "--no-workers-timeout", text]
    with cli.main.make_context("dskrobust", words) as context:
        command = cli.main.commands["compute"].make_context("compute", words[1:], context)
    given = command.params["no_workers_timeout"]
    assert cluster_options(no_workers_timeout=given).patience.no_workers == seconds


@pytest.mark.parametrize("text", ["-1", "soon", "5 parsecs", "nan"])
def test_what_is_no_duration_is_a_usage_error(text):
    ended = CliRunner().invoke(cli.main, ["compute", "x", f"--no-workers-timeout={text}"])
    assert ended.exit_code == 2
    assert "is no duration" in ended.stderr


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_patience_is_above_0(seconds):
    with pytest.raises(InvalidOptionError, match="patience for no_workers"):
        Patience(no_workers=seconds)


HOLDING = """
import sys
from dskrobust.cluster import ClusterOptions, connect
if __name__ == "__main__":
    with connect(ClusterOptions(workers=2, threads=1, memory_limit=2**29, dashboard=False)):
        print("up", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_client_that_is_killed_leaves_no_processes(number, tmp_path):
    script = tmp_path / "hold.py"
    script.write_text(HOLDING)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(script)], env=env, **pipes) as client:
        assert client.stdout.readline() == "up\n"
        children = psutil.Process(client.pid).children(recursive=True)  # the tracker too
        client.send_signal(number)
    assert len(children) >= 3
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
