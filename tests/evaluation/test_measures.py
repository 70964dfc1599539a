"""LOSS and ACC beside scikit-learn's measures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from losses import cross_entropy, regression_loss, threshold_accuracy
from sklearn.metrics import accuracy_score, log_loss, r2_score

from dskrobust.errors import InvalidDataError

numbers = st.integers(-1000, 1000).map(lambda k: k / 8)


@st.composite
def pairs(draw):
    """True and predicted values, with more than one true value."""
    n = draw(st.integers(2, 40))
    true, predicted = (draw(hnp.arrays(float, n, elements=numbers)) for _ in range(2))
    true[0], true[1] = 200, 201
    return true, predicted


# -- regression ------------------------------------------------------------------------------


@given(pairs())
def test_regression_loss_is_r2(both):
    true, predicted = both
    expected = r2_score(true, predicted)
    assert regression_loss(true, predicted) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert regression_loss(true, true) == 1


@given(pairs(), st.integers(-480, 480))
def test_regression_loss_does_not_depend_on_the_unit(both, exponent):
    true, predicted = both
    scaled = np.ldexp(true, exponent), np.ldexp(predicted, exponent)
    assert regression_loss(*scaled) == regression_loss(true, predicted)


def test_the_mean_has_loss_zero_and_a_wild_guess_a_very_low_one():
    true = np.array([0.0, 1.0, 2.0, 5.0])
    assert regression_loss(true, np.full(4, 2.0)) == 0
    assert regression_loss(true, np.full(4, 1e200)) == -math.inf


@pytest.mark.parametrize("true", [[7.0], [0.1, 0.1, 0.1]])
def test_true_values_without_spread(true):
    true = np.array(true)
    assert regression_loss(true, true) == 1
    assert regression_loss(true, true + 1) == 0
    if len(true) > 1:
        assert r2_score(np.ones_like(true), np.ones_like(true) + 1) == 0


# -- classification --------------------------------------------------------------------------


@st.composite
def predictions(draw):
    """True classes and probabilities, zeros and ones among them."""
    n, c = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = rng.dirichlet(np.full(c, draw(st.sampled_from((0.01, 1.0, 100.0)))), n)
    sure = rng.random(n) < 0.3
    p[sure] = np.eye(c)[rng.integers(0, c, sure.sum())]
    return rng.integers(0, c, n), p.astype(draw(st.sampled_from((np.float32, np.float64))))


@given(predictions())
def test_cross_entropy_is_log_loss(both):
    classes, p = both
    expected = log_loss(classes, p, labels=np.arange(p.shape[1]))
    assert cross_entropy(classes, p) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_what_was_held_impossible_costs_a_finite_loss():
    assert cross_entropy([1], [[1.0, 0.0]]) == pytest.approx(36.04, abs=0.01)
    assert cross_entropy([1], np.array([[1, 0]], np.float32)) == pytest.approx(15.94, abs=0.01)
    assert cross_entropy([0], [[1, 0]]) == pytest.approx(0, abs=1e-15)


@given(pairs(), numbers)
def test_threshold_accuracy_is_that_of_two_classes(both, threshold):
    true, predicted = both
    expected = accuracy_score(true >= threshold, predicted >= threshold)
    assert threshold_accuracy(true, predicted, threshold) == pytest.approx(expected)


@given(st.integers(2, 15), st.integers(0, 2**32))
def test_exactly_the_threshold_is_popular_however_labels_were_scaled(k, seed):
    shares = 1400 + np.arange(-300, 301)
    low, high = 1.0, 843_300.0
    scaled = (shares - low) / (high - low)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(shares), (200, k))
    rows[:, -1] = (300 * k - rows[:, :-1].sum(axis=1)) % len(shares)  # many means are 1,400
    means = shares[rows].sum(axis=1) / k
    popular = np.where(shares[rows].sum(axis=1) >= 1400 * k, 1e6, 0)
    unit = (1400 - low) / (high - low)
    assert threshold_accuracy(popular, means, 1400) == 1
    assert threshold_accuracy(popular, scaled[rows].mean(axis=1), unit) == 1
    assert threshold_accuracy(popular, low + scaled[rows].mean(axis=1) * (high - low), 1400) == 1


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: regression_loss([1, 2], [1, 2, 3]), "shape (2,)"),
        (lambda: regression_loss([], []), "n > 0"),
        (lambda: regression_loss([[1.0]], [[1.0]]), "give twice (n,)"),
        (lambda: regression_loss(1.0, 1.0), "shape ()"),
        (lambda: regression_loss([1, 2], [1, math.nan]), "predicted value 1 is not finite"),
        (lambda: regression_loss([math.inf, 2], [1, 2]), "true value 0"),
        (lambda: threshold_accuracy([1.0, 2.0], [1.0, math.nan], 1), "predicted value 1"),
        (lambda: threshold_accuracy([[1.0]], [[1.0]], 1), "(n,)"),
        (lambda: cross_entropy([0, 1], [[0.5, 0.5]]), "do not fit"),
        (lambda: cross_entropy([], np.ones((0, 2))), "n > 0"),
        (lambda: cross_entropy([2], [[0.5, 0.5]]), "from 0 to 1"),
        (lambda: cross_entropy([-1], [[0.5, 0.5]]), "from 0 to 1"),
        (lambda: cross_entropy([0.5], [[0.5, 0.5]]), "whole numbers"),
        (lambda: cross_entropy([0, 0], [[0.5, 0.5], [0.5, 0.6]]), "row 1"),
        (lambda: cross_entropy([0], [[1.5, -0.5]]), "row 0"),
        (lambda: cross_entropy([0], [[math.nan, 1.0]]), "row 0"),
    ],
)
def test_bad_values_are_refused_in_one_line(call, words):
    with pytest.raises(InvalidDataError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
