"""Scores as tables: pandas frames, Parquet and CSV files."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import data_sets

import dskrobust as dr
from dskrobust import cli, export
from dskrobust.errors import InvalidOptionError, StaleResultsError

RNG = np.random.default_rng(3)
N = 90
X = RNG.random((N, 4))
NAMES = np.array(["cat", "dog", "owl"])[np.arange(N) % 3]
SPLIT = np.array(["train"] * 60 + ["test"] * 30)


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("export") / "a.zarr")
    return dr.sample_robustness(dr.create_store(url, X, NAMES, SPLIT)).write()


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def test_a_frame_has_every_score_by_name(scores):
    table = scores.to_frame()
    columns = ["row", "split", "label", "robustness", "lipschitz", "reach", "witness"]
    assert list(table.columns) == columns
    assert table["row"].tolist() == list(range(N))
    assert table["label"].tolist() == NAMES.tolist()
    assert table["split"].tolist() == SPLIT.tolist()
    for name in columns[3:]:
        np.testing.assert_array_equal(table[name], np.asarray(getattr(scores, name)))


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
@settings(max_examples=30)
@given(made=data_sets(), data=st.data())
def test_frames_equal_the_arrays(made, data):
    scores = dr.sample_robustness(made.X, made.y, made.split, labels=made.labels, scale=made.scale)
    done = scores.compute(scheduler="threads")
    table = scores.to_frame(by_group=True)
    np.testing.assert_array_equal(table["lipschitz"], done.lipschitz)
    np.testing.assert_array_equal(table["reach"], done.reach)
    witness = np.where(table["witness"].isna(), -1, table["witness"].fillna(-1))
    np.testing.assert_array_equal(witness.astype(int), done.witness)
    assert ("nearest" in table) != done.categorical
    for k, group in enumerate(done.groups):
        np.testing.assert_array_equal(table[f"reach_{group}"], done.reach_by_group[:, k])
    rows = data.draw(st.integers(1, len(table)))
    parts = list(export.score_frames(done, True, rows))
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table)


@pytest.mark.parametrize("end", export.FORMATS)
@pytest.mark.parametrize("by_group", [False, True])
def test_files_hold_the_frame(scores, tmp_path, monkeypatch, end, by_group):
    monkeypatch.setattr(export, "BLOCK_ROWS", 40)
    path = tmp_path / f"a{end}"
    assert dr.export_scores(scores, path, by_group=by_group) == path
    expected = scores.to_frame(by_group=by_group)
    pd.testing.assert_frame_equal(read(path).astype(expected.dtypes), expected)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_stored_scores_are_read_block_by_block(scores, monkeypatch):
    asked = []
    result = type(scores.result)
    real = result.read
    monkeypatch.setattr(result, "read", lambda *given: asked.append(given) or real(*given))
    frames = export.score_frames(dr.sample_robustness(scores.store), rows=30)
    assert asked == []
    assert len(next(frames)) == 30
    assert len(asked) == 4  # one chunk of every table


def test_a_failure_leaves_no_file(scores, tmp_path):
    def frames():
        yield scores.to_frame()
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        export.write_frames(frames(), tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_infinite_stays_so(tmp_path):
    points = np.array([[0.0], [0.0], [1.0], [5.0], [6.0]])
    scores = dr.sample_robustness(points, [0, 1, 1, 0, 1], ["a", "a", "a", "b", "b"])
    with pytest.warns(UserWarning, match="differently labelled twin"):
        table = scores.to_frame(by_group=True)
    assert table["lipschitz"].tolist()[:2] == [np.inf, np.inf]
    assert table["robustness"].tolist()[:2] == [0, 0]
    with pytest.warns(UserWarning, match="differently labelled twin"):
        path = dr.export_scores(scores, tmp_path / "a.csv")
    assert pd.read_csv(path)["lipschitz"].tolist()[:2] == [np.inf, np.inf]


def test_labels_of_all_kinds(tmp_path):
    def labels_of(y, **given):
        return dr.sample_robustness(X, y, **given).to_frame()

    assert labels_of(np.arange(N) % 2)["label"].tolist() == [k % 2 for k in range(N)]
    assert labels_of(X[:, 0])["label"].tolist() == X[:, 0].tolist()
    vectors = labels_of(X[:, :2])
    assert vectors["label_1"].tolist() == X[:, 1].tolist()
    floats = labels_of(np.arange(N) % 2 / 2, labels="categorical")
    assert set(floats["label"]) == {"0", "0.5"}
    scaling = {"features": {"min": [0] * 4, "max": [1] * 4}, "labels": {"min": 10, "max": 30}}
    spec = dr.StoreSpec("scaled", "real", scaling=scaling)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, X[:, 0], spec=spec)
    found = dr.sample_robustness(store).to_frame()["label"]
    np.testing.assert_allclose(found, 10 + 20 * X[:, 0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xls", r"must end in one of \.parquet, \.csv, \.csv\.gz"),
        ("no/a.csv", "there is no folder"),
    ],
)
def test_a_file_that_cannot_be_is_refused_at_once(tmp_path, raise_if_dask_computes, name, message):
    with raise_if_dask_computes(), pytest.raises(InvalidOptionError, match=message):
        dr.export_scores(dr.sample_robustness(X, NAMES), tmp_path / name)


def test_the_command(scores, tmp_path):
    out = tmp_path / "scores.parquet"
    asked = ["export", scores.store.url, "--out", str(out), "--by-group"]
    result = CliRunner().invoke(cli.main, asked)
    assert result.exit_code == 0, result.output
    assert f"90 rows in {out}" in result.stdout
    expected = scores.to_frame(by_group=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out).astype(expected.dtypes), expected)


def test_the_command_without_results(tmp_path):
    store = dr.create_store(str(tmp_path / "b.zarr"), X, NAMES)
    with pytest.raises(StaleResultsError, match="has no results yet"):
        CliRunner().invoke(
            cli.main, ["export", store.url, "-o", str(tmp_path / "a.csv")],
            env={"DSKROBUST_DEBUG": "1"}, catch_exceptions=False,
        )  # fmt: skip
