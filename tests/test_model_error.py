"""A model's error: norms, A.4's bound and where they are attained, as a brute force has them."""

import json

import brute
import dask.array as da
import numpy as np
import pandas as pd
import polars
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from strategies import LABELS, data_sets, options

import dskrobust as dr
from dskrobust import cli
from dskrobust.datasets import restore_labels
from dskrobust.errors import InvalidDataError, MemoryPlanError


def points(values, classes):
    """Labels or predictions as points: unit vectors of classes, or as they are."""
    values = np.asarray(values, float).reshape(len(values), -1)
    if classes is None or values.shape[1] > 1:
        return values
    return np.eye(len(classes))[np.searchsorted(classes, values[:, 0])]


def largest(delta, d, allowed):
    """The largest quotient of every row over the allowed pairs; 0 where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(allowed & (delta > 0), delta / d, 0.0).max(axis=1)


def expected(X, y, F, split, labels, x, t):
    """Rows of x ∪ t, ‖ε‖, quotients of F − y, of y and of F over Γ, and those of y in x."""
    classes = np.unique(y) if labels == "categorical" else None
    norm = "vector-linf" if labels in ("categorical", "real") else labels
    rows = np.flatnonzero((split == x) | (split == t))
    truth, model = points(y, classes)[rows], points(F, classes)[rows]
    d = brute.distances(X[rows])
    error, own, other = (brute.label_distances(v, norm) for v in (model - truth, truth, model))
    size = {"vector-l1": 1, "vector-l2": 2}.get(norm, np.inf)
    gamma = own > 0
    return {
        "rows": rows,
        "deviation": np.linalg.norm(model - truth, size, axis=1),
        "quotient": largest(error, d, np.ones_like(gamma)),
        "label_quotient": largest(own, d, gamma),
        "model_quotient": largest(other, d, gamma),
    }, largest(own, d, gamma & (split[rows] == x))


def model_of(rng, data):
    """Predictions near the labels: of classes hard ones or probabilities."""
    if data.labels == "categorical":
        classes = np.unique(data.y)
        if rng.random() < 0.5:
            return rng.choice(classes, len(data.y))
        return rng.dirichlet(np.ones(len(classes)), len(data.y))
    return data.y + np.round(rng.standard_normal(data.y.shape), 1)


@settings(deadline=None, max_examples=8)
@given(data=data_sets(labels=LABELS, groups=(2, 3), dtypes=("uint8", "float32")), run=options(),
       seed=st.integers(0, 999))  # fmt: skip
def test_all_is_what_a_brute_force_says_and_the_bound_holds(data, run, seed):
    X, F = data.X.astype(np.float64), model_of(np.random.default_rng(seed), data)
    wanted, of_x = expected(X, data.y, F, data.split, data.labels, "a", "b")
    error = dr.lipschitz_error(
        X, F, "a", "b", y=data.y, split=data.split, labels=data.labels, options=run
    )
    done, found = error.compute(), error.summary()
    for name, values in wanted.items():
        np.testing.assert_array_equal(getattr(done, name), values, err_msg=name)
    union = wanted["label_quotient"]
    np.testing.assert_array_equal(
        done.gamma, np.subtract(union, of_x, where=union != of_x, out=np.zeros(len(union)))
    )
    assert found.lipschitz.value == wanted["quotient"].max()
    assert found.bound.value == done.bound.max() <= found.lipschitz.value * (1 + 1e-12)
    assert found.norm == wanted["deviation"].max() + found.lipschitz.value
    k = int(np.argmax(wanted["quotient"]))  # the lowest row that attains it, and its partner
    assert found.lipschitz.row == wanted["rows"][k]
    assert found.words()


def some(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((rows, 4)), np.arange(rows) % 3
    return X, y, np.where(np.arange(rows) < rows // 2, "train", "test")


def test_where_the_bound_is_an_equality():
    X, y, split = some()
    constant = dr.lipschitz_error(X, np.zeros(60), y=y.astype(float), split=split).summary()
    assert constant.bound.model_quotient == 0  # F does not vary: L(F − y) is L(y), and so is A.4's
    assert constant.share == 1
    assert constant.lipschitz.value == constant.bound.label_quotient
    perfect = dr.lipschitz_error(X, y, y=y, split=split).summary()
    assert perfect.norm == perfect.bound.value == 0
    assert "right" in perfect.words()[0]


def test_equal_rows_of_different_labels_are_named():
    X, y, split = some()
    X[40] = X[3]
    found = dr.lipschitz_error(X, np.zeros(60), y=y.astype(float), split=split).summary()
    assert y[40] != y[3]
    assert np.isinf(found.lipschitz.value)
    assert found.sums.infinite == 2
    assert "rows 3 and 40 are equal" in found.words()[0]
    assert np.isfinite(found.finite.value)
    assert found.facts()["lipschitz_error"] is None
    twice = dr.lipschitz_error(np.zeros((4, 2)), np.zeros(4), [0, 1], [2, 3],
                               y=np.arange(4.0)).summary()  # fmt: skip
    assert twice.finite is twice.facts()["finite"] is None  # all quotients are infinite
    assert "nor at 2 more rows" in twice.words()[0]
    assert not any("-1" in text for text in twice.words())


def test_a_store_serves_its_scores_and_estimators_predict_block_by_block(tmp_path, monkeypatch):
    X, y, split = some()
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split=split)
    model = KNeighborsClassifier(3)
    lazy = dr.lipschitz_error(store, model)
    assert len(lazy.searches) == 3  # of F − y, of (y, F), and of y
    first = lazy.summary()
    dr.sample_robustness(store).write()
    monkeypatch.setattr("dskrobust.predicting.BLOCK_BYTES", 7 * 8 * 4)
    fitted = model.fit(X[:30], y[:30])
    again = dr.lipschitz_error(store, fitted, options=dr.RunOptions(block_rows=25))
    assert len(again.searches) == 2
    assert again.summary() == first
    assert dr.lipschitz_error(store, fitted.predict_proba(X)).summary() == first
    half = dr.lipschitz_error(store, fitted, "train:L20").compute()
    assert len(half.rows) == 50


def test_sets_are_given_as_rows_in_any_form(tmp_path):
    X, y, split = some()
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split=split)
    dr.sample_robustness(store).write()  # Q of the labels comes from there for groups
    wanted = dr.lipschitz_error(store, y[::-1].copy()).summary()
    rows = np.flatnonzero(split == "train"), np.flatnonzero(split == "test")
    for x, t in (rows, [one.tolist() for one in rows]):
        found = dr.lipschitz_error(store, y[::-1].copy(), x=x, t=t).summary()
        assert (found.lipschitz, found.bound) == (wanted.lipschitz, wanted.bound)


def test_predictions_are_in_the_units_of_the_labels(tmp_path):
    X, _, split = some()
    y = X[:, 0] - X[:, 0].min()
    y /= y.max()
    spec = dr.StoreSpec("scaled", "real", scaling={"labels": {"min": 20.3, "max": 70.7}})
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split=split, spec=spec)
    own = restore_labels(spec, y)
    perfect = dr.lipschitz_error(store, own).summary()
    assert perfect.norm == 0  # not only up to rounding
    found = dr.lipschitz_error(store, own + 5.04).summary()
    assert found.deviation.value == pytest.approx(0.1)
    model = KNeighborsRegressor(1).fit(X[:30], y[:30])  # of the labels in the store
    by_model = dr.lipschitz_error(store, model).summary()
    by_file = dr.lipschitz_error(store, restore_labels(spec, model.predict(X))).summary()
    assert by_file.lipschitz.value == pytest.approx(by_model.lipschitz.value, rel=1e-12)


def test_predictions_that_do_not_fit_are_refused(monkeypatch):
    X, y, split = some()
    with pytest.raises(InvalidDataError, match=r"\(59,\).*every row of all groups"):
        dr.lipschitz_error(X, np.zeros(59), y=y, split=split)
    names = np.array(["a", "b", "c"])
    named = dr.lipschitz_error(X, names[y], y=names[y], split=split).summary()
    assert named.norm == 0
    with pytest.raises(InvalidDataError, match=r"row 0 is 'd', no class.*a, b, c"):
        dr.lipschitz_error(X, np.full(60, "d"), y=names[y], split=split)
    wrong = y.copy()
    wrong[17] = 7
    with pytest.raises(InvalidDataError, match="row 17 is 7, which is no class"):
        dr.lipschitz_error(X, wrong, y=y, split=split).summary()
    lost = np.full((60, 3), 1 / 3)
    lost[5, 1] = np.nan
    with pytest.raises(InvalidDataError, match="row 5 is not finite"):
        dr.lipschitz_error(X, lost, y=y, split=split).summary()
    monkeypatch.setattr("dskrobust.memory.SMALL", 0)
    monkeypatch.setattr("dskrobust.model_error.ROW_BYTES", 2**50)
    with pytest.raises(MemoryPlanError, match="60 rows"):
        dr.lipschitz_error(X, y, y=y, split=split).compute()


def test_lazy_predictions_are_written_for_the_tasks():
    import dask.array as da

    X, y, split = some()
    F = np.random.default_rng(1).dirichlet(np.ones(3), 60)
    plain = dr.lipschitz_error(X, F, y=y, split=split).summary()
    assert (
        dr.lipschitz_error(X, da.from_array(F, chunks=(13, 2)), y=y, split=split).summary() == plain
    )


@pytest.mark.cluster
def test_on_the_workers_of_a_cluster_everything_is_the_same(tmp_path, request):
    X, y, split = some(90)
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split=split)
    F = np.random.default_rng(1).dirichlet(np.ones(3), 90)
    here = dr.lipschitz_error(store, F).summary()
    model = KNeighborsClassifier(3)
    fitted = dr.lipschitz_error(store, model).summary()
    request.getfixturevalue("client")
    assert dr.lipschitz_error(store, F).summary() == here  # written to a file for the workers
    assert dr.lipschitz_error(X, model, y=y, split=split).summary() == fitted


def named(folder, names):
    """A store whose classes are called so, and a model's predictions of codes."""
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(30, 2)), np.arange(30) % len(names)
    split = np.where(np.arange(30) < 18, "train", "test")
    store = dr.create_store(folder / "own.zarr", X, np.array(names)[codes], split)
    return store, np.roll(codes, 1)


