"""Online News by many draws: the committed page is that of the committed tables of draws."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, load_script

RESULTS = ROOT / "notebooks" / "results"

pytestmark = pytest.mark.skipif(
    not (RESULTS / "draws.json").exists(), reason="the notebooks are not here"
)


@pytest.fixture(scope="module")
def facts():
    return json.loads((RESULTS / "draws.json").read_text())


def test_the_page_is_that_of_the_numbers(facts):
    assert (RESULTS / "draws.md").read_text() == load_script("paper/draw_page").page(facts)


def test_the_numbers_are_those_of_the_draws(facts):
    made = json.loads(json.dumps(load_script("paper/draw_summary").summary(RESULTS)))
    own = made.pop("libraries")
    assert own.keys() == facts["libraries"].keys()
    assert made == {name: value for name, value in facts.items() if name != "libraries"}


def test_every_observation_says_what_it_is(facts):
    claims = load_script("paper/draw_claims").CLAIMS
    assert len(facts["observations"]) in (
        len(claims),
        sum(max(c.tables, default=0) < 8 for c in claims),
    )
    for row in facts["observations"]:
        assert {"claim", "where", "holds", "of", "command"} <= row.keys()
        assert 0 <= row["holds"] <= row["of"]


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
