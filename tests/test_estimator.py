"""The estimator: scikit-learn's own checks, and scores of new samples against the fitted set."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_diabetes, load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from dskrobust import LabelMap, SampleRobustness
from dskrobust.errors import InvalidDataError

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
