"""`dskrobust neighbours`: the graph is the exact one, is kept, and is written as a matrix."""

import brute
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.sparse import load_npz

from dskrobust import cli, create_store, nearest_neighbours, sample_robustness

ONE = ("--workers", "1", "--threads", "1", "--no-dashboard")


def call(*arguments, code=0):
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="dskrobust")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.fixture
def some(tmp_path):
    rng = np.random.default_rng(3)
    X, y = rng.integers(0, 6, (80, 5)).astype(np.uint8), np.arange(80) % 3
    return X, y, create_store(str(tmp_path / "some.zarr"), X, y)


@pytest.mark.cluster
def test_the_graph_is_the_exact_one_and_is_kept(some, tmp_path):
    X, y, store = some
    said = call("neighbours", store.url, "--k", 4, "--out", tmp_path / "graph.npz", *ONE)
    assert "neighbour" in said
    graph = load_npz(tmp_path / "graph.npz")
    distance = brute.distances(X)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :4]
    assert (graph.indices.reshape(80, 4) == nearest).all()
    assert (graph.data.reshape(80, 4) == np.take_along_axis(distance, nearest, axis=1)).all()
    assert nearest_neighbours(store, 4).search is None  # they are in the store
    assert sample_robustness(store).result is None  # and are not taken for scores
    call("neighbours", store.url, "--k", 4, "--rule", "same", *ONE)
    index = np.asarray(nearest_neighbours(store, 4, labels="same").index)
    assert (y[index] == y[:, None]).all()


def test_what_cannot_be_written_is_refused_before_anything_runs(some, tmp_path):
    store = some[2]
    assert ".npz" in call("neighbours", store.url, "--out", tmp_path / "graph.csv", code=1)
    assert "no folder" in call("neighbours", store.url, "--out", tmp_path / "no" / "g.npz", code=1)
    assert "k may be 1 to 79" in call("neighbours", store.url, "--k", 80, *ONE, code=1)
