"""What the pages show is what comes out: Python examples, sessions, commands, the gallery."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers import NOTEBOOKS, ROOT, load_script

from dskrobust.cli import main

PAGES = [
    ROOT / "README.md",
    *sorted(NOTEBOOKS.glob("*.md")),
    *sorted(NOTEBOOKS.glob("how-to/*.md")),
]
WITH_PYTHON = [path for path in PAGES if ">>> " in path.read_text(encoding="utf-8")]
sessions = load_script("sessions")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_python_examples_print_what_they_say(path):
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert sum(block.count(">>> ") for block in blocks) == text.count(">>> ")
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, path.name, str(path), 0)
    said = []
    doctest.DocTestRunner().run(examples, out=said.append)
    assert "".join(said) == ""


# -- sessions ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    sessions.prepare(folder)
    return folder


@pytest.mark.cluster
@pytest.mark.parametrize("path", sessions.pages(), ids=name_of)
def test_sessions_print_what_they_say(path, made):
    page = path.read_text(encoding="utf-8")
    with sessions.folder_of(made):
        for block in sessions.BLOCK.findall(page):
            for command, printed in sessions.sessions(block):
                assert sessions.steady(sessions.output(command)) == sessions.steady(printed)


def test_a_page_is_renewed_where_it_differs():
    def run(command):
        return f"{command} took 3.2 s\n1 row\n"

    same = "```console\n$ dskrobust a\ndskrobust a took 12 s\n1 row\n```\n"
    assert sessions.renewed(same, run) == same
    other = same.replace("1 row", "2 rows")
    assert sessions.renewed(other, run) == same.replace("12 s", "3.2 s")


# -- commands ----------------------------------------------------------------------------------


def commands(path):
    """Yield what a page has of commands: in blocks, and in a line's backticks."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```(?:console|bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = (line.removeprefix("$ ") for line in block.splitlines())
        yield from (line for line in lines if line.startswith("dskrobust "))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = (" ".join(line.split()) for line in re.findall(r"`(dskrobust [^`]+)`", prose))
    yield from (line for line in found if "COMMAND" not in line)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_and_their_options_exist(path):
    for line in commands(path):
        words = shlex.split(line.replace("…", ""), comments=True)[1:]
        if words[0].startswith("-"):
            continue
        if line == "dskrobust co":  # which the shell completes
            continue
        command = main.commands.get(words[0])
        assert command is not None, line
        options = {o: p for p in command.params for o in (*p.opts, *p.secondary_opts)}
        for word, value in zip(words, [*words[1:], ""], strict=True):
            if not word.startswith("-") or re.fullmatch(r"-\d.*", word):
                continue
            name, _, given = word.partition("=")
            assert name in {*options, "--help", "-h"}, line
            kind = options[name].type if name in options else None
            if isinstance(kind, click.Choice) and (given or value).islower():
                assert set((given or value).split("|")) <= set(kind.choices), line


def test_the_readme_fits_on_a_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert text.count("\n## ") <= 2
    assert text.count("![") == 1


# -- the gallery -------------------------------------------------------------------------------


def test_the_gallery_shows_what_its_commands_make():
    gallery = load_script("make_gallery")
    page = gallery.PAGE.read_text(encoding="utf-8")
    made = {Path(line.split()[-1]).name for line in gallery.commands(page)}
    shown = gallery.images(page)
    assert len(shown) > 5
    for image in shown:
        assert image.name in made
        assert image.read_bytes().startswith(b"\x89PNG")
        assert image.stat().st_size < 150_000
    assert set((NOTEBOOKS / "images" / "gallery").iterdir()) == set(shown)


# -- a plain installation ------------------------------------------------------------------------

PLAIN = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.split(".")[0] in {hidden} else find(name, path, target)


PathFinder.find_spec = find_spec
"""
OTHERS = {"PIL", "dask_ml", "h5py", "matplotlib", "torch", "xarray", "xgboost"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What runs a program in a folder where the extras' libraries are hidden."""
    from dskrobust.extras import EXTRAS

    folder = tmp_path_factory.mktemp("plain")
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(PLAIN.format(hidden=sorted({*EXTRAS, *OTHERS})))
    path = os.pathsep.join([str(site), str(ROOT)])
    rows = "".join(f"{k},{k % 7},{k % 2}\n" for k in range(50))
    (folder / "own.csv").write_text(f"a,b,label\n{rows}")

    def run(*words):
        return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"})  # fmt: skip

    return run


def test_scoring_needs_the_core_alone(plain):
    program = """
import numpy as np
import dskrobust as dr

rng = np.random.default_rng(0)
X, y = rng.normal(size=(300, 5)), rng.integers(0, 3, 300)
np.savez("own.npz", X=X, y=y)
assert dr.sample_robustness(X, y).compute().robustness.shape == (300,)
near = dr.nearest_neighbours(X, k=3).compute()
assert near.index.shape == (300, 3)
assert dr.count_within(X, 1.0).compute().shape == (300,)
"""
    done = plain("-c", program)
    assert done.returncode == 0, done.stderr
    for command in ("ingest own.npz", "plan own.zarr", "compute own.zarr", "show own.zarr",
                    "show own.zarr 3", "subsets own.zarr --least 5", "verify own.zarr",
                    "neighbours own.zarr --k 3", "append own.zarr own.npz", "compute own.zarr",
                    "compute own.zarr --workers 1 --metric cityblock"):  # fmt: skip
        done = plain("-m", "dskrobust", *command.split())
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize(
    ("words", "library", "extra"),
    [
        ("ingest own.csv --target label --out csv.zarr", "pyarrow", "tables"),
        ("ingest digits --out digits.zarr", "sklearn", "analysis"),
        ("issues own.zarr", "pandas", "tables"),
        ("export own.zarr --out scores.csv", "pandas", "tables"),
        ("report own.zarr", "pandas", "tables"),
    ],
)
def test_what_needs_more_says_which_extra(plain, words, library, extra):
    done = plain("-m", "dskrobust", *words.split())
    assert done.returncode == 1
    assert f"Error: {library} is not installed: pip install 'dskrobust[{extra}]'" in done.stderr


def test_python_is_told_too(plain):
    program = """
import pickle
import dskrobust as dr
from dskrobust.errors import MissingLibraryError

try:
    dr.SampleRobustness
except MissingLibraryError as error:
    assert error.name == "sklearn"
    again = pickle.loads(pickle.dumps(error))  # from a worker
    assert (str(again), again.name) == (str(error), "sklearn")
    print(error)
try:
    import pandas
except ModuleNotFoundError as error:
    assert type(error) is ModuleNotFoundError  # nobody else's imports are meant
from importlib.util import find_spec
assert find_spec("json")
"""
    done = plain("-c", program)
    assert done.returncode == 0, done.stderr
    assert "pip install 'dskrobust[analysis]'" in done.stdout
