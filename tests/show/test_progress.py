"""Lines of progress: what is left is never cut off, phases have names, logs have plain lines."""

import ast
import io
import re
import time
from contextlib import contextmanager

import click
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli.run_view import RunView, connected
from dskrobust.cluster import ClusterOptions
from dskrobust.compute import STARTING, Watch, run_and_write
from dskrobust.engine.events import MERGING, PREFIXES, SAMPLE, WRITING, watch_phases
from dskrobust.show import terminal
from dskrobust.show.live import show_phase


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def job(what="Euclidean", done=40, total=100, note="1,234 of 5,678 tiles (12 resumed)", **more):
    made = terminal.Progress(what, total, **{"unit": "", **more})
    made.note, made.done = note, done
    made.started -= 3_700
    made.changed = time.monotonic()
    return made


@given(
    st.integers(28, 220), st.integers(0, 1_000),
    st.text(st.characters(categories=["L"]), max_size=60),
    st.sampled_from(["", "12 of 45 tiles", "99,999,999 of 99,999,999 tiles (1,000,000 resumed)"]),
    st.sampled_from(["", "rows"]),
)  # fmt: skip
def test_a_line_fits_and_keeps_what_is_left(width, done, what, note, unit):
    made = job(what or "x", done, 1_000, note, unit=unit)
    line = made.line(width)
    assert cell_len(line.plain.rstrip()) <= width
    assert made.percent().strip() in line.plain
    if 0 < done < 1_000:
        assert re.search(r"\d+:\d\d (min|h) left|\d+ s left", line.plain)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_in_a_terminal_of_any_width(width):
    console = Console(width=width, force_terminal=True, record=True, file=io.StringIO())
    console.print(job())
    text = console.export_text()
    assert text.count("\n") == 1
    assert "left" in text
    assert "━" in text
    assert ("tiles" in text) == (width >= 80)
    assert ("1:01 h" in text) == (width == 200)  # so far


def test_a_phase_is_said_and_foretells_nothing():
    made = job(note="")
    before = made.left
    made.begin_phase("sample")
    made._since -= 1_000  # it took that long
    made.started -= 1_000
    assert made.words()[0] == "sample"
    assert "left" not in " ".join(made.words())
    made.begin_phase("")
    assert made.left == pytest.approx(before, abs=1)
    assert "sample" not in " ".join(made.words())


def test_phases_at_the_end_come_after_all_tiles():
    made = job(done=40)
    show_phase(made, MERGING)
    assert made.phase == ""
    show_phase(made, PREFIXES)
    assert made.phase == PREFIXES
    made.done = 100
    show_phase(made, SAMPLE)
    assert made.phase == PREFIXES
    for phase in (MERGING, WRITING):
        show_phase(made, phase)
        assert made.phase == phase


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_dumb_terminal_has_lines(term, monkeypatch, capsys):
    screen = Screen()
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", screen)
    with terminal.progress("Job", 10) as made:
        made.begin_phase("starting workers")
        for _ in range(10):
            made.add(1)
    moving = "\x1b[" in screen.getvalue()
    assert moving == (term != "dumb")
    if term == "dumb":
        lines = screen.getvalue().splitlines()
        assert lines[0].startswith("Job: 0 % · starting workers")
        assert 6 <= len(lines) <= 11


# -- what runs tell ----------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(900) % 3
    X = rng.normal(y[:, None], 1.0, (900, 300)).astype(np.float32)
    return dr.create_store(str(tmp_path / "own.zarr"), X, y)


def test_a_run_tells_its_phases(store):
    options = dr.RunOptions(dr.Resources(1, 1, None), block_rows=300)
    lazy, told = dr.sample_robustness(store, options=options), []
    with watch_phases(None, told.append, lazy.run), watch_phases(None, told.append, "other"):
        lazy.write()
    assert {MERGING, WRITING} <= set(told)
    assert told[-1] == WRITING
    assert set(told) <= {SAMPLE, PREFIXES, MERGING, WRITING}


def test_a_search_that_computes_no_robustness_shows_none(store, capsys):
    def prepare(resources):
        how = dr.RunOptions(resources, block_rows=300)
        return dr.nearest_neighbours(store, 3, options=how)

    options = ClusterOptions(dashboard=False)
    with RunView("Neighbours", options) as view:
        run_and_write(store, prepare, options, Watch(view.start, view.tell, view.begin))
    view.say_work()
    told = capsys.readouterr()
    assert "Neighbours: 100 %" in told.err
    assert "writing" in told.err
    assert "R at most" not in told.err
    assert "pairs proven" in told.out


@pytest.mark.cluster
def test_workers_that_start_are_said(store, capsys):
    options = ClusterOptions(workers=1, threads=1, dashboard=False)

    def prepare(resources):
        return dr.sample_robustness(store, options=dr.RunOptions(resources, block_rows=300))

    with RunView("Euclidean", options) as view:
        run_and_write(store, prepare, options, Watch(view.start, view.tell, view.begin))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"Euclidean: {STARTING}")
    assert any(WRITING in line for line in lines)


@pytest.mark.parametrize(
    ("columns", "term"), [(80, "xterm-256color"), (40, "xterm-256color"), (80, "dumb"), (80, "")]
)
def test_every_command_says_that_workers_start(columns, term, monkeypatch):
    """In terminals of 80 and 40 columns, in one that moves nothing, and in a file ("")."""
    screen = Screen() if term else io.StringIO()
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr", screen)
    started = []

    @contextmanager
    def connect(options):
        time.sleep(0.3)  # of the seconds that a cluster takes
        started.append(options)
        yield "client"

    monkeypatch.setattr("dskrobust.cluster.connect", connect)
    options = ClusterOptions(workers=1)
    command = click.Context(cli.main.commands["adversarials"], info_name="adversarials")
    with command, connected(options) as client:
        assert (client, started) == ("client", [options])
        said = screen.getvalue()
    assert screen.getvalue() == said  # the line is gone before anything else is said
    moving = term.startswith("xterm")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)  # without colours; what moves ends a line
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", plain).splitlines()
    shown = [line for line in lines if STARTING in line]
    assert shown
    assert all(line.startswith("Adversarials") for line in lines if line.strip())
    assert max(map(cell_len, shown)) <= columns
    assert ("\x1b[" in said) == moving
    assert moving or shown == [f"Adversarials: {STARTING} · 0.0 s"]


def test_no_command_starts_workers_without_a_word():
    """Whoever needs workers asks `connected`; a scheduler is only looked at elsewhere."""
    callers = set()
    for path in (ROOT / "dskrobust" / "cli").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                called = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
                if {"connect", "local_cluster"} & {getattr(one, "id", "") for one in called}:
                    callers.add((path.stem, function.name))
    assert callers == {("run_view", "connected"), ("compute", "check_scheduler")}


@pytest.mark.cluster
def test_workers_of_a_search_start_with_a_word(store):
    dr.sample_robustness(store).write()
    asked = ["match", store.url, "--within", "all", "--to", "all", "--size", "30", "--workers", "1"]
    result = CliRunner().invoke(cli.main, asked)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0].startswith(f"Match: {STARTING}")
