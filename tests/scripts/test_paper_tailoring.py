"""The script that asks whether tailoring beats one model: its splits, and what its page says."""

import json

import numpy as np
import pytest
from helpers import ROOT, load_script

RESULTS = ROOT / "notebooks" / "results" / "tailoring.json"


@pytest.fixture(scope="module")
def script():
    return load_script("paper/tailoring")


def test_splits_keep_the_shares_of_classes(script):
    data = script.Data("made", np.zeros((100, 2)), np.repeat([0, 1], [80, 20]))
    split = data.split(0)
    assert [(split[data.y == k] == "test").mean() for k in (0, 1)] == [script.TEST] * 2
    assert (split != data.split(1)).any()


@pytest.mark.skipif(not RESULTS.exists(), reason="the notebooks are not here")
def test_the_page_is_that_of_the_numbers(script):
    facts = json.loads(RESULTS.read_text())
    assert RESULTS.with_suffix(".md").read_text() == script.page(facts)
    for line in facts["lines"]:
        assert len(line["gains"]) == line["splits"] >= 3
        assert line["gain"] == pytest.approx(np.mean(line["gains"]))
        assert line["low"] <= line["gain"] <= line["high"]
