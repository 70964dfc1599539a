"""Random forests are scikit-learn's, to the last bit; smaller ones can be read off larger ones."""

from dataclasses import replace

import losses
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

import dskrobust as dr
from dskrobust.errors import InvalidOptionError, MemoryPlanError
from dskrobust.evaluation.checks import check_memory
from dskrobust.evaluation.models import model_class
from dskrobust.evaluation.models.base import Problem

pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.OverlapWarning")

TRAIN, TEST = np.arange(0, 150), np.arange(120, 200)  # they may overlap
THRESHOLD = 140.0


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Small digits and the diabetes data, features in other than their own units."""
    from sklearn.datasets import load_diabetes, load_digits

    folder = tmp_path_factory.mktemp("stores")
    made = {}
    for name, load, scale in (("digits", load_digits, 1 / 16), ("diabetes", load_diabetes, 1.0)):
        X, y = load(return_X_y=True)
        spec = dr.StoreSpec(name, "categorical" if name == "digits" else "real", scale=scale)
        made[name] = dr.create_store(str(folder / f"{name}.zarr"), X[:200], y[:200], spec=spec)
    return made


def evaluation(store, model, **given):
    train = given.pop("train", {"x": TRAIN, "x2": TRAIN[::2]})
    return dr.evaluate(
        store, train=train, test={"t": TEST, "t2": TEST[:30]}, models=[model], **given
    )


def by_hand(store, seed, trees, rows, **given):
    """scikit-learn's own forest and what it predicts for the test rows."""
    kind = RandomForestClassifier if store.spec.label_kind == "categorical" else (
        RandomForestRegressor
    )  # fmt: skip
    X = store.features[:] * store.spec.scale
    forest = kind(n_estimators=trees, random_state=seed, **given)
    forest.fit(X[rows], store.labels[:][rows])
    return forest, X


def assert_equal_to_sklearn(found, store, fixed=None):
    """Compare every row of the table with a forest of scikit-learn's with the same seed."""
    rows = {"x": TRAIN, "x2": TRAIN[::2]}
    tests = {"t": TEST, "t2": TEST[:30]}
    seeds = {
        (job.train[0][0], job.trial, setting["trees"], setting.get("criterion")): job.seed
        for job in found.jobs
        for setting in job.settings
    }
    y = store.labels[:]
    for row in found.table.to_dict("records"):
        given = {k: row[k] for k in ("criterion",) if k in row}
        key = row["train"], row["trial"], row["trees"], given.get("criterion")
        forest, X = by_hand(
            store, seeds[key], row["trees"], rows[row["train"]], **given, **(fixed or {})
        )
        at = tests[row["test"]]
        if store.spec.label_kind == "categorical":
            assert row["acc"] == forest.score(X[at], y[at])
            loss = losses.cross_entropy(y[at], forest.predict_proba(X[at]))
        else:
            values = forest.predict(X[at])
            assert row["acc"] == losses.threshold_accuracy(y[at], values, THRESHOLD)
            loss = losses.regression_loss(y[at], values)
        assert row["loss"] == loss


@pytest.mark.parametrize("nested", [False, True])
def test_classifiers_equal_scikit_learns(stores, nested):
    model = dr.Model("forest", {"trees": [1, 2, 4]}, {"max_depth": 6}, {"nested": nested})
    found = evaluation(stores["digits"], model, trials=2, seed=int(nested))
    assert len(found.jobs) == (4 if nested else 12)
    assert len(found.table) == 24
    assert_equal_to_sklearn(found, stores["digits"], {"max_depth": 6})


@pytest.mark.parametrize("nested", [False, True])
def test_regressors_equal_scikit_learns(stores, nested):
    grid = {"trees": [3, 1], "criterion": ["squared_error", "absolute_error"]}
    model = dr.Model("forest", grid, options={"nested": nested})
    found = evaluation(stores["diabetes"], model, trials=2, threshold=THRESHOLD, seed=int(nested))
    assert len(found.jobs) == (8 if nested else 16)
    assert_equal_to_sklearn(found, stores["diabetes"])


def test_nested_forests_are_means_of_the_first_trees(stores):
    store = stores["diabetes"]
    model = dr.Model("forest", {"trees": [1, 2, 3]}, options={"nested": True})
    found = evaluation(store, model, trials=1, train={"x": TRAIN}, threshold=THRESHOLD)
    (job,) = found.jobs
    forest, X = by_hand(store, job.seed, 3, TRAIN)
    each = [tree.predict(X[TEST].astype(np.float32)) for tree in forest.estimators_]
    table = found.table[found.table["test"] == "t"].set_index("trees")
    for k in (1, 2, 3):
        mean = np.mean(each[:k], axis=0)
        loss = losses.regression_loss(store.labels[:][TEST], mean)
        assert table.loc[k, "loss"] == pytest.approx(loss, rel=1e-12)


def test_independent_forests_have_seeds_of_their_own(stores):
    model = dr.Model("forest", {"trees": [1, 2, 3]})
    found = evaluation(stores["digits"], model, trials=4)
    assert len({job.seed for job in found.jobs}) == len(found.jobs) == 24


def test_seeds_do_not_depend_on_what_else_there_is(stores):
    few = evaluation(stores["digits"], dr.Model("forest", {"trees": [2]}), trials=2)
    more = dr.evaluate(
        stores["digits"],
        train={"new": TRAIN[:50], "x": TRAIN},
        test={"t": TEST},
        models=[dr.Model("sklearn.naive_bayes.GaussianNB"), dr.Model("forest", {"trees": [5, 2]})],
        trials=3,
    )
    seeds = {(j.train, j.settings[0].get("trees"), j.trial): j.seed for j in more.jobs}
    for job in few.jobs:
        if job.train[0][0] == "x":
            assert seeds[job.train, 2, job.trial] == job.seed


