"""How sure suspicion is: planted errors, thresholds, a model's word, real labels."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine, make_blobs
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

import dskrobust as dr
from dskrobust import cli, label_planting, label_thresholds
from dskrobust.engine import plan
from dskrobust.errors import InvalidDataError, InvalidOptionError
from dskrobust.label_issues import Findings
from dskrobust.label_planting import (
    BESIDE,
    GIVEN,
    PLANTED_ERROR,
    PlantedScores,
    planted_labels,
    sample_rows,
)
from dskrobust.label_regression import NEIGHBOURS
from dskrobust.label_thresholds import JUDGED, Thresholds


@pytest.fixture(autouse=True)
def _plant_little(monkeypatch):
    monkeypatch.setattr(label_planting, "ROUNDS", 3)


def changed(y, share, seed=0):
    """Labels of which a share is another of 0 … 9, and which ones are."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(y), round(share * len(y)), replace=False)
    noisy = y.copy()
    noisy[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return noisy, np.isin(np.arange(len(y)), wrong)


# -- planting --------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 64])
@pytest.mark.parametrize(("rows", "columns"), [(60, 3), (40, 200_000)])
def test_neither_cores_nor_columns_nor_libraries_keep_it_from_running(
    monkeypatch, cores, rows, columns
):
    monkeypatch.setattr(label_planting, "cores_here", lambda: cores)
    monkeypatch.setattr(plan, "has_xarray", lambda: True)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (rows, columns), np.uint8)
    found = dr.find_label_issues(X, np.arange(rows) % 2)
    assert len(found) == rows
    assert found.attrs["thresholds"]


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    groups=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_a_hundredth_of_every_class_is_planted(sizes, groups, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = (np.arange(len(labels)) % groups).astype(np.int16)
    noisy, planted = planted_labels(labels, split, seed)
    np.testing.assert_array_equal(noisy[~planted], labels[~planted])
    assert (noisy[planted] != labels[planted]).all()
    for group in range(groups):
        own = split == group
        there = np.bincount(labels[own], minlength=len(sizes))
        got = np.bincount(noisy[own & planted], minlength=len(sizes))
        given_up = np.bincount(labels[own & planted], minlength=len(sizes))
        assert (got <= np.ceil(0.01 * there)).all()
        assert (given_up <= np.ceil(0.1 * there)).all()


@given(rows=st.integers(1, 10_000), count=st.integers(1, 3_000))
def test_a_sample_is_rising_rows_of_all_parts(rows, count):
    drawn = sample_rows(rows, count)
    assert len(drawn) == min(rows, count)
    assert drawn[0] >= 0
    assert drawn[-1] < rows
    assert (np.diff(drawn) > 0).all()


# -- thresholds ------------------------------------------------------------------------------


def planted_world(given, wrong):
    """Scores of one class: as they are, also beside errors, and of planted errors."""
    score = np.concatenate([given, given, wrong])
    kind = np.repeat([GIVEN, BESIDE, PLANTED_ERROR], [len(given), len(given), len(wrong)])
    return PlantedScores(np.zeros(len(score), int), score, kind.astype(np.int8), 1)


def test_thresholds_follow_the_share_that_was_wrong_before():
    rng = np.random.default_rng(0)
    wrong, right = rng.uniform(0.05, 0.35, 200), rng.uniform(0.38, 0.9, 10_000)
    clean = Thresholds.of(planted_world(right, wrong)).judged[0]
    assert clean["wrong"] == 0
    assert np.mean(right <= clean["threshold"]) <= 0.01
    assert clean["found"] == 1
    before = rng.uniform(0.05, 0.35, 500)
    noisy = Thresholds.of(planted_world(np.concatenate([right, before]), wrong)).judged[0]
    assert 0.03 < noisy["wrong"] <= 500 / 10_500
    assert noisy["precision"] > 0.5
    assert np.mean(before <= noisy["threshold"]) == 1


def test_where_errors_do_not_stand_out_nothing_was_wrong_before():
    rng = np.random.default_rng(0)
    found = Thresholds.of(planted_world(rng.uniform(size=5_000), rng.uniform(size=500)))
    assert found.judged[0]["wrong"] == 0
    assert not found.judged[0]["threshold"] > 0.01
    assert "one that is not listed is not thereby right" in found.words()


@pytest.mark.parametrize("load", [load_iris, load_wine])
def test_of_clean_tables_at_most_a_hundredth_is_flagged(load):
    table = dr.find_label_issues(*load(return_X_y=True))
    assert table["is_issue"].mean() <= 0.01
    (threshold,) = table.attrs["thresholds"]
    assert threshold["label"] == "all"
    assert threshold["planted"] > 0


def test_of_few_positives_none_is_flagged():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5_000, 3)), np.arange(5_000) < 10
    X[y] += 2.5
    table = dr.find_label_issues(X, y.astype(int))
    assert not table.loc[table["given_label"] == "1", "is_issue"].any()


