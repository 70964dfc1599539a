"""Tables 1 and 10 beside the printed ones: what differs, and what the paper printed by mistake."""

import pytest
from helpers import ROOT, load_script

pytestmark = pytest.mark.skipif(
    not (ROOT / "notebooks").exists(), reason="the notebooks are not here"
)


@pytest.fixture(scope="module")
def script():
    return load_script("paper/labels")


@pytest.fixture(scope="module")
def printed(script):
    return {table["number"]: table for table in script.printed_tables()}


def test_every_printed_column_adds_up(printed):
    for table in printed.values():
        for name, counts in table["counts"].items():
            size = sum(counts)
            assert size % 1000 == 0
            assert name in ("x", "t") or size == 1000 * int(name[3:])


def test_selections_are_what_the_names_say(script, printed):
    asked = script.selections(printed[10])
    assert asked["t"] == "test"
    assert asked["x_L48"] == "train:L48000"
    assert asked["x_M48"] == "train:L3000+M45000"
    assert asked["x_M48 by 4.2"] == "train:M48000"
    assert len(asked) == len(printed[10]["counts"]) + 1


def test_percentages_that_the_counts_do_not_give(script, printed):
    classes = [str(k) for k in range(10)]
    assert script.percent_slips(printed[10], classes) == []
    (slip,) = script.percent_slips(printed[1], classes)
    assert slip.startswith("t_M2, 3: 224 of 1000 are 22%, printed 14")


def test_differences_are_named(script, printed):
    table = printed[10]
    subsets = {n: {"counts": list(c)} for n, c in table["counts"].items()}
    subsets["x_M30"]["counts"][3] += 2
    facts = {"classes": [str(k) for k in range(10)], "subsets": subsets}
    assert script.differences(facts, table) == [("x_M30", "3", 2)]
