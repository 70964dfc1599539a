"""Small data: one tile in this process, every pair by one kernel, and the same bits."""

import gc
import json
import os
import re
import subprocess
import sys

import brute
import numba
import numpy as np
import pytest
import strategies as own
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import cli, compute
from dskrobust.cluster import ClusterOptions, connection, local
from dskrobust.counts import count_within
from dskrobust.engine import workload
from dskrobust.engine.events import listening
from dskrobust.engine.sources import ArraySource
from dskrobust.runs import pair_spec
from dskrobust.store import find_results

pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski(3)", "angular", "hamming")
PLAIN = workload.PLAIN_VALUES  # what it is for users: conftest replaces it later
SAID = "compiling kernels, once on this machine"

TWO_WORKERS = """
import json, sys
import numpy as np
import dskrobust as dr
from dskrobust.cluster import ClusterOptions
from dskrobust.compute import Watch, run_scores
from dskrobust.kernels import compile_seconds
from dskrobust.runs import pair_spec

if __name__ == "__main__":
    rng, told = np.random.default_rng(0), []
    X, y = rng.normal(size=(600, 6)), rng.integers(0, 3, 600)
    store = dr.create_store(sys.argv[1], X, y, spec=dr.StoreSpec("own", "categorical"))
    options = ClusterOptions(workers=2, threads=1, dashboard=False)
    done = run_scores(
        store, pair_spec(store), options,
        Watch(
            lambda client, plan: told.append(len(plan.tiles)),
            lambda pairs, event: told.append(event["compiling"]),
        ),
    )
    seconds = float(done.result.facts["seconds"])
    print(json.dumps({"here": compile_seconds(), "told": told, "seconds": seconds}))
"""


@pytest.fixture
def plain(monkeypatch):
    """Small data goes through what it does for users."""
    monkeypatch.setattr(workload, "PLAIN_VALUES", PLAIN)


