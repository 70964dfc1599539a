"""Addresses: ~ is the home folder through every door, and nowhere the name of a folder."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
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
    assert paths.expand(f"file://~/{name}") == f"{home}/{name}"
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


ODD = ["a::b", "http:", "a%20b", "a?b", "a\nb", "-a", "~a"]
TEXT = "a,label\n" + "".join(f"{k},{'xy'[k % 2]}\n" for k in range(6))


@pytest.mark.parametrize("name", ODD)
def test_what_is_there_is_a_file_whatever_it_is_called(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.csv"
    file.write_text(TEXT)
    frame = pd.read_csv(file)
    frame.to_parquet(tmp_path / "plain.parquet")
    (tmp_path / "plain.parquet").rename(tmp_path / f"{name}.parquet")
    sources = [file.name, str(file), f"file://{file}", f"file:{file}", f"file://localhost{file}"]
    for source in (*sources, file.as_uri(), f"{name}.parquet"):
        assert dr.ingest(source, str(tmp_path / "own.zarr"), overwrite=True).rows == 6
    store = dr.create_store(str(tmp_path / f"{name}.zarr"), X, Y)
    assert Path(store.url) == tmp_path / f"{name}.zarr"
    assert dr.open_store(f"{name}.zarr").rows == 12
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"own.zarr", f"{name}.zarr"}


def test_urls_are_told_by_their_beginning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("s3://b/x", "simplecache::s3://b/x", "zip://a.csv::/tmp/x.zip", "zip::/tmp/x.zip"):
        assert paths.is_remote(url)
    for path in ("/tmp/a::b", "./s3://b", "a::b", "x/a::b", "file:///x::y", "file:/x"):
        assert not paths.is_remote(path)
    Path("s3:", "b").mkdir(parents=True)
    assert not paths.is_remote("s3://b")
    assert paths.absolute("s3://b") == str(tmp_path / "s3:" / "b")


def test_a_link_to_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, values in (("x::y", X), ("l::m", Y)):
        array = zarr.create_array(zarr.storage.LocalStore(name), shape=values.shape,
                                  dtype=values.dtype)  # fmt: skip
        array[:] = values
    made = CliRunner().invoke(main, ["link", "own::z", "--x", "x::y", "--y", "l::m"])
    assert made.exit_code == 0, made.output
    np.testing.assert_array_equal(dr.open_store("own::z").features[:], X)
