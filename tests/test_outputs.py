"""Files that are written: whole or not at all, on this machine or at a URL."""

import fsspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import InvalidOptionError
from dskrobust.outputs import check_output, whole_file


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    X, y = load_iris(return_X_y=True)
    made = dr.create_store(tmp_path_factory.mktemp("out") / "iris.zarr", X, y)
    dr.sample_robustness(made).write()
    return made


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("export",), "s.csv"),
        (("export",), "s.parquet"),
        (("issues",), "i.csv.gz"),
        (("subsets",), "rows.npz"),
        (("report",), "r.html"),
        (("report", "--figure", "9"), "f.svg"),
    ],
)
def test_what_is_written_at_a_url_is_what_is_written_here(store, tmp_path, words, name):
    url, path = f"memory://{tmp_path.name}/{name}", tmp_path / name
    for out in (url, path):
        call = [words[0], store.url, *words[1:], "--out", str(out)]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == 0, done.output
    with fsspec.open(url, "rb") as file:
        there = file.read()
    assert there
    if name.endswith(".csv"):
        assert there == path.read_bytes()
    if name.endswith(".npz"):
        with fsspec.open(url, "rb") as file, np.load(path) as here:
            far = np.load(file)
            for key in here.files:
                np.testing.assert_array_equal(far[key], here[key])


def test_scores_at_a_url(store):
    url = "memory://scores/own.parquet"
    scores = dr.sample_robustness(store)
    assert dr.export_scores(scores, url) == url
    with fsspec.open(url, "rb") as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), scores.to_frame())


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere/own.csv", "there is no folder nowhere to write own.csv into"),
        ("nobody://own.csv", "nobody://own.csv cannot be written: .*nobody"),
        ("memory://own.txt", "memory://own.txt must end in .csv"),
    ],
)
def test_outputs_that_cannot_be_are_refused_early(address, message):
    with pytest.raises(InvalidOptionError, match=message):
        check_output(address, (".csv",))


def test_half_a_file_is_none(tmp_path):
    for address in (tmp_path / "own.csv", "memory://half/own.csv"):
        with pytest.raises(KeyError), whole_file(address) as part:
            part.write_text("half")
            raise KeyError
    assert not list(tmp_path.iterdir())
    assert not fsspec.filesystem("memory").exists("half/own.csv")


def test_a_url_that_refuses_is_named(tmp_path):
    refused = pytest.raises(InvalidOptionError, match=r"127.0.0.1:9/own.csv cannot be written")
    with refused, whole_file("http://127.0.0.1:9/own.csv") as part:
        part.write_text("whole")
