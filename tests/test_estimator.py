"""The estimator: scikit-learn's own checks, and scores of new samples against the fitted set."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_diabetes, load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from dskrobust import LabelMap, SampleRobustness
from dskrobust.errors import InvalidDataError, InvalidOptionError

NEEDS_LABELS = "score_samples scores labelled samples: it cannot be called without labels"


def expected_to_fail(estimator):
    checks = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")
    return dict.fromkeys(checks, NEEDS_LABELS)


@parametrize_with_checks([SampleRobustness()], expected_failed_checks=expected_to_fail)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_scores_of_new_samples():
    X, y = load_digits(return_X_y=True)
    model = SampleRobustness(scale=1 / 16).fit(X[:1000], y[:1000])
    scores = model.score_samples(X[1000:], y[1000:])
    distances = cdist(X[1000:] / 16, X[:1000] / 16)
    distances[y[1000:, None] == y[None, :1000]] = np.inf
    reach = distances.min(axis=1)
    np.testing.assert_allclose(scores, reach / (1 + reach), rtol=1e-12)


def test_scores_of_samples_with_a_new_label():
    X, y = load_digits(return_X_y=True)
    model = SampleRobustness().fit(X[y < 5], y[y < 5])
    scores = model.score_samples(X[y == 7], y[y == 7])
    reach = cdist(X[y == 7], X[y < 5]).min(axis=1)
    np.testing.assert_allclose(scores, reach / (1 + reach), rtol=1e-12)


def test_real_labels():
    X, y = load_diabetes(return_X_y=True)
    y = y + 0.5  # not whole, so taken as real numbers
    model = SampleRobustness().fit(X[:300], y[:300])
    keep = y[300:] <= model.label_norm_
    scores = model.score_samples(X[300:][keep], y[300:][keep])
    q = (np.abs(y[300:][keep][:, None] - y[:300]) / cdist(X[300:][keep], X[:300])).max(axis=1)
    np.testing.assert_allclose(scores, model.label_norm_ / (q + model.label_norm_), rtol=1e-12)


def test_labels_beyond_the_norm_are_refused():
    X, y = load_diabetes(return_X_y=True)
    y = y + 0.5
    model = SampleRobustness().fit(X, y)
    with pytest.raises(InvalidDataError, match="beyond ‖y‖∞"):
        model.score_samples(X[:2], np.array([1e6, 1.5]))
    bounded = SampleRobustness(labels=LabelMap("real", bound=2e6)).fit(X, y)
    assert (bounded.score_samples(X[:2], np.array([1e6, 1.5])) < 1).all()


def test_pandas_and_text_labels():
    pd = pytest.importorskip("pandas")
    X, y = load_digits(return_X_y=True, as_frame=True)
    names = y.map(lambda k: f"digit {k}")
    text = SampleRobustness().fit(X, names)
    plain = SampleRobustness().fit(X.to_numpy(), y.to_numpy())
    assert (text.robustness_ == plain.robustness_).all()
    assert isinstance(X, pd.DataFrame)
    assert list(text.classes_) == [f"digit {k}" for k in range(10)]


def frames(columns):
    """The same columns in frames of four libraries."""
    plain = pd.DataFrame(columns)
    return {
        "pandas": plain,
        "Polars": polars.DataFrame(columns),
        "Arrow": pa.table(columns),
        "Dask": dd.from_pandas(plain, npartitions=2),
    }


@pytest.mark.parametrize("kind", ["pandas", "Polars", "Arrow", "Dask"])
def test_frames_are_what_sample_robustness_takes_them_for(kind):
    rng, y = np.random.default_rng(0), np.arange(20) % 2
    X = rng.integers(0, 9, (20, 3)).astype(float)
    held = {"a": X[:, 0].astype(int), "b": X[:, 1], "c": X[:, 2] > 4}
    model = SampleRobustness().fit(frames(held)[kind], y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    want = SampleRobustness().fit(np.stack([*X[:, :2].T, X[:, 2] > 4], axis=1).astype(float), y)
    np.testing.assert_array_equal(model.reach_, want.reach_)
    big = {"id": 2**53 + 1 + np.arange(20), "b": X[:, 1]}  # NumPy would round one beside the other
    with pytest.raises(InvalidDataError, match="column 'id' has the value"):
        SampleRobustness().fit(frames(big)[kind], y)


def test_columns_of_lists_are_columns():
    X, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3
    model = SampleRobustness().fit(polars.DataFrame({"a": X[:, :2].tolist(), "b": X[:, 2]}), y)
    np.testing.assert_array_equal(model.reach_, SampleRobustness().fit(X, y).reach_)
    with pytest.raises(InvalidOptionError, match="LazyFrame; collect"):
        SampleRobustness().fit(polars.DataFrame({"b": X[:, 2]}).lazy(), y)


@pytest.mark.parametrize("kind", [np.str_, bool, "S1"])
def test_text_is_no_number_that_it_looks_like(tmp_path, kind):
    X, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    np.save(tmp_path / "y.npy", y.astype(kind))
    model = SampleRobustness().fit(X, np.load(tmp_path / "y.npy", mmap_mode="r"))
    assert (model.score_samples(X, y.astype(kind)) == model.robustness_).all()
    other = y.astype(str) if kind is bool else y
    with pytest.raises(InvalidDataError, match=r"y holds .*, but the labels of the fitted"):
        model.score_samples(X, other)
    with pytest.raises(InvalidDataError, match=r"classes have \(samples,\)"):
        model.score_samples(X, np.stack([y, y], axis=1))


def test_dates_are_no_labels():
    with pytest.raises(InvalidDataError, match="labels of dtype datetime64"):
        SampleRobustness().fit(np.arange(4.0)[:, None], np.arange(4).astype("M8[D]"))