def test_errors_are_found_about_as_often_as_is_said():
    X, y = load_digits(return_X_y=True)
    noisy, wrong = changed(y, 0.03)
    table = dr.find_label_issues(X, noisy).set_index("row").sort_index()
    flagged = table["is_issue"].to_numpy()
    said = [t["precision"] for t in table.attrs["thresholds"] if t["precision"] > 0]
    assert wrong[flagged].mean() >= min(said)
    assert flagged[wrong].mean() > 0.7


def test_a_store_keeps_what_was_planted(tmp_path, monkeypatch):
    X, y = load_wine(return_X_y=True)
    store = dr.create_store(str(tmp_path / "s.zarr"), X, y)
    quality = dr.label_quality(store).write()
    assert Thresholds.kept_for(quality) is None
    first = Findings.of(quality).thresholds
    monkeypatch.setattr(label_thresholds, "planted_scores", None)
    np.testing.assert_array_equal(Findings.of(quality).thresholds.judged, first.judged)
    (kept,) = (tmp_path / "s.zarr" / "small-results").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert Thresholds.kept_for(quality) is None  # damaged: it is made again
    report = dr.verify_store(store, repair=True)
    assert report.mended == (f"small-results/{kept.name}",)


def test_so_many_of_a_class_are_told():
    X, y = make_blobs(300, centers=[[0, 0], [20, 20]], random_state=0)
    y[:40] = 1 - y[:40]
    found = Findings.of(dr.label_quality(X, y), 0.45).summary(3)
    assert found.issues == found.classes["issues"].sum()
    shares = found.classes["issues"] / found.classes["rows"]
    assert len(found.crowded) == (shares > 0.2).sum()


# -- a model -----------------------------------------------------------------------------------


def test_a_model_helps():
    X, y = load_digits(return_X_y=True)
    noisy, wrong = changed(y, 0.05)
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(10), len(y)) + 0.6 * np.eye(10)[y]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    quality = dr.label_quality(X, noisy).compute()
    tables = [
        dr.find_label_issues(quality, threshold=0.4, probabilities=p).sort_values("row")
        for p in (None, probabilities)
    ]
    alone, joined = (average_precision_score(wrong, -table["score"]) for table in tables)
    assert joined > alone
    even = dr.find_label_issues(quality, threshold=0.4, probabilities=np.full((len(y), 10), 0.1))
    np.testing.assert_allclose(even.sort_values("row")["score"], tables[0]["score"], rtol=1e-12)


def test_what_is_an_estimate_is_called_one():
    judged = np.array([(900, 200, 0.3, 0.9, 0.8, 0.0)], JUDGED)
    words = Thresholds(np.empty(0), judged).words()
    assert "about 80% of what is flagged would be errors (an estimate)." in words
    assert "optimistic" not in words
    by_model = Thresholds(np.empty(0), judged, by_model=True).words()
    assert by_model.startswith(words)  # the model saw none of the planted errors
    assert "optimistic" in by_model


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((150, 2)), r"shape \(150, 3\), a row a sample .* but have \(150, 2\)"),
        (np.full((150, 3), 2.0), r"lie in \[0, 1\], but lie in \[2.0, 2.0\]"),
        (np.full((150, 3), np.nan), "have NaN; every row needs finite ones"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, message):
    with pytest.raises(InvalidDataError, match=message):
        dr.find_label_issues(*load_iris(return_X_y=True), probabilities=probabilities)


