"""Few columns: boxes bound, leaves find what brute force finds, and few pairs are looked at."""

from dataclasses import replace

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import job_for, reader, same

import dskrobust as dr
from dskrobust.kernels import Counters, Tables, make_panel, reduce_rows, reduce_tile
from dskrobust.kernels.bounds import boxes as leaves
from dskrobust.kernels.bounds import trees as forest
from dskrobust.kernels.bounds.boxes import make_rules, make_work
from dskrobust.kernels.bounds.trees import CHILD, LOWEST, START, STOP, plant
from dskrobust.kernels.distances import SCRATCH, reduced
from dskrobust.metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN, MINKOWSKI, resolve_metric

CODES = (EUCLIDEAN, CHORD, CITYBLOCK, CHEBYSHEV)
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski(3)", "minkowski(1.5)", "angular")


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Small leaves, and no way back from them."""
    monkeypatch.setattr(forest, "LEAF", 8)
    monkeypatch.setattr(leaves, "PAYS", np.inf)


# -- the forest ----------------------------------------------------------------------------------


@given(
    n=st.integers(1, 300),
    d=st.integers(1, 16),
    kind=st.sampled_from(own.KINDS),
    groups=st.integers(1, 3),
    few=st.booleans(),
    leaf=st.sampled_from((1, 3, 8, 32)),
    seed=st.integers(0, 2**32),
)
def test_every_row_is_in_one_leaf_and_in_its_boxes(n, d, kind, groups, few, leaf, seed):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, "float64", kind, 0)
    y, split = rng.integers(0, 2 if few else n, (n, 1)) * 1.0, rng.integers(0, groups, n)
    wood = plant(X, y, split.astype(np.int16), True, leaf)
    assert sorted(wood.order.tolist()) == list(range(n))
    ranges = [tuple(wood.nodes[k, [START, STOP]]) for k in wood.leaves]
    assert [a for a, _ in ranges] == [0, *(b for _, b in ranges[:-1])]
    assert ranges[-1][1] == n
    for node, row in enumerate(wood.nodes):
        inside = wood.order[row[START] : row[STOP]]
        assert row[LOWEST] == inside.min()
        assert len(set(split[inside])) == 1
        for box, values in (
            ((wood.low, wood.high), X[inside]),
            ((wood.label_low, wood.label_high), y[inside]),
        ):
            np.testing.assert_array_equal(box[0][node], values.min(axis=0))
            np.testing.assert_array_equal(box[1][node], values.max(axis=0))
    for place, node in enumerate(wood.leaves):
        row = wood.nodes[node]
        inside = wood.order[row[START] : row[STOP]]
        assert len(inside) <= leaf
        block = wood.blocks[place]
        np.testing.assert_array_equal(block[:d, : len(inside)], X[inside].T)
        assert np.isinf(block[:d, len(inside) :]).all()
        assert (block[d:] == 0).all()


def test_leaves_of_two_classes_hold_one_each():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 4)), rng.integers(0, 2, (2000, 1)) * 1.0
    wood = plant(X, y, np.zeros(2000, np.int16), True, 32)
    pure = wood.label_low[wood.leaves] == wood.label_high[wood.leaves]
    assert pure.mean() > 0.9


# -- one leaf and one box ------------------------------------------------------------------------


def nasty(rng, n, d, kind):
    """Rows whose distances are hard to get right."""
    X = rng.standard_normal((n, d))
    if kind == "wide":
        X *= 10.0 ** rng.integers(-150, 150, (n, d))
    if kind == "near":
        X = 100 + X[0] + 1e-9 * X
    if kind == "ties":
        X = np.round(X)
    return X


@given(
    code=st.sampled_from(CODES),
    d=st.integers(1, 32),
    kind=st.sampled_from(("plain", "wide", "near", "ties")),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_leaves_accumulate_what_reduced_does(code, d, kind, seed):
    X, lanes = nasty(np.random.default_rng(seed), 20, d, kind), np.empty(SCRATCH)
    wood = plant(X, np.zeros((20, 1)), np.zeros(20, np.int16), False, 24)
    value, parts = np.empty(24), make_work(24, d).parts
    rows = X[wood.order]
    for i in range(20):
        hits = leaves._accumulate(
            *(wood.blocks, 0, i, wood.blocks, 0, 24, np.inf, code, value, parts)
        )
        assert hits == 24
        wanted = [reduced(code, 2.0, rows[i], row, np.inf, lanes) for row in rows]
        assert value[:20].tolist() == wanted
        assert np.isinf(value[20:]).all()


@given(
    code=st.sampled_from((*CODES, MINKOWSKI)),
    p=st.sampled_from((1.1, 1.5, 3.0, 7.5)),
    d=st.integers(1, 16),
    kind=st.sampled_from(("plain", "wide", "near", "ties")),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_boxes_are_no_farther_than_their_rows(code, p, d, kind, seed):
    X, lanes = nasty(np.random.default_rng(seed), 24, d, kind), np.empty(SCRATCH)
    own_rows, others = X[:12], X[12:]
    rules = make_rules((code, p, 1.0), d, 0, False)
    low, high = others.min(axis=0), others.max(axis=0)
    bound = np.empty(12)
    leaves._to_box(np.ascontiguousarray(own_rows.T), 12, low, high, code, bound)
    boxes = [part[None].copy() for part in (own_rows.min(axis=0), own_rows.max(axis=0), low, high)]
    between = leaves._between(*boxes[:2], 0, *boxes[2:], 0, code)[0]
    for i, row in enumerate(own_rows):
        least = min(reduced(code, p, row, other, np.inf, lanes) for other in others)
        if code == MINKOWSKI:
            least = least * least * rules.stretch + leaves.TINY
        assert max(bound[i], between) <= least * (1 + rules.slack)


# -- tiles ---------------------------------------------------------------------------------------


def assert_same_tiles(data, metric, ranges, panel_rows, groups):
    """Reduce tiles by leaves only and compare the tables with brute force."""
    job = job_for(data.X, resolve_metric(metric), data.labels, groups)
    left, right, counters = reduce_tile(reader(data), *ranges, panel_rows, job)
    assert counters.leaves > 0 or counters.proven == 0
    read = reader(data)
    for found, mine, theirs in ((left, *ranges), (right, *ranges[::-1])):
        wanted = Tables.empty(mine[0], mine[1] - mine[0], len(groups), job.quotients)
        X, y, _ = read(*mine)
        reduce_rows((np.arange(*mine), X, y), (theirs[0], *read(*theirs)), job, wanted)
        assert same(found, wanted)


@given(
    draw=st.data(),
    n=st.integers(2, 150),
    d=st.integers(1, 16),
    dtype=st.sampled_from(("uint8", "float32", "float64")),
    kind=st.sampled_from(own.KINDS),
    labels=st.sampled_from(("categorical", "real")),
    metric=st.sampled_from(METRICS),
    offset=st.sampled_from((1, 100, 10_000)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_tiles_agree_with_brute_force(draw, n, d, dtype, kind, labels, metric, offset, seed):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, dtype, kind, offset)
    X[(X == 0).all(axis=1)] = 1  # which have no angle
    y = own.label_values(rng, n, labels, draw.draw(st.booleans()))
    groups = ("a", "b", "c")[: draw.draw(st.integers(1, 3))]
    split = np.array(groups)[rng.integers(0, len(groups), n)]
    split[: len(groups)] = groups[:n]
    groups = tuple(np.unique(split).tolist())
    panels = draw.draw(st.sampled_from(((n, n), (40, 13), (17, 60))))
    half = max(1, n // 3)
    ranges = draw.draw(st.sampled_from((((0, n), (0, n)), ((0, half), (half, n)))))
    assert_same_tiles(own.Data(X, y, split, labels), metric, ranges, panels, groups)


@given(
    data=own.data_sets(dtypes=("uint8", "float32", "float64"), rows=(2, 120)),
    metric=st.sampled_from(METRICS),
    options=own.options(120),
)
@settings(max_examples=100, deadline=None)
def test_results_agree_with_brute_force(data, metric, options):
    X = np.abs(data.X[:, :16].astype(np.float64)).astype(data.X.dtype) + data.X.dtype.type(1)
    X[(X == 0).all(axis=1)] = 1
    name, _, p = metric.partition("(")
    scores = dr.sample_robustness(
        X, data.y, data.split, metric=metric, labels=data.labels, scale=data.scale, options=options
    )
    wanted = (name, float(p[:-1])) if p else name
    expected = brute.score(X, data.y, data.split, wanted, data.labels, data.scale)
    brute.assert_same(scores.compute(), expected)


@pytest.mark.parametrize("labels", ["categorical", "vector-l1", "vector-l2", "vector-linf"])
@pytest.mark.parametrize("size", [1.0, 1e-170, 1e140])
def test_vector_labels(labels, size):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 3, (200, 4)) * size
    if labels == "categorical":
        y = y[:, 0]
    scores = dr.sample_robustness(X, y, labels=labels).compute()
    expected = brute.score(X, y, labels=labels)
    if size < 1e-150:  # brute force's ‖y‖∞ underflows
        expected = replace(expected, robustness=scores.robustness)
    brute.assert_same(scores, expected)


def test_vector_categories():
    """Categories of several columns reach the kernels only."""
    rng = np.random.default_rng(5)
    X, y = rng.integers(0, 5, (120, 2)) * 1.0, rng.integers(0, 2, (120, 2)) * 1.0
    job = job_for(X)
    panel = make_panel(0, X, y, np.zeros(120, np.int16), job)
    found, wanted = (Tables.empty(0, 120, 1, False) for _ in range(2))
    rules = make_rules(job.metric, 2, 0, False)
    done, _ = leaves.reduce_forests(
        panel.forest, panel.forest, rules, (found.side(), found.side()), True
    )
    assert done
    reduce_rows((np.arange(120), X, y), (0, X, y, np.zeros(120, np.int16)), job, wanted)
    assert same(found, wanted)


@pytest.mark.parametrize("labels", ["categorical", "real"])
@pytest.mark.parametrize("kind", ["equal", "lattice", "line", "constant", "huge", "tiny", "gap"])
def test_hard_rows(kind, labels):
    rng = np.random.default_rng(1)
    X = {
        "equal": np.ones((300, 3)),
        "lattice": rng.integers(0, 3, (300, 3)) * 1.0,
        "line": np.arange(300)[:, None] * 0.1,
        "constant": np.column_stack([rng.standard_normal(300), np.full((300, 4), 0.1)]),
        "huge": rng.standard_normal((300, 3)) * 1e149,
        "tiny": rng.standard_normal((300, 3)) * 1e-200,
        "gap": rng.standard_normal((300, 3)) + 1e9 * (np.arange(300) % 2)[:, None],
    }[kind]
    y = rng.integers(0, 3, 300) * 1.0
    split = np.array(["a", "b"])[rng.integers(0, 2, 300)]
    scores = dr.sample_robustness(X, y, split, labels=labels).compute()
    lift = 2.0**600 if kind == "tiny" else 1.0  # exact, and squares do not underflow
    brute.assert_same(scores, brute.score(X * lift, y, split, labels=labels, scale=1 / lift))


def test_mahalanobis():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((200, 5)) * [1, 9, 0.1, 3, 1], rng.integers(0, 3, 200)
    metric = dr.Mahalanobis.fit(X)
    data = own.Data(X, y, np.array(["a"] * 200), "categorical")
    assert_same_tiles(data, metric, ((0, 200), (0, 200)), (90, 90), ("a",))


def test_warm_tables_only_spare_work():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((600, 3)), rng.integers(0, 3, (600, 1)) * 1.0
    job, split = job_for(X), np.zeros(600, np.int16)
    wood = make_panel(0, X, y, split, job).forest
    rules, tables = make_rules(job.metric, 3, 0, False), Tables.empty(0, 600, 1, False)
    sides = tables.side(), tables.side()
    cold = leaves.reduce_forests(wood, wood, rules, sides, True)[1]
    before = {name: values.copy() for name, values in tables.arrays().items()}
    warm = leaves.reduce_forests(wood, wood, rules, sides, True)[1]
    assert warm[0] < cold[0]
    for name, values in tables.arrays().items():
        np.testing.assert_array_equal(values, before[name])


# -- how much is looked at -----------------------------------------------------------------------


def clustered(n, d, labels, seed=0):
    """Forty overlapping clusters with five labels, or with labels that grow along a column."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 40, n)
    X = 2 * rng.standard_normal((40, d))[cluster] + rng.standard_normal((n, d))
    y = cluster % 5 if labels == "categorical" else X[:, 0] + rng.standard_normal(n)
    return own.Data(X, y * 1.0, np.array(["a"] * n), labels)


