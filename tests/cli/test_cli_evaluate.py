"""The commands `evaluate` and `run`: what they print and write, and how they fail."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli import evaluate

MODEL = "sklearn.linear_model.Ridge"
TOML = """
trials = 2
threshold = 100
[train]
x = "train"
x_L = "train:L40"
[test]
t = "test"
[[models]]
kind = "forest"
[models.grid]
trees = [1, 2]
"""


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(120, 4))
    split = np.where(np.arange(120) % 4 == 0, "test", "train")
    url = str(tmp_path_factory.mktemp("scored") / "s.zarr")
    y = 100 + X[:, 0] + 0.1 * rng.normal(size=120)
    store = dr.create_store(url, X, y, split, spec=dr.StoreSpec("shares", "real"))
    dr.sample_robustness(store).write()
    return url


@pytest.fixture
def here(scored, tmp_path, monkeypatch):
    """A folder with a store and an experiment; commands run in it."""
    shutil.copytree(scored, tmp_path / "s.zarr")
    (tmp_path / "e.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(local_cluster):
    """Run a command on the session's workers; return standard output, or error with code > 0."""

    def run(*arguments, code=0, both=False):
        where = ["--scheduler", local_cluster.scheduler_address]
        result = CliRunner().invoke(cli.main, [*map(str, arguments), *where])
        assert result.exit_code == code, result.output
        assert "\x1b" not in result.output
        assert "Traceback" not in result.stderr
        return result.output if both else result.stderr if code else result.stdout

    return run


def lines_of(text):
    return [line for line in text.splitlines() if not line.startswith("Evaluating: ")]


@pytest.mark.parametrize("command", ["evaluate", "run"])
def test_help(command):
    text = CliRunner().invoke(cli.main, [command, "--help"], prog_name="dskrobust").output
    assert f"dskrobust {command} " in text
    assert max(map(len, text.splitlines())) <= 80


def test_evaluate_has_defaults_for_everything(here, call):
    text = call(
        "evaluate",
        "s.zarr",
        "--model",
        MODEL,
        "--grid",
        "alpha=1,100",
        "--trials",
        1,
        "--out",
        "t.csv",
    )
    assert "plan        6 steps" in text
    assert "x_L" in text
    assert "t_M" in text
    assert f"{MODEL}\n" in text
    assert "alpha where ACC is highest on t" in text
    assert "alpha where ACC is highest on each test subset" in text
    assert "table       t.csv" in text
    table = pd.read_csv("t.csv")
    assert set(table["train"]) == {"x", "x_L", "x_M"}
    assert set(table["test"]) == {"t", "t_L", "t_M"}
    assert set(table["alpha"]) == {1, 100}
    assert len(table) == 18


def test_what_is_finished_is_not_done_again(here, call):
    asked = ["evaluate", "s.zarr", "--model", "forest", "--grid", "trees=1:3", "--trials", "2",
             "--set", "max_depth=3", "--option", "nested=true", "--train", "x=train",
             "--test", "test"]  # fmt: skip
    first = call(*asked)
    assert "plan        2 steps\n" in first
    again = CliRunner().invoke(cli.main, asked)
    assert again.exit_code == 0
    assert "plan        2 steps, 2 of them finished earlier" in again.stdout
    found = first[first.index("forest") : first.index("memory ")]  # of a process that grows
    assert found in again.stdout
    more = call(*asked[:7], "3", *asked[8:])
    assert "plan        3 steps, 2 of them finished earlier" in more


def test_json(here, call):
    facts = json.loads(call("run", "e.toml", "s.zarr", "--json"))
    table = dr.evaluate("s.zarr", dr.read_experiment("e.toml")).table
    assert facts["table"] == table.to_dict("records")
    assert facts["failures"] == []
    assert facts["experiment"]["threshold"] == facts["threshold"] == 100
    assert facts["stored_threshold"] == pytest.approx(100)
    assert facts["versions"]["dskrobust"] == [dr.__version__]
    assert {row["seed"] for row in facts["table"]} == {
        job.seed for job in dr.evaluate("s.zarr", dr.read_experiment("e.toml")).jobs
    }
    assert facts["segments"] == [digest for _, digest in dr.open_store("s.zarr").segments]


