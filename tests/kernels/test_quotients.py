"""What the labelled sweeps drop can't matter: adversarial labels, rows, cuts and warm tables."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, Case, job_for, parts_of, reduce_ranges, same

import dskrobust as dr
from dskrobust.kernels import Tuning
from dskrobust.kernels.bounds import labels as bounds
from dskrobust.kernels.bounds import product
from dskrobust.kernels.panel import make_panel

VECTORS = ("real", "vector-l1", "vector-l2", "vector-linf")
SIZES = (1e-320, 1e-300, 1e-163, 1e-150, 1e-20, 1.0, 1e20, 1e100, 3e149)


def label_set(kind, n, m, size, rng):
    """Labels (n, m) that make bounds on their differences as bad as they get."""
    y = rng.standard_normal((n, m))
    if kind == "few":
        y = rng.integers(-2, 3, (n, m)).astype(float)
    elif kind == "heavy tail":
        y = np.exp(4 * y)
    elif kind == "offset":  # differences lose most digits
        y = 1 + 1e-13 * np.round(y)
    elif kind == "wide":  # squares of some differences vanish beside others
        y *= 10.0 ** rng.integers(-170, 1, (n, m))
    elif kind == "outlier":
        y *= 1e-170
        y[0] = 1.0
    elif kind == "one":
        y[1:] = y[0]
        y[0] += 1
    return np.clip(y / max(1.0, np.abs(y).max()), -1, 1) * size


LABEL_KINDS = ("plain", "few", "heavy tail", "offset", "wide", "outlier", "one")


def row_set(kind, n, d, rng):
    X = rng.standard_normal((n, d))
    if kind == "near":  # twins whose distance the screen can't see
        X[n // 2 :] = X[: n - n // 2] + 1e-7 * X[n // 2 :]
    elif kind == "offset":
        X += 1e4
    elif kind == "ties":
        X = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "tiny":
        X *= 1e-140
    elif kind == "huge":
        X *= 1e100
    return X


ROW_KINDS = ("plain", "near", "offset", "ties", "tiny", "huge")


# -- no pair that could matter is dropped ------------------------------------------------------


def side_of(panel, state, job, units):
    """A side of the diagonal block of a panel, as a tile makes it."""
    scale = panel.per_unit, panel.slack
    reach, span = np.full(len(panel), np.inf), np.zeros(len(panel))
    product.squared_radii(state, 0, panel.order, job.measure, scale, reach)
    bounds.spans(state, 0, panel.order, units, panel.slack, span)
    labels = np.ascontiguousarray(panel.labels.T)
    return bounds.LabelledSide(panel.norms[0], panel.norms[1], reach, span, labels)


def deciding(d, dy, reach, quotient):
    """Pairs that have a row's smallest distance or largest quotient, ties included."""
    with np.errstate(all="ignore"):
        q = dy / d
    best = (d == reach[:, None]) | (q == quotient[:, None])
    return (best | best.T) & (dy > 0)


@pytest.mark.parametrize("labels", VECTORS)
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@given(
    kind=st.sampled_from(LABEL_KINDS),
    rows=st.sampled_from(ROW_KINDS),
    size=st.sampled_from(SIZES),
    known=st.sampled_from([0.0, 0.5, 1.0]),
    tighten=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_candidates_hold_every_deciding_pair(
    labels, metric, kind, rows, size, known, tighten, seed
):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 80)), 1 if labels == "real" else int(rng.integers(1, 5))
    X = row_set(rows, n, int(rng.integers(1, 40)), rng)
    if metric == "angular":
        X[(X == 0).all(axis=1)] = 1.0
    y = label_set(kind, n, m, size, rng)
    form = {"euclidean": dr.Euclidean(), "angular": dr.Angular()}[metric]
    job = job_for(X, form, labels, boxes=False, twins=len(X))
    panel = make_panel(Arrays(X, y).panel_rows(), X, job)
    scale = bounds.label_scale(panel.labels, panel.labels)
    d, dy = brute.distances(X, metric), brute.label_distances(y, labels)
    assert (scale == 0) == (dy == 0).all()
    if scale == 0:
        return
    with np.errstate(all="ignore"):
        reach = np.where(dy > 0, d, np.inf).min(axis=1)
        quotient = np.where(dy > 0, dy / d, 0.0).max(axis=1)
    told = rng.random(n) < known
    state = job.reduction.empty(n, 1)
    state.reach[told, 0], state.quotient[told, 0] = reach[told], quotient[told]
    length = float(job.screen.unit) / float(job.measure.factor)
    units = bounds.units_of(job.label_code, scale, length)
    a, b = (side_of(panel, state, job, units) for _ in range(2))
    products = panel.screen @ panel.screen.T
    if tighten:
        bounds.tighten(products, a, b, units, bounds.stretch_of(job.form.code))
    found = np.empty((n * n, 2), np.int32)
    count = bounds.candidates(products, a, b, units, True, n * n, found)
    listed = np.zeros((n, n), bool)
    u, v = panel.order[found[:count, 0]], panel.order[found[:count, 1]]
    listed[u, v] = listed[v, u] = True
    assert count == len({(i, j) for i, j in found[:count].tolist()})
    assert not (deciding(d, dy, reach, quotient) & ~listed).any()


