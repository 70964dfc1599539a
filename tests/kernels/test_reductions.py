"""Every reduction, pair rule and metric: all bits of a tile's states are the brute force's."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_cases import (
    KINDS,
    Case,
    adversary,
    assert_states_equal,
    basis_for,
    metric_argument,
    reduce_ranges,
    same,
)

from dskrobust.kernels import CountState, CountWithin, KNearest, LargestQuotient

RULES = ("different", "same", "any")
DTYPES = ("uint8", "float32", "float64")


@st.composite
def tunings(draw):
    """Settings of the sweeps; none of them may change a result."""
    return {
        "side": draw(st.sampled_from((7, 32, 512))),
        "seeds": draw(st.sampled_from((1, 5, 512))),
        "boxes": draw(st.booleans()),
        "leaf": draw(st.sampled_from((3, 8, 64))),
        "pays": draw(st.sampled_from((0.0, 0.2, np.inf))),
        "grid_rows": draw(st.sampled_from((1, 64))),
        "grid_columns": draw(st.sampled_from((1, 24))),
        "twins": draw(st.sampled_from((0, 8))),
        "lead": draw(st.integers(0, 2)),
        "runs": draw(st.sampled_from((1, 256))),  # whether short ones are computed outright
    }


@st.composite
def cases(draw, reductions, labels=("categorical",)):
    """Rows, their parts, a metric, a pair rule and one of some reductions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype, metric = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(own.METRICS))
    d = draw(st.one_of(st.integers(1, 16), st.integers(17, 70), st.sampled_from((129, 200))))
    n = draw(st.integers(2, 90 if d < 129 else 40))
    kinds = own.KINDS if dtype == "uint8" else own.KINDS + KINDS
    kind = draw(st.sampled_from(kinds))
    if kind in own.KINDS:
        X = own.features(rng, n, d, dtype, kind, draw(st.sampled_from((0, 1, 100))))
    else:
        X = adversary(kind, n, d, rng).astype(dtype)
    if draw(st.booleans()):  # many equal rows, of zeros with either sign too
        X = X[rng.integers(0, draw(st.integers(1, min(n, 5))), n)]
        X[rng.random(n) < draw(st.sampled_from((0.0, 0.3)))] *= 0
        X = np.where((X == 0) & (rng.random(X.shape) < 0.5), -X, X) if dtype != "uint8" else X
    if metric == "angular":
        X[~X.any(axis=1)] = 1
    rule = draw(st.sampled_from(RULES))
    label_map = draw(st.sampled_from(labels)) if rule == "different" else "categorical"
    y = own.label_values(rng, n, label_map, draw(st.booleans()))
    if draw(st.booleans()) and label_map == "categorical":
        y = np.sort(y)  # long runs
    parts = rng.integers(0, draw(st.sampled_from((1, 2, 3, 30))), n).astype(np.int16)
    reduction = reductions(draw, rule, label_map)
    scale = draw(st.sampled_from((1.0, 1.0, 1 / 255, 3.7)))
    return Case(X, y, parts, metric_argument(metric), label_map, rule, reduction, scale)


@st.composite
def ranges(draw, n):
    """Rows and columns of a tile: the same, or apart in any order."""
    if draw(st.booleans()):
        return (0, n), (0, n)
    cut = draw(st.integers(1, n - 1))
    apart = (0, cut), (cut, n)
    return apart if draw(st.booleans()) else apart[::-1]


@st.composite
def bases(draw, case):
    """Directions of prefixes, good ones or any; None where rows have none."""
    screened = case.metric in ("euclidean", "angular") and case.labels == "categorical"
    if not screened or draw(st.booleans()):
        return None
    rows = case.rows().astype(np.float64)
    long = draw(st.integers(1, min(9, rows.shape[1])))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(("orthonormal", "any", "repeated", "zero")))
    return basis_for(rows, kind, draw(st.integers(1, long)), long, rng)


panels = st.tuples(st.integers(1, 95), st.integers(1, 95))


def quotient(draw, rule, labels):
    return LargestQuotient(rule == "different" and labels != "categorical")


def nearest(draw, rule, labels):
    return KNearest(draw(st.integers(1, 12)))


def counting(draw, rule, labels):
    return CountWithin()


# -- both sides of a tile ----------------------------------------------------------------------


