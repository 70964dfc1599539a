"""The public names: one list, loaded when they are used, and known to editors."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.datasets import CsvOptions, SplitOptions
from dskrobust.datasets.reader import IngestKeywords, ReaderKeywords, ReaderOptions
from dskrobust.errors import InvalidOptionError


@pytest.mark.parametrize("name", dr.__all__)
def test_every_public_name_is_there(name):
    assert getattr(dr, name) is not None
    assert name in dir(dr)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="has no attribute 'make_plan'"):
        _ = dr.make_plan


def test_nothing_is_loaded_before_it_is_used():
    code = "import sys, dskrobust; print([m for m in sys.modules if m.startswith('dskrobust.')])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # what knows of every fork, and of libraries that are missing
    assert done.stdout == "['dskrobust.extras', 'dskrobust.processes']\n"


def test_the_package_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "dskrobust", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"dskrobust {dr.__version__}\n"


def test_keywords_of_ingest_are_the_reader_options():
    own = [field.name for field in fields(ReaderOptions) if field.name not in ("csv", "drawn")]
    written = [field.name for field in fields(CsvOptions)]
    drawn = [field.name for field in fields(SplitOptions)]
    assert list(ReaderKeywords.__annotations__) == own + written
    assert list(IngestKeywords.__annotations__) == own + written + drawn


def test_keywords_of_ingest_that_there_are_not(tmp_path):
    with pytest.raises(TypeError, match="targte"):
        dr.ingest("digits", tmp_path / "d.zarr", targte="y")


@pytest.mark.parametrize("wrong", [Path("a.zarr"), "a.zarr", None, 3, [1.0]])
def test_what_is_no_scores_is_said(wrong):
    for call in (
        lambda: dr.alignment(wrong, "x", "t"),
        lambda: dr.natural_adversarials(wrong),
        lambda: dr.local_set_size(wrong),
        lambda: dr.least_robust(wrong, 3),
        lambda: dr.most_robust(wrong, 3),
        lambda: dr.select_subset(wrong, "L3"),
        lambda: dr.match(wrong, "x", "t", 3),
        lambda: dr.match_curve(wrong, "x", "t", [3]),
        lambda: dr.match_weights(wrong, "x", "t"),
    ):
        with pytest.raises(InvalidOptionError, match=f"scores.*not a {type(wrong).__name__}"):
            call()


def test_files_and_stores_are_named_by_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("own.csv", "digits"):  # a path is a path, also where a data set is called so
        Path(name).write_text("a,b,label\n1,2,x\n3,4,y\n5,6,x\n")
    store = dr.ingest(Path("own.csv"), Path("own.zarr"))
    assert dr.append(Path("own.zarr"), Path("own.csv")).rows == 6
    assert dr.verify_store(tmp_path / "own.zarr").rows == dr.open_store("own.zarr").rows == 6
    with pytest.raises(InvalidOptionError, match="digits is a file of an unknown kind"):
        dr.ingest(Path("digits"), Path("digits.zarr"))
    with pytest.raises(InvalidOptionError, match=r"not a list; .*create_store"):
        dr.ingest([1, 2], "a.zarr")
    with pytest.raises(InvalidOptionError, match="not a ndarray"):
        dr.append(store, np.zeros((2, 2)))