def test_few_candidates_are_left():
    """A certificate that keeps everything is no use: known results leave little to prove."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 10)), rng.standard_normal(600)
    job = job_for(X, labels="real", boxes=False)
    counters = reduce_ranges(Arrays(X, y), (0, 600), (0, 600), (600, 600), job)[2]
    assert counters.proven < 0.05 * counters.pairs


# -- equal to the brute force ------------------------------------------------------------------


@pytest.mark.parametrize("labels", [*VECTORS, "categorical"])
@given(
    data=st.data(),
    side=st.sampled_from([7, 32, 40, 64]),
    few=st.sampled_from([0, Tuning.few, 10**6]),  # 0 always tightens
    panel=st.sampled_from([130, 50, 33]),
    cut=st.booleans(),
)
def test_blocks_equal_brute_force(labels, data, side, few, panel, cut):
    one = data.draw(own.data_sets(labels=(labels,), rows=(40, 130), groups=(1, 3)))
    case = Case(one.X, one.y, parts_of(one), labels=labels, scale=one.scale)
    n = len(one.X)
    ranges = ((0, n // 2), (n // 2, n)) if cut else ((0, n), (0, n))
    case.assert_tile(*ranges, (panel, panel), side=side, few=few, boxes=False)


@pytest.mark.parametrize("kind", LABEL_KINDS)
@pytest.mark.parametrize("rows", ROW_KINDS)
@given(
    labels=st.sampled_from(VECTORS),
    metric=st.sampled_from(["euclidean", "angular"]),
    size=st.sampled_from(SIZES[2:-1]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=4)
def test_adversaries_equal_brute_force(kind, rows, labels, metric, size, dtype, seed):
    rng = np.random.default_rng(seed)
    n, m = 90, 1 if labels == "real" else 3
    wide = rows in ("tiny", "huge")
    X = row_set(rows, n, int(rng.integers(1, 40)), rng).astype("float64" if wide else dtype)
    if metric == "angular":
        X[(X == 0).all(axis=1)] = 1
    case = Case(X, label_set(kind, n, m, size, rng), np.zeros(n, np.int16), metric, labels)
    with np.errstate(all="ignore"):
        case.assert_tile((0, n), (0, n), (n, n), side=32, boxes=False)


@pytest.mark.parametrize("labels", ["real", "categorical"])
def test_many_classes_of_few_rows(labels):
    rng = np.random.default_rng(3)
    X = rng.integers(0, 4, (300, 5)).astype("float32")
    y = rng.integers(0, 60, 300)
    y[:50] = 7  # one run of one label among the mixed
    case = Case(X, y, np.zeros(300, np.int16), labels=labels)
    case.assert_tile((0, 300), (0, 300), (300, 300), side=64, boxes=False)


# -- overflowing quotients ---------------------------------------------------------------------


@pytest.mark.parametrize("boxes", [False, True])
def test_ties_of_overflown_quotients_go_to_the_lowest_row(boxes):
    # All quotients overflow, so the witness is the first row, not the nearest.
    steps = np.random.default_rng(0).permutation(40)[:, None].astype(float)
    y = np.linspace(-1, 1, 40) * 1e149
    wanted = brute.score(steps, y, labels="real")
    X = steps * 2.0**-560
    job, whole = job_for(X, labels="real", side=16, boxes=boxes), (0, 40)
    with np.errstate(all="ignore"):
        found = reduce_ranges(Arrays(X, y), whole, whole, (40, 40), job)[0]
    assert np.isinf(found.quotient).all()
    np.testing.assert_array_equal(found.witness[:, 0], [1] + 39 * [0])
    np.testing.assert_array_equal(found.nearest[:, 0], wanted.nearest)


# -- warm states -------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["real", "vector-l2"])
def test_warm_states_change_nothing(labels):
    rng = np.random.default_rng(5)
    X = row_set("near", 200, 6, rng)
    y = label_set("heavy tail", 200, 1 if labels == "real" else 3, 1.0, rng)
    job, whole, panels = job_for(X, labels=labels, side=64, boxes=False), (0, 200), (200, 200)
    cold = reduce_ranges(Arrays(X, y), whole, whole, panels, job)[0]
    again, _, counters = reduce_ranges(Arrays(X, y), whole, whole, panels, job, (cold, cold))
    assert same(cold, again)
    assert counters.proven < 4 * 200  # the deciding pairs and their near ties
