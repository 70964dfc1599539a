"""A norm of the user's on the label space: to the last bit, or refused where it is none."""

import brute
import dask
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import dskrobust as dr
from dskrobust.errors import InvalidDataError, InvalidOptionError

pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


def skewed(v):
    """Far more by the first component than by the others."""
    return 1000.0 * abs(v[0]) + float(np.sqrt((v * v).sum())) / 7


@njit
def compiled(v):
    total = 0.0
    for k in range(v.shape[0]):
        total += abs(v[k]) ** 3.0
    return total ** (1.0 / 3.0) + abs(v[0])


NORMS = {"python": skewed, "numba": compiled}
BRUTE_METRIC = {"minkowski(3)": ("minkowski", 3.0)}


def run(data, norm, metric="euclidean", **kwargs):
    labels = dr.LabelMap("vector", norm)
    arrays = data.X, data.y, data.split
    with dask.config.set(scheduler="sync"):
        return dr.sample_robustness(
            *arrays, metric=metric, labels=labels, scale=data.scale, **kwargs
        ).compute()


@settings(max_examples=25, deadline=None)
@given(st.data(), own.data_sets(labels=("vector-l2", "real"), rows=(2, 40)))
def test_brute_force_whatever_the_cuts(draw, data):
    norm = NORMS[draw.draw(st.sampled_from(sorted(NORMS)))]
    metric = draw.draw(st.sampled_from(("euclidean", "cityblock", "angular", "hamming")))
    X = data.X if metric != "angular" else np.where(data.X.any(axis=1)[:, None], data.X, 1)
    data = own.Data(X, data.y, data.split, data.labels, data.scale)
    plain = BRUTE_METRIC.get(metric, metric)
    wanted = brute.score(data.X, data.y, data.split, plain, norm, data.scale)
    brute.assert_same(run(data, norm, metric, options=draw.draw(own.options())), wanted)


@pytest.mark.parametrize("columns", [4, 90])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "function"])
def test_many_rows_by_every_way_of_bounding(columns, metric):
    rng = np.random.default_rng(columns)
    X, y = rng.standard_normal((300, columns)), rng.standard_normal((300, 3))
    y[::7], X[::11] = y[0], X[0]  # equal labels, equal rows
    data = own.Data(X, y, None, "vector-l2")
    metric = (lambda a, b: float(abs(a - b).max())) if metric == "function" else metric
    wanted = brute.score(X, y, None, metric, compiled)
    brute.assert_same(run(data, compiled, metric), wanted)


def test_few_pairs_are_called_for():
    calls = []

    def norm(v):
        calls.append(1)
        return float(np.abs(v).sum())

    rng = np.random.default_rng(1)
    X = rng.standard_normal((2000, 30)).astype(np.float32)
    y = np.stack([X[:, 0], X[:, 1]], axis=1)
    data = own.Data(X, y, None, "vector-l1")
    mine = run(data, norm)
    theirs = dr.sample_robustness(X, y, labels="vector-l1").compute()
    np.testing.assert_array_equal(mine.witness, theirs.witness)
    assert len(calls) < 0.3 * 2000 * 1999 / 2


def test_a_store_knows_the_norm_and_is_verified_with_it(tmp_path):
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((50, 5)), rng.standard_normal((50, 2))
    store = dr.create_store(str(tmp_path / "s.zarr"), X, y)
    labels = dr.LabelMap("vector", skewed)
    scores = dr.sample_robustness(store, labels=labels).write()
    assert scores.result.parameters["norm"].startswith("function(skewed, ")
    brute.assert_same(scores, brute.score(X, y, labels=skewed))
    assert dr.sample_robustness(store, labels=labels).result is not None
    assert dr.sample_robustness(store, labels="vector").result is None
    assert dr.verify_store(store).unproven == (scores.result.name,)
    assert dr.verify_store(store, label_norm=skewed).unproven == ()


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (lambda v: v[0], "returned -|for a unit vector|is not 0"),
        (lambda v: abs(v[0]), "unit vector"),
        (lambda v: float((v * v).sum()), "does not grow with its vector"),
        (lambda v: float(np.abs(v).sum() + 2 * np.maximum(v, 0).sum()), "does not grow"),
        (lambda v: float(np.sqrt(np.abs(v)).sum() ** 2), "triangle"),
        (lambda v: float(np.abs(v).sum() + 1), "zeros"),
        (lambda v: np.nan, "nan"),
        (lambda v: "long", "no number"),
        (lambda v: v, "no number"),
    ],
)
def test_what_is_no_norm_is_refused(norm, said):
    X, y = np.eye(4), np.arange(8.0).reshape(4, 2)
    with pytest.raises(InvalidOptionError, match=said):
        dr.sample_robustness(X, y, labels=dr.LabelMap("vector", norm))


def test_a_norm_that_fails_on_the_data_names_its_rows():
    def norm(v):
        return float(np.abs(v).sum()) if np.abs(v).max() < 50 else 1e9

    X, y = np.eye(40), np.zeros((40, 2))
    y[:, 0], y[-1] = np.arange(40) / 40, 60.0
    with pytest.raises(InvalidDataError, match=r"rows \d+ and \d+"):
        dr.sample_robustness(X, y, labels=dr.LabelMap("vector", norm)).compute()


def test_only_vectors_have_norms_of_their_own():
    for kind in ("real", "categorical"):
        with pytest.raises(InvalidOptionError, match="vector labels"):
            dr.LabelMap(kind, skewed)
    with pytest.raises(InvalidOptionError, match="norm must be text or a function, not 2"):
        dr.LabelMap("vector", 2)
    with pytest.raises(InvalidOptionError, match="below the largest"):
        X, y = np.eye(4), np.arange(8.0).reshape(4, 2)
        dr.sample_robustness(X, y, labels=dr.LabelMap("vector", skewed, bound=1.0)).compute()
