"""What else the searches find: contradictions, duplicates, isolated samples, hubs, overlaps."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.errors import InvalidOptionError


@pytest.fixture(scope="module")
def made():
    """Two classes that touch, with one finding of every kind planted."""
    rng = np.random.default_rng(1)
    X = np.vstack([rng.normal(size=(100, 4)), rng.normal(size=(100, 4)) + 3])
    y, split = np.repeat([0, 1], 100), np.repeat("train", 200)
    hub = np.tile([[1.5, 1.5, 1.5, 1.5]], (1, 1))
    extra = np.vstack([X[3], X[4], np.full(4, 60.0), hub, X[7] + 1e-6])
    labels = np.array([1, 0, 1, 1, 0])
    X, y = np.vstack([X, extra]), np.append(y, labels)
    return X, y, np.append(split, ["train"] * 4 + ["test"])


@pytest.fixture(scope="module")
def store(tmp_path_factory, made):
    X, y, split = made
    other = np.vstack([X, X[:1] + 30])  # a group with two labels
    url = str(tmp_path_factory.mktemp("odd") / "s.zarr")
    made = dr.create_store(url, other, np.append(y, 1), np.append(split, "test"))
    dr.label_quality(made).write()
    return made


def test_every_kind_is_found(store):
    found = dr.find_data_issues(store, across=True)
    rows = {kind: set(part["row"]) for kind, part in found.table.groupby("kind")}
    assert rows["contradiction"] == {3, 200}
    assert rows["duplicate"] == {4, 201}
    assert 202 in rows["isolated"]
    assert 200 in rows["witness"]  # amid the other class
    assert rows["shared"] == {204}
    for kind, part in found.table.groupby("kind"):
        assert found.counts[kind] == len(part)
    shared = found.table[found.table["kind"] == "shared"].iloc[0]
    assert (shared["split"], shared["other"], shared["label"]) == ("test", 7, "0")
    assert "contradiction: 2" in repr(found)
    assert "isolated" in found._repr_html_()


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_in_few_columns_ordinary_samples_are_not_nearly_equal(columns):
    rng = np.random.default_rng(columns)
    X, y = rng.uniform(size=(2_000, columns)), rng.integers(0, 2, 2_000)
    counts = dr.find_data_issues(X, y).counts
    assert counts["duplicate"] + counts["contradiction"] <= 4  # 0.2 by chance; a tenth: 130 of 1
    X[7], y[7] = X[8], y[8]
    found = dr.find_data_issues(X, y).of_kind("duplicates")
    assert {7, 8} <= set(found["row"])  # equal ones are, however many columns


def test_overlaps_are_counted(store, made):
    found = dr.find_data_issues(store)
    quality = dr.label_quality(store).compute()
    inside = np.asarray(quality.scores.reach) < quality.same_distance
    y = np.append(made[1], 1)
    for label, other, rows, share in found.overlaps.itertuples(index=False):
        assert other != label
        assert rows == (inside & (y == int(label))).sum()
        assert share == rows / (y == int(label)).sum()
    assert "shared" not in found.counts


def test_chunks_do_not_matter(store, made):
    X, y, split = made
    arrays = np.vstack([X, X[:1] + 30]), np.append(y, 1), np.append(split, "test")
    cut = dr.find_data_issues(*arrays, across=True, options=dr.RunOptions(block_rows=64))
    whole = dr.find_data_issues(store, across=True)
    assert cut.counts == whole.counts
    assert cut.table.equals(whole.table)
    assert cut.overlaps.equals(whole.overlaps)
    with pytest.raises(InvalidOptionError, match="top must be a number of samples"):
        dr.find_data_issues(*arrays, top=0)


@pytest.mark.parametrize(
    ("kind", "row"),
    [("contradictions", 3), ("duplicates", 4), ("shared", 204), ("isolated", 202),
     ("witnesses", 200), ("overlaps", None)],
)  # fmt: skip
def test_the_command_lists_a_kind(store, kind, row):
    run = CliRunner().invoke(cli.main, ["issues", store.url, "--kind", kind, "--json"])
    assert run.exit_code == 0, run.output
    listed = json.loads(run.stdout)
    assert listed
    assert row is None or row in [facts["row"] for facts in listed]
    told = CliRunner().invoke(cli.main, ["issues", store.url, "--kind", kind]).stdout
    assert row is None or str(row) in told
