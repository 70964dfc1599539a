"""Stores behind symbolic links: everything is written there, and the links stay."""

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.errors import StoreError

X, Y = np.arange(12.0)[:, None], np.arange(12) % 2


@pytest.fixture
def linked(tmp_path):
    """A link to where a store is to be, on another disk perhaps."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "own.zarr"
    link.symlink_to(tmp_path / "disk" / "real.zarr")
    yield link
    assert link.is_symlink()
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["real.zarr"]
    assert {p.name for p in tmp_path.iterdir()} <= {"disk", "own.zarr", "more.npz"}


def test_made_replaced_appended_and_scored(linked, tmp_path):
    dr.create_store(linked, X, Y)  # the link leads nowhere yet
    for turn in (2, 3):
        dr.create_store(linked, turn * X, Y, overwrite=True)
    np.savez(tmp_path / "more.npz", X=X, y=Y)
    grown = dr.append(linked, str(tmp_path / "more.npz"))
    dr.sample_robustness(grown).write()
    behind = dr.open_store(tmp_path / "disk" / "real.zarr")
    np.testing.assert_array_equal(behind.features[:], np.concatenate([3 * X, X]))
    assert dr.sample_robustness(behind).result is not None
    dr.ingest(str(tmp_path / "more.npz"), linked, overwrite=True)
    assert dr.open_store(linked).rows == 12


def test_a_failure_leaves_what_was_there(linked):
    dr.create_store(linked, X, Y)
    with pytest.raises(dr.errors.InvalidDataError):
        dr.create_store(linked, X * np.nan, Y, overwrite=True)
    np.testing.assert_array_equal(dr.open_store(linked).features[:], X)


def test_a_circle_of_links_is_refused(tmp_path):
    (tmp_path / "own.zarr").symlink_to(tmp_path / "other.zarr")
    (tmp_path / "other.zarr").symlink_to(tmp_path / "own.zarr")
    with pytest.raises(StoreError, match="in a circle"):
        dr.create_store(tmp_path / "own.zarr", X, Y)


def test_a_table_is_written_behind_a_link(tmp_path):
    link = tmp_path / "scores.csv"
    link.symlink_to(tmp_path / "real.csv")
    for _ in range(2):
        dr.export_scores(dr.sample_robustness(X, Y).compute(), link)
    assert link.is_symlink()
    assert (tmp_path / "real.csv").stat().st_size
