"""The router: scikit-learn's own checks, routes against brute force, and what it falls back to."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from dskrobust import RobustnessRouter
from dskrobust.errors import InvalidOptionError


@parametrize_with_checks(
    [
        RobustnessRouter(kind(3), windows=None, parts=2, cv=3)
        for kind in (KNeighborsClassifier, KNeighborsRegressor)
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, np.array([f"digit {k}" for k in y])


@pytest.fixture(scope="module")
def routed(digits):
    X, y = digits
    grid = {"n_neighbors": [1, 5]}
    router = RobustnessRouter(KNeighborsClassifier(), grid, windows=2, cv=3, margin=0.0)
    return router.fit(X[:500], y[:500])


def test_a_sample_goes_by_its_reach_under_the_predicted_label(digits, routed):
    X, y = digits
    new = X[500:700]
    predicted = routed.estimator_.predict(new)
    distances = cdist(new, X[:500])
    distances[predicted[:, None] == y[:500]] = np.inf
    reach = distances.min(axis=1)
    parts = np.searchsorted(routed.cuts_, reach / (1 + reach), side="right")
    clear = np.abs(reach[:, None] / (1 + reach[:, None]) - routed.cuts_).min(axis=1) > 1e-9
    np.testing.assert_array_equal(routed.parts_of(new)[clear], parts[clear])
    answers = [model.predict(new) for model in routed.models_]
    wanted = np.array(answers)[routed.parts_of(new), np.arange(len(new))]
    np.testing.assert_array_equal(routed.predict(new), wanted)


def test_probabilities_are_of_the_models_that_answer(digits, routed):
    new = digits[0][500:700]
    likely = routed.predict_proba(new)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    np.testing.assert_array_equal(routed.classes_[likely.argmax(axis=1)], routed.predict(new))


def test_a_part_may_know_fewer_classes(digits, routed):
    model = clone(routed.estimator_).fit(digits[0][:500], digits[1][:500])
    keep = np.isin(digits[1][:500], ["digit 3", "digit 8"])
    few = clone(model).fit(digits[0][:500][keep], digits[1][:500][keep])
    again = clone(routed).fit(digits[0][:500], digits[1][:500])
    again.models_ = [few] * len(again.models_)
    likely = again.predict_proba(digits[0][500:600])
    assert likely.shape == (100, 10)
    assert set(np.flatnonzero(likely.any(axis=0))) <= {3, 8}


def test_real_values_are_routed_too():
    X, y = load_diabetes(return_X_y=True)
    router = RobustnessRouter(KNeighborsRegressor(), {"n_neighbors": [1, 15]}, windows=2, cv=3)
    router.fit(X[:300], y[:300])
    assert len(router.options_) == 3
    assert router.score(X[300:], y[300:]) > 0.2
    assert not hasattr(router, "predict_proba")
    assert router.gain_.low <= router.gain_.mean <= router.gain_.high


def test_too_few_samples_are_served_by_one_model():
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    router = RobustnessRouter(KNeighborsClassifier(3)).fit(X, y)
    assert router.models_ == [router.estimator_]
    assert router.gain_.verdict == "no difference"
    np.testing.assert_array_equal(router.predict(X), router.estimator_.predict(X))
    assert (router.parts_of(X) == 0).all()


def test_windows_that_cannot_be_trained_on_are_left_out():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 0.1, (60, 2)), rng.normal(5, 2.0, (60, 2))])
    y = np.repeat([0, 1], 60)  # the least and the most robust quarter are of one class
    router = RobustnessRouter(LogisticRegression(), windows=4, cv=3, parts=2).fit(X, y)
    assert router.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("router", "said"),
    [
        (RobustnessRouter(KMeans()), "neither a classifier nor a regressor"),
        (RobustnessRouter(3), "3 is neither a classifier nor a regressor"),
        (RobustnessRouter(KMeans), "type KMeans is neither"),
        (RobustnessRouter(LogisticRegression(), margin="x"), "margin must be a number from 0 on"),
        (RobustnessRouter(KNeighborsClassifier(), parts=1), "parts must be"),
        (RobustnessRouter(KNeighborsClassifier(), cv=2), "cv must be"),
    ],
)
def test_what_cannot_be_routed(router, said):
    with pytest.raises(InvalidOptionError, match=said):
        router.fit(np.eye(40), np.arange(40) % 2)