@given(draw=st.data(), case=cases(quotient, own.LABELS), panel=panels, tuning=tunings())
@settings(max_examples=200)
def test_largest_quotients(draw, case, panel, tuning):
    tile = draw.draw(ranges(len(case.X)))
    case.assert_tile(*tile, panel, draw.draw(bases(case)), **tuning)


@given(draw=st.data(), case=cases(nearest), panel=panels, tuning=tunings())
@settings(max_examples=200)
def test_nearest_rows(draw, case, panel, tuning):
    tile = draw.draw(ranges(len(case.X)))
    case.assert_tile(*tile, panel, draw.draw(bases(case)), **tuning)


def radii(rng, distance, parts):
    """Radii at, just below and just above distances, and at the ends."""
    shape = (len(distance), parts)
    exact = np.take_along_axis(distance, rng.integers(0, distance.shape[1], shape), axis=1)
    near = np.nextafter(exact, np.where(rng.random(shape) < 0.5, -np.inf, np.inf))
    ends = np.zeros(shape), np.full(shape, np.inf)
    ways = np.stack([exact, exact, near, 2 * exact, exact / 2, *ends])
    out = np.take_along_axis(ways, rng.integers(0, len(ways), (1, *shape)), axis=0)[0]
    return np.where(rng.random(shape) < 0.95, np.maximum(out, 0.0), -np.inf)


def asked(case, rows, columns, rng):
    """A state in which every row asks for its own radii."""
    radius = radii(rng, case.distances(rows, columns), case.count)
    return CountState(radius, np.zeros(radius.shape, np.int64))


