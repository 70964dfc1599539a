"""The command `suspects`: what it prints and writes, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli

WRONG = 7  # a sample amid the other class


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Two distant classes, a wrong label, and a class with a single sample."""
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1], 30)
    X = rng.normal(size=(60, 3)) + 20 * y[:, None]
    y[WRONG] = 1
    X, y = np.vstack([X, [[50.0, 50, 50]]]), np.append(y, 2)
    spec = dr.StoreSpec("some", "categorical", classes=("cat", "dog", "owl"))
    store = dr.create_store(str(tmp_path_factory.mktemp("labels") / "s.zarr"), X, y, spec=spec)
    dr.label_quality(store).write()
    return store.url


@pytest.fixture
def call(url):
    """Run the command on a store whose results are all there; return standard output."""

    def run(*arguments):
        result = CliRunner().invoke(cli.main, ["suspects", url, *map(str, arguments)])
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return result.stdout

    return run


def test_the_wrong_label_comes_first(call):
    lines = call("--top", 3).splitlines()
    assert lines[0] == "Labels that fit their surroundings least"
    (head,) = (k for k, line in enumerate(lines) if "witness of" in line)
    listed = [line.split() for line in lines[head + 1 :] if line.strip()[:1].isdigit()]
    assert len(listed) == 3
    assert listed[0][:3] == [str(WRONG), "dog", "cat"]
    assert "–: there is none in its group." in " ".join(lines)


def test_json(call, url):
    first, *others = json.loads(call("--json", "--top", 61))
    found = dr.label_quality(url).compute()
    assert len(others) == 60
    assert first == {
        "row": WRONG,
        "label": "dog",
        "other_label": "cat",
        "other_row": int(found.scores.nearest[WRONG]),
        "other_distance": float(found.scores.reach[WRONG]),
        "same_row": int(found.same[WRONG]),
        "same_distance": float(found.same_distance[WRONG]),
        "ratio": float(found.ratio[WRONG]),
        "witness_of": int(found.witness_of[WRONG]),
    }
    alone = others[-1]  # has nothing to be compared with
    assert (alone["row"], alone["label"]) == (60, "owl")
    assert alone["same_row"] is alone["same_distance"] is alone["ratio"] is None


def test_the_only_sample_of_a_label_is_marked(call):
    (line,) = (x for x in call("--top", 61).splitlines() if x.split()[:2] == ["60", "owl"])
    assert line.split()[-4:-1] == ["–", "–", "–"]


def test_all_samples_are_written(call, tmp_path):
    out = tmp_path / "all.csv"
    text = call("--out", out, "--top", 2)
    assert f"saved       {out}" in text
    table = pd.read_csv(out)
    facts = json.loads(call("--json", "--top", 61))
    assert table["row"].tolist() == [one["row"] for one in facts]
    assert table["ratio"].iloc[:-1].tolist() == [one["ratio"] for one in facts[:-1]]
    assert np.isnan(table["ratio"].iloc[-1])
    assert table["other_label"].tolist() == [one["other_label"] for one in facts]


def test_real_labels_are_refused(tmp_path):
    X = np.arange(20.0)[:, None]
    spec = dr.StoreSpec("r", "real")
    store = dr.create_store(str(tmp_path / "r.zarr"), X, X[:, 0] / 7, spec=spec)
    result = CliRunner().invoke(cli.main, ["suspects", store.url])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith("has real labels; which of them are wrong can be told for categories only")


def test_what_is_missing_is_computed_first(tmp_path, url):
    store = dr.open_store(url)
    fresh = dr.create_store(
        str(tmp_path / "f.zarr"), store.features[:], store.labels[:], spec=store.spec
    )
    asked = ["suspects", fresh.url, "--json", "--workers", "1", "--no-dashboard", "--top", "1"]
    result = CliRunner().invoke(cli.main, asked)
    assert result.exit_code == 0, result.output
    assert '"row": 7' in result.stdout
