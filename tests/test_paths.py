"""Addresses: ~ is the home folder through every door, and nowhere the name of a folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import paths
from dskrobust.cli import main
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.errors import ClusterError, InvalidOptionError, SourceFileError, StoreError

NAMES = st.text("abc.-_ ~", min_size=1, max_size=8).filter(lambda name: name.strip(". ~"))
X, Y = np.arange(12.0)[:, None], np.arange(12) % 2


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder that is not the working directory, where no folder called ~ may appear."""
    folder, here = tmp_path / "home", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(here)
    yield folder
    assert [p.name for p in here.iterdir() if p.name.startswith("~")] == []


@given(name=NAMES)
def test_home_is_expanded_and_nothing_else(name):
    home = os.path.expanduser("~")
    assert paths.expand(f"~/{name}") == f"{home}/{name}"
    assert paths.expand(f"file://~/{name}") == f"file://{home}/{name}"
    for other in (f"x/~/{name}", f"./~{name}", f"s3://bucket/~{name}", f"memory://~/{name}"):
        assert paths.expand(other) == other
    assert paths.local_path(f"~/{name}") == Path(home, name)
    assert paths.local_path(f"s3://~/{name}") is None


def test_an_unknown_user_is_refused():
    with pytest.raises(InvalidOptionError, match=r"no home folder ~nobody-of-that-name"):
        paths.expand("~nobody-of-that-name/x.zarr")


def test_python_doors(home):
    store = dr.create_store("~/own.zarr", X, Y)
    assert Path(store.url) == home / "own.zarr"
    assert dr.open_store("~/own.zarr").rows == 12
    np.savez(home / "own.npz", X=X, y=Y)
    assert dr.ingest("~/own.npz", "~/read.zarr").rows == 12
    assert dr.append(store, "own.npz", source="~").rows == 24
    scores = dr.sample_robustness("~/read.zarr").write()
    assert dr.export_scores(scores, "~/scores.csv") == home / "scores.csv"
    assert {p.name for p in home.iterdir()} == {"own.zarr", "own.npz", "read.zarr", "scores.csv"}
    (home / "some.toml").write_text("")
    with pytest.raises(InvalidOptionError, match=str(home)):
        dr.read_experiment("~/some.toml")
    with pytest.raises(SourceFileError, match=str(home)):
        dr.read_experiment("~/none.toml")
    with pytest.raises(ClusterError, match="no scheduler file"):
        connect(ClusterOptions(scheduler_file="~/none.json")).__enter__()


def test_command_line_doors(home):
    np.savez(home / "own.npz", X=X, y=Y)

    def run(*words):
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    run("ingest", "~/own.npz", "--out=~/own.zarr")
    run("append", "~/own.zarr", "own.npz", "--source=~")
    dr.sample_robustness("~/own.zarr").write()
    run("export", "~/own.zarr", "--out=~/scores.csv")
    run("subsets", "~/own.zarr", "--out=~/rows.npz")
    assert {"own.zarr", "scores.csv", "rows.npz"} <= {p.name for p in home.iterdir()}


def test_a_store_is_found_by_tasks_in_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = dr.create_store("own.zarr", X, Y)
    address = store.address
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert address.open().rows == 12


def test_a_store_that_a_task_does_not_see_is_named(tmp_path):
    address = dr.create_store(tmp_path / "own.zarr", X, Y).address
    (tmp_path / "own.zarr").rename(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="keep it where all workers see it"):
        address.open()
