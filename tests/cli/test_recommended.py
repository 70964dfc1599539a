"""Commands that output, errors and pages recommend succeed on the store that they are for."""

import html
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.store import open_store

ON_A_CLUSTER = ("compute", "evaluate", "issues")


def rows(count=90, columns=3, seed=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, columns)), rng.integers(0, 3, count)


def halves(count=90):
    return np.where(np.arange(count) % 3 == 0, "test", "train")


def real(url):
    X, _ = rows()
    dr.create_store(url, X, X[:, 0] + 0.1, halves(), spec=dr.StoreSpec("real", "real"))


def vectors(url):
    X, _ = rows()
    dr.create_store(url, X, X[:, :2], halves())


def images(url):
    X, y = rows(columns=16)
    spec = dr.StoreSpec("images", "categorical", image_shape=(4, 4))
    dr.create_store(url, (50 * np.abs(X)).astype(np.uint8), y, halves(), spec=spec)


def few(url):
    X, y = rows(16)
    dr.create_store(url, X, y, np.where(np.arange(16) < 8, "train", "test"))


def named_otherwise(url):
    X, y = rows()
    dr.create_store(url, X, y, np.where(np.arange(90) % 2 == 0, "before 2020", "it's=after"))


def linked(url):
    import zarr

    X, y = rows()
    paths = []
    for name, values in (("x", X), ("y", y)):
        paths.append(f"{url}.{name}")
        zarr.save_array(f"{paths[-1]}/a", values, zarr_format=3)
    asked = ["link", url, "--x", f"{paths[0]}/a", "--y", f"{paths[1]}/a"]
    assert CliRunner().invoke(cli.main, asked).exit_code == 0


STORES = {
    "one group": lambda url: dr.ingest("iris", url),
    "one group of real labels": lambda url: dr.ingest("diabetes", url),
    "drawn": lambda url: dr.ingest("iris", url, test_size=0.2, stratify=True),
    "folds": lambda url: dr.ingest("iris", url, folds=3),
    "real labels": real,
    "vector labels": vectors,
    "images": images,
    "few rows": few,
    "groups named otherwise": named_otherwise,
    "linked": linked,
}
EVALUATED = {"drawn", "folds", "real labels", "images", "few rows", "groups named otherwise"}


@pytest.fixture
def call(local_cluster):
    """Run a command in words on the session's workers; return its exit code and all it says."""

    def run(*words):
        where = ["--scheduler", local_cluster.scheduler_address] * (words[0] in ON_A_CLUSTER)
        result = CliRunner().invoke(cli.main, [*words, *where])
        return result.exit_code, result.stdout + result.stderr

    return run


def recommended(text):
    """The commands in what a command or an error says."""
    found = re.findall(r"^next +(dskrobust .*?)(?:  \(.*)?$", text, re.MULTILINE)
    return found + re.findall(r"`(dskrobust [^`]+)`", text)


def succeed(call, commands):
    for command in commands:
        program, *words = shlex.split(command)
        code, text = call(*words)
        assert (program, code) == ("dskrobust", 0), f"{command}\n{text}"
        yield command, text


@pytest.mark.parametrize("name", STORES)
def test_of_a_store_from_nothing_to_models(name, call, tmp_path):
    url = str(tmp_path / "my own.zarr")
    STORES[name](url)
    compute = f"dskrobust compute {shlex.quote(url)}"
    assert recommended(call("show", url)[1]) == [compute]
    for words in (["show", url, "0"], ["report", url], ["subsets", url]):
        code, text = call(*words)
        assert (code, recommended(text)) == (1, [compute])
    ((_, text),) = succeed(call, [compute])
    assert len(list(succeed(call, recommended(text)))) == 1
    page = tmp_path / "page.html"
    assert call("report", url, "--out", str(page))[0] == 0
    text = page.read_text(encoding="utf-8")
    codes = re.findall(r"<code>(dskrobust .+?)</code>", text)
    commands = [html.unescape(code) for code in codes if code != "dskrobust report"]
    run = [command for command in dict.fromkeys(commands) if "dskrobust review " not in command]
    verbs = [command.split()[1] for command, _ in succeed(call, run)]  # a review waits for a person
    judged = open_store(url).spec.label_kind != "vector"
    others = {"match"}  # what matters most may have a command of its own
    assert [verb for verb in verbs if verb not in others] == (
        ["issues"] * judged + ["evaluate"] * (name in EVALUATED)
    )
    assert call("report", url, "--out", str(page))[0] == 1  # it is there
    assert call("report", url, "--out", str(page), "--overwrite")[0] == 0
    text = page.read_text(encoding="utf-8")
    assert ("No model was evaluated" in text) == (name not in EVALUATED)
    assert ("--test-size 0.2" in text) == name.startswith(("one group", "linked"))


@pytest.mark.parametrize("name", ["few rows", "one group", "real labels", "vector labels"])
def test_of_figures_that_are_not_there_yet(name, call, tmp_path):
    url = str(tmp_path / "some.zarr")
    STORES[name](url)
    dr.sample_robustness(url).write()
    for figure in ("8", "10"):
        code, text = call("report", url, "--figure", figure, "--out", str(tmp_path / "f.svg"))
        assert code == (0 if name in EVALUATED and figure == "10" else 1)
        done = list(succeed(call, recommended(text)))
        assert len(done) == (name in EVALUATED and figure == "8")
    code, text = call("report", url, "--figure", "6", "--out", str(tmp_path / "f.svg"))
    assert (code, recommended(text)) == (1, [])  # none of these stores holds images


def test_of_another_metric(call, tmp_path):
    url = str(tmp_path / "some.zarr")
    STORES["few rows"](url)
    code, text = call("show", url, "-m", "minkowski(3)")
    assert (code, recommended(text)) == (1, [f"dskrobust compute {url} -m 'minkowski(3)'"])
    assert len(list(succeed(call, recommended(text)))) == 1
    assert call("show", url, "-m", "minkowski(3)")[0] == 0
    page = tmp_path / "page.html"
    assert call("report", url, "--out", str(page))[0] == 0
    issues = html.unescape(re.findall(r"<code>(dskrobust issues .+?)</code>", page.read_text())[0])
    assert issues == f"dskrobust issues {url} -m 'minkowski(3)'"
    assert len(list(succeed(call, [issues]))) == 1


def test_nothing_of_a_store_that_nothing_can_be_computed_of(call, tmp_path):
    X, y = rows()
    url = dr.create_store(str(tmp_path / "some.zarr"), X, y, np.array(["a", "b"])[(y > 0) * 1]).url
    for words in (["show", url], ["report", url], ["show", url, "0"]):
        text = call(*words)[1]
        assert recommended(text) == []
        assert "nothing can be computed as long as all samples of group 'a'" in text


def test_evaluate_says_how_a_store_of_one_group_gets_two(call, tmp_path):
    url = str(tmp_path / "some.zarr")
    STORES["one group"](url)
    code, text = call("evaluate", url, "--model", "forest")
    assert code == 1
    assert "there is no group 'train', the groups are all" in text
    assert "ingest the data with --test-size 0.2" in text
