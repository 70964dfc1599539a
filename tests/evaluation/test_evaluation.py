"""Evaluations: lazy, checked at once, repeatable to the digit, resumed step by step."""

import shutil
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import dask.array as da
import losses
import numpy as np
import pytest
from dask.base import compute, is_dask_collection, persist
from distributed import Client, LocalCluster
from helpers import TESTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from zarr.storage import LocalStore

import dskrobust as dr
from dskrobust import row_sets
from dskrobust.errors import (
    ClusterError,
    DamagedRecordWarning,
    DamagedStoreError,
    EqualRowsWarning,
    IncompleteEvaluationWarning,
    InvalidOptionError,
    OverlapWarning,
    StaleResultsError,
)
from dskrobust.evaluation import census, membership, rows, scoring, selections, trees
from dskrobust.evaluation.membership import LazyRows, ListedRows, save_rows
from dskrobust.evaluation.models import boosting, estimators, incremental, model_class
from dskrobust.evaluation.rows import feature_blocks, read_labels, read_rows
from dskrobust.report.trials import stored_evaluations
from dskrobust.store import evaluations as stored
from dskrobust.store import find_evaluations, row_ranges
from dskrobust.store.blobs import Blobs
from dskrobust.store.objects import Objects

FOREST = dr.Model("forest", {"trees": [1, 3]})
TRAIN = {"x": "train", "x_L": "train:L80", "x_M": "train:M80"}
TEST = {"t": "test", "t_L": "test:L20"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A store with results, to be copied."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(200, 5))
    y = np.round(100 + 30 * X[:, 0] + 10 * rng.normal(size=200))
    split = np.where(np.arange(200) % 4 == 0, "test", "train")
    folder = tmp_path_factory.mktemp("scored")
    store = dr.create_store(
        str(folder / "s.zarr"), X, y, split, spec=dr.StoreSpec("shares", "real")
    )
    dr.sample_robustness(store).write()
    return store.url


@pytest.fixture
def url(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "s.zarr")
    return str(tmp_path / "s.zarr")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The first digits, without results."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    url = str(tmp_path_factory.mktemp("digits") / "d.zarr")
    split = np.where(np.arange(300) < 200, "train", "test")
    spec = dr.StoreSpec("digits", "categorical", scale=1 / 16)
    return dr.create_store(url, X[:300], y[:300], split, spec=spec)


def make(url, *models, **given):
    given = {"train": TRAIN, "test": TEST, "trials": 2, "threshold": 100, **given}
    return dr.evaluate(url, models=models or [FOREST], **given)


def records(url):
    """Return the files of finished steps and when they were written."""
    found = Path(url).glob("evaluations/*/steps/*.step")
    return {f.stem: f.stat().st_mtime_ns for f in found}


# -- laziness and the table --------------------------------------------------------------------


def test_nothing_is_done_until_asked(url, raise_if_dask_computes, monkeypatch):
    before = sorted(Path(url).rglob("*"))
    read = []

    def listing(real):
        return lambda self, key, *more, **given: read.append(key) or real(self, key, *more, **given)

    monkeypatch.setattr(Objects, "read", listing(Objects.read))
    monkeypatch.setattr(LocalStore, "get", listing(LocalStore.get))
    with raise_if_dask_computes():
        found = make(url)
        assert "0 of 12 steps finished" in repr(found)
        assert "0 of 12 steps finished" in found._repr_html_()
        assert "compute()" in found._repr_html_()
    assert sorted(Path(url).rglob("*")) == before
    assert not found.is_computed
    assert read  # the summary and the like, but no row of the store, of results or of a subset
    assert not [key for key in read if "/c/" in key or "/rows/" in key]
    found.compute()
    assert [key for key in read if "/labels/c/" in key]
    assert [key for key in read if "/rows/" in key]


def test_the_table_is_tidy(url):
    table = make(url).table
    assert list(table) == ["train", "test", "model", "trees", "trial", "seed", "loss", "acc"]
    assert len(table) == 3 * 2 * 2 * 2
    assert table["trees"].dtype.kind == table["trial"].dtype.kind == "i"
    assert table[["train", "trees", "trial", "test"]].values.tolist() == [
        [x, trees, trial, t] for x in TRAIN for trees in (1, 3) for trial in (1, 2) for t in TEST
    ]
    assert (table["loss"] <= 1).all()
    assert table["acc"].between(0, 1).all()


def test_models_have_their_own_columns(url):
    table = make(url, FOREST, dr.Model("sklearn.linear_model.Ridge", {"alpha": [1.0]})).table
    assert list(table)[3:5] == ["trees", "alpha"]
    forest = table[table["model"] == "forest"]
    assert forest["alpha"].isna().all()
    assert [type(v) for v in forest["trees"]] == [int] * len(forest)


def test_matrices(url):
    found = make(url, FOREST, dr.Model("sklearn.linear_model.Ridge", name="ridge"))
    on_t = found.matrix("forest")
    assert on_t.best == "t"
    assert on_t.sweep == "trees"
    assert on_t.loss_high
    assert found.matrix("ridge").sweep is None
    assert found.matrix("forest", best="each").best == "each"
    assert len(found.matrices()) == 2
    assert "computed" in repr(found)
    assert found._repr_html_().count("<table") == 2
    with pytest.raises(InvalidOptionError, match="several models"):
        found.matrix()


def test_side_by_side_by_criterion(url):
    grid = {"trees": [1, 2], "criterion": ["squared_error", "absolute_error"]}
    (both,) = make(url, dr.Model("forest", grid), trials=1).matrices()
    assert [m.parameters["criterion"] for m in both.matrices] == grid["criterion"]


def test_hyper_parameters_may_be_none(url):
    deep = dr.Model("forest", {"trees": [1, 2], "max_depth": [None]})
    tree = dr.Model("sklearn.tree.DecisionTreeRegressor", {"max_depth": [None]}, name="tree")
    forest, single = make(url, deep, tree, trials=1).matrices()
    assert forest.parameters == {"max_depth": None}
    assert single.sweep == "max_depth"
    assert "max_depth = None" in str(forest)


def test_settings_that_fail_are_left_out(digits):
    grid = {"C": [1.0, 2.0], "penalty": ["l1", "l2"]}  # its solver has no l1
    model = dr.Model("sklearn.linear_model.LogisticRegression", grid, {"max_iter": 9}, name="lr")
    found = dr.evaluate(digits, train={"x": "train"}, test={"t": "test"}, models=[model], trials=1)
    with pytest.warns(IncompleteEvaluationWarning, match="2 of 4 steps failed"):
        found.compute()
    (matrix,) = found.matrices()
    assert matrix.parameters == {"penalty": "l2"}
    assert "penalty = l2" in found._repr_html_()
    assert repr(found.failures[0]).startswith("<Failure of lr on x (C=1.0, penalty=l1), trial 1: ")


# -- selections --------------------------------------------------------------------------------


def test_texts_subsets_and_rows_are_the_same(url):
    store = dr.open_store(url)
    scores = dr.sample_robustness(store)
    least = dr.least_robust(scores, 80, "train")  # lazy
    texts = make(url).table
    given = {
        "x": np.flatnonzero(store.split == "train"),
        "x_L": least,
        "x_M": dr.most_robust(scores, 80, "train").compute(),
    }
    assert make(url, train=given).table.equals(texts)
    shuffled = {**given, "x": np.random.default_rng(0).permutation(given["x"])}
    assert make(url, train=shuffled).table.equals(texts)


def test_joined_selections(url):
    """By their rows; those of one term are known by the key that they always had."""
    store = dr.open_store(url)
    selector = selections.Selector(store, None)
    both, other = (selector.choose("training", "x", f"train:{s}") for s in ("L30+M20", "M20+L30"))
    ranked = np.asarray(dr.select_subset(selector.scores, "train"))
    assert sorted(both.load().rows.compute().tolist()) == sorted([*ranked[:30], *ranked[-20:]])
    assert both.key == other.key
    assert both.size == 50
    known = ["selection", "train", [["L", 80]], selector.scores.result.name]
    assert selector.choose("training", "x", "train:L80").key == selections.digest_of(known)


def test_whole_groups_need_no_results(digits):
    found = dr.evaluate(digits, train={"x": "train"}, test={"t": "all"}, models=[FOREST], trials=1)
    assert found.problem.test == {"t": 300}
    with pytest.raises(StaleResultsError, match="has no results yet; call sample_robustness"):
        dr.evaluate(digits, train={"x": "train:L9"}, test={"t": "test"}, models=[FOREST])


def test_another_metrics_robustness_selects(url):
    with pytest.raises(StaleResultsError, match="has no results for the metric cityblock"):
        make(url, metric="cityblock")
    dr.sample_robustness(url, metric="cityblock").write()
    other, own = make(url, metric="cityblock"), make(url, metric="euclidean")
    shared = {j.name for j in other.jobs} & {j.name for j in own.jobs}
    assert shared == {j.name for j in own.jobs if j.train[0][0] == "x"}
    store = dr.open_store(url)
    least = np.sort(dr.least_robust(dr.sample_robustness(url, metric="cityblock"), 80, "train"))
    by_rows = make(store, train={"x_L": least}).table
    table = other.table
    assert by_rows["loss"].tolist() == table[table["train"] == "x_L"]["loss"].tolist()


def test_tests_on_training_samples_are_warned_of_once(url):
    found = make(url, train={"x": "train", "all": "all"}, test={"t": "test", "h": "train:L40"})
    with pytest.warns(OverlapWarning) as caught:
        found.compute()
    (told,) = (str(warning.message) for warning in caught)
    assert told.startswith("100% of the samples of h are in x too: LOSS and ACC on samples that")
    assert "\n" not in told
    make(url).compute()  # without a word


def test_tests_on_rows_equal_to_training_rows_are_warned_of(tmp_path):
    rng = np.random.default_rng(7)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    X[50:53] = X[:3]
    split = np.repeat(["train", "test", "more"], [30, 25, 5])
    store = dr.create_store(str(tmp_path / "e.zarr"), X, y, split)
    with pytest.warns(EqualRowsWarning) as caught:
        make(store, train={"x": "train"}, test={"t": "test"}, threshold=None).compute()
    (told,) = (str(warning.message) for warning in caught)
    assert told.startswith("up to 3 samples of t equal one of x in every feature")
    make(store, train={"x": "train"}, test={"m": "more"}, threshold=None).compute()  # no word
    few = {"train": {"x": "train"}, "test": {"t": [50, 54]}, "threshold": None}
    with pytest.warns(EqualRowsWarning, match="up to 2 samples"):
        make(store, **few).compute()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": {"x": "trian"}}, "training subset 'x': there is no group 'trian'"),
        ({"test": {"t": "test:L51"}}, "test subset 't': cannot choose 51 of the 50 samples in te"),
        ({"test": {"t": "test:X5"}}, "test subset 't': 'test:X5': 'X5' is no selection"),
        ({"train": {"x": [3, 200]}}, "there is no row 200; rows go from 0 to 199"),
        ({"train": {"x": [3, -1]}}, "there is no row -1; rows go from 0 to 199"),
        ({"train": {"x": [3, 4, 3]}}, "row 3 is there twice"),
        ({"threshold": 1400}, "the threshold 1400 is out of range: labels lie within -"),
        ({"threshold": -1400}, "the threshold -1400 is out of range: labels lie within -"),
        ({"models": [dr.Model("tree")]}, "model 'tree' is unknown; choose from cnn, forest, knn"),
        ({"models": [dr.Model("sklearn.svm.SVR", {"D": [1]})]}, "hyper-parameter 'D' is unknown;"),
        ({"models": [dr.Model("sklearn.svm.SVR", {"C": [-1.0]})]}, "The 'C' parameter of SVR mus"),
        ({"models": [dr.Model("sklearn.svm.SVC")]}, "real labels need a regressor, sklearn.svm.S"),
        ({"models": [dr.Model("sklearn.svm.No")]}, "'sklearn.svm.No' cannot be imported"),
        ({"models": [dr.Model("no.module.No")]}, "'no.module.No' cannot be imported"),
        ({"models": [dr.Model("odd_estimators.NoEstimator")]}, "is no scikit-learn estimator"),
        ({"models": [dr.Model("sklearn.svm.SVR", options={"a": 1})]}, "option 'a' is unknown; it"),
    ],
)
def test_bad_input_is_one_line_before_any_work(url, given, message):
    before = sorted(Path(url).rglob("*"))
    with pytest.raises(InvalidOptionError) as caught:
        dr.evaluate(
            url, **{"train": TRAIN, "test": TEST, "models": [FOREST], "threshold": 100, **given}
        )
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(Path(url).rglob("*")) == before


