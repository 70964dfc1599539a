"""What the labelled sweeps drop can't matter: adversarial labels, rows, cuts and warm tables."""

from contextlib import contextmanager
from dataclasses import replace

import brute
import dask
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import job_for, reader, same

import dskrobust as dr
from dskrobust.kernels import Tables, make_panel, reduce_tile
from dskrobust.kernels import loop as tile
from dskrobust.kernels.bounds import labels as quotients
from dskrobust.labels import LabelMap

VECTORS = ("real", "vector-l1", "vector-l2", "vector-linf")
SIZES = (1e-320, 1e-300, 1e-163, 1e-150, 1e-20, 1.0, 1e20, 1e100, 3e149)


@contextmanager
def blocks(side, few=quotients.FEW):
    """Small blocks, so that few rows make many; `few` = 0 always tightens."""
    before = tile.SIDE, quotients.FEW
    tile.SIDE, quotients.FEW = side, few
    try:
        yield
    finally:
        tile.SIDE, quotients.FEW = before


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


def tables_of(data):
    """Brute-force results of every row and group, as (reach, nearest, quotient, witness)."""
    wanted = brute.score(data.X, data.y, data.split, "euclidean", data.labels, data.scale)
    named = ("reach", "nearest", "lipschitz", "witness")
    return wanted, [getattr(wanted, f"{name}_by_group") for name in named]


# -- no pair that could matter is dropped ------------------------------------------------------


def sides_of(panel, tables, job, units):
    """Both sides of the diagonal block of a panel, as a tile makes them."""
    slack = (panel.rows.shape[1] + 32) * 2.0**-51 + 2.0**-22
    reach, span = np.full(len(panel), np.inf), np.zeros(len(panel))
    per_unit = job.screen.unit**2
    tile.sweep.squared_reaches(tables.reach[:, 0], panel.order, job.metric, per_unit, slack, reach)
    quotients.spans(tables.quotient[:, 0], panel.order, units, slack, span)
    labels = np.ascontiguousarray(panel.labels.T)
    return quotients.Side(panel.norms[0], panel.norms[1], reach, span, labels)


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
    job = job_for(X, form)
    code = LabelMap(*labels.split("-")).code
    job = replace(job, label_code=code, quotients=True)
    panel = make_panel(0, X, y, np.zeros(n, np.int16), job)
    scale = quotients.label_scale(panel.labels, panel.labels)
    d, dy = brute.distances(X, metric), brute.label_distances(y, labels)
    assert (scale == 0) == (dy == 0).all()
    if scale == 0:
        return
    with np.errstate(all="ignore"):
        reach = np.where(dy > 0, d, np.inf).min(axis=1)
        quotient = np.where(dy > 0, dy / d, 0.0).max(axis=1)
    told = rng.random(n) < known
    tables = Tables.empty(0, n, 1, True)
    tables.reach[told, 0], tables.quotient[told, 0] = reach[told], quotient[told]
    units = quotients.units_of(code, scale, float(job.screen.unit) / float(job.metric[2]))
    a, b = (sides_of(panel, tables, job, units) for _ in range(2))
    product = panel.screen @ panel.screen.T
    if tighten:
        quotients.tighten(product, a, b, units, quotients.gain_of(job.form.code))
    found = np.empty((n * n, 2), np.int32)
    count = quotients.candidates(product, a, b, units, True, n * n, found)
    listed = np.zeros((n, n), bool)
    u, v = panel.order[found[:count, 0]], panel.order[found[:count, 1]]
    listed[u, v] = listed[v, u] = True
    assert count == len({(i, j) for i, j in found[:count].tolist()})
    assert not (deciding(d, dy, reach, quotient) & ~listed).any()


