"""Alignment of two sets: against brute force, SciPy, and whatever the chunks."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import dskrobust as dr
from dskrobust import ranking
from dskrobust.distributions import Sample, distances, quantiles
from dskrobust.errors import InvalidOptionError

pytestmark = [
    pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:scipy"),  # of p-values, which are not read
]
THREADS = {"scheduler": "threads", "num_workers": 2}
numbers = st.lists(st.floats(0, 1).map(lambda v: round(v, 2)), min_size=1, max_size=50)


@settings(max_examples=25, deadline=None)
@given(x=numbers, t=numbers, run_rows=st.sampled_from((4, 16, 2**20)), shares=numbers)
def test_distances_and_quantiles_are_scipys(x, t, run_rows, shares):
    x, t = np.array(x), np.array(t)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "RUN_ROWS", run_rows)
        one, other = Sample(x, None, len(x)), Sample(t, None, len(t))
        found = distances(one, other).compute(**THREADS)
        cuts = quantiles(one.keys, len(x), shares).compute(**THREADS)
    np.testing.assert_array_equal(cuts, np.quantile(x, shares))
    assert found.kolmogorov == pytest.approx(
        stats.ks_2samp(x, t, method="asymp").statistic, abs=1e-12
    )
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(x, t), abs=1e-12)


def test_quantiles_between_a_finite_and_an_infinite_number():
    x = np.array([1.0, 3.0, np.inf, np.inf])
    keys = Sample(x, None, 4).keys
    cuts = quantiles(keys, 4, (0, 1 / 3, 0.5, 0.6, 0.9, 1)).compute(**THREADS)
    np.testing.assert_array_equal(cuts, [1, 3, np.inf, np.inf, np.inf, np.inf])


def test_a_contradiction_has_no_differences_that_are_no_numbers():
    infinite = np.array([np.inf, np.inf, 1.0, 2.0])
    made = dr.Alignment("x", "t", infinite, np.array([np.inf, 1.0, np.inf, 3.0]), *[infinite] * 3)
    assert made.gamma.tolist() == [0, 0, np.inf, 1]
    assert made.attained.tolist() == [0, 1, -1, -1]
    assert made.attained.dtype == np.int8


def quotients(data, rows):
    """Q of every row against some rows, pair by pair."""
    d = brute.distances(data.X, "euclidean", data.scale)
    apart = brute.label_distances(data.y, data.labels)
    differ = (data.y[:, None] != data.y[None]).reshape(len(d), len(d), -1).any(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(differ, apart / d, 0.0)
    return q[:, rows].max(axis=1, initial=0.0)


@settings(max_examples=4, deadline=None)
@given(
    draw=st.data(),
    data=own.data_sets(groups=(1, 1), rows=(2, 20), labels=("categorical", "real")),
)
def test_the_union_is_the_larger_of_both(draw, data):
    n = len(data.X)
    lists = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    x, t = (np.array(draw.draw(lists)) for _ in range(2))
    union = np.unique(np.concatenate([x, t]))
    scores = dr.sample_robustness(
        data.X, data.y, data.split, labels=data.labels, scale=data.scale,
        references={"x": x, "t": t, "union": union},
    )  # fmt: skip
    lazy = dr.alignment(scores, "x", "t")
    made, found = lazy.compute(**THREADS), lazy.summary()
    q = {name: quotients(data, rows) for name, rows in (("x", x), ("t", t), ("union", union))}
    tight = {"rtol": 1e-12}
    np.testing.assert_array_equal(made.lipschitz_x, scores.lipschitz_against("x"))
    np.testing.assert_allclose(np.maximum(made.lipschitz_x, made.lipschitz_t), q["union"], **tight)
    np.testing.assert_array_equal(made.robustness_union, scores.robustness_against("union"))
    both, own_x = scores.lipschitz_against("union").compute(), made.lipschitz_x
    with np.errstate(invalid="ignore"):
        gamma = np.where(both == own_x, 0.0, both - own_x)
    np.testing.assert_array_equal(made.gamma, gamma)
    difference = np.abs(made.robustness_x - made.robustness_t)[union]
    assert found.difference[1.0] == difference.max()
    assert made.difference[found.row] == difference.max()
    assert found.mean == pytest.approx(difference.mean())
    assert found.size == sum(found.attained) == len(union)
    assert found.attained[0] == (made.lipschitz_x > made.lipschitz_t)[union].sum()
    r_x, r_t = made.robustness_x[np.unique(x)], made.robustness_t[np.unique(t)]
    assert found.kolmogorov == pytest.approx(
        stats.ks_2samp(r_x, r_t, method="asymp").statistic, abs=1e-12
    )
    assert found == made.summary()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    X = rng.standard_normal((900, 4)) + y[:, None]
    split = np.where(np.arange(900) % 3, "train", "test")
    return dr.create_store(str(tmp_path_factory.mktemp("aligned") / "a.zarr"), X, y, split)


def test_sets_of_a_store_are_read_and_told(store):
    scores = dr.sample_robustness(store).write()
    low = dr.select_subset(scores, "train:L200")
    asked = {"low": low}
    both = dr.sample_robustness(store, references=asked).write()
    found = dr.alignment(both, "low", "test").summary()
    assert (found.size_x, found.size_t, found.size) == (200, 300, 500)
    again = dr.sample_robustness(store, references=asked)
    assert again.result is not None
    assert dr.alignment(again, "low", "test").summary() == found
    assert "low" in again.references
    assert "Kolmogorov" in dr.alignment(both, "low", "test").compute()._repr_html_()
    assert "not computed yet" in dr.alignment(both, "low", "test")._repr_html_()
    forgotten = dr.sample_robustness(store, references=asked).__class__(
        **{**vars(again), "reference_rows": None}
    )
    with pytest.raises(InvalidOptionError, match="do not know which rows 'low' has"):
        dr.alignment(forgotten, "low", "test")
    with pytest.raises(InvalidOptionError, match="no group 'other'"):
        dr.alignment(scores, "train", "other")


def test_words_say_how_near_two_sets_are(store):
    scores = dr.sample_robustness(store)
    same = dr.alignment(scores, "train", "train").summary()
    assert (same.verdict, same.kolmogorov, same.attained) == (
        "as close as two random draws", 0.0, (0, 0, 600))  # fmt: skip
    sets = {
        "L": dr.select_subset(scores, "train:L300"),
        "M": dr.select_subset(scores, "train:M300"),
    }
    far = dr.alignment(dr.sample_robustness(store, references=sets), "L", "M").summary()
    assert far.verdict == "far apart"
    assert any("M is more robust" in line for line in far.words)
