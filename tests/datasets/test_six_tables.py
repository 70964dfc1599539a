"""Tables as people have them go from a file to a report with one line that reads each."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust.cli import main

sys.path.insert(0, str(Path(__file__).parent))
from six_tables import TABLES

ROWS = {"passengers": 400, "payments": 10_000, "houses": 500, "measurements": 400,
        "mushrooms": 500, "embeddings": 1_500}  # fmt: skip
SCALED = "numbers are scaled to mean 0 and standard deviation 1, over all rows"
READ = {
    "passengers": (
        "PassengerId: names the rows (rising whole numbers); no feature",
        "Name: left out, text of 400 different values",
        "Ticket: left out, text of 400 different values",
        "Cabin: left out, text of ",
        "Sex: 2 categories, a column each",
        "Embarked: 4 categories, a column each",
        "Age: ",
        "Embarked: 1 missing value made a category of their own",
        f"{SCALED}: they stand beside categories or dates",
    ),
    "payments": (f"{SCALED}: 'Time' spreads ",),
    "houses": ("date: dates as days since 1970", f"{SCALED}: 'sqft' spreads "),
    "measurements": (
        "columns are separated by semicolon (option delimiter)",
        "the decimal mark is a comma (option decimal)",
        "the encoding is cp1252 (option encoding)",
    ),
    "mushrooms": ("true or yes is 1, false or no is 0 in 'cap_flat', 'cap_bell'",),
    "embeddings": (),
}
NOTES = {
    "passengers": ("2 classes, ",),
    "payments": ("column Time holds times that rise", "1 class is rare: 1 has 0.2 % (20)"),
    "houses": (),
    "measurements": ("2 columns: Luftdruck, Temperatur (°C) make up over 99.9 % of the mean",),
    "mushrooms": ("500 of 500 rows",),
    "embeddings": ("10 classes, ",),
}
FEATURES = {"passengers": 9, "payments": 30, "houses": 5, "measurements": 3, "mushrooms": 6,
            "embeddings": 400}  # fmt: skip
IDS = {"passengers": 1, "houses": 10**9, "embeddings": "doc-00000"}


@pytest.fixture(params=list(TABLES))
def table(request, tmp_path):
    write, options = TABLES[request.param]
    return request.param, write(tmp_path, ROWS[request.param]), options


def run(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_table_becomes_a_report(table, tmp_path):
    name, path, options = table
    told = run("ingest", path, *options, "-o", tmp_path / "own.zarr")
    assert "pandas" not in path.read_text(errors="replace")
    store = dr.open_store(tmp_path / "own.zarr")
    read = [line.split(" ", 1)[1].strip() for line in told.splitlines() if line[:5] == "read "]
    assert len(read) == len(READ[name])
    for line, start in zip(read, READ[name], strict=True):
        assert line.startswith(start)
    for start in NOTES[name]:
        assert any(line.startswith("note ") and start in line for line in told.splitlines())
    assert store.columns == FEATURES[name]
    assert store.has_ids == (name in IDS)
    if name in IDS:
        assert min(store.ids[:].tolist()) == IDS[name]
    dr.sample_robustness(store).write()
    run("report", tmp_path / "own.zarr", "--out", tmp_path / "own.html")
    page = (tmp_path / "own.html").read_text()
    shown = json.loads(run("show", tmp_path / "own.zarr", "--json"))
    assert {note["text"] for note in shown["notes"]} >= set(store.spec.decisions)
    for decision in store.spec.decisions[:1]:
        assert decision.split(" (")[0].replace("'", "&#39;") in page


def test_a_rare_class_is_not_suspicious(tmp_path):
    """Of payments without a wrong label at most 2 % of the rare class may be called wrong."""
    write, options = TABLES["payments"]
    run("ingest", write(tmp_path, 50_000), *options, "-o", tmp_path / "own.zarr")
    store = dr.open_store(tmp_path / "own.zarr")
    issues = dr.find_label_issues(store)
    rare = issues[issues.given_label.astype(str) == "1"]
    assert len(rare) == 100
    assert rare.is_issue.sum() <= 0.02 * len(rare)
