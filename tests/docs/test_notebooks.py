"""The notebooks run, are committed as they come out, and tell nothing about a machine."""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile

import pytest
from helpers import ROOT

pytest.importorskip("nbclient", reason="the notebooks need the extra docs")
import nbformat

SCRIPT = ROOT / "scripts" / "notebooks.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
# Where notebooks may not have been: anybody's home or temporary folder, and machines by name.
PLACES = re.compile(r"/(?:home|root|tmp|var|Users|work)/|file://|\b\w+\.local\b|\b0\.0\.0\.0\b")


@pytest.fixture(scope="module")
def scripts():
    """The script that runs notebooks, as a module."""
    spec = importlib.util.spec_from_file_location("notebooks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook):
    """Everything that a notebook's outputs say, without pictures."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield from output.get("data", {"text": output.get("text", "")}).items()


def test_there_are_the_four_stories():
    assert set(NAMES) >= {"quickstart", "larger-than-memory", "own-data", "paper"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_runs(path, tmp_path):
    without = ("DSKROBUST_DATA", "DSKROBUST_STORES")  # the paper from the results that are kept
    environment = {name: value for name, value in os.environ.items() if name not in without}
    ran = subprocess.run(
        [sys.executable, SCRIPT, path, "--out", tmp_path],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    done, kept = (nbformat.read(p, as_version=4) for p in (tmp_path / path.name, path))
    assert [cell.source for cell in done.cells] == [cell.source for cell in kept.cells]
    assert any(cell.outputs for cell in code_cells(done))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_is_committed_with_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run it with scripts/notebooks.py"
    kinds = {output.output_type for cell in code_cells(notebook) for output in cell.outputs}
    assert "error" not in kinds
    assert {"execute_result", "display_data"} & kinds


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_names_no_place_of_a_machine(path):
    notebook = nbformat.read(path, as_version=4)
    found = [PLACES.search(str(text)) for kind, text in texts(notebook) if "image" not in kind]
    assert not [match[0] for match in found if match]
    assert "execution" not in {key for cell in notebook.cells for key in cell.metadata}


def test_cleaning_takes_out_what_changes(scripts):
    cell = nbformat.v4.new_code_cell("1", metadata={"execution": {"iopub.execute_input": "now"}})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("stream", name="stdout", text="at http://127.0.0.1:4321/status"),
        nbformat.v4.new_output(
            "display_data", {"text/html": f"<b>{tempfile.gettempdir()}/tmpx7_/own.zarr</b>"}
        ),
    ]
    cleaned = scripts.clean(nbformat.v4.new_notebook(cells=[cell]))
    text, shown = cleaned.cells[0].outputs
    assert text.text == "at http://127.0.0.1:8787/status"
    assert shown.data == {"text/html": "<b>own.zarr</b>"}
    assert cleaned.cells[0].metadata == {}