def test_thresholds_are_for_real_labels(digits):
    with pytest.raises(InvalidOptionError, match="a threshold is for real labels"):
        make(digits.url, train={"x": "train"}, test={"t": "test"}, threshold=3)


def test_vector_labels_are_refused(tmp_path):
    y = np.arange(20.0).reshape(10, 2)
    store = dr.create_store(str(tmp_path / "v.zarr"), y, y, spec=dr.StoreSpec("v", "vector"))
    with pytest.raises(InvalidOptionError, match="has vector labels"):
        dr.evaluate(store, train={"x": "all"}, test={"t": "all"}, models=[FOREST])


def test_either_an_experiment_or_its_parts(url):
    with pytest.raises(InvalidOptionError, match="needs an experiment, or train, test and models"):
        dr.evaluate(url, train=TRAIN)
    with pytest.raises(InvalidOptionError, match="not both"):
        dr.evaluate(url, make(url).experiment, seed=3)


# -- thresholds --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::dskrobust.errors.OverlapWarning")
def test_a_label_at_the_threshold_is_popular_whatever_its_scale(tmp_path):
    """Labels were scaled to [0, 1]; their threshold, 1,400 shares, is not a round number there."""
    shares = np.repeat([1.0, 1399.0, 1400.0, 1401.0, 843_300.0], 4)
    low, high = 1.0, 843_300.0
    scaling = {"labels": {"min": low, "max": high}}
    spec = dr.StoreSpec("news", "real", scaling=scaling)
    # as scikit-learn's MinMaxScaler does it: the last bit is another than ours
    y = np.clip(shares * (1 / (high - low)) + (0 - low * (1 / (high - low))), 0, 1)
    store = dr.create_store(str(tmp_path / "n.zarr"), shares[:, None], y, spec=spec)
    tree = dr.Model("sklearn.tree.DecisionTreeRegressor")
    found = dr.evaluate(
        store,
        train={"x": "all"},
        test={"t": "all", "at": np.flatnonzero(shares == 1400)},
        models=[tree, dr.Model("odd_estimators.Mean", name="mean")],
        threshold=1400,
        trials=1,
    )
    table = found.table.set_index(["model", "test"])
    assert table.loc[(tree.kind, "t"), "acc"] == 1
    assert table.loc[("mean", "t"), "acc"] == 0.6  # the mean is popular, three of five are
    assert table.loc[("mean", "at"), "acc"] == 1


