"""Few columns: boxes bound, leaves find what brute force finds, and few pairs are looked at."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, Case, job_for, metric_argument, reduce_ranges, same

import dskrobust as dr
from dskrobust.kernels import Counters, copy_of
from dskrobust.kernels.bounds import boxes
from dskrobust.kernels.bounds.box_bounds import TINY, between, to_box
from dskrobust.kernels.bounds.boxes import make_rules, make_work
from dskrobust.kernels.bounds.leaf_sums import accumulate
from dskrobust.kernels.bounds.trees import LOWEST, START, STOP, plant
from dskrobust.kernels.distances import SCRATCH, reduced
from dskrobust.kernels.panel import make_panel
from dskrobust.kernels.proof import Side
from dskrobust.metrics import CHEBYSHEV, CHORD, CITYBLOCK, EUCLIDEAN, MINKOWSKI

METRIC_OF = {
    EUCLIDEAN: dr.Euclidean(),
    CHORD: dr.Angular(),
    CITYBLOCK: dr.Cityblock(),
    CHEBYSHEV: dr.Chebyshev(),
}
CODES = tuple(METRIC_OF)
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski(3)", "minkowski(1.5)", "angular")


ALWAYS = {"leaf": 8, "pays": np.inf}  # small leaves, and no way back from them


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
    wood = plant(X, y, split.astype(np.int16), job_for(X, leaf=leaf))
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
    wood = plant(X, y, np.zeros(2000, np.int16), job_for(X, leaf=32))
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
    job = job_for(X, labels="real", leaf=24)
    wood = plant(X, np.zeros((20, 1)), np.zeros(20, np.int16), job)
    work, block = make_work(24, d), wood.blocks[0]
    rows = X[wood.order]
    for i in range(20):
        assert accumulate(block, i, block, 24, np.inf, code, work) == 24
        wanted = [reduced(code, 2.0, rows[i], row, np.inf, lanes) for row in rows]
        assert work.value[:20].tolist() == wanted
        assert np.isinf(work.value[20:]).all()


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
    rules = make_rules(job_for(X, METRIC_OF.get(code) or dr.Minkowski(p)), d)
    low, high = others.min(axis=0), others.max(axis=0)
    bound = np.empty(12)
    to_box(np.ascontiguousarray(own_rows.T), 12, low, high, code, bound)
    edges = own_rows.min(axis=0), own_rows.max(axis=0), low, high
    edges = [edge[None].copy() for edge in edges]
    apart = between(*edges[:2], 0, *edges[2:], 0, code)[0]
    for i, row in enumerate(own_rows):
        least = min(reduced(code, p, row, other, np.inf, lanes) for other in others)
        if code == MINKOWSKI:
            least = least * least * rules.stretch + TINY
        assert max(bound[i], apart) <= least * (1 + rules.slack)


# -- tiles ---------------------------------------------------------------------------------------


@given(
    draw=st.data(),
    n=st.integers(2, 150),
    d=st.integers(1, 16),
    dtype=st.sampled_from(("uint8", "float32", "float64")),
    kind=st.sampled_from(own.KINDS),
    labels=st.sampled_from(own.LABELS),
    metric=st.sampled_from(METRICS),
    offset=st.sampled_from((1, 100, 10_000)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300)
def test_tiles_agree_with_brute_force(draw, n, d, dtype, kind, labels, metric, offset, seed):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, dtype, kind, offset)
    X[(X == 0).all(axis=1)] = 1  # which have no angle
    y = own.label_values(rng, n, labels, draw.draw(st.booleans()))
    parts = rng.integers(0, draw.draw(st.integers(1, 3)), n).astype(np.int16)
    parts[-1] = 0
    panels = draw.draw(st.sampled_from(((n, n), (40, 13), (17, 60))))
    half = max(1, n // 3)
    ranges = draw.draw(st.sampled_from((((0, n), (0, n)), ((0, half), (half, n)))))
    scale = draw.draw(st.sampled_from((1.0, 1 / 255, 3.7)))
    case = Case(X, y, parts, metric_argument(metric), labels, scale=scale)
    counters = case.assert_tile(*ranges, panels, **ALWAYS)
    assert counters.leaves > 0 or counters.proven == 0


@given(
    data=own.data_sets(dtypes=("uint8", "float32", "float64"), rows=(2, 120)),
    metric=st.sampled_from(METRICS),
    options=own.options(120),
)
@settings(max_examples=40)
def test_results_agree_with_brute_force(data, metric, options):
    X = np.abs(data.X[:, :16].astype(np.float64)).astype(data.X.dtype) + data.X.dtype.type(1)
    X[(X == 0).all(axis=1)] = 1
    scores = dr.sample_robustness(
        X, data.y, data.split, metric=metric, labels=data.labels, scale=data.scale, options=options
    )
    wanted = metric_argument(metric)
    expected = brute.score(X, data.y, data.split, wanted, data.labels, data.scale)
    brute.assert_same(scores.compute(), expected)


@pytest.mark.parametrize("labels", ["categorical", "vector-l1", "vector-l2", "vector-linf"])
@pytest.mark.parametrize("size", [1.0, 1e-170, 1e140])
def test_vector_labels(labels, size):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((200, 3)), rng.integers(0, 3, (200, 4)) * size
    case = Case(X, y, np.zeros(200, np.int16), labels=labels)
    assert case.assert_tile((0, 200), (0, 200), (200, 200), **ALWAYS).leaves > 0


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
    y, parts = rng.integers(0, 3, 300) * 1.0, rng.integers(0, 2, 300).astype(np.int16)
    case = Case(X, y, parts, labels=labels)
    assert case.assert_tile((0, 300), (0, 300), (300, 300), **ALWAYS).leaves > 0


def test_mahalanobis():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((200, 5)) * [1, 9, 0.1, 3, 1], rng.integers(0, 3, 200)
    VI = np.linalg.inv(np.cov(X.T))
    case = Case(X, y, np.zeros(200, np.int16), ("mahalanobis", VI))
    assert case.assert_tile((0, 200), (0, 200), (90, 90), **ALWAYS).leaves > 0


def test_warm_states_only_spare_work():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((600, 3)), rng.integers(0, 3, 600) * 1.0
    job, rows = job_for(X, **ALWAYS), Arrays(X, y)
    panel = make_panel(rows.panel_rows(), X, job)
    state = job.reduction.empty(600, 1)
    sides = (Side(panel.rows, panel.numbers, panel.weights, state),) * 2
    cold = boxes.reduce_trees(panel.trees, panel.trees, job, sides)
    before = copy_of(state)
    warm = boxes.reduce_trees(panel.trees, panel.trees, job, sides)
    assert cold[0]
    assert warm[0]
    assert warm[1][0] < cold[1][0]
    assert same(state, before)


def test_closed_rows_look_for_nothing():
    """Rows whose state is closed change nothing and cost nothing."""
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((600, 3)), rng.integers(0, 3, 600) * 1.0
    for labels in ("categorical", "real"):
        case = Case(X, y, np.zeros(600, np.int16), labels=labels)
        job, tile = case.job(**ALWAYS), ((0, 300), (300, 600), (300, 300))
        both = reduce_ranges(case.arrays(), *tile, job)
        left, right, counters = reduce_ranges(case.arrays(), *tile, job, one_sided=True)
        assert same(left, both[0])
        assert same(right, job.reduction.closed(300))
        assert counters.pairs < 0.7 * both[2].pairs


# -- how much is looked at -----------------------------------------------------------------------


def clustered(n, d, labels, seed=0):
    """Forty overlapping clusters with five labels, or with labels that grow along a column."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 40, n)
    X = 2 * rng.standard_normal((40, d))[cluster] + rng.standard_normal((n, d))
    y = cluster % 5 if labels == "categorical" else X[:, 0] + rng.standard_normal(n)
    return X, y * 1.0


