"""What a page says first, and the samples that can be looked through in it."""

import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from looking import look_at

import dskrobust as dr
from dskrobust import cli
from dskrobust.report import StoredResults, write_report
from dskrobust.report.explorer import LEAST, OTHERS, explorer, picked_samples
from dskrobust.report.headlines import MOST, headlines
from dskrobust.report.tables import column_shares
from dskrobust.store import current_results

COLUMNS = ("width", "Amount", "height", "depth")


def results_of(url):
    store = dr.open_store(url)
    return StoredResults(store, current_results(store))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A scored table: one column is ten times as wide, two rows contradict, one class is rare."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(400, 4)) * (1, 10, 1, 1)
    y = np.array(["often", "</script><b>seldom"])[(np.arange(400) % 300 == 7).astype(int)]
    X[7] = X[8]
    split = np.where(np.arange(400) < 260, "train", "test")
    url = str(tmp_path_factory.mktemp("table") / "the table.zarr")
    classes = ("often", "</script><b>seldom")
    codes = np.array([classes.index(name) for name in y])
    spec = dr.StoreSpec("table", "categorical", classes=classes, feature_names=COLUMNS)
    store = dr.create_store(url, X, codes, split, spec=spec)
    dr.label_quality(store).write()
    return url


def test_what_matters_is_said_first_with_its_numbers(table):
    found = headlines(results_of(table))
    assert 0 < len(found) <= MOST
    said = [line.words for line in found]
    assert said[0] == "2 samples contradict others: equal features, another label."
    assert any("seldom is 0.5% of the data" in words for words in said)
    (column,) = (words for words in said if "distance" in words)
    share = column_shares(results_of(table))
    assert share.index[0] == "Amount"
    assert f"Column Amount makes {share.iloc[0]:.0%} of the distance" in column


def test_every_command_of_a_headline_runs(table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    commands = [line.command for line in headlines(results_of(table)) if line.command]
    assert len(commands) > 1
    for command in commands:
        if " review " in command:  # which waits for a person
            continue
        result = CliRunner().invoke(cli.main, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)


def test_what_nobody_looked_at_yet_is_said_last(tmp_path):
    rng = np.random.default_rng(1)
    split = np.repeat(["train", "test"], 30)
    store = dr.create_store(str(tmp_path / "own.zarr"), rng.normal(size=(60, 3)),
                            np.arange(60) % 2, split)  # fmt: skip
    dr.sample_robustness(store).write()
    found = headlines(results_of(store.url))
    assert [line.words for line in found[-2:]] == [
        "Nobody has looked for suspicious labels yet.", "No model was trained on the subsets yet.",
    ]  # fmt: skip
    assert found[-2].command == f"dskrobust issues {store.url}"


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_shares_of_columns_are_those_of_the_pairs(tmp_path, metric):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(90, 5)) * rng.uniform(0.2, 3, 5)
    store = dr.create_store(str(tmp_path / "own.zarr"), X, np.arange(90) % 3)
    scores = dr.sample_robustness(store, metric=metric).write()
    gap = np.abs(X - X[np.asarray(scores.witness)])
    added = gap**2 if metric == "euclidean" else gap
    wanted = (added / added.sum(axis=1, keepdims=True)).mean(axis=0)
    found = column_shares(results_of(store.url))
    assert found.index.tolist() == [f"column {k}" for k in np.argsort(-wanted)]
    np.testing.assert_allclose(found.to_numpy(), np.sort(wanted)[::-1])


def test_of_many_samples_the_least_robust_and_some_others_are_looked_through(tmp_path):
    rng = np.random.default_rng(3)
    n = LEAST + OTHERS + 500
    store = dr.create_store(str(tmp_path / "own.zarr"), rng.normal(size=(n, 2)), np.arange(n) % 2)
    scores = dr.sample_robustness(store).write()
    shown = explorer(results_of(store.url))
    assert shown.shown == LEAST + OTHERS
    least = np.argsort(np.asarray(scores.robustness), kind="stable")[:LEAST]
    rows = picked_samples(results_of(store.url))["row"].to_numpy()
    assert rows[:LEAST].tolist() == least.tolist()
    assert len(set(rows)) == len(rows)


def test_a_page_is_the_same_whenever_it_is_written(table):
    first = explorer(results_of(table))
    assert explorer(results_of(table)) == first
    assert "</script" not in first.scripts[1]


CHOOSE = """
  const named = name => Bokeh.documents[0].get_model_by_name(name);
  const said = () => document.querySelector("#explore [role=status]").textContent;
  const lines = () => [...document.querySelectorAll("#selected tbody tr")];
  const rows = () => lines().map(line => line.cells[0].textContent);
  const first = said();
  named("bins").selected.indices = [0];
  const chosen = rows();
  named("bins").selected.indices = [];
  document.querySelector("#selected th .sort").click();
  const sorted = rows();
  const filter = document.querySelector("#explore input");
  filter.value = "seldom";
  filter.dispatchEvent(new Event("input"));
  return {first, chosen, sorted, seldom: said(), shown: !document.getElementById("explore").hidden};
"""


def test_samples_are_selected_sorted_and_filtered_in_a_browser(browser, table, tmp_path):
    page = write_report(table, tmp_path / "page.html").read_text(encoding="utf-8")
    found = look_at(browser, page, tmp_path / "looked.html", 1280, CHOOSE)
    assert found["broken"] == []
    acted, scores = found["acted"], results_of(table).scores
    assert acted["shown"]
    assert acted["first"] == "1–12 of 400"
    assert acted["sorted"] == [str(k) for k in range(12)]
    robustness = np.asarray(scores.robustness)
    edges = np.linspace(robustness.min(), robustness.max(), 61)
    inside = np.flatnonzero(robustness < edges[1])
    assert set(acted["chosen"]) <= set(map(str, inside))
    assert len(acted["chosen"]) == min(12, len(inside))
    witnesses = np.asarray(scores.witness)
    rare = np.arange(400) % 300 == 7
    assert acted["seldom"].endswith(f"of {int((rare | rare[witnesses]).sum())}")
