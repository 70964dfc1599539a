"""Probabilities of models that have not seen the labels they judge, and the command that asks."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import InvalidOptionError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    return dr.create_store(str(tmp_path_factory.mktemp("held") / "a.zarr"), X, names)


def test_every_row_is_judged_by_the_model_of_the_other_folds(store, monkeypatch):
    X, y = store.features[:], store.labels[:]
    model = KNeighborsClassifier(3)
    monkeypatch.setattr("dskrobust.held_out.BLOCK_BYTES", 8 * 4 * 40)  # blocks of 40 rows
    found = dr.held_out_probabilities(store, model, folds=3)
    assert found.numblocks == (4, 1)
    expected = np.empty((150, 3))
    for rows in dr.make_folds(store, 3).sets:
        own = rows.within(0, 150)
        others = np.setdiff1d(np.arange(150), own)
        expected[own] = KNeighborsClassifier(3).fit(X[others], y[others]).predict_proba(X[own])
    np.testing.assert_array_equal(found.compute(scheduler="threads"), expected)


def test_what_has_no_probabilities_is_refused(store):
    with pytest.raises(InvalidOptionError, match="no classifier that has predict_proba"):
        dr.held_out_probabilities(store, LinearSVC())


def test_the_command_takes_a_model_or_an_evaluation(store):
    call = CliRunner().invoke
    dr.label_quality(store).write()
    asked = ["issues", store.url, "--json", "--top", "3", "--max-score", "0.4", "--probabilities"]
    refused = call(main, [*asked, "evaluation"])
    assert refused.exit_code == 1
    assert "no evaluation whose model can be fitted on folds" in refused.stderr
    for text, said in (("knm", "there is no model 'knm'"), ("none.npy", "is no .npy file")):
        refused = call(main, [*asked, text])
        assert refused.exit_code == 1
        assert said in refused.stderr
    dr.sample_robustness(store).write()
    subsets = {"train": {"x": "all:L75"}, "test": {"t": "all:M75"}}
    dr.evaluate(store, **subsets, models=[dr.Model("knn", {"neighbors": [1, 3]})]).compute()
    found = call(main, [*asked, "evaluation"])
    assert found.exit_code == 0, found.output
    by_evaluation = json.loads(found.stdout)
    assert len(by_evaluation) == 3
    alone = json.loads(call(main, asked[:-1]).stdout)
    assert [line["score"] for line in alone] != [line["score"] for line in by_evaluation]
