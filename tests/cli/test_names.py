"""Names on the command line: what a misspelt one may have meant, what the shell completes, and
what flags mean."""

import click
import numpy as np
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.cli.completion import NAMES, Named
from dskrobust.display import meant, nearest_name, no_group, suggestion
from dskrobust.errors import DskrobustError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store with the groups train and test, a table, and a folder of further stores."""
    made = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    split = np.where(np.arange(40) < 30, "train", "test")
    spec = dr.StoreSpec("own", "categorical", classes=("cat", "dog"))
    store = dr.create_store(str(made / "own.zarr"), rng.normal(size=(40, 2)), np.arange(40) % 2,
                            split, spec=spec)  # fmt: skip
    dr.sample_robustness(store).write()
    (made / "own.csv").write_text("width,height,species\n1,2,a\n2,3,b\n")
    (made / "deep" / "new.zarr").mkdir(parents=True)
    return made


def refused(*args):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args])
    assert result.exit_code != 0
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(("command", "close"), [
    ("comptue {s}", "compute"),
    ("rport {s}", "report"),
    ("compute {s} --metrik euclidean", "--metric"),
    ("compute {s} -m manhatan", "manhattan"),
    ("compute {s} -m euclidan", "euclidean"),
    ("plan {s} --labels categoricl", "categorical"),
    ("plan {s} --labels vector-linff", "linf"),
    ("neighbours {s} --rule sam", "same"),
    ("issues {s} --kind contradictons", "contradictions"),
    ("subsets {s} --within trian --least 5", "train"),
    ("align {s} trian test", "train"),
    ("bound {s} --model knn --train train --test tset", "test"),
    ("bound {s} --model kn", "knn"),
    ("evaluate {s} --model forrest", "forest"),
    ("evaluate {s} --model knn --train x=trian", "train"),
    ("evaluate {s} --model knn --grid neighbours=3", "neighbors"),
    ("report {s} --figure extreme_row", "extreme_rows"),
    ("ingest {f}/own.csv --target specis", "species"),
    ("ingest {f}/own.csv --target species --drop widdth", "width"),
    ("ingest {f}/own.csv --target species --impute meadian", "median"),
    ("ingest {f}/own.csv --target species --scale standrad", "standard"),
])  # fmt: skip
def test_a_misspelt_name_is_told_by_the_nearest_one(folder, command, close, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(*command.format(s=folder / "own.zarr", f=folder).split())
    assert "did you mean" in said.lower()
    assert close in said.lower().split("did you mean")[1].split("?")[0]


@pytest.mark.parametrize("ask", [
    lambda s: dr.sample_robustness(s, metric="citiblock"),
    lambda s: dr.LabelMap("catgorcal"),
    lambda s: dr.least_robust(dr.sample_robustness(s), 5, "trian"),
    lambda s: dr.sample_robustness(s, references={"x": "trian"}),
    lambda s: dr.StoreSpec("x", "categorial"),
    lambda s: dr.evaluate(s, train={"x": "train"}, test={"t": "tets"}, models=[dr.Model("knn")]),
])  # fmt: skip
def test_python_says_so_too(folder, ask):
    with pytest.raises(DskrobustError, match="did you mean '"):
        ask(dr.open_store(str(folder / "own.zarr")))


def test_the_nearest_name():
    assert nearest_name("MANHATTAN", ("euclidean", "manhattan")) == "manhattan"
    assert nearest_name("Trian", ("Train", "test")) == "Train"
    assert nearest_name("nothing like it", ("euclidean",)) is None
    assert nearest_name(7, (77, 1)) == "77"
    assert suggestion("xyz", ("a", "b")) == "choose from a, b"
    assert meant("xyz", ("a", "b")) == ""
    assert no_group("tset", ("train", "test")) == (
        "there is no group 'tset' (did you mean 'test'?); the groups are train, test"
    )


# -- completion --------------------------------------------------------------------------------


def completed(*words):
    """Return what the shell offers for the last of some words."""
    shell = ShellComplete(cli.main, {}, "dskrobust", "_DSKROBUST_COMPLETE")
    return [(item.value, item.type) for item in shell.get_completions(list(words[:-1]), words[-1])]


def values(*words):
    return [value for value, _ in completed(*words)]


def test_the_shell_completes_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "compare" in values("comp")
    assert values("compute", "own.zarr", "--metric", "man") == ["manhattan"]
    assert values("plan", "own.zarr", "--labels", "vector-l") == [
        "vector-l1", "vector-l2", "vector-linf",
    ]  # fmt: skip
    assert values("subsets", "own.zarr", "--within", "t") == ["test", "train"]
    assert values("evaluate", "own.zarr", "--train", "x=tr") == ["x=train"]
    assert values("align", "own.zarr", "te") == ["test"]
    assert values("evaluate", "own.zarr", "--model", "kn") == ["knn"]
    assert values("bound", "own.zarr", "--model", "f") == ["forest"]
    assert values("embed", "own.zarr", "--model", "torchv") == ["torchvision:"]
    assert values("susceptibility", "own.zarr", "--model", "res") == ["resnet56"]
    assert values("ingest", "own.csv", "--target", "s") == ["species"]
    assert values("ingest", "own.csv", "--scale", "st") == ["standard"]
    assert values("report", "own.zarr", "--figure", "extreme_r") == ["extreme_rows"]
    assert values("neighbours", "own.zarr", "--rule", "d") == ["different"]


def test_the_shell_completes_stores(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert values("compute", "o") == ["own.zarr"]
    assert values("compute", "deep/") == ["deep/new.zarr"]
    assert values("compare", "own.zarr", "") == ["own.zarr"]
    assert completed("compute", "de") == [("de", "dir")]
    assert values("compute", "nosuch/x") == []
    assert values("compute", "s3://bucket/x") == []


def test_what_cannot_be_read_has_no_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert values("subsets", "nosuch.zarr", "--within", "t") == []
    assert values("ingest", "nosuch.csv", "--target", "t") == []
    assert values("subsets", "deep/new.zarr", "--within", "t") == []


def test_columns_of_parquet_and_feather_are_completed(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    frame = pandas.DataFrame({"wide": [1], "wet": [2], "label": ["a"]})
    frame.to_parquet("own.parquet")
    frame.to_feather("own.feather")
    for name in ("own.parquet", "own.feather"):
        assert values("ingest", name, "--drop", "w") == ["wide", "wet"]


# -- one meaning a flag ------------------------------------------------------------------------

MEANINGS = {  # of flags that several commands explain in words of their own, and their values
    "--anonymous": ("leave names of people and places out", {None}),
    "--folds": ("how many folds", {None, "K", "N"}),
    "--k": ("how many neighbours", {None}),
    "--labels": ("what labels are taken for", {None, "MAP"}),
    "--max-score": ("largest score of an issue", {"SCORE"}),
    "--metric": ("the distance", {"METRIC"}),
    "--model": ("which model", {"MODEL"}),
    "--name": ("what the data set is called", {None}),
    "--option": ("how a model is run", {"KEY=VALUE"}),
    "--out": ("where what is made goes", {"STORE", "FILE", "FILE.csv", "FILE.npz", "DIR"}),
    "--overwrite": ("replace what is there", {None}),
    "--plot": ("a file with a figure of what came out", {"FILE", "FILE.png"}),
    "--scale": ("what features are multiplied by", {None, "standard|minmax|robust|none|FACTOR"}),
    "--seed": ("of what is drawn at random", {None}),
    "--set": ("a parameter of a model that stays as it is", {"KEY=VALUE", "NAME=VALUE"}),
    "--split": ("where the rows' groups are", {"NAME", "PATH"}),
    "--test": ("what is tested on", {"NAME=SELECTION", "SET", "GROUP"}),
    "--top": ("how many samples are listed", {None}),
    "--train": ("what is trained on", {"NAME=SELECTION", "SET", "GROUP"}),
    "--trials": ("how often a model is trained", {None}),
    "--within": ("what samples are chosen from", {"GROUP[:L500]", "SET"}),
    "--workers": ("how many processes work", {"N"}),
    "--x": ("where the features are", {"NAME", "PATH"}),
    "--y": ("where the labels are", {"NAME", "PATH"}),
}


def options():
    """Yield every flag of every command with its option."""
    for name, command in cli.main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                for flag in (*option.opts, *option.secondary_opts):
                    yield flag, name, option


def test_a_flag_has_one_meaning():
    """What one explanation serves has one; others are listed here, after somebody has looked."""
    by_flag, short = {}, {}
    for flag, name, option in options():
        if flag.startswith("--"):
            by_flag.setdefault(flag, {}).setdefault((option.help, option.metavar), []).append(name)
        else:
            short.setdefault(flag, set()).add(max(option.opts, key=len))
    explained = {flag for flag, told in by_flag.items() if len(told) > 1}
    assert explained == set(MEANINGS)
    for flag, told in by_flag.items():
        values = {metavar for _, metavar in told}
        assert len(values) == 1 or values <= MEANINGS[flag][1], (flag, told)
    assert {flag: names for flag, names in short.items() if len(names) > 1} == {}
    meanings = [meaning for meaning, _ in MEANINGS.values()]
    assert len(set(meanings)) == len(meanings)


def test_what_has_names_is_completed():
    """Every option that is called as something with names is one of a type that knows them."""
    for command in cli.main.commands.values():
        for parameter in command.params:
            called = parameter.metavar or parameter.name.upper()
            if called in NAMES and not isinstance(parameter.type, click.Choice):
                assert isinstance(parameter.type, Named), (command.name, parameter.name)
