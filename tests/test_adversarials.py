"""Natural adversarial examples: errors of the nearest neighbour by R of the reference."""

import brute
import numpy as np
import pytest

import dskrobust as dr
from dskrobust.adversarials import Bin, NaturalAdversarials, Removal
from dskrobust.errors import InvalidOptionError


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 240)
    X = rng.standard_normal((240, 3)) + 2.0 * y[:, None]
    y[:6] = 1 - y[:6]  # wrong labels in the training set
    return X, y, np.where(np.arange(240) < 120, "train", "test")


def test_counts_are_those_of_a_brute_force(blobs):
    X, y, split = blobs
    scores = dr.sample_robustness(X, y, split).compute()
    found = dr.natural_adversarials(scores, shares=(0.1, 0.5), bins=4)
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    d = brute.distances(X[test], others=X[train])
    nearest = train[d.argmin(axis=1)]
    wrong = y[nearest] != y[test]
    assert (found.tested, found.errors) == (120, wrong.sum())
    ranked = train[np.argsort(scores.robustness[train], kind="stable")]
    for k, one in enumerate(found.bins):
        inside = np.isin(nearest, ranked[30 * k : 30 * k + 30])
        assert (one.references, one.used, one.errors) == (30, inside.sum(), wrong[inside].sum())
    for one in found.removals:
        kept = np.isin(train, ranked[one.removed :])
        after = y[train[np.where(kept, d, np.inf).argmin(axis=1)]] != y[test]
        assert one.errors == after.sum() == found.errors - one.fixed + one.broken
        assert one.most == scores.robustness[ranked[one.removed - 1]]
    assert set(found.adversarials[:, 0]) == set(test[wrong])
    R = scores.robustness[found.adversarials[:, 1]]
    assert (np.diff(R) >= 0).all()
    assert "least robust" in found.words()[0]
    assert "errors" in found._repr_html_()


@pytest.mark.parametrize(("p", "said"), [(0.02, "no more than chance"), (0.009, "Look at")])
def test_the_best_of_several_removals_has_to_be_better_than_one(p, said):
    tried = [Removal(0.1 * k, 10 * k, 0.1, 20 + k, 10, k, 25, p) for k in range(1, 6)]
    found = NaturalAdversarials(
        "x", "t", 100, 30, (Bin(0, 1, 9, 9, 9),), tuple(tried), np.empty((0, 2), np.int64)
    )
    assert said in found.words()[1]
    assert f"p = {5 * p:.2g} as the best of 5 removals" in found.words()[1]


def test_what_has_no_classes_or_no_references_is_refused(blobs):
    X, y, split = blobs
    with pytest.raises(InvalidOptionError, match="of classes"):
        dr.natural_adversarials(dr.sample_robustness(X, y.astype(float), split))
    scores = dr.sample_robustness(X, y, split)
    with pytest.raises(InvalidOptionError, match=r"0\.001"):
        dr.natural_adversarials(scores, shares=(0.001,))
