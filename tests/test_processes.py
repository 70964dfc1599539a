"""Forked children: what their parent did, holds or is connected to never makes them wait."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = """
import faulthandler, os, sys
import numpy as np, dskrobust as dr
X, y = np.random.default_rng(0).normal(size=(200, 20)), np.arange(200) % 3

def reach():
    return dr.sample_robustness(X, y).compute().reach.sum()

def in_child(do, leave=os._exit):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(30, exit=True)
        do()
        sys.stdout.flush()
        leave(0)
    assert os.waitpid(child, 0)[1] == 0
"""

AFTER_USE = """
import dask.array as da
from pathlib import Path
here = reach()
in_child(lambda: print(reach() == here))

store = dr.create_store(sys.argv[1], X, y)
first = store.address.open().features[:5]

def read():
    print((store.address.open().features[:5] == first).all(), (store.labels[:] == y).all())

in_child(read)

lazy = dr.sample_robustness(da.from_array(X, chunks=50), y)
lazy.reach.compute()
in_child(lambda: None, sys.exit)  # as a process exits that was not made for a task
print(Path(lazy.scratch).exists())
"""

WITHIN_A_TILE = """
from threadpoolctl import threadpool_info
from dskrobust.blas import one_blas_thread
before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

def limited_and_restored():
    with one_blas_thread():
        pass
    after = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    print(after == before)

with one_blas_thread():
    in_child(limited_and_restored)
"""

HELD_LOCK = """
import threading
from dskrobust.processes import ProcessLock
lock, held, done = ProcessLock(), threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        done.wait()

def take():
    with lock:
        print(True)

threading.Thread(target=hold).start()
held.wait()
in_child(take)
done.set()
"""

LOST_CLIENT = """
import dask
from distributed import Client

def refused():
    try:
        reach()
    except dr.errors.ClusterError as error:
        print("forked" in str(error))
    with dask.config.set(scheduler="threads"):
        print(reach() > 0)

if __name__ == "__main__":
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
        in_child(refused)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [(AFTER_USE, 4), (WITHIN_A_TILE, 1), (HELD_LOCK, 1), (LOST_CLIENT, 2)],
    ids=["after use", "within a tile", "held lock", "lost client"],
)
def test_a_forked_child_does_not_wait(script, said, tmp_path):
    command = [sys.executable, "-c", START + script, str(tmp_path / "own.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"] * said
