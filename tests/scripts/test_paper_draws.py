"""Online News by many draws: the committed page is that of the committed tables of draws."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script

import dskrobust as dr

RESULTS = ROOT / "notebooks" / "results"

written = pytest.mark.skipif(
    not (RESULTS / "draws.json").exists(), reason="the notebooks are not here"
)


@pytest.fixture(scope="module")
def facts():
    return json.loads((RESULTS / "draws.json").read_text())


@written
def test_the_page_is_that_of_the_numbers(facts):
    assert (RESULTS / "draws.md").read_text() == load_script("paper/draw_page").page(facts)


@written
def test_the_numbers_are_those_of_the_draws(facts):
    made = json.loads(json.dumps(load_script("paper/draw_summary").summary(RESULTS)))
    own = made.pop("libraries")
    assert own.keys() == facts["libraries"].keys()
    assert made == {name: value for name, value in facts.items() if name != "libraries"}


@written
def test_every_observation_says_what_it_is(facts):
    claims = load_script("paper/draw_claims").CLAIMS
    assert len(facts["observations"]) in (
        len(claims),
        sum(max(c.tables, default=0) < 8 for c in claims),
    )
    for row in facts["observations"]:
        assert {"claim", "where", "holds", "of", "command"} <= row.keys()
        assert 0 <= row["holds"] <= row["of"]


@written
def test_draw_0_is_the_split_of_tables_5_to_9():
    summary = load_script("paper/draw_summary")
    table = pd.read_csv(RESULTS / "draws.csv.gz").query("seed == 0")
    papers = summary.paper_tables()
    trials = pd.read_csv(RESULTS / "trials-online-news-knn.csv.gz")
    (draw,) = summary.draws_of(table, [papers[6], papers[7]])
    for number, ours in draw.tables.items():
        evaluated = load_script("paper/tables").our_matrices(papers[number], trials, True)
        for a, b in zip(ours, evaluated, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
            np.testing.assert_allclose(a.acc, b.acc, atol=1e-6)
            np.testing.assert_allclose(a.loss, b.loss, atol=1e-6)


def test_neighbours_are_read_off_the_lists_of_all():
    draws = load_script("paper/draws")
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (300, 3)).astype(float)  # many at equal distances
    lists = dr.nearest_neighbours(X, 40).compute()
    y = np.zeros(300)
    articles = draws.Articles(X, y, y, 0.0, lists.distance, lists.index)
    rows = rng.permutation(300)
    queries, references = np.sort(rows[:80]), np.sort(rows[150:260])  # some lists are too short
    expected = dr.nearest_neighbours(X, 15, queries=queries, references=references).compute()
    distance, index = articles.nearest_among(queries, references)
    np.testing.assert_array_equal(index, expected.index)
    np.testing.assert_array_equal(distance, expected.distance)
    there = np.isin(lists.index[queries], references).sum(axis=1)
    assert (there < 15).any()
    assert (there >= 15).any()


def test_choosing_k_prefers_the_smallest():
    draws = load_script("paper/draws")
    acc = np.zeros((2, draws.MOST, 3, 5))
    acc[:, [3, 6], :, 0] = 0.6  # on t, K = 4 and K = 7 alike
    acc[:, 9, :, 1:] = 0.7
    loss = np.broadcast_to(np.arange(draws.MOST)[:, None, None], acc.shape)
    table = draws.table_of([{"seed": 1, "loss": loss, "acc": acc}], draws.WEIGHTS, (6, 7))
    assert isinstance(table, pd.DataFrame)
    assert table.loc[0, ["6|uniform|x|t|value", "6|uniform|x|t_m|value"]].tolist() == [4, 4]
    assert table.loc[0, ["7|uniform|x|t|value", "7|distance|x_L24|t_m|value"]].tolist() == [4, 10]
    assert table.loc[0, "7|uniform|x|t_m|loss"] == 9