def score(data, metric, values, options=None):
    """Score a data set, with so many values to be called small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "PLAIN_VALUES", values)
        lazy = dr.sample_robustness(
            data.X, data.y, data.split, metric=metric, labels=data.labels, scale=data.scale,
            options=options,
        )  # fmt: skip
        return lazy.compute(), lazy.plan


def usable(data, metric):
    return metric != "angular" or np.abs(data.X.astype(float)).sum(axis=1).min() > 0


@given(
    data=own.data_sets(dtypes=("float64", "uint8")),
    metric=st.sampled_from(METRICS),
    options=own.options(),
)
def test_small_data_has_the_bits_of_blocks_and_bounds(data, metric, options):
    if not usable(data, metric):
        return
    small, plan = score(data, metric, PLAIN)
    large, _ = score(data, metric, 0, options)
    assert len(plan.tiles) == 1
    assert small.spec.plain
    assert not large.spec.plain
    brute.assert_same(small, large)


@settings(max_examples=10)
@given(data=own.data_sets(labels=("categorical",), dtypes=("float64",)), k=st.integers(1, 5))
def test_small_searches_have_the_bits_of_bounds(data, k):
    found = []
    for values in (PLAIN, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workload, "PLAIN_VALUES", values)
            lists = dr.nearest_neighbours(data.X, min(k, len(data.X) - 1), scale=data.scale)
            same = dr.label_quality(data.X, data.y, data.split, scale=data.scale).compute()
            counts = count_within(data.X, 1.5, scale=data.scale).compute()
            found.append((lists.compute(), same, counts))
    (lists, same, counts), (others, other_same, other_counts) = found
    np.testing.assert_array_equal(lists.index, others.index)
    np.testing.assert_array_equal(lists.distance, others.distance)
    np.testing.assert_array_equal(same.same_scores.reach, other_same.same_scores.reach)
    np.testing.assert_array_equal(same.scores.witness, other_same.scores.witness)
    np.testing.assert_array_equal(counts, other_counts)


def made(folder, n=200, split=None, columns=4):
    rng, spec = np.random.default_rng(0), dr.StoreSpec("own", "categorical")
    X, y = rng.normal(size=(n, columns)), rng.integers(0, 3, n)
    return dr.create_store(str(folder / "own.zarr"), X, y, split, spec=spec)


def refuse(*_, **__):
    raise OSError("a cluster was started")


def test_a_small_store_is_computed_without_a_cluster_unless_one_is_asked_for(
    tmp_path, plain, monkeypatch
):
    store = made(tmp_path)
    monkeypatch.setattr(local, "LocalCluster", refuse)
    asked = CliRunner().invoke(cli.main, ["compute", store.url, "--workers", "1"])
    assert asked.exit_code != 0
    assert "a cluster was started" in asked.output + asked.stderr
    done = CliRunner().invoke(cli.main, ["compute", store.url])
    assert done.exit_code == 0, done.output
    assert "this process" in done.output
    assert "1 tile" in done.output
    (result,) = find_results(dr.open_store(store.url))
    assert result.facts["workers"] == 1


EVALUATE = "evaluate --model knn --grid neighbors=1,2"


@pytest.mark.filterwarnings("ignore:.*more than one training subset|.*overlap")
@pytest.mark.parametrize(
    "command",
    [EVALUATE, "spectrum --model knn --windows 2", "tailor --model knn --windows 2",
     "match --within train --to test --size 20"],
)  # fmt: skip
def test_models_of_few_rows_start_no_processes_unless_asked_to(tmp_path, command, monkeypatch):
    store = made(tmp_path, split=np.repeat(["train", "test"], [140, 60]))
    assert CliRunner().invoke(cli.main, ["compute", store.url]).exit_code == 0
    name, *options = command.split()
    monkeypatch.setattr(connection, "local_cluster", refuse)
    asked = CliRunner().invoke(cli.main, [name, store.url, *options, "--workers", "1"])
    assert "a cluster was started" in asked.output + asked.stderr + repr(asked.exception)
    done = CliRunner().invoke(cli.main, [name, store.url, *options])
    assert done.exit_code == 0, done.output + done.stderr


@pytest.mark.parametrize(
    ("more", "rows"),
    [("--model sklearn.tree.DecisionTreeClassifier --trials 67", 5_000), ("", 199),
     ("--model cnn --option device=cpu --option shape=[8,8] --set epochs=5", 5_000)],
)  # fmt: skip
def test_many_steps_networks_and_more_rows_have_a_cluster(tmp_path, more, rows, monkeypatch):
    """Three training subsets and 67 trials are 201 steps."""
    pytest.importorskip("torch")
    store = made(tmp_path, split=np.repeat(["train", "test"], [140, 60]), columns=64)
    assert CliRunner().invoke(cli.main, ["compute", store.url]).exit_code == 0
    monkeypatch.setattr(compute, "SMALL_ROWS", rows)
    monkeypatch.setattr(connection, "local_cluster", refuse)
    asked = CliRunner().invoke(cli.main, ["evaluate", store.url, *(more or "--model knn").split()])
    assert "a cluster was started" in asked.output + asked.stderr + repr(asked.exception)


def test_own_metrics_and_more_rows_have_a_cluster(tmp_path, plain, monkeypatch):
    store = made(tmp_path)
    monkeypatch.setattr(connection, "local_cluster", refuse)
    slow = pair_spec(store, metric=lambda a, b: float(np.abs(a - b).sum()))
    with pytest.raises(OSError, match="a cluster"):
        compute.run_scores(store, slow, ClusterOptions(), compute.Watch())
    monkeypatch.setattr(compute, "SMALL_ROWS", store.rows - 1)
    with pytest.raises(OSError, match="a cluster"):
        compute.run_scores(store, pair_spec(store), ClusterOptions(), compute.Watch())


def test_an_interrupted_small_run_leaves_no_half_result(tmp_path, plain):
    store = made(tmp_path)

    def stop(event):
        raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        dr.sample_robustness(store).write()
    assert not find_results(dr.open_store(store.url))
    resumed = []
    with listening(lambda event: resumed.append(event["resumed"])):
        done = dr.sample_robustness(dr.open_store(store.url)).write()
    assert resumed == [True]
    assert len(done.robustness) == store.rows


def cold(folder):
    """An environment in which nothing is compiled yet."""
    return {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels"), "PYTHONWARNINGS": "ignore"}


def test_a_first_table_says_that_kernels_are_compiled_and_counts_it_nowhere(tmp_path):
    store = made(tmp_path, 3_000)
    command = [sys.executable, "-m", "dskrobust", "compute", store.url]
    done = subprocess.run(command, env=cold(tmp_path), capture_output=True, text=True, check=True)
    assert SAID in done.stderr
    assert "left" not in done.stderr
    (result,) = find_results(dr.open_store(store.url))
    told = re.findall(r"1 of 1 tiles · ([\d.]+) s", done.stderr)
    assert told
    assert float(result.facts["seconds"]) < 10  # compiling takes more
    again = made(tmp_path / "again", 3_000)
    command[-1] = again.url
    warm = subprocess.run(command, env=cold(tmp_path), capture_output=True, text=True, check=True)
    assert SAID not in warm.stderr


def test_one_process_compiles_for_all_workers(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_WORKERS)
    command = [sys.executable, str(script), str(tmp_path / "own.zarr")]
    done = subprocess.run(command, env=cold(tmp_path), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    tiles, *compiling = found["told"]
    assert found["here"] > 0
    assert len(compiling) == tiles > 1
    assert compiling == [0.0] * tiles
    assert found["seconds"] < found["here"] + 60


@pytest.mark.parametrize("order", ["C", "F"])
def test_read_only_rows_are_to_numba_what_others_are(order):
    """No kernel is compiled once more for a memory map, and its rows stay as long as a view."""
    kept = np.arange(24.0).reshape(6, 4).copy(order)
    X, y, split = kept.copy(order), np.arange(6), np.zeros(6, np.int16)
    for values in (X, y, split):
        values.flags.writeable = False
    source = ArraySource(X, y, split)
    rows = source.read("features", 1, 5)
    assert np.shares_memory(rows, X)
    for name in ("features", "labels", "split"):
        assert numba.typeof(source.read(name, 1, 5)).mutable
    del X, y, split, source, values
    gc.collect()
    np.testing.assert_array_equal(rows, kept[1:5])