def test_the_median_is_the_threshold_where_none_is_given(url):
    y = dr.open_store(url).labels[:]
    model = dr.Model("sklearn.linear_model.Ridge")
    assert make(url, model, threshold=None).table["acc"].tolist() == (
        make(url, model, threshold=float(np.median(y))).table["acc"].tolist()
    )


# -- rows --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A store of three segments, and what it holds."""
    X, y = np.arange(120, dtype=np.uint8).reshape(40, 3), np.arange(40)
    split = np.zeros(40, np.int16)
    url = str(tmp_path_factory.mktemp("pieces") / "p.zarr")
    store = dr.create_store(url, X[:9], y[:9], spec=dr.StoreSpec("p", "categorical", scale=0.1))
    for a, b in ((9, 10), (10, 40)):
        store = dr.append_rows(store, [dr.store.Block(X[a:b], y[a:b], split[a:b])])
    return store, X * 0.1, y


@given(picked=st.sets(st.integers(0, 39)), dtype=st.sampled_from(["float32", "float64"]))
def test_rows_are_read_in_blocks(pieces, picked, dtype):
    store, X, y = pieces
    asked = np.array(sorted(picked), np.int64)
    found = np.full((len(asked), 3), np.nan, dtype)
    for part, values in feature_blocks(store, asked, dtype):
        assert values.dtype == dtype
        found[part] = values
    np.testing.assert_array_equal(found, X[asked].astype(dtype))
    np.testing.assert_array_equal(read_labels(store, asked), y[asked])