def error_of(store, predictions):
    found = dr.lipschitz_error(store, predictions).summary()
    return found.lipschitz, found.deviation, found.bound


@pytest.mark.parametrize("names", [("1", "2", "3"), ("ant", "bee", "cow")])
def test_predictions_by_name_in_any_container(tmp_path, names):
    store, codes = named(tmp_path, names)
    shares = np.eye(3)[codes] * 0.8 + 0.1
    wanted, likely = error_of(store, np.array(names)[codes]), error_of(store, shares)
    for held in (
        np.array(names, "S")[codes],
        pd.Series(names)[codes],
        pd.Categorical(np.array(names)[codes]),
        da.from_array(np.array(names)[codes], chunks=7),
        polars.Series(np.array(names)[codes]),
    ):
        assert error_of(store, held) == wanted
    frame = pd.DataFrame(shares, columns=names)
    for held in (frame[[*reversed(names)]], polars.from_pandas(frame[[*reversed(names)]])):
        assert error_of(store, held) == likely
    with pytest.raises(InvalidDataError, match=r"columns of predictions are called .*as the class"):
        error_of(store, frame.reset_index())


def test_predictions_that_mean_something_else(tmp_path):
    store, codes = named(tmp_path, ("1", "2", "3"))
    holes = np.ma.array(np.array(["1", "2", "3"])[codes], mask=np.arange(30) == 4)
    for held, said in (
        (codes, "numbers may be their names or their codes"),
        (da.from_array(codes, chunks=7), "numbers may be their names or their codes"),
        (holes, "predictions row 4 is masked"),
        (np.array([None, *holes.data[1:]], object), "predictions row 0 has no value"),
    ):
        with pytest.raises(InvalidDataError, match=said):
            error_of(store, held)


def test_a_file_of_row_numbers_and_classes_holds_no_probabilities(tmp_path):
    store, codes = named(tmp_path, ("01", "NA"))
    table = pd.DataFrame({"row": np.arange(30), "class": np.array(["01", "NA"])[codes]})
    table[["class"]].to_csv(tmp_path / "one.csv", index=False)
    table.assign(**{"class": codes}).to_csv(tmp_path / "two.csv", index=False)
    done = CliRunner().invoke(
        cli.main, ["bound", store.url, "--predictions", str(tmp_path / "one.csv"), "--json"]
    )
    assert done.exit_code == 0, done.output
    wanted = dr.lipschitz_error(store, np.array(["01", "NA"])[codes]).summary().facts()
    assert json.loads(done.stdout) == json.loads(json.dumps(wanted))
    done = CliRunner().invoke(
        cli.main, ["bound", store.url, "--predictions", str(tmp_path / "two.csv")]
    )
    assert done.exit_code == 1
    assert "the columns of predictions are called row, class" in done.output
