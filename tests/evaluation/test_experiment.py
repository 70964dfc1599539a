"""Experiments: reading them from files, and what is refused, each in one line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.display import suggestion
from dskrobust.errors import InvalidOptionError, SourceFileError
from dskrobust.evaluation import models
from dskrobust.evaluation.models import base, model_class

WHOLE = """
name = "forests"
store = "news.zarr"
seed = 3
trials = 5
threshold = 1400
metric = "euclidean"
[train]
x = "train"
x_L24 = "train:L24000"
[test]
t = "test"
t_l = "test:L3822:L500"
[[models]]
kind = "forest"
[models.grid]
trees = [1, 2, 3]
criterion = ["squared_error", "absolute_error"]
[models.parameters]
min_samples_leaf = 2
[models.options]
nested = true
[[models]]
kind = "sklearn.linear_model.Ridge"
name = "ridge"
"""
SMALL = '[train]\nx = "train"\n[test]\nt = "test"\n[[models]]\nkind = "forest"\n'


def written(folder, text):
    path = Path(folder) / "experiment.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path):
    found = dr.read_experiment(written(tmp_path, WHOLE))
    assert (found.name, found.seed, found.trials, found.threshold) == ("forests", 3, 5, 1400)
    assert found.store == str(tmp_path / "news.zarr")
    assert found.train == {"x": "train", "x_L24": "train:L24000"}
    assert found.test == {"t": "test", "t_l": "test:L3822:L500"}
    forest, ridge = found.models
    assert (forest.name, ridge.name) == ("forest", "ridge")
    assert forest.parameters == {"min_samples_leaf": 2}
    assert forest.options == {"nested": True}
    assert forest.settings[:2] == (
        {"trees": 1, "criterion": "squared_error"},
        {"trees": 1, "criterion": "absolute_error"},
    )
    assert len(forest.settings) == 6
    assert ridge.settings == ({},)


def test_what_is_left_out(tmp_path):
    found = dr.read_experiment(written(tmp_path, SMALL))
    assert (found.name, found.store, found.trials, found.seed) == ("experiment", None, 25, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trails = 3\n" + SMALL, "key 'trails' is unknown; did you mean 'trials'?"),
        ("anything = 3\n" + SMALL, "key 'anything' is unknown; choose from name, store, seed"),
        (SMALL + "knid = 3\n", "models 1: key 'knid' is unknown; did you mean 'kind'?"),
        (SMALL + "[[models]]\n", "models 2: key 'kind' is missing"),
        (SMALL.replace("[test]\n", "[tests]\n"), "key 'tests' is unknown; did you mean 'test'?"),
        ('[train]\nx = "train"\n[[models]]\nkind = "knn"\n', "key 'test' is missing"),
        ("seed = 1.5\n" + SMALL, "seed: expected whole number, got number"),
        ('trials = "many"\n' + SMALL, "trials: expected whole number, got text"),
        ("threshold = true\n" + SMALL, "threshold: expected number"),
        (SMALL.replace('"train"', "7"), "train: expected text, got whole number"),
        (SMALL + "[models.grid]\ntrees = 3\n", "models 1: grid: expected list, got whole number"),
        (SMALL + "[models.grid]\ntrees = []\n", "the grid's trees needs values, each of them once"),
        (SMALL + "[models.grid]\ntrees = [1, 1]\n", "the grid's trees needs values, each of them"),
        (SMALL + "[models.grid]\nt = [2000-01-01]\n", "is no number, text, true, false or list"),
        (
            SMALL + "[models.grid]\ntrees = [1]\n[models.parameters]\ntrees = 2\n",
            "trees is both swept by the grid and a fixed parameter",
        ),
        (SMALL + '[[models]]\nkind = "forest"\n', "two models are called 'forest'"),
        ("trials = 0\n" + SMALL, "trials must be a whole number from 1 on, not 0"),
        ("seed = -1\n" + SMALL, "seed must be a whole number from 0 on, not -1"),
        ("threshold = nan\n" + SMALL, "the threshold must be a number, not nan"),
        (SMALL + "[models.grid]\nloss = ['a']\n", "loss is a column of the results and cannot be"),
        ("models = []\n[train]\nx = 'a'\n[test]\nt = 'b'\n", "an experiment needs a model"),
        ("[train]\n[test]\nt = 'b'\n[[models]]\nkind = 'knn'\n", "an experiment needs train subs"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(InvalidOptionError) as caught:
        dr.read_experiment(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert "\n" not in told


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(SourceFileError, match=r"there is no experiment file .*nowhere\.toml"):
        dr.read_experiment(tmp_path / "nowhere.toml")
    with pytest.raises(SourceFileError, match=r"is no TOML: .*line 1"):
        dr.read_experiment(written(tmp_path, "trials 3"))
    with pytest.raises(SourceFileError, match="is a folder, not a regular file"):
        dr.read_experiment(tmp_path)


@given(
    grid=st.dictionaries(
        st.text("abc", min_size=1, max_size=2),
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
        max_size=3,
    )
)
def test_the_grid_has_every_combination_once(grid):
    settings = dr.Model("any.thing", grid=grid).settings
    assert len(settings) == np.prod([len(values) for values in grid.values()], dtype=int)
    assert len({tuple(s.items()) for s in settings}) == len(settings)
    assert all(s[key] in grid[key] for s in settings for key in grid)


def test_values_are_plain():
    model = dr.Model("forest", grid={"trees": np.arange(1, 3), "layers": [[5], [5, 5]]})
    assert model.settings[0] == {"trees": 1, "layers": (5,)}
    assert type(model.settings[0]["trees"]) is int
    with pytest.raises(InvalidOptionError, match="must be a list of values, not 'gini'"):
        dr.Model("forest", grid={"criterion": "gini"})
    with pytest.raises(InvalidOptionError, match="is no number, text, true"):
        dr.Model("forest", parameters={"criterion": len})


def test_a_selection_is_a_text_a_subset_or_rows():
    forest = [dr.Model("forest")]
    rows = dr.Experiment({"x": np.arange(3)}, {"t": [1, 2]}, forest)
    assert rows.facts()["train"] == {"x": "3 rows"}
    for wrong in (3, np.zeros((2, 2), int), np.zeros(2), []):
        with pytest.raises(InvalidOptionError, match="must be a selection such as"):
            dr.Experiment({"x": wrong}, {"t": "test"}, forest)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": "forest"}, r"models must be a list of models, such as .*, not 'forest'"),
        ({"models": dr.Model("forest")}, r"models must be a list of models, such as \[Model\("),
        ({"models": ["forest"]}, r"models must hold models, .* kind = \"forest\"\), not 'forest'"),
        ({"models": []}, r"an experiment needs a model, such as \[Model\(\"forest\"\)\]"),
        ({"train": "train"}, r"needs train subsets by name, such as {\"x\": \"train\"} \(in a"),
        ({"test": "t"}, r"in a TOML file \[test\] and t = \"test\"\), not 't'"),
    ],
)
def test_parts_of_the_wrong_type_are_told_in_one_line(given, message):
    parts = {"train": {"x": "train"}, "test": {"t": "test"}, "models": [dr.Model("forest")]}
    with pytest.raises(InvalidOptionError, match=message) as caught:
        dr.Experiment(**{**parts, **given})
    assert "\n" not in str(caught.value)


def test_suggestions():
    assert suggestion("forrest", ["knn", "forest"]) == "did you mean 'forest'?"
    assert suggestion("?", ["knn", "forest"]) == "choose from knn, forest"


def test_a_model_is_known_by_its_class_line(monkeypatch):
    files = {path.stem for path in Path(models.__path__[0]).iterdir()} - {"__init__", "base"}
    model_class("knn")  # imports them all
    known = {*base.KINDS.values(), *base.PATHS.values()}
    prefix = f"{models.__name__}."
    assert {kind.__module__.removeprefix(prefix).split(".")[0] for kind in known} == files - {
        "__pycache__"
    }
    kinds = {**base.KINDS}
    for module in (models, base):
        monkeypatch.setattr(module, "KINDS", kinds)

    class Named(base.Model, kind="mean"):
        """All that a new one takes."""

    assert model_class("mean") is Named
    assert model_class("torch:own.Net") is model_class("cnn")
    assert model_class("sklearn.svm.SVC").__name__ == "AnyEstimator"