def test_training_data_is_read_once(url, monkeypatch):
    seen = []

    def count(records, subset, dtype):
        seen.append(subset)
        return read_rows(records, subset, dtype)

    monkeypatch.setattr(rows, "read_rows", count)
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
    ) as client:
        make(url, dr.Model("sklearn.tree.DecisionTreeRegressor"), trials=6, client=client).compute()
    assert 3 <= len(seen) <= 9  # of 18: threads change from one subset to the next at their pace
    assert len(set(seen)) == 3
    assert rows.training_data._kept is None  # nothing is held once a run is over


# -- estimators --------------------------------------------------------------------------------


def test_any_regressor_equals_scikit_learns(url):
    store = dr.open_store(url)
    X, y = store.features[:], store.labels[:]
    train, test = (np.flatnonzero(store.split == name) for name in ("train", "test"))
    model = dr.Model("sklearn.linear_model.Ridge", {"alpha": [0.5, 5.0]}, {"tol": 1e-5})
    table = make(url, model, train={"x": "train"}, test={"t": "test"}).table
    for row in table.to_dict("records"):
        values = Ridge(alpha=row["alpha"], tol=1e-5, random_state=0).fit(X[train], y[train])
        loss = losses.regression_loss(y[test], values.predict(X[test]))
        assert row["loss"] == pytest.approx(loss, rel=1e-12)


def test_any_classifier_equals_scikit_learns(digits):
    X, y = digits.features[:] / 16, digits.labels[:]
    model = dr.Model(
        "sklearn.linear_model.LogisticRegression", {"C": [0.1]}, {"max_iter": 20}, name="lr"
    )
    table = make(
        digits.url, model, train={"x": "train"}, test={"t": "test"}, threshold=None, trials=1
    ).table
    with warnings.catch_warnings(action="ignore"):
        by_hand = LogisticRegression(C=0.1, max_iter=20).fit(X[:200], y[:200])
    assert table["acc"][0] == by_hand.score(X[200:], y[200:])
    p = by_hand.predict_proba(X[200:])
    assert table["loss"][0] == pytest.approx(losses.cross_entropy(y[200:], p), rel=1e-9)


def test_what_is_not_random_is_tried_once(url):
    lasting = dr.Model("sklearn.neighbors.KNeighborsRegressor", {"n_neighbors": [3]})
    assert len(make(url, lasting, trials=5).jobs) == 3
    tree = dr.Model("sklearn.tree.DecisionTreeRegressor", name="tree")
    fixed = dr.Model(tree.kind, parameters={"random_state": 3}, name="fixed")
    found = make(url, tree, fixed, trials=5)
    assert [job.model.name for job in found.jobs].count("tree") == 15
    assert [job.model.name for job in found.jobs].count("fixed") == 3


def test_the_parts_of_an_estimator_have_seeds_of_their_own(url, tmp_path):
    shutil.copytree(url, tmp_path / "other.zarr")
    tree = dr.Model("odd_estimators.scaled_tree", name="tree")
    table = make(url, tree, trials=3).table
    assert len(table) == 3 * 3 * 2
    assert table["loss"].nunique() == 18
    assert make(str(tmp_path / "other.zarr"), tree, trials=3).table.equals(table)
    fixed = dr.Model(tree.kind, {}, {"decisiontreeregressor__random_state": 3}, name="fixed")
    assert len(make(url, fixed, trials=3).jobs) == 3
    bagged = model_class("sklearn.ensemble.BaggingRegressor")(
        dr.Model("sklearn.ensemble.BaggingRegressor")
    )
    assert bagged._seeds(bagged.make({}), (), 5) == {"random_state": 5}