def looked_at(data):
    n = len(data.X)
    job = job_for(data.X, labels=data.labels, groups=("a",))
    return reduce_tile(reader(data), (0, n), (0, n), (n, n), job)[2]


@pytest.mark.parametrize(
    ("d", "labels", "power"),
    [(3, "categorical", 1.15), (8, "categorical", 1.45), (3, "real", 1.6)],
)
def test_pairs_grow_far_slower_than_their_number(monkeypatch, d, labels, power):
    monkeypatch.setattr(forest, "LEAF", 64)
    small, large = (looked_at(clustered(n, d, labels)) for n in (8_000, 32_000))
    assert small.leaves > 0
    assert large.pairs < small.pairs * 4**power
    assert large.leaves < small.leaves * 4 ** (power + 0.2)


def test_equal_rows_are_not_compared_again_and_again():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 4, (4000, 1)) * 1.0, rng.integers(0, 2, 4000) * 1.0
    counters = looked_at(own.Data(X, y, np.array(["a"] * 4000), "categorical"))
    assert counters.pairs < 4000 * 4000 / 10


@pytest.mark.parametrize("columns", [3, 16])
def test_flat_noise_goes_back_to_products(monkeypatch, columns):
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    X, y = rng.random((3000, columns)), rng.integers(0, 2, 3000) * 1.0
    counters = looked_at(own.Data(X, y, np.array(["a"] * 3000), "categorical"))
    if columns == 3:
        assert counters.pairs < 3000**2 / 8
    else:
        assert counters.pairs > 3000**2 / 4
        assert counters.leaves < 0.1 * (3000 / 64) ** 2


def test_counters_start_at_nothing():
    assert Counters().leaves == 0
    assert CHILD == 0