def test_few_candidates_are_left():
    """A certificate that keeps everything is no use: known results leave little to prove."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 10)), rng.standard_normal((600, 1))
    data = own.Data(X, y[:, 0], np.array(["a"] * 600), "real")
    job = job_for(X, labels="real")
    counters = reduce_tile(reader(data), (0, 600), (0, 600), (600, 600), job)[2]
    assert counters.proven < 0.05 * counters.pairs


# -- equal to the brute force ------------------------------------------------------------------


def score(data, options=None):
    with dask.config.set(scheduler="sync"):
        return dr.sample_robustness(
            data.X, data.y, data.split, labels=data.labels, scale=data.scale, options=options
        ).compute()


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
@pytest.mark.parametrize("labels", [*VECTORS, "categorical"])
@given(
    data=st.data(),
    side=st.sampled_from([7, 32, 40, 64]),
    few=st.sampled_from([0, quotients.FEW, 10**6]),
)
def test_blocks_equal_brute_force(labels, data, side, few):
    one = data.draw(own.data_sets(labels=(labels,), rows=(40, 130), groups=(1, 3)))
    options = data.draw(own.options(rows=130))
    with blocks(side, few):
        found = score(one, options)
    brute.assert_same(found, tables_of(one)[0])


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
@pytest.mark.parametrize("kind", LABEL_KINDS)
@pytest.mark.parametrize("rows", ROW_KINDS)
@given(
    labels=st.sampled_from(VECTORS),
    size=st.sampled_from(SIZES[2:-1]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=4)
def test_adversaries_equal_brute_force(kind, rows, labels, size, dtype, seed):
    rng = np.random.default_rng(seed)
    n, m = 90, 1 if labels == "real" else 3
    wide = rows in ("tiny", "huge")
    X = row_set(rows, n, int(rng.integers(1, 40)), rng).astype("float64" if wide else dtype)
    y = label_set(kind, n, m, size, rng)
    data = own.Data(X, y[:, 0] if labels == "real" else y, None, labels)
    with blocks(32), np.errstate(all="ignore"):
        found, wanted = score(data), tables_of(data)[0]
    for name in brute.TABLES[1:]:  # R has its own bound
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


@pytest.mark.parametrize("labels", ["real", "categorical"])
def test_many_classes_of_few_rows(labels):
    rng = np.random.default_rng(3)
    X = rng.integers(0, 4, (300, 5)).astype("float32")
    y = rng.integers(0, 60, 300)
    y[:50] = 7  # one run of one label among the mixed
    data = own.Data(X, y if labels == "categorical" else y.astype(float), None, labels)
    with blocks(64), pytest.warns(dr.errors.ContradictionWarning):
        found = score(data)
    with np.errstate(divide="ignore"):
        brute.assert_same(found, tables_of(data)[0])


# -- overflowing quotients ---------------------------------------------------------------------


def test_ties_of_overflown_quotients_go_to_the_lowest_row():
    # All quotients overflow, so the witness is the first row, not the nearest.
    steps = np.random.default_rng(0).permutation(40)[:, None].astype(float)
    y = np.linspace(-1, 1, 40) * 1e149
    wanted = brute.score(steps, y, labels="real")
    with blocks(16), np.errstate(all="ignore"):
        found = score(own.Data(steps * 2.0**-560, y, None, "real"))
    assert np.isinf(found.lipschitz).all()
    np.testing.assert_array_equal(found.witness, [1] + 39 * [0])
    np.testing.assert_array_equal(found.nearest, wanted.nearest)


# -- warm tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["real", "vector-l2"])
def test_warm_tables_change_nothing(labels):
    rng = np.random.default_rng(5)
    X = row_set("near", 200, 6, rng)
    y = label_set("heavy tail", 200, 1 if labels == "real" else 3, 1.0, rng)
    data = own.Data(X, y, np.array(["a"] * 200), labels)
    job = replace(job_for(X, labels="real"), label_code=LabelMap(*labels.split("-")).code)
    with blocks(64):
        cold = reduce_tile(reader(data), (0, 200), (0, 200), (200, 200), job)[0]
        panel = make_panel(0, X, y, np.zeros(200, np.int16), job)
        warm = cold.merge(Tables.empty(0, 200, 1, True))
        again, counters = warm.part(0, 200), tile.Counters()
        tile._reduce_panels(panel, panel, again, again, job, tile._Scratch(job), counters)
    assert same(cold, again)
    assert counters.proven < 4 * 200  # the deciding pairs and their near ties
