"""Old names in Python: they work and warn at the caller's line; both names at once are an error."""

import inspect

import numpy as np
import pytest

import dskrobust as dr

OLD_KEYWORDS = {  # a public function's: old → new
    "open_store": ("options", "storage_options"),
    "create_store": ("options", "storage_options"),
    "ingest": ("storage", "storage_options"),
    "find_label_issues": ("count", "top"),
}


def warned(caught):
    """Return what was warned of; every warning is at a line of this file."""
    assert {one.filename for one in caught} == {__file__}
    return [str(one.message) for one in caught]


def test_an_old_public_name():
    with pytest.warns(FutureWarning) as caught:
        old = dr.Options
    assert old is dr.RunOptions
    with pytest.warns(FutureWarning) as more:
        from dskrobust import Options
    assert Options is dr.RunOptions
    assert set(warned([*caught, *more])) == {
        "dskrobust.Options is called dskrobust.RunOptions now; the old name works in version 0.2 "
        "and ends after it"
    }
    assert "Options" not in dir(dr)


def test_old_keywords(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    with pytest.warns(FutureWarning, match="options= of create_store") as caught:
        dr.create_store(tmp_path / "own.zarr", x, y, options={})
    with pytest.warns(FutureWarning, match="options= of open_store") as more:
        store = dr.open_store(tmp_path / "own.zarr", options={})
    with pytest.warns(FutureWarning, match="storage= of ingest") as ingested:
        dr.ingest("iris", tmp_path / "iris.zarr", storage={})
    with pytest.warns(FutureWarning, match="count= of find_label_issues") as listed:
        old = dr.find_label_issues(store, count=3, threshold=0.4)
    assert len(warned([*caught, *more, *ingested, *listed])) == 4
    assert old.equals(dr.find_label_issues(store, top=3, threshold=0.4))


@pytest.mark.parametrize("name", OLD_KEYWORDS)
def test_signatures_have_the_new_names_alone(name):
    old, new = OLD_KEYWORDS[name]
    known = inspect.signature(getattr(dr, name)).parameters
    assert new in known
    if name != "ingest":
        assert old not in known


def test_both_names_at_once():
    with pytest.raises(TypeError, match=r"open_store\(\) got storage_options twice, once as opt"):
        dr.open_store("own.zarr", options={}, storage_options={})
