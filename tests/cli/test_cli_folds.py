"""Folds on the command line: compute, evaluate, run and report."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli

TOML = """
folds = 3
[train]
x = "train"
x_L = "train:L30"
[test]
t = "test"
[[models]]
kind = "knn"
[models.grid]
neighbors = [1, 2]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    X, split = rng.normal(size=(90, 3)), [f"fold-{k % 3 + 1}" for k in range(90)]
    y = (X[:, 0] > 0).astype(int)
    dr.create_store("plain.zarr", X, y, spec=dr.StoreSpec("plain", "categorical"))
    dr.create_store("folds.zarr", X, y, split, spec=dr.StoreSpec("folds", "categorical"))
    (tmp_path / "e.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def call(local_cluster):
    def run(*arguments, code=0, on_cluster=True):
        where = ["--scheduler", local_cluster.scheduler_address] if on_cluster else []
        result = CliRunner().invoke(cli.main, [*arguments, *where])
        assert result.exit_code == code, result.output
        return result.stdout if not code else result.stderr

    return run


def test_from_a_plain_store_to_a_decision(here, call):
    said = call("compute", "plain.zarr", "--folds", "3")
    assert "3 folds of 30 rows drawn, by class, seed 0" in said
    assert "evaluate plain.zarr --model knn --folds 3" in said
    assert "has these results already" in call("compute", "plain.zarr", "--folds", "3")
    assert "has these results already" in call("compute", "plain.zarr")  # of the same pass
    said = call("evaluate", "plain.zarr", "--model", "knn", "--folds", "3", "--grid", "neighbors=1")
    assert "mean ± standard deviation over 3 folds" in said
    assert "t_L: " in said
    facts = json.loads(call("run", "e.toml", "plain.zarr", "--out", "out", "--json"))
    assert [part["fold"]["number"] for part in facts["folds"]] == [1, 2, 3]
    assert len(facts["table"]) == 3 * 2 * 2
    assert "range" in (here / "out" / "matrices.md").read_text()
    call("report", "plain.zarr", on_cluster=False)
    page = (here / "plain.html").read_text()
    assert "knn, 3 folds" in page
    assert "over 3 folds, and their range" in page


def test_a_split_of_folds(here, call):
    said = call("compute", "folds.zarr")
    assert "3 folds, groups of the split" in said
    assert "--folds 3" in call("evaluate", "folds.zarr", "--model", "knn", code=1)
    assert "has 3 folds, and 4 are asked for" in call(
        "compute", "folds.zarr", "--folds", "4", code=1
    )
    call("report", "folds.zarr", on_cluster=False)
    page = (here / "folds.html").read_text()
    assert "dskrobust evaluate" in page
    assert "--folds 3" in page
