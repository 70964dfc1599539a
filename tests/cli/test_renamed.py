"""Old names of options: they work, say the new one, and are shown nowhere."""

import click
import numpy as np
import pytest
import zarr
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli.renamed import WithOldNames

RENAMED = {
    ("append", "--group"): "--into",
    ("align", "--figure"): "--plot",
    ("spectrum", "--figure"): "--plot",
    ("susceptibility", "--figure"): "--plot",
    ("neighbours", "--labels"): "--rule",
    ("issues", "--threshold"): "--max-score",
    ("report", "--threshold"): "--mark",
    ("subsets", "--save"): "--out",
    ("link", "--features"): "--x",
    ("link", "--label-kind"): "--labels",
}
LINE = "Warning: {} is called {} now; the old name works in version 0.2 and ends after it"


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    split = np.where(np.arange(40) < 30, "train", "test")
    made = dr.create_store(tmp_path / "own.zarr", rng.normal(size=(40, 2)), np.arange(40) % 2,
                           split)  # fmt: skip
    dr.sample_robustness(made).write()
    return made


def run(*args):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def told(result):
    return [line for line in result.stderr.splitlines() if line.startswith("Warning")]


def test_the_old_names_are_these():
    there = {
        (command.name, option.opts[0]): option.now.opts[0]
        for command in cli.main.commands.values() if isinstance(command, WithOldNames)
        for option in command._old
    }  # fmt: skip
    assert there == RENAMED


@pytest.mark.parametrize(("command", "old"), RENAMED)
def test_no_help_and_no_completion_shows_an_old_name(command, old):
    assert f"{old} " not in run(command, "--help").stdout.replace("`", " ")
    completed = ShellComplete(cli.main, {}, "dskrobust", "_X").get_completions([command], "--")
    assert old not in {item.value for item in completed}
    assert RENAMED[command, old] in {item.value for item in completed}


def test_subsets_are_saved_as_before(store, tmp_path):
    asked = ("subsets", store.url, "--least", 5, "--within", "train")
    old = run(*asked, "--save", tmp_path / "old.npz")
    new = run(*asked, "--out", tmp_path / "new.npz")
    assert (old.exit_code, new.exit_code) == (0, 0)
    assert told(old) == [LINE.format("--save", "--out")]
    assert told(new) == []
    assert f"{tmp_path / 'old.npz'}" in old.stdout
    old_rows, new_rows = np.load(tmp_path / "old.npz"), np.load(tmp_path / "new.npz")
    assert old_rows.files == new_rows.files
    assert all(np.array_equal(old_rows[name], new_rows[name]) for name in new_rows.files)


def test_rows_are_appended_to_a_group(store, tmp_path):
    np.savez(tmp_path / "more.npz", X=np.ones((3, 2)), y=np.zeros(3, dtype=int))
    result = run("append", store.url, tmp_path / "more.npz", "--group=test")
    assert result.exit_code == 0, result.output
    assert told(result) == [LINE.format("--group", "--into")]
    grown = dr.open_store(store.url)
    assert grown.summary.groups[grown.groups.index("test")].rows == 13


def test_arrays_are_linked(tmp_path):
    for name, values in (("x", np.eye(6)), ("y", np.arange(6.0))):
        zarr.save_array(str(tmp_path / f"{name}.zarr"), values)
    result = run("link", tmp_path / "own.zarr", "--features", tmp_path / "x.zarr",
                 "--y", tmp_path / "y.zarr", "--label-kind", "real")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert told(result) == [
        LINE.format("--features", "--x"),
        LINE.format("--label-kind", "--labels"),
    ]
    assert dr.open_store(tmp_path / "own.zarr").spec.label_kind == "real"


def test_a_value_is_checked_as_that_of_the_new_name(store):
    result = run("neighbours", store.url, "--labels", "sam")
    assert result.exit_code == 2
    assert "Invalid value for '--rule': 'sam'" in result.stderr
    assert "Did you mean" in result.stderr or "same" in result.stderr


def test_both_names_at_once_are_refused(store, tmp_path):
    result = run("subsets", store.url, "--save", "a.npz", "--out", "b.npz")
    assert result.exit_code == 2
    assert "--save is the old name of --out; give --out alone" in result.stderr


def test_a_slip_is_never_told_by_an_old_name(store):
    result = run("append", store.url, "more.npz", "--grop", "train")
    assert result.exit_code == 2
    assert "No such option '--grop'" in result.stderr
    assert "--group" not in result.stderr


def test_what_may_be_repeated_keeps_all_of_it():
    @click.command(cls=WithOldNames, old={"--row": "--line"})
    @click.option("--line", "lines", multiple=True, type=int)
    def command(lines):
        click.echo(lines)

    result = CliRunner().invoke(command, ["--line", "1", "--row", "2", "--row", "3"])
    assert (result.exit_code, result.stdout) == (0, "(1, 2, 3)\n")
    assert told(result) == [LINE.format("--row", "--line")]
