"""The pages in notebooks/results are those of the numbers beside them; what the rows say."""

import json

import pandas as pd
import pytest
from helpers import ROOT, load_script

RESULTS = ROOT / "notebooks" / "results"
ELSEWHERE = {
    "tables-2-4",
    "tables-2-4-small",
    "draws",
    "windows",
    "tailoring",
    "tables-8-9-external-memory",
}  # own tests, or a store

pytestmark = pytest.mark.skipif(not RESULTS.exists(), reason="the notebooks are not here")


def numbers(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def table_page(number):
    script = load_script("paper/labels")
    (printed,) = (table for table in script.printed_tables() if table["number"] == number)
    return script.page(numbers(f"table-{number}"), printed)


def observations_page():
    script = load_script("paper/observations")
    return script.page(script.read_rows())


PAGES = {
    "alignment": lambda: load_script("paper/alignment").page(numbers("alignment")),
    "observations": observations_page,
    "table-1": lambda: table_page(1),
    "table-10": lambda: table_page(10),
    "tables-5-9": lambda: load_script("paper/tables").whole_page(numbers("tables-5-9")),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_that_of_its_numbers(name):
    assert (RESULTS / f"{name}.md").read_text() == PAGES[name]()


def test_every_page_is_read_again():
    assert {path.stem for path in RESULTS.glob("*.md")} <= {*PAGES, *ELSEWHERE}


@pytest.fixture(scope="module")
def script():
    return load_script("paper/observations")


def test_the_rows_made_here_are_committed(script):
    evidence = script.Evidence()
    kept = set(script.read_rows())
    made = [row for make in (script.label_rows, script.network_rows, script.neighbour_rows,
                             script.digit_rows) for row in make(evidence)]  # fmt: skip
    assert [row.claim for row in made if row not in kept] == []
    assert {script.section_of(row) for row in kept} <= {name for name, _ in script.SECTIONS}
    for row in kept:
        assert row.where
        assert row.verdict


def test_what_fails_is_said(script):
    said = {row.claim: row for row in script.read_rows()}
    for weights, cells in (("uniform", "holds in 9 of 25"), ("distance", "contradicted (0 of 25")):
        claim = "For KNN, the highest accuracy in every case was observed for K=1"
        assert said[f"{claim} ({weights} weights)"].verdict.startswith(cells)
    assert said["the increased accuracy on t by using x_L40"].verdict == "slip"
    assert said["the column x_M48"].verdict == "slip"
    assert any("0.34" in claim for claim in said)


def test_rows_of_other_files_are_judged_by_their_counts(script):
    row = {"claim": "c", "where": "4.3", "command": "python x.py"}
    verdicts = [script.row_of({**row, **more}).verdict for more in (
        {"holds": 100, "of": 100}, {"holds": 0, "of": 100}, {"holds": 3, "of": 100},
        {"holds": 1, "of": 1}, {"holds": False}, {"verdict": "not run"},
    )]  # fmt: skip
    assert verdicts == ["holds (100 of 100 draws)", "contradicted (0 of 100 draws)",
                        "holds in 3 of 100 draws", "holds", "contradicted", "not run"]  # fmt: skip
    kinds = [script.kind(script.Row("", "", verdict, "", "")) for verdict in verdicts]
    assert kinds == ["holds", "contradicted", "holds in part", "holds", "contradicted",
                     "not tested"]  # fmt: skip


def test_curves_of_a_prototype_are_judged(script):
    curves = pd.DataFrame(
        [(epoch, test, k / 10, k / 10) for epoch in (1, 2)
         for k, test in enumerate(("t_L2", "t_L5", "t", "t_M5", "t_M2"))],
        columns=["epoch", "test", "loss", "acc"],
    )  # fmt: skip
    better, least, changes = script.prototype_rows(curves, "made up")
    assert better.verdict.startswith("holds (2 of 2")
    assert least.verdict.startswith("holds (2 of 2")
    assert changes.numbers == "it changes 0 times between them"
