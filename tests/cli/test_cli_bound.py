"""`dskrobust bound` and `dskrobust adversarials`: numbers as JSON, words, and refusals."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli


def call(*arguments, code=0):
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="dskrobust")
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog"])[rng.integers(0, 2, 80)]
    X = rng.standard_normal((80, 3)) + (y == "dog")[:, None]
    split = np.where(np.arange(80) < 50, "train", "test")
    made = dr.create_store(str(tmp_path_factory.mktemp("s") / "s.zarr"), X, y, split=split)
    dr.sample_robustness(made).write()
    return made


def test_a_file_and_a_model_say_the_same(store, tmp_path):
    said = json.loads(
        call("bound", store.url, "--model", "knn", "--set", "n_neighbors=1", "--json")
    )
    from sklearn.neighbors import KNeighborsClassifier

    X, y = store.features[:], store.labels[:]
    codes = KNeighborsClassifier(1).fit(X[:50], y[:50]).predict(X)
    pd.DataFrame({"class": np.array(store.spec.classes)[codes]}).to_csv(
        tmp_path / "p.csv", index=False
    )
    np.save(tmp_path / "p.npy", codes)
    for name in ("p.csv", "p.npy"):
        assert json.loads(call("bound", store.url, "-p", tmp_path / name, "--json")) == said
    shown = call("bound", store.url, "-p", tmp_path / "p.npy")
    assert "bound (A.4)" in shown
    assert "look at these two" in " ".join(shown.split())


def test_what_cannot_be_compared_is_refused(store, tmp_path):
    assert "either" in call("bound", store.url, code=2)
    assert "'knm'; did you mean 'knn'?" in call("bound", store.url, "--model", "knm", code=1)
    assert "'json'; choose from knn, forest" in call("bound", store.url, "--model", "json", code=1)
    assert "cannot be made" in call("bound", store.url, "--model", "sklearn.svm.SVM", code=1)
    scaler = "sklearn.preprocessing.StandardScaler"
    assert "has no predict" in call("bound", store.url, "--model", scaler, code=1)
    assert "'knn'" in call("bound", store.url, "--model", "knn", "--set", "neighbours=2", code=1)
    (tmp_path / "p.csv").write_text("class\nhorse\n")
    assert "'horse'" in call("bound", store.url, "-p", tmp_path / "p.csv", code=1)
    (tmp_path / "p.txt").write_text("1")
    assert ".npy" in call("bound", store.url, "-p", tmp_path / "p.txt", code=1)


def test_errors_by_robustness(store):
    facts = json.loads(call("adversarials", store.url, "--remove", 0.2, "--json"))
    assert facts["tested"] == 30
    assert facts["removals"][0]["removed"] == 10
    assert sum(b["errors"] for b in facts["bins"]) == facts["errors"]
    assert "R of the reference" in call("adversarials", store.url, "--remove", 0.2)
