"""The heat maps of Tables 5 and 6's data: the committed page is that of the committed numbers."""

import json

import numpy as np
import pytest
from helpers import ROOT, load_script

RESULTS = ROOT / "notebooks" / "results" / "windows.json"


@pytest.mark.skipif(not RESULTS.exists(), reason="the notebooks are not here")
def test_the_page_is_that_of_the_numbers():
    facts = json.loads(RESULTS.read_text())
    assert RESULTS.with_suffix(".md").read_text() == load_script("paper/windows").page(facts)
    for part in facts.values():
        values = np.array(part["values"])
        assert values.shape == (len(part["test"]), len(part["train"]))
        assert np.isfinite(values).all()
