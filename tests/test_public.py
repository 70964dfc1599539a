"""The public names: one list, loaded when they are used, and known to editors."""

import subprocess
import sys
from dataclasses import fields

import pytest

import dskrobust as dr
from dskrobust.datasets import CsvOptions, SplitOptions
from dskrobust.datasets.reader import IngestKeywords, ReaderKeywords, ReaderOptions


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