def looked_at(X, y, labels="categorical", **tuning):
    n = len(X)
    job = job_for(X, labels=labels, **tuning)
    return reduce_ranges(Arrays(X, y), (0, n), (0, n), (n, n), job)[2]


@pytest.mark.parametrize(
    ("d", "labels", "power"),
    [(3, "categorical", 1.15), (8, "categorical", 1.45), (3, "real", 1.6)],
)
def test_pairs_grow_far_slower_than_their_number(d, labels, power):
    small, large = (
        looked_at(*clustered(n, d, labels), labels, pays=np.inf) for n in (8_000, 32_000)
    )
    assert small.leaves > 0
    assert large.pairs < small.pairs * 4**power
    assert large.leaves < small.leaves * 4 ** (power + 0.2)


def test_equal_rows_are_not_compared_again_and_again():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 4, (4000, 1)) * 1.0, rng.integers(0, 2, 4000) * 1.0
    assert looked_at(X, y, **ALWAYS).pairs < 4000 * 4000 / 10


@pytest.mark.parametrize("columns", [3, 16])
def test_flat_noise_goes_back_to_products(columns):
    rng = np.random.default_rng(0)
    X, y = rng.random((3000, columns)), rng.integers(0, 2, 3000) * 1.0
    counters = looked_at(X, y)
    if columns == 3:
        assert counters.pairs < 3000**2 / 8
    else:
        assert counters.pairs > 3000**2 / 4
        assert counters.leaves < 0.1 * (3000 / 64) ** 2


def test_boxes_may_be_forbidden():
    X, y = clustered(500, 3, "categorical")
    assert looked_at(X, y, boxes=False).leaves == 0


def test_counters_start_at_nothing():
    assert Counters().leaves == 0