def test_warnings_are_back_once_the_last_thread_is_out(recwarn):
    quiet = estimators._Quiet()
    quiet.__enter__()
    quiet.__enter__()
    quiet.__exit__()  # of the thread that came first
    warnings.warn("unheard", UserWarning, stacklevel=1)
    quiet.__exit__()
    warnings.warn("heard", UserWarning, stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["heard"]


def test_a_classifier_without_probabilities_has_no_loss(digits):
    model = dr.Model("sklearn.linear_model.RidgeClassifier", name="ridge")
    found = make(
        digits.url, model, train={"x": "train"}, test={"t": "test"}, threshold=None, trials=1
    )
    assert found.table["loss"].isna().all()
    assert found.table["acc"][0] > 0.8
    assert "–" in str(found.matrix())


# -- xgboost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["real", "classes"])
def test_fewer_rounds_are_read_off_the_most(url, digits, store):
    pytest.importorskip("xgboost")
    where = {"train": {"x": "train"}, "test": {"t": "test"}, "trials": 1}
    given = {**where, "threshold": 100} if store == "real" else {**where, "threshold": None}
    address = url if store == "real" else digits.url
    together = make(address, dr.Model("xgboost", {"rounds": [1, 4]}), **given)
    assert len(together.jobs) == 1
    for rounds in (1, 4):
        alone = make(address, dr.Model("xgboost", {"rounds": [rounds]}), seed=1, **given)
        wanted = together.table[together.table["rounds"] == rounds]
        assert alone.table[["loss", "acc"]].values.tolist() == (
            wanted[["loss", "acc"]].values.tolist()
        )
    assert together.table["acc"].iloc[1] > 0.6


def test_forests_of_xgboost(url):
    pytest.importorskip("xgboost")
    grid = {"trees": [3], "criterion": ["squared_error", "absolute_error"]}
    found = make(url, dr.Model("xgboost-forest", grid), train={"x": "train"})
    assert len(found.table) == 2 * 2 * 2
    assert found.table["loss"].between(-1, 1).all()
    assert found.table["loss"].nunique() == 8  # trials and criteria differ


def test_xgboost_trains_on_several_workers(url, monkeypatch, client):
    pytest.importorskip("xgboost")
    model = dr.Model("xgboost", {"rounds": [5]})
    one = make(url, model, client=client).table
    monkeypatch.setattr(boosting, "PART_BYTES", 4 * 5 * 40)  # 40 rows
    parts = make(url, model, client=client, seed=1).table  # nothing is sampled: the seed is nothing
    np.testing.assert_allclose(parts["loss"], one["loss"], atol=0.05)
    np.testing.assert_allclose(parts["acc"], one["acc"], atol=0.1)


def test_xgboost_trains_from_external_memory(url, monkeypatch, client):
    """One part is what it would be in memory; several are asked for, or all that fits."""
    pytest.importorskip("xgboost")
    given = {"train": {"x": "train"}, "client": client}
    one = make(url, dr.Model("xgboost", {"rounds": [5]}), **given).table
    asked = dr.Model("xgboost", {"rounds": [2, 5]}, options={"external_memory": True}, name="ext")
    found = make(url, asked, **given).table
    wanted = found[found["rounds"] == 5]
    assert wanted[["loss", "acc"]].values.tolist() == one[["loss", "acc"]].values.tolist()
    monkeypatch.setattr(boosting, "PART_BYTES", 4 * 5 * 40)  # 40 rows
    monkeypatch.setattr(boosting, "fit_together", lambda client, data: False)
    last = make(url, dr.Model("xgboost", {"rounds": [5]}), seed=1, **given).compute()
    np.testing.assert_allclose(last.table["loss"], one["loss"], atol=0.05)
    assert last.records.load(last.jobs[0].name)["facts"]["external_memory"] is True


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"options": {"external_memory": "yes"}}, "option external_memory must be true or false"),
        (
            {"options": {"external_memory": True}, "parameters": {"tree_method": "exact"}},
            "external memory needs tree_method 'hist'",
        ),
    ],
)
def test_what_external_memory_has_not(url, model, message):
    pytest.importorskip("xgboost")
    with pytest.raises(InvalidOptionError, match=message):
        make(url, dr.Model("xgboost", {"rounds": [1]}, **model))


# -- block by block ----------------------------------------------------------------------------


def test_incremental_models_learn_block_by_block(digits, monkeypatch):
    monkeypatch.setattr(incremental, "PART_ROWS", 64)
    kind = "incremental:sklearn.linear_model.SGDClassifier"
    model = dr.Model(kind, {"passes": [1, 3]}, {"loss": "log_loss"}, name="sgd")
    found = make(digits.url, model, train={"x": "train"}, test={"t": "test"}, threshold=None)
    X, y = digits.features[:] / 16, digits.labels[:]
    for row in found.table.to_dict("records"):
        by_hand = SGDClassifier(loss="log_loss", random_state=row["seed"])
        for first in [0, 64, 128, 192] * row["passes"]:
            part = slice(first, min(first + 64, 200))
            by_hand.partial_fit(X[part], y[part], classes=np.arange(10))
        assert row["acc"] == by_hand.score(X[200:], y[200:])
    assert found.matrix().sweep == "passes"


def test_incremental_models_need_partial_fit(url):
    with pytest.raises(InvalidOptionError, match=r"is no scikit-learn estimator: no partial_fit"):
        make(url, dr.Model("incremental:sklearn.linear_model.Ridge"))
    sgd = "incremental:sklearn.linear_model.SGDRegressor"
    with pytest.raises(InvalidOptionError, match="passes must be a whole number from 1 on, not 0"):
        make(url, dr.Model(sgd, {"passes": [0]}))
    assert make(url, dr.Model(sgd, {"alpha": [0.1, 1.0]}), trials=1).table["loss"].nunique() == 12