def test_the_median_is_told_in_the_labels_units(here, call):
    facts = json.loads(
        call(
            "evaluate",
            "s.zarr",
            "--model",
            MODEL,
            "--train",
            "x=train",
            "--test",
            "t=test",
            "--json",
        )
    )
    assert facts["threshold"] == pytest.approx(np.median(dr.open_store("s.zarr").labels[:]))


def test_steps_of_other_versions_are_told_of(here, call):
    asked = ["evaluate", "s.zarr", "--model", MODEL, "--grid", "alpha=1,2"]
    asked += ["--train", "x=train", "--test", "t=test"]
    call(*asked)
    found = dr.evaluate(
        "s.zarr", train={"x": "train"}, test={"t": "test"}, models=[dr.Model(MODEL, {"alpha": [1]})]
    )
    record = found.records.load(found.jobs[0].name)
    record["facts"]["versions"]["numpy"] = "0.1"
    found.records.save(found.jobs[0].name, record)
    result = CliRunner().invoke(cli.main, asked)
    assert result.exit_code == 0
    (line,) = lines_of(result.stderr)
    assert line == (
        f"Warning: the steps were made with different versions: numpy 0.1 and {np.__version__}"
    )


def test_one_of_several_models_has_its_own_values(here, call):
    net = "sklearn.neural_network.MLPRegressor"
    facts = json.loads(
        call(
            "evaluate", "s.zarr", "--model", "forest", "--model", net, "--grid", "forest.trees=1:2",
            "--set", "forest.max_depth=2", "--set", f"{net}.max_iter=5",
            "--grid", f"{net}.hidden_layer_sizes=[2],[3,2]", "--option", "forest.nested=true",
            "--train", "x=train", "--test", "t=test", "--trials", 1, "--json",
        )
    )  # fmt: skip
    forest, other = facts["experiment"]["models"]
    assert (forest["grid"], forest["parameters"]) == ({"trees": [1, 2]}, {"max_depth": 2})
    assert other["grid"] == {"hidden_layer_sizes": [[2], [3, 2]]}
    assert (other["parameters"], other["options"]) == ({"max_iter": 5}, {})
    assert len(facts["table"]) == 4


def test_values_for_all_models_and_for_one():
    given = {"a": 1, "b": 2, "knn.a": 3}
    assert evaluate._own(given, "knn", ["knn", "x.y"]) == {"a": 3, "b": 2}
    assert evaluate._own(given, "x.y", ["knn", "x.y"]) == {"a": 1, "b": 2}


def test_an_experiment_is_written_out(here, call):
    Path("e.toml").write_text('store = "s.zarr"\n' + TOML)
    text = call("run", "e.toml", "--out", "results")
    assert "plan        8 steps" in text
    assert "written     results/table.csv" in text
    found = {path.name: path.read_text() for path in Path("results").iterdir()}
    assert set(found) == {"table.csv", "matrices.md", "facts.json"}
    assert found["matrices.md"].count("**forest**") == 2
    assert json.loads(found["facts.json"])["experiment"]["trials"] == 2
    pd.testing.assert_frame_equal(
        pd.read_csv("results/table.csv"), dr.evaluate("s.zarr", dr.read_experiment("e.toml")).table
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "s.zarr", "--model", "tree"],
            "model 'tree' is unknown; choose from cnn, forest, knn",
        ),
        (["evaluate", "no.zarr", "--model", "forest"], "Error: there is no store at no.zarr"),
        (["evaluate", "s.zarr", "--model", "forest", "--grid", "tree=1"], "did you mean 'trees'?"),
        (
            ["evaluate", "s.zarr", "--model", "forest", "--threshold", "1400"],
            "is out of range",
        ),
        (
            ["evaluate", "s.zarr", "--model", "forest", "--test", "t=rest"],
            "no group 'rest'",
        ),
        (["run", "no.toml"], "Error: there is no experiment file no.toml"),
        (["run", "e.toml"], "Error: e.toml names no store; give one after it"),
        (["run", "wrong.toml", "s.zarr"], "Error: wrong.toml: key 'trails' is unknown; did you"),
    ],
)
def test_bad_input_is_one_line(here, arguments, message):
    Path("wrong.toml").write_text("trails = 3\n" + TOML)
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert message in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "s.zarr"],
        ["evaluate", "s.zarr", "--model", "forest", "--grid", "trees"],
        ["evaluate", "s.zarr", "--model", "forest", "--set", "a=1", "--set", "a=2"],
        ["evaluate", "s.zarr", "--model", "forest", "--train", "x=train", "--train", "x=test"],
        ["evaluate", "s.zarr", "--model", "forest", "--trials", "0"],
        ["evaluate", "s.zarr", "--model", "forest", "--grid", "knn.neighbors=1:3"],
        ["evaluate", "s.zarr", "--model", "forest", "--grid", "trees=[1"],
        ["run"],
    ],
)
def test_usage_errors_are_told_apart(here, arguments):
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_groups_of_other_names_have_to_be_given(tmp_path):
    X = np.arange(20.0)[:, None]
    url = dr.create_store(str(tmp_path / "a.zarr"), X, X[:, 0]).url
    result = CliRunner().invoke(cli.main, ["evaluate", url, "--model", MODEL])
    assert result.exit_code == 1
    assert "there is no group 'train', the groups are all; say what to take with --train x=" in (
        result.stderr
    )


