"""A store that dskrobust 0.1.0 wrote: it opens, its results and records are found, it goes on.

`format1.zip` holds 60 rows of made-up numbers in two segments, results for two metrics, 3 of 6
tiles of a third, and an evaluation; `format1.npz` what 0.1.0 said of them.
"""

import json
import shutil
import zipfile
from pathlib import Path

import brute
import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.engine.events import listening
from dskrobust.errors import DamagedStoreError, StoreError
from dskrobust.store import Block, find_evaluations, find_results

HERE = Path(__file__).parent
EXPECTED = np.load(HERE / "format1.npz")
X, Y, SPLIT = (EXPECTED[name] for name in ("X", "y", "split"))


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(HERE / "format1.zip") as files:
        files.extractall(tmp_path)
    return tmp_path / "old.zarr"


def test_it_opens_with_its_results(old, raise_if_dask_computes):
    store = dr.open_store(old)
    np.testing.assert_array_equal(store.features[:], X)
    np.testing.assert_array_equal(np.array(store.spec.classes)[store.labels[:]], Y)
    np.testing.assert_array_equal(store.split, SPLIT)
    assert [rows for rows, _ in store.segments] == [40, 20]
    for metric in ("euclidean", "cityblock"):
        with raise_if_dask_computes():
            scores = dr.sample_robustness(store, metric=metric)
            assert scores.result is not None
        np.testing.assert_array_equal(scores.compute().robustness, EXPECTED[metric])
    dr.verify_store(store)


def test_finished_tiles_and_steps_are_taken(old):
    store, events = dr.open_store(old), []
    options = dr.RunOptions(dr.Resources(1, 1, None), block_rows=20)
    with listening(events.append):
        scores = dr.sample_robustness(store, metric="minkowski(3)", options=options).write()
    assert sum(event["resumed"] for event in events) == 3
    alone = dr.sample_robustness(X, Y, SPLIT, metric="minkowski(3)").compute(scheduler="sync")
    np.testing.assert_array_equal(scores.compute().robustness, alone.robustness)
    (records,) = find_evaluations(store)
    assert len(records.steps()) == len([s for s in records.steps() if records.load(s)]) > 0
    found = CliRunner().invoke(
        cli.main,
        ["evaluate", str(old), "--model", "knn", "--grid", "neighbors=1:3", "--workers", "1"],
    )
    assert found.exit_code == 0
    assert "9.4615* \\ 0.5000* (2)" in found.output


def test_appended_rows_make_a_state_of_today(old):
    store = dr.open_store(old)
    block = Block(X[:5] + 1, store.labels[:5], store.split_codes[:5])
    longer = dr.append_rows(store, [block])
    np.testing.assert_array_equal(longer.features[:], np.concatenate([X, X[:5] + 1]))
    assert dr.open_store(old).segments == longer.segments
    assert dr.open_store(old).segments[:2] == store.segments
    scores = dr.sample_robustness(longer)
    assert scores.base.rows == 60  # what 0.1.0 had computed is not computed again
    brute.assert_same(
        scores.write().compute(),
        brute.score(longer.features[:], longer.labels[:], longer.split),
    )
    dr.verify_store(dr.open_store(old))
    assert [r.rows for r in find_results(longer) if r.parameters["metric"] == "euclidean"] == [65]


def test_it_is_replaced(old):
    store = dr.create_store(old, X[:30], Y[:30], overwrite=True)
    assert dr.open_store(old).rows == store.rows == 30
    assert find_results(store) == find_evaluations(store) == []
    assert not (old / "features").exists()


@pytest.mark.parametrize("rows", [-5, 0, "x", 10**30, None])
def test_impossible_metadata_are_named(old, rows):
    node = json.loads((old / "zarr.json").read_text())
    node["attributes"]["dskrobust"]["segments"][0]["rows"] = rows
    (old / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(DamagedStoreError, match=r"zarr\.json.*segments"):
        dr.open_store(old)


def test_an_unfinished_one_is_begun_again(old):
    node = json.loads((old / "zarr.json").read_text())
    node["attributes"]["dskrobust"]["segments"] = []
    (old / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(StoreError, match="never finished"):
        dr.open_store(old)
    assert dr.create_store(old, X, Y).rows == 60
    assert not (old / "features").exists()
    shutil.rmtree(old)