# -- values side by side ---------------------------------------------------------------------


def test_values_beside_each_other():
    X, y = load_digits(return_X_y=True)
    quality = dr.label_quality(X, y).compute()
    worst = dr.find_label_issues(quality, threshold=0.4, top=3)
    table = dr.compare_samples(quality, worst, columns=5)
    assert len(table) == 15
    for row, column, *values in table.itertuples(index=False):
        k = int(column.split()[1])
        facts = worst.set_index("row").loc[row]
        rows = row, facts["witness"], facts["nearest_same"]
        assert [float(value) for value in values] == [X[r, k] for r in rows]
    assert len(dr.compare_samples(quality, worst.head(0))) == 0
    with pytest.raises(InvalidOptionError, match="columns must be a whole number from 1 on"):
        dr.compare_samples(quality, worst, columns=0)


# -- real labels -------------------------------------------------------------------------------


def planar(rows=400):
    rng = np.random.default_rng(0)
    X = rng.random((rows, 2))
    y = 10 * X.sum(axis=1) + rng.normal(scale=0.1, size=rows)
    y[5] += 8
    return X, y


def test_real_labels_are_compared_with_their_neighbours():
    X, y = planar()
    table = dr.find_label_issues(X, y, labels="real")
    assert table.iloc[0][["row", "is_issue"]].tolist() == [5, True]
    assert table["is_issue"].mean() <= 0.01
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(X).kneighbors()[1]
    table = table.set_index("row").sort_index()
    np.testing.assert_allclose(table["neighbours_label"], np.median(y[near], axis=1))
    np.testing.assert_array_equal(table["nearest"], near[:, 0])
    assert table.attrs["thresholds"][0]["found"] > 0.5
    with pytest.raises(InvalidOptionError, match="10 others"):
        dr.find_label_issues(X[:10], y[:10], labels="real")
    with pytest.raises(InvalidOptionError, match="categorical or real"):
        dr.find_label_issues(X, y, labels="vector")


def test_the_command_takes_real_labels(tmp_path):
    X, y = planar()
    store = dr.create_store(str(tmp_path / "r.zarr"), X, y)
    expected = dr.find_label_issues(store, top=4)
    run = CliRunner().invoke(cli.main, ["issues", store.url, "--top", "4", "--json"])
    assert run.exit_code == 0, run.output
    pd.testing.assert_frame_equal(
        pd.DataFrame(json.loads(run.stdout)).astype(expected.dtypes), expected
    )
    told = CliRunner().invoke(cli.main, ["issues", store.url, "--top", "4"]).stdout
    assert "labels are suspicious" in told or "label is suspicious" in told
    assert "errors planted among 400 samples" in told


@settings(max_examples=5)
@given(seed=st.integers(0, 100))
def test_diabetes_is_not_called_wrong(seed):
    X, y = load_diabetes(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(y))[:300]
    table = dr.find_label_issues(X[rows], y[rows], labels="real")
    assert table["is_issue"].mean() <= 0.02


def test_probabilities_are_those_of_the_classes_that_they_are_called_by():
    X, y = load_iris(return_X_y=True)
    names = np.array(["c", "a", "b"])[y]
    shares = pd.DataFrame(np.eye(3)[np.unique(names, return_inverse=True)[1]] * 0.8 + 0.1)
    wanted = dr.find_label_issues(X, names, probabilities=shares)
    turned = shares.set_axis(["a", "b", "c"], axis=1)[["c", "a", "b"]]
    pd.testing.assert_frame_equal(dr.find_label_issues(X, names, probabilities=turned), wanted)
    for wrong, said in (
        (np.ma.array(shares, mask=shares > 0.5), "probabilities row 0, column 2 is masked"),
        (shares.add_prefix("p"), "columns of probabilities are called p0, p1, p2"),
    ):
        with pytest.raises(InvalidDataError, match=said):
            dr.find_label_issues(X, names, probabilities=wrong)
