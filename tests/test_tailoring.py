"""Tailoring: choices are of held-out rows, parts that gain nothing keep the one model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import cdist

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import InvalidOptionError
from dskrobust.part_choice import FoldScores, corrected_interval, held_out, part_cuts
from dskrobust.placement import labelled_places, predicted_places, reach_of_prediction
from dskrobust.tailoring import _findings
from dskrobust.validation import complete_options, folds_of, training_sets

MODELS = [dr.Model("knn", {"neighbors": [1, 9], "weights": ["uniform"]})]


def two_worlds(rows, seed=0):
    """Return classes whose far half is striped and whose near half has noisy labels.

    A single neighbour is best in the stripes, many are best in the noise.
    """
    rng = np.random.default_rng(seed)
    X = rng.random((rows, 2))
    noisy = X[:, 0] < 0.5
    y = np.where(noisy, (rng.random(rows) < 0.25) ^ (X[:, 1] > 0.5), X[:, 1] > 0.5).astype(int)
    return np.where(noisy[:, None], X, X * [1, 1] + [3, 0]), y


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    X, y = two_worlds(450)
    split = np.where(np.arange(450) % 3 == 0, "test", "train")
    url = str(tmp_path_factory.mktemp("tailoring") / "t.zarr")
    return dr.create_store(url, X, y, split)


@pytest.fixture(scope="module")
def made(store):
    return dr.tailor(store, MODELS, windows=2, validation=dr.Validation(3, 2)).compute()


def test_places_equal_brute_force(store):
    X, y = store.features[:], store.labels[:].ravel()
    sets = {"even": np.arange(0, 450, 2), "third": np.arange(0, 450, 3)}
    rows = np.arange(1, 450, 7)
    found = predicted_places(store, rows, sets, "euclidean")
    own = labelled_places(store, sets, "euclidean")
    for k, members in enumerate(sets.values()):
        d = cdist(X, X[members])
        nearest = y[members][d[rows].argmin(axis=1)]
        for labels, at, places in ((nearest, rows, found[:, k]), (y, np.arange(450), own[:, k])):
            reach = np.where(labels[:, None] != y[members], d[at], np.inf).min(axis=1)
            np.testing.assert_allclose(places, reach / (1 + reach), rtol=1e-12)


def test_what_was_measured_is_honest(store, made):
    measured = made.advice.measured
    assert set(measured["fold"]) == {1, 2, 3}
    assert set(measured["train"]) == {"all", "0–50%", "50–100%"}
    assert set(measured["part"]) == {"part 1", "part 2"}
    assert len(measured) == 3 * 3 * 2 * 2
    choices = made.choices
    assert choices["test_rows"].sum() == 150
    assert (choices["score"] >= choices["baseline"]).all()
    assert "**" not in made.findings()[0]
    assert made.findings()[0] in made._repr_html_()


def test_labels_of_the_test_group_choose_nothing(store, made, tmp_path):
    X, y = store.features[:], store.labels[:].ravel().copy()
    names = np.array(store.groups)[store.read("split", 0, 450)]
    y[names == "test"] = 1 - y[names == "test"]
    other = dr.create_store(str(tmp_path / "o.zarr"), X, y, names)
    again = dr.tailor(other, MODELS, windows=2, validation=dr.Validation(3, 2)).compute()
    kept = [c for c in made.choices if not c.startswith("test_")]
    assert made.choices[kept].equals(again.choices[kept])
    assert again.choices["test_rows"].tolist() == made.choices["test_rows"].tolist()


def test_a_candidate_is_any_selection_or_list_of_rows(store):
    rows = np.flatnonzero(store.read("split", 0, 450) == store.groups.index("train"))[::2]
    candidates = {"half": rows, "L": "train:L200"}
    made = dr.tailor(store, MODELS, windows=None, validation=3, candidates=candidates)
    assert set(made.advice.measured["train"]) == {"all", "half", "L"}
    with pytest.raises(InvalidOptionError, match="row 0, which is not in train"):
        dr.tailor(store, MODELS, candidates={"c": np.arange(3)})


def test_a_selection_is_made_among_the_rows_that_remain(store):
    half = np.flatnonzero(store.read("split", 0, 450) == store.groups.index("train"))[::2]
    asked = {"validation": dr.Validation(3, 2), "candidates": {"L": "train:L90", "half": half}}
    plan = dr.tailor(store, MODELS, windows=2, **asked).plan
    for fold in folds_of(plan)[0]:
        rows = training_sets(plan, fold)
        order = np.lexsort((fold.rest, fold.spectrum))
        np.testing.assert_array_equal(rows["L"], np.sort(fold.rest[order[:90]]))
        np.testing.assert_array_equal(rows["half"], np.setdiff1d(half, fold.held))


def test_what_is_said_of_labels(store, made):
    assert any(line.startswith("On test, whose labels chose nothing:") for line in made.findings())
    by_label = replace(made.plan, validation=replace(made.plan.validation, placement="label"))
    said = " ".join(_findings(by_label, made.advice))
    assert "On test, placed by their own labels:" in said
    assert "cross-fitted" in said


def test_the_command_says_what_to_do(store, local_cluster):
    where = [store.url, "--model", "knn", "--grid", "neighbors=1,9", "--folds", "3", "--parts", "2"]
    where += ["--windows", "2", "--set", "weights=uniform"]
    where += ["--scheduler", local_cluster.scheduler_address]
    said = CliRunner().invoke(main, ["tailor", *where], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert "one model" in said.stdout.lower()
    plain = CliRunner().invoke(main, ["tailor", *where, "--json"], catch_exceptions=False)
    assert len(json.loads(plain.stdout)["parts"]) == 2


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ({"folds": 2}, "two folds"),
        ({"parts": 1}, "parts must be"),
        ({"placement": "guess"}, "placed by predicted or label"),
        ({"margin": -1.0}, "margin"),
    ],
)
def test_what_cannot_be_validated(validation, said):
    with pytest.raises(InvalidOptionError, match=said):
        dr.Validation(**validation)


def test_too_few_rows_and_unknown_groups(store):
    with pytest.raises(InvalidOptionError, match="too few rows"):
        dr.tailor(store, MODELS, validation=60)
    for groups, said in (
        (("x", "test"), "no group 'x'"),
        (("train", "tset"), "no group 'tset'"),
        (("train", "train"), "the training and the test group"),
    ):
        with pytest.raises(InvalidOptionError, match=said):
            dr.tailor(store, MODELS, groups=groups)
    with pytest.raises(InvalidOptionError, match="give validation=4"):
        dr.tailor(store, MODELS, folds=4)
    for text, said in (
        ("train:X5", "no selection"),
        ("test:L5", "choose from train alone"),
        ("train:L250", "more than the 240 rows"),
    ):
        with pytest.raises(InvalidOptionError, match=said):
            dr.tailor(store, MODELS, candidates={"c": text})


# -- choosing --------------------------------------------------------------------------------------


def scores_of(means, noise, seed=0, folds=6):
    """Return scores of options (parts, options) that vary about their means from fold to fold."""
    rng = np.random.default_rng(seed)
    scores = np.asarray(means)[None] + noise * rng.normal(size=(folds, *np.shape(means)))
    whole = np.arange(scores.shape[2]) == 0
    return FoldScores(scores, np.full(scores.shape[:2], 10), whole)


def test_a_planted_gain_is_found_and_measured():
    made = scores_of([[0.5, 0.7, 0.4], [0.9, 0.6, 0.91]], 0.001)
    assert made.baseline == 0
    assert made.choice().tolist() == [1, 2]
    interval = corrected_interval(made.cross_fitted()[:, -1], 1 / 5)
    assert interval.verdict == "better"
    assert interval.low < 0.105 < interval.high


def test_a_part_with_rows_in_one_fold_alone_decides_nothing():
    made = scores_of([[0.7, 0.5], [0.5, 0.6]], 0.001, folds=3)
    made.scores[1:, 1], made.rows[1:, 1] = np.nan, 0
    made = FoldScores(made.scores, made.rows, np.ones(2, bool))
    assert made.without(0).baseline == 0
    made.scores[:, 0] = made.scores[:, 0, ::-1]
    assert made.without(0).baseline == 1
    assert made.without(0).single == 1


def test_options_without_a_finite_score_are_left_out():
    known = ("all", "knn", "1"), ("all", "knn", "2")
    measure = SimpleNamespace(score=float, __str__=str)
    found = [{(known[0], "part 1"): np.nan, (known[1], "part 1"): 0.5}]
    assert complete_options(measure, found, np.ones((1, 1), int)) == [known[1]]
    with pytest.raises(InvalidOptionError, match="trained on everything has a finite"):
        complete_options(measure, [{(known[0], "part 1"): np.inf}], np.ones((1, 1), int))


def test_one_set_for_everything_is_told_from_a_choice_by_part():
    made = scores_of([[0.5, 0.7, 0.4], [0.5, 0.6, 0.4]], 0.001)
    assert made.single == 1
    np.testing.assert_allclose(made.cross_fitted_single(), 0.15, atol=0.01)
    np.testing.assert_allclose(made.cross_fitted()[:, -1], made.cross_fitted_single())


def test_the_best_of_many_equal_options_gains_nothing():
    means = [corrected_interval(scores_of(np.zeros((2, 40)), 1.0, seed).cross_fitted()[:, -1], 0.2)
             for seed in range(30)]  # fmt: skip
    assert sum(interval.verdict == "better" for interval in means) <= 2


def test_intervals_are_wider_than_of_independent_values():
    values = np.array([0.1, 0.2, 0.3, 0.4])
    plain, corrected = (corrected_interval(values, ratio) for ratio in (0.0, 1 / 3))
    assert plain.mean == corrected.mean == pytest.approx(0.25)
    assert corrected.high - corrected.mean == pytest.approx(
        (plain.high - plain.mean) * np.sqrt((1 / 4 + 1 / 3) / (1 / 4))
    )


def test_folds_hold_every_row_out_once():
    labels = np.repeat([0, 1], [40, 8])
    held = held_out(labels, 4, 0, by_class=True)
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), np.arange(48))
    assert [int(labels[rows].sum()) for rows in held] == [2, 2, 2, 2]


def test_parts_need_different_places():
    assert part_cuts(np.arange(9.0), 3).tolist() == [2.0, 5.0]
    with pytest.raises(InvalidOptionError, match="equally robust"):
        part_cuts(np.zeros(9), 3)


def test_the_reach_of_a_prediction_is_to_the_second_class():
    assert reach_of_prediction(np.array([[3.0, 1.0, 2.0]])).tolist() == [2.0]
    assert np.isinf(reach_of_prediction(np.array([[3.0]]))).all()