def test_xgboost_is_an_extra(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(
        InvalidOptionError, match=r"xgboost is not installed; .*dskrobust\[forest\]"
    ):
        make(url, dr.Model("xgboost"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"grid": {"rounds": [0]}}, "rounds must be a whole number from 1 on, not 0"),
        ({"grid": {"criterion": ["mae"]}}, "criterion 'mae' is unknown; choose squared_error or"),
        ({"parameters": {"booster": "train"}}, "Unknown gbm type train"),
        ({"parameters": {"max_dept": 3}}, "hyper-parameter 'max_dept' is unknown; did you mean 'm"),
    ],
)
def test_what_xgboost_has_not(url, model, message):
    pytest.importorskip("xgboost")
    with pytest.raises(InvalidOptionError, match="model xgboost: ") as caught:
        make(url, dr.Model("xgboost", **model))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# -- records -----------------------------------------------------------------------------------


def test_a_second_run_does_only_what_is_missing(url):
    first = make(url).compute()
    before = records(url)
    assert len(before) == 12
    seen = []
    again = make(url).compute(tell=lambda job, record, found: seen.append(found))
    assert again.table.equals(first.table)
    assert seen == [True] * 12
    assert records(url) == before
    gone = sorted(before)[3]
    for file in Path(url).glob(f"evaluations/*/steps/{gone}.step*"):  # as if never made
        file.unlink()
    assert make(url).finished() == 11
    assert make(url).table.equals(first.table)
    after = records(url)
    assert {name for name in after if after[name] != before[name]} == {gone}


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_a_damaged_record_is_said_and_made_again(url, damage):
    first = make(url).table
    before = records(url)
    step, other = sorted(Path(url).glob("evaluations/*/steps/*.step"))[:2]
    good = step.read_bytes()
    if damage == "flipped":
        step.write_bytes(good[:-9] + bytes([good[-9] ^ 4]) + good[-8:])
    elif damage == "missing":
        step.unlink()
    else:
        step.write_bytes(good[: len(good) // 2] if damage == "truncated" else other.read_bytes())
    with pytest.raises(DamagedStoreError, match=step.name):
        stored_evaluations(dr.open_store(url))
    with pytest.warns(DamagedRecordWarning, match=rf"{step.name}.*the step runs again"):
        make(url).compute()
    assert make(url).table.equals(first)
    after = records(url)
    assert {name for name in after if after[name] != before.get(name)} == {step.stem}


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_what_records_are_of_is_written_again(url, damage):
    make(url).compute()
    (file,) = Path(url).glob("evaluations/*/record.evaluation")
    good = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(good[:-9] + bytes([good[-9] ^ 4]) + good[-8:])
    with pytest.raises(DamagedStoreError, match=file.name):
        find_evaluations(dr.open_store(url))
    make(url).compute()
    (kept,) = find_evaluations(dr.open_store(url))
    assert kept.facts()["experiment"]["train"] == TRAIN


def test_a_larger_experiment_keeps_what_is_done(url):
    make(url).compute()
    before = records(url)
    ridge = dr.Model("sklearn.linear_model.Ridge")
    larger = make(url, FOREST, ridge, trials=3, train={**TRAIN, "x_L9": "train:L90"})
    assert larger.finished() == 12
    larger.compute()
    after = records(url)
    assert before.items() <= after.items()
    assert len(after) == 4 * 2 * 3 + 4 * 3
    for change in ({"seed": 1}, {"threshold": 101}, {"test": {"t": "test"}}):
        assert make(url, **change).finished() == 0


def test_appended_rows_make_new_records(url):
    make(url).compute()
    block = dr.store.Block(np.ones((2, 5)), np.array([7.0, 9.0]), np.ones(2, np.int16))
    dr.append_rows(dr.open_store(url), [block])
    found = make(url, train={"x": "train"}, test={"t": "test"})
    assert found.problem.train == {"x": 152}
    assert found.finished() == 0
    assert find_evaluations(dr.open_store(url)) == []


def test_provenance(url):
    found = make(url).compute()
    (kept,) = find_evaluations(dr.open_store(url))
    facts = kept.facts()
    assert facts["segments"] == [digest for _, digest in dr.open_store(url).segments]
    assert facts["experiment"]["train"] == TRAIN
    assert {"dskrobust", "numpy", "scikit-learn", "python"} <= set(facts["versions"])
    job = found.jobs[0]
    record = kept.load(job.name)
    assert record["facts"]["seed"] == job.seed
    assert {"seconds", "date", "versions", "trial"} <= set(record["facts"])
    found = kept.rows(dict(job.train)["x"])
    np.testing.assert_array_equal(found, np.flatnonzero(dr.open_store(url).split == "train"))


def test_rows_of_a_subset_are_written_once_and_mended(url):
    kept, rows = make(url).records, np.arange(7)
    source = {"some": ListedRows(rows)}
    save_rows(kept, source)
    file = Path(url) / kept.path / "rows" / "some" / "0.blob"
    before = file.stat().st_mtime_ns
    save_rows(kept, source)
    assert file.stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match=r"rows/some/0\.blob"):
        kept.rows("some")
    save_rows(kept, source)
    np.testing.assert_array_equal(kept.rows("some"), rows)


@pytest.fixture
def short_spans(monkeypatch):
    """Cut rows into spans of 16 and runs of 48, as larger stores are cut."""
    for module in (membership, census, stored, row_sets):
        monkeypatch.setattr(module, "SPAN", 16)
    monkeypatch.setattr(membership, "RUN", 3)


@given(picked=st.sets(st.integers(0, 199), min_size=1), chunk=st.integers(1, 90))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_rows_are_kept_by_span_whoever_knows_them(scored, short_spans, picked, chunk):
    rows = np.array(sorted(picked))
    records = replace(make(scored).records, name=f"spans-{uuid4().hex}")
    shuffled = da.from_array(np.random.default_rng(0).permutation(rows), chunks=chunk)
    lazy = LazyRows(shuffled, 200)
    save_rows(records, {"given": ListedRows(rows), "lazy": lazy})
    for key in ("given", "lazy"):
        np.testing.assert_array_equal(records.rows(key), rows)
    assert lazy.key() == make(scored, train={"x": rows}).jobs[0].train[0][1]
    counts = records.counts("lazy")
    assert len(counts) == 13
    cut = [records.range_rows("lazy", part) for part in row_ranges(counts, chunk)]
    assert [len(part) for part in cut[:-1]] == [chunk] * (len(cut) - 1)
    np.testing.assert_array_equal(np.concatenate(cut), rows)


def test_lazy_rows_are_checked_when_they_are_computed(url):
    for asked, message in (([3, 4, 3], "row 3 is there twice"), ([3, 200], "there is no row 200")):
        with pytest.raises(InvalidOptionError, match=message):
            make(url, train={"x": da.from_array(np.array(asked), chunks=2)}).compute()


def test_one_list_of_rows_as_older_stores_have_it(url):
    kept = make(url).records
    Blobs(kept.address, kept.path).write("rows/old", np.arange(5, 9))
    np.testing.assert_array_equal(kept.rows("old"), np.arange(5, 9))


def test_blocks_add_up(url, tmp_path, short_spans, monkeypatch):
    """Small blocks give the same ACC, and the same LOSS but for rounding, as one."""
    models = (
        FOREST,
        dr.Model("knn", {"neighbors": [1, 5]}),
        dr.Model("sklearn.linear_model.Ridge", name="ridge"),
    )
    shutil.copytree(url, tmp_path / "other.zarr")
    one = make(url, *models).table
    monkeypatch.setattr(rows, "BLOCK", 7)
    monkeypatch.setattr(trees, "SPLIT_EVERY", 2)
    many = make(str(tmp_path / "other.zarr"), *models).table
    assert many.drop(columns="loss").equals(one.drop(columns="loss"))
    np.testing.assert_allclose(many["loss"], one["loss"], rtol=1e-12)


def test_a_threshold_beyond_the_labels_is_refused_before_anything_is_trained(url):
    found = make(url, threshold=-3)  # no larger than labels are, which are positive
    with pytest.raises(InvalidOptionError, match="the threshold -3 is out of range: labels go f"):
        found.compute()
    assert records(url) == {}


# -- as a Dask collection ----------------------------------------------------------------------


def test_an_evaluation_is_a_collection_of_its_steps(url, tmp_path, client):
    models = FOREST, dr.Model("knn", {"neighbors": [1, 5]}), dr.Model("knn", name="near")
    for name in ("eager.zarr", "threads.zarr"):
        shutil.copytree(url, tmp_path / name)
    expected = make(str(tmp_path / "eager.zarr"), *models, client=client).table
    found = make(url, *models)
    assert is_dask_collection(found)
    assert len(found.dask) == len(found.jobs) + 1
    assert records(url) == {}
    future = client.compute(found)
    assert future.result().equals(expected)
    assert len(records(url)) == len(found.jobs)
    (kept,) = persist(make(url, *models))
    assert kept.compute().table.equals(expected)
    (table,) = compute(make(str(tmp_path / "threads.zarr"), FOREST), scheduler="threads")
    assert table.equals(make(str(tmp_path / "eager.zarr"), FOREST).table)


# -- workers -----------------------------------------------------------------------------------


def test_tables_do_not_depend_on_the_workers(url, tmp_path, client):
    shutil.copytree(url, tmp_path / "other.zarr")
    models = FOREST, dr.Model("sklearn.tree.DecisionTreeRegressor", {"max_depth": [2, 3]})
    two = make(url, *models, client=client).table
    with LocalCluster(
        n_workers=1, threads_per_worker=3, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster, Client(cluster, set_as_default=False) as single:  # fmt: skip
        one = make(str(tmp_path / "other.zarr"), *models, client=single).table
    assert one.equals(two)


@pytest.mark.parametrize("kind", ["knn", "forest", "xgboost", "sklearn.linear_model.Ridge"])
def test_nothing_is_predicted_or_scored_in_the_client(url, client, monkeypatch, kind):
    """Workers are processes of their own, which what is refused here does not reach."""
    pytest.importorskip("xgboost")

    def refuse(*asked):
        raise AssertionError("this runs in the client")

    monkeypatch.setattr(scoring.Answers, "__init__", refuse)
    for name in ("value_sums", "merge_tables", "merge_pair"):
        monkeypatch.setattr(scoring, name, refuse)
    monkeypatch.setattr(rows, "read_labels", refuse)
    grid = {"knn": {"neighbors": [1, 5]}, "forest": {"trees": [2]}, "xgboost": {"rounds": [2]}}
    found = make(url, dr.Model(kind, grid.get(kind, {})), client=client, trials=1).compute()
    assert found.failures == []
    assert len(found.table) == 6 * (2 if kind == "knn" else 1)


def test_the_client_holds_no_more_of_more_rows(tmp_path, client):
    peaks = []
    for count in (100_000, 800_000):
        X = np.random.default_rng(0).standard_normal((count, 2))
        split = np.where(np.arange(count) % 2, "train", "test")
        spec = dr.StoreSpec("long", "real")
        store = dr.create_store(str(tmp_path / f"{count}.zarr"), X, X[:, 0], split, spec=spec)
        model = dr.Model("sklearn.linear_model.Ridge")
        tracemalloc.start()
        found = make(store, model, train={"x": "train"}, test={"t": "test"}, threshold=None)
        assert found.compute(client).failures == []
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 800_000  # a byte a row


def test_a_failure_costs_its_step_only(url):
    model = dr.Model("odd_estimators.Mean", {"fail": [False, True]}, {"random_state": 1})
    found = make(url, model)
    with pytest.warns(IncompleteEvaluationWarning, match=r"3 of 6 steps failed, the first was odd"):
        found.compute()
    (first, *_) = found.failures
    assert str(first) == (
        "odd_estimators.Mean on x (fail=True), trial 1: ArithmeticError: it does not add up"
    )
    assert found.table["fail"].tolist() == [False] * 6
    assert "3 failed" in repr(found)
    assert len(found.matrices()) == 1
    seen = []
    make(url, model).compute(tell=lambda job, record, known: seen.append(known))
    assert seen.count(False) == 3  # the failed ones are tried again


def test_a_killed_worker_costs_nothing(url, tmp_path):
    flag = tmp_path / "killed"
    model = dr.Model("odd_estimators.Mean", {"random_state": [1, 2, 3]}, {"flag": str(flag)})
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path / "workers"),
        silence_logs=50,
    ) as cluster, Client(cluster) as client:  # fmt: skip
        found = make(url, model, client=client).compute()
    assert flag.exists()
    assert found.failures == []
    assert len(records(url)) == 9
    assert len(found.table) == 18