@given(
    draw=st.data(),
    case=cases(counting),
    panel=panels,
    tuning=tunings(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=250)
def test_counts(draw, case, panel, tuning, seed):
    rng = np.random.default_rng(seed)
    rows, columns = draw.draw(ranges(len(case.X)))
    known = asked(case, rows, columns, rng), asked(case, columns, rows, rng)
    case.assert_tile(rows, columns, panel, draw.draw(bases(case)), known, **tuning)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@given(
    d=st.sampled_from((1, 3, 20, 70)),
    dtype=st.sampled_from(("float32", "float64")),
    prefixed=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=6)
def test_no_bound_counts_what_is_outside(kind, metric, d, dtype, prefixed, seed):
    """Radii at distances, or a float64 beside them, where float32 is as wrong as it gets."""
    rng = np.random.default_rng(seed)
    X = adversary(kind, 50, d, rng).astype(dtype)
    if metric == "angular":
        X[~X.any(axis=1)] = 1
    parts = np.zeros(50, np.int16)
    case = Case(X, np.zeros(50), parts, metric, rule="any", reduction=CountWithin())
    basis = None
    if prefixed:
        rows, long = case.rows().astype(np.float64), min(d, 9)
        basis = basis_for(rows, "orthonormal", min(d, 3), long, rng)
    for tile in (((0, 50), (0, 50)), ((0, 20), (20, 50))):
        known = asked(case, *tile, rng), asked(case, *tile[::-1], rng)
        case.assert_tile(*tile, (50, 50), basis, known)


# -- queries among references ------------------------------------------------------------------


@st.composite
def overlapping(draw, n):
    """Queries and references, which may overlap."""
    found = []
    for _ in range(2):
        a, b = sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        found.append((a, b))
    return tuple(found)


@pytest.mark.parametrize("reduction", [quotient, nearest, counting])
@given(draw=st.data(), panel=panels, tuning=tunings(), seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_one_sided(reduction, draw, panel, tuning, seed):
    """Only the rows ask: they find what brute force does, themselves too, and nobody else."""
    case = draw.draw(cases(reduction, own.LABELS if reduction is quotient else ("categorical",)))
    rows, columns = draw.draw(overlapping(len(case.X)))
    known, radius = (None, None), None
    if reduction is counting:
        known = asked(case, rows, columns, np.random.default_rng(seed)), None
        radius = known[0].radius
    job = case.job(**tuning)
    left, right, _ = reduce_ranges(
        case.arrays(draw.draw(bases(case))), rows, columns, panel, job, known, one_sided=True
    )
    assert_states_equal(left, case.expected(rows, columns, radius, itself=True))
    assert same(right, job.reduction.closed(columns[1] - columns[0]))


# -- states that know something already --------------------------------------------------------


@pytest.mark.parametrize("reduction", [quotient, nearest])
@given(draw=st.data(), panel=panels, tuning=tunings())
@settings(max_examples=60)
def test_warm_states_come_to_the_merge(reduction, draw, panel, tuning):
    case = draw.draw(cases(reduction, own.LABELS if reduction is quotient else ("categorical",)))
    n = len(case.X)
    assume(n >= 6)
    rows, columns, others = (0, n // 3), (n // 3, 2 * n // 3), (2 * n // 3, n)
    job, basis = case.job(**tuning), draw.draw(bases(case))
    known = tuple(case.expected(side, others) for side in (rows, columns))
    cold = reduce_ranges(case.arrays(basis), rows, columns, panel, job)
    warm = reduce_ranges(case.arrays(basis), rows, columns, panel, job, known)
    for side in (0, 1):
        assert_states_equal(warm[side], cold[side].merge(known[side]))


def test_warm_lists_spare_proofs():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((900, 30)), np.zeros(900)
    case = Case(X, y, np.zeros(900, np.int16), rule="any", reduction=KNearest(5))
    tile, job = ((0, 900), (0, 900), (900, 900)), case.job()
    cold = reduce_ranges(case.arrays(), *tile, job)
    warm = reduce_ranges(case.arrays(), *tile, job, cold[:2])
    assert same(warm[0], cold[0])
    assert warm[2].proven < cold[2].proven < 0.2 * cold[2].pairs


# -- counts are mostly made of bounds ----------------------------------------------------------


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_most_counted_pairs_are_never_proven(dtype, metric, prefixed):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1_200, 6)) @ rng.standard_normal((6, 60)) * 12 + 128
    X = np.clip(np.round(X), 0, 255).astype(dtype)
    case = Case(X, np.zeros(1_200), np.zeros(1_200, np.int16), metric, rule="any")
    rows = case.rows().astype(np.float64)
    case = Case(X, case.y, case.parts, metric, rule="any", reduction=CountWithin())
    basis = None
    if prefixed:
        basis = basis_for(rows, "orthonormal", 4, 12, rng)
        matrix = np.linalg.svd(rows - basis.center, full_matrices=False)[2][:12]
        basis = type(basis)(basis.center, matrix.astype(np.float32), 1.001, basis.depths)
    d = case.distances((0, 1_200), (0, 1_200))
    known = CountState(np.median(d, axis=1)[:, None], np.zeros((1_200, 1), np.int64))
    tile = (0, 1_200), (0, 1_200), (700, 700)
    found, _, counters = reduce_ranges(case.arrays(basis), *tile, case.job(), (known, None))
    wanted = (d <= known.radius).sum(axis=1) - 1  # a row does not count itself
    np.testing.assert_array_equal(found.count[:, 0], wanted)
    assert counters.proven < 0.02 * wanted.sum()


def test_equal_rows_are_counted_at_radius_zero():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((40, 9)), 5, axis=0)[rng.permutation(200)]
    case = Case(X, np.zeros(200), np.zeros(200, np.int16), rule="any", reduction=CountWithin())
    for metric in own.METRICS:
        one = Case(
            X, case.y, case.parts, metric_argument(metric), rule="any", reduction=CountWithin()
        )
        known = CountState(np.zeros((200, 1)), np.zeros((200, 1), np.int64))
        tile = (0, 200), (0, 200), (70, 33)
        found = reduce_ranges(one.arrays(), *tile, one.job(), (known, None))[0]
        assert (found.count == 4).all(), metric


def test_the_judge_agrees_with_itself():
    """Brute force of scores and of states are one thing said twice."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 4, (60, 3)).astype(float), rng.standard_normal(60)
    parts = rng.integers(0, 2, 60).astype(np.int16)
    state = Case(X, y, parts, labels="real").expected((0, 60), (0, 60))
    wanted = brute.score(X, y, parts.astype(str), labels="real")
    np.testing.assert_array_equal(state.reach, wanted.reach_by_group)
    np.testing.assert_array_equal(state.quotient, wanted.lipschitz_by_group)
    np.testing.assert_array_equal(state.witness, wanted.witness_by_group)
    np.testing.assert_array_equal(state.nearest, wanted.nearest_by_group)