def test_failures_do_not_keep_the_rest_from_being_written(here, call):
    Path("e.toml").write_text(
        TOML + '[[models]]\nkind = "odd_estimators.Mean"\nname = "mean"\n'
        "[models.parameters]\nrandom_state = 1\n[models.grid]\nflag = ['']\nfail = [true, false]\n"
    )
    told = call("run", "e.toml", "s.zarr", "--out", "results", code=1)
    assert len(lines_of(told)) == 3
    found = Path("results/matrices.md").read_text()
    assert found.count("**forest**") == 2
    assert "mean, fail = False" in found
    assert "fail = True" not in found
    assert len(json.loads(Path("results/facts.json").read_text())["failures"]) == 2


def test_failures_are_a_line_each_and_an_exit_code(here, call):
    told = call(
        "evaluate", "s.zarr", "--model", "odd_estimators.Mean", "--grid", "fail=true,false",
        "--set", "random_state=1", "--train", "x=train", "--test", "t=test", code=1,
    )  # fmt: skip
    assert lines_of(told) == [
        "Failed: odd_estimators.Mean on x (fail=True), trial 1: ArithmeticError: it does not add "
        "up",
        "Error: 1 of 2 steps failed; run the same command again to try them again",
    ]


@pytest.mark.parametrize("grid", ["fail=true,false", "fail=true"])
def test_a_spectrum_of_steps_that_failed_is_no_success(here, call, grid):
    asked = ["spectrum", "s.zarr", "--model", "odd_estimators.Mean", "--grid", grid]
    told = call(*asked, "--set", "random_state=1", "--windows", "2", "--out", "c.csv", code=1)
    failed, error = lines_of(told)[:-1], lines_of(told)[-1]
    assert all(re.match(r"Failed: odd_estimators\.Mean on .*it does not add up", f) for f in failed)
    assert re.match(rf"Error: {len(failed)} of \d+ steps failed; run the same command", error)
    assert Path("c.csv").exists()


def test_a_local_cluster(here):
    asked = ["evaluate", "s.zarr", "--model", MODEL, "--workers", "1", "--no-dashboard"]
    result = CliRunner().invoke(cli.main, asked)
    assert result.exit_code == 0, result.output
    assert "dashboard" not in result.stdout
    assert re.search(r"^records +\S+s\.zarr/evaluations/[0-9a-f]{16}$", result.stdout, re.M)


def test_equal_rows_on_both_sides_are_a_line(call, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 2)), np.arange(40) % 2
    X[30:33] = X[:3]
    url = str(tmp_path / "e.zarr")
    dr.create_store(url, X, y, np.repeat(["train", "test"], [30, 10]))
    asked = ["evaluate", url, "--model", "knn", "--grid", "neighbors=1"]
    (line,) = re.findall(r"^Warning: (up to .*)$", call(*asked, both=True), re.MULTILINE)
    assert line.startswith("up to 3 samples of t equal one of x in every feature")
    assert line.endswith("drop repeats, or split with group=COLUMN (--group COLUMN)")