def test_classes_that_were_not_trained_on(stores):
    store = stores["digits"]
    y = store.labels[:]
    rows = np.flatnonzero(np.isin(y, [2, 3, 7]))[:60]
    model = dr.Model("forest", {"trees": [4]})
    found = evaluation(store, model, trials=1, train={"x": rows})
    (job,) = found.jobs
    forest, X = by_hand(store, job.seed, 4, rows)
    p = np.zeros((len(TEST), 10))
    p[:, forest.classes_] = forest.predict_proba(X[TEST])
    row = found.table[found.table["test"] == "t"].iloc[0]
    assert row["loss"] == losses.cross_entropy(y[TEST], p)
    assert row["acc"] == forest.score(X[TEST], y[TEST])


def test_the_papers_grid_is_the_default(stores):
    found = evaluation(stores["diabetes"], dr.Model("forest"))
    (model,) = found.experiment.models
    assert model.grid["trees"] == tuple(range(1, 10))
    assert model.grid["criterion"] == ("squared_error", "absolute_error")
    assert len(found.jobs) == 2 * 2 * 9 * 25
    fixed = evaluation(stores["diabetes"], dr.Model("forest", parameters={"trees": 3}), trials=1)
    assert list(fixed.experiment.models[0].grid) == ["criterion"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"grid": {"treees": [1]}}, "hyper-parameter 'treees' is unknown; did you mean 'trees'?"),
        ({"grid": {"trees": [0]}}, "trees must be a whole number from 1 on, not 0"),
        ({"grid": {"trees": [True]}}, "trees must be a whole number from 1 on, not True"),
        ({"grid": {"n_estimators": [3]}}, "n_estimators cannot be chosen; it is called trees here"),
        ({"parameters": {"random_state": 3}}, "random_state cannot be chosen; it is set here"),
        ({"grid": {"criterion": ["squared_error"]}}, "The 'criterion' parameter of RandomForestC"),
        ({"parameters": {"max_depth": "deep"}}, "The 'max_depth' parameter of RandomForestClass"),
        ({"options": {"nest": True}}, "option 'nest' is unknown (did you mean 'nested'?)"),
        ({"options": {"nested": "yes"}}, "option nested must be true or false"),
    ],
)
def test_what_a_forest_has_not(stores, model, message):
    with pytest.raises(InvalidOptionError) as caught:
        evaluation(stores["digits"], dr.Model("forest", **model))
    assert str(caught.value).startswith("model forest: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Workers:
    """A client of workers of some memory."""

    def __init__(self, *limits, threads=2):
        self.workers = {k: {"memory_limit": v, "nthreads": threads} for k, v in enumerate(limits)}
        self.scheduler = self

    def identity(self, n_workers):
        return {"workers": self.workers}

    def sync(self, function, **arguments):
        return function(**arguments)


def test_training_data_that_fits_no_worker_is_refused():
    found = model_class("forest")(dr.Model("forest", {"trees": [9]}))
    problem = Problem(True, 784, {"x": 1_000_000, "x_L": 1_000}, {"t": 10})
    check_memory(Workers(64 * 2**30, 0), [found], problem)
    check_memory(Workers(None), [found], problem)
    with pytest.raises(MemoryPlanError) as caught:
        check_memory(Workers(64 * 2**30, 2**30), [found], problem)
    told = str(caught.value)
    assert "model forest: x has 1,000,000 rows and needs about" in told
    assert "whose limit is 1,024 MiB" in told
    assert "xgboost-forest" in told


def test_classes_and_threads_need_memory():
    found = model_class("forest")(dr.Model("forest", {"trees": [1, 9]}, options={"nested": True}))
    problem = Problem(True, 10, {"x": 100_000}, {"t": 50_000}, classes=10)
    many = replace(problem, classes=1000)
    (kept, few), (same, more) = (found.task_bytes(100_000, p) for p in (problem, many))
    assert kept == same == 100_000 * 10 * 4
    grown = 1.26 * 100_000 * 9 * 8 * 990
    assert grown < more - few < 1.3 * grown  # of the test rows only pieces are predicted at once
    limit = 2 * 2**30
    check_memory(Workers(limit), [found], problem)
    with pytest.raises(MemoryPlanError, match="x has 100,000 rows and needs about"):
        check_memory(Workers(limit), [found], many)


def test_two_threads_may_hold_two_subsets():
    model = model_class("sklearn.svm.SVR")(dr.Model("sklearn.svm.SVR"))
    one = Problem(False, 1000, {"x": 100_000}, {"t": 10})  # 763 MiB
    two = replace(one, train={"x": 100_000, "x_L": 90_000})
    check_memory(Workers(2000 * 2**20), [model], one)
    check_memory(Workers(2000 * 2**20, threads=1), [model], two)
    with pytest.raises(MemoryPlanError, match="in a worker of 2 threads, whose limit is 2,000 MiB"):
        check_memory(Workers(2000 * 2**20), [model], two)


def test_xgboost_has_the_memory_of_all_workers():
    model = model_class("xgboost")(dr.Model("xgboost"))
    problem = Problem(False, 1000, {"x": 300_000}, {"t": 10})  # 2.2 GiB with xgboost's copy
    check_memory(Workers(*[2 * 2**30] * 3), [model], problem)
    check_memory(Workers(2**30, 2**30, None), [model], problem)
    check_memory(Workers(2**30, 2**30), [model], problem)  # from external memory
    with pytest.raises(MemoryPlanError, match="in 2 workers together, whose limits add"):
        check_memory(Workers(2**29, 2**29), [model], problem)