def test_a_killed_run_goes_on(url, tmp_path):
    """One of four steps kills the run; what was finished before stays."""
    flag = tmp_path / "killed"
    script = f"""
        import dskrobust as dr
        if __name__ == "__main__":
            model = dr.Model(
                "odd_estimators.Mean", {{"flag": ["", {str(flag)!r}]}}, {{"random_state": 1}}
            )
            dr.evaluate(
                {url!r}, train={{"x": "train", "x_L": "train:L80"}}, test={{"t": "test"}},
                models=[model], threshold=100, trials=1,
            ).compute()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    run = subprocess.run(command, capture_output=True, timeout=120, cwd=TESTS, text=True)
    assert run.returncode == -9, run.stderr
    assert flag.exists()
    before = records(url)
    assert len(before) < 4
    again = subprocess.run(command, capture_output=True, timeout=120, cwd=TESTS, text=True)
    assert again.returncode == 0, again.stderr
    after = records(url)
    assert len(after) == 4
    assert before.items() <= after.items()


def test_relative_addresses_hold_on_workers_elsewhere(url, monkeypatch, client):
    monkeypatch.chdir(Path(url).parent)
    found = make("s.zarr", client=client).compute()
    assert found.failures == []
    assert found.store.url == "s.zarr"
    assert found.records.address.url == url


def test_workers_that_see_another_store_are_told_of(url, client, tmp_path):
    found = make(url, client=client)
    assert found.finished() == 0
    block = dr.store.Block(np.ones((2, 5)), np.array([7.0, 9.0]), np.ones(2, np.int16))
    other = dr.create_store(str(tmp_path / "o.zarr"), block.features, block.labels)
    shutil.rmtree(url)
    shutil.copytree(other.url, url)
    with pytest.raises(ClusterError, match=r"worker \S+ cannot use the store .*s\.zarr: "):
        found.compute()


def test_failures_in_this_process_leave_no_traceback(url):
    script = f"""
        import dskrobust as dr
        import warnings
        warnings.simplefilter("ignore")
        model = dr.Model("odd_estimators.Mean", {{"fail": [True]}})
        found = dr.evaluate(
            {url!r}, train={{"x": "train"}}, test={{"t": "test"}}, models=[model], trials=1
        ).compute()
        print(found.failures)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, timeout=120, cwd=TESTS, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.startswith("[<Failure of odd_estimators.Mean on x (fail=True), trial 1: Ar")
    assert run.stderr == ""
