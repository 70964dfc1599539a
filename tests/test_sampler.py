"""The sampler of imbalanced-learn: what it keeps, in pipelines, and its own checks."""

import sys

import dask.array as da
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import TomekLinks
from imblearn.utils.estimator_checks import estimator_checks_generator
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import dskrobust as dr
from dskrobust.errors import InvalidDataError, InvalidOptionError


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    keep = np.flatnonzero((y != 8) | (np.arange(len(y)) % 3 == 0))[:600]
    return X[keep], y[keep]


CHECKS = list(estimator_checks_generator(dr.RobustnessSampler(), legacy=True))


@parametrize_with_checks([dr.RobustnessSampler()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("sampler", "check"), CHECKS, ids=[str(k) for k in range(len(CHECKS))])
def test_imbalanced_learn_takes_it_for_a_sampler(sampler, check):
    check(sampler)


@pytest.mark.parametrize("keep", ["least", "most"])
def test_classes_become_as_small_as_the_smallest(digits, keep):
    X, y = digits
    sampler = dr.RobustnessSampler(keep=keep, scale=1 / 16)
    _, kept = sampler.fit_resample(X, y)
    smallest = np.bincount(y).min()
    assert np.bincount(kept).tolist() == [smallest] * 10
    robustness = dr.sample_robustness(X, y, scale=1 / 16).compute().robustness
    np.testing.assert_array_equal(sampler.robustness_, robustness)
    for label in range(10):
        chosen = robustness[sampler.sample_indices_[y[sampler.sample_indices_] == label]]
        ranked = np.sort(robustness[y == label])
        expected = ranked[:smallest] if keep == "least" else ranked[-smallest:]
        np.testing.assert_array_equal(np.sort(chosen), expected)


@pytest.mark.parametrize("size", [450, 0.75])
def test_a_size_is_of_all_classes_together(digits, size):
    X, y = digits
    least = dr.RobustnessSampler(keep="least", size=size)
    X_least, y_least = least.fit_resample(X, y)
    subset = dr.least_robust(dr.sample_robustness(X, y), 450).compute()
    np.testing.assert_array_equal(least.sample_indices_, np.sort(subset.indices))
    np.testing.assert_array_equal(X_least, X[least.sample_indices_])
    np.testing.assert_array_equal(y_least, y[least.sample_indices_])
    rest = dr.RobustnessSampler(keep="most", size=150)
    rest.fit_resample(X, y)
    both = np.union1d(rest.sample_indices_, least.sample_indices_)
    np.testing.assert_array_equal(both, np.arange(600))


def test_frames_and_text_stay_what_they_are(digits):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel {k}" for k in range(64)])
    names = np.array([f"digit {label}" for label in y])
    kept, labels = dr.RobustnessSampler(sampling_strategy={"digit 1": 5}).fit_resample(frame, names)
    assert type(kept) is type(frame)
    assert list(kept.columns) == list(frame.columns)
    assert (labels == "digit 1").sum() == 5
    assert (labels == "digit 2").sum() == (y == 2).sum()


def test_in_a_pipeline(digits):
    X, y = digits
    model = make_pipeline(dr.RobustnessSampler(size=0.9), KNeighborsClassifier(1))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.85


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": "some"}, "keep must be most or least, not 'some'"),
        ({"size": 0}, "from 1 to 600 or a share up to 1.0, not 0"),
        ({"size": 601}, "not 601"),
        ({"size": 1.5}, "not 1.5"),
        ({"size": float("nan")}, "not nan"),
        ({"size": "x"}, "not 'x'"),
        ({"strategy": "tomcat"}, "strategy must be robustness or tomek, not 'tomcat'"),
        ({"strategy": "tomek", "size": 5}, "keep and size are for robustness"),
        ({"size": 5, "sampling_strategy": "all"}, "either size or sampling_strategy"),
    ],
)
def test_bad_parameters_are_refused(digits, given, message):
    with pytest.raises(InvalidOptionError, match=message):
        dr.RobustnessSampler(**given).fit_resample(*digits)


TARGETS = ("auto", "all", [1, 2])


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 180, 80])
    order = rng.permutation(len(y))
    return (rng.standard_normal((560, 5)) + np.eye(3, 5)[y])[order], y[order]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_tomek_links_are_those_of_imbalanced_learn(clouds, target):
    X, y = clouds
    theirs = TomekLinks(sampling_strategy=target)
    expected = theirs.fit_resample(X, y)
    for form in (np.asarray, csr_matrix):
        ours = dr.RobustnessSampler(strategy="tomek", sampling_strategy=target)
        found = ours.fit_resample(form(X), y)
        np.testing.assert_array_equal(ours.sample_indices_, theirs.sample_indices_)
        np.testing.assert_array_equal(found[1], expected[1])
        assert 5 < len(y) - len(found[1]) < 200
    lazy = dr.RobustnessSampler(strategy="tomek", sampling_strategy=target)
    kept = lazy.fit_resample(da.from_array(X, chunks=(130, 2)), da.from_array(y, chunks=99))
    for found, wanted in zip(kept, expected, strict=True):
        assert found.shape == wanted.shape  # known, though nothing of it was read
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(lazy.sample_indices_, theirs.sample_indices_)


def test_tomek_links_of_a_store_are_kept_there(clouds, tmp_path, monkeypatch):
    X, y = clouds
    names = np.array(["a", "b", "c"])[y]
    store = dr.create_store(str(tmp_path / "a.zarr"), X, names)
    theirs = TomekLinks(sampling_strategy=["a", "c"])
    X_clean, _ = theirs.fit_resample(X, names)
    ours = dr.RobustnessSampler(strategy="tomek", sampling_strategy=["a", "c"])
    found, labels = ours.fit_resample(store)
    np.testing.assert_array_equal(ours.sample_indices_, theirs.sample_indices_)
    np.testing.assert_array_equal(found, X_clean)
    np.testing.assert_array_equal(labels, y[theirs.sample_indices_])
    monkeypatch.setattr("dskrobust.neighbours.symmetric_search", None)  # nothing is searched again
    again, _ = dr.RobustnessSampler(strategy="tomek").fit_resample(store.url)
    assert len(again) < 560
    with pytest.raises(InvalidOptionError, match="name the classes in a list"):
        dr.RobustnessSampler(strategy="tomek", sampling_strategy=dict).fit_resample(store)


def test_without_imbalanced_learn_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "dskrobust.sampler")
    monkeypatch.setitem(sys.modules, "imblearn.under_sampling.base", None)
    with pytest.raises(ImportError, match=r"pip install 'dskrobust\[imblearn\]'"):
        _ = dr.RobustnessSampler


@pytest.mark.parametrize("strategy", ["robustness", "tomek"])
def test_rows_stay_what_they_are_in_their_containers(digits, strategy):
    X, y = digits[0][:90, 18:46], digits[1][:90] % 3
    columns = {f"c{k}": X[:, k] for k in range(28)}
    frame = pd.DataFrame({**columns, "a": X[:, 0].astype("int8"), "c": X[:, 2] > 4})
    kinds = pd.Series(pd.Categorical(y == 1))
    sampler = dr.RobustnessSampler(strategy=strategy)
    for features, labels, plain in (
        (frame, kinds, y == 1),
        (polars.from_pandas(frame), polars.Series(y.astype(str)), y.astype(str)),
        (pa.Table.from_pandas(frame), pa.array(y.astype(str)).cast(pa.string_view()),
         y.astype(str)),
        (frame.assign(c=X[:, :2].tolist()), y.astype("S1"), y.astype("S1")),
    ):  # fmt: skip
        left, kept = sampler.fit_resample(features, labels)
        rows = sampler.sample_indices_
        assert type(left) is type(features)
        assert list(map(str, list(kept))) == list(map(str, plain[rows].tolist()))
        as_pandas = left.to_pandas() if hasattr(left, "to_pandas") else left
        whole = features.to_pandas() if hasattr(features, "to_pandas") else features
        pd.testing.assert_frame_equal(as_pandas, whole.iloc[rows].reset_index(drop=True))


def test_a_row_without_a_value_is_named():
    X = np.where(np.eye(6) > 0, np.nan, 1.0)
    with pytest.raises(InvalidDataError, match="X row 0, column 0 is NaN"):
        dr.RobustnessSampler().fit_resample(X, np.arange(6) % 2)
