"""Merges of partial results: associative and commutative, and idempotent where tiles start warm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import same

from dskrobust.engine.tasks import TileResult, merge_states
from dskrobust.kernels import (
    NOBODY,
    CountState,
    CountWithin,
    KNearest,
    LargestQuotient,
    QuotientState,
)

ROWS, PARTS, K = 3, 2, 4


@st.composite
def quotient_states(draw, quotients):
    """Partial results of 3 rows and 2 parts, with many ties."""
    shape = (ROWS, PARTS)

    def column(values, nothing):
        chosen = [draw(st.sampled_from(values)) for _ in range(ROWS * PARTS)]
        index = [NOBODY if v == nothing else draw(st.integers(0, 3)) for v in chosen]
        return np.array(chosen).reshape(shape), np.array(index, np.int64).reshape(shape)

    reach, nearest = column([0.0, 1.0, 2.0, np.inf], np.inf)
    quotient, witness = np.zeros((0, 0)), np.full((0, 0), NOBODY)
    if quotients:
        quotient, witness = column([0.0, 1.0, 2.0, np.inf], 0.0)
    return QuotientState(reach, nearest, quotient, witness)


@st.composite
def nearest_states(draw):
    """Lists of up to 4 of 12 rows; of a row the distance is always the same."""
    state, rng = KNearest(K).empty(ROWS, PARTS), np.random.default_rng(draw(st.integers(0, 2**32)))
    for i in range(ROWS):
        for part in range(PARTS):
            index = rng.choice(12, rng.integers(0, K + 1), replace=False)
            distance = (index * 7 % 4).astype(float)
            order = np.lexsort((index, distance))
            state.index[i, part, : len(index)] = index[order]
            state.distance[i, part, : len(index)] = distance[order]
    return state


@st.composite
def count_states(draw):
    """Counts around the same rows, so with the same radii."""
    counts = st.lists(st.integers(0, 5), min_size=ROWS * PARTS, max_size=ROWS * PARTS)
    count = np.array(draw(counts), np.int64).reshape(ROWS, PARTS)
    return CountState(np.arange(ROWS * PARTS, dtype=float).reshape(ROWS, PARTS), count)


KINDS = {
    "reach": (LargestQuotient(), quotient_states(False)),
    "quotient": (LargestQuotient(True), quotient_states(True)),
    "nearest": (KNearest(K), nearest_states()),
    "count": (CountWithin(), count_states()),
}


@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.data())
def test_merges_are_associative_and_commutative(kind, draw):
    reduction, states = KINDS[kind]
    a, b, c = (draw.draw(states) for _ in range(3))
    before = [array.copy() for array in a]
    assert same(a.merge(b), b.merge(a))
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    nothing = reduction.empty(ROWS, PARTS)
    if kind == "count":
        nothing.radius[:] = a.radius
    assert same(a.merge(nothing), a)
    assert same(nothing.merge(a), a)
    assert all(np.array_equal(one, two) for one, two in zip(before, a, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.data())
def test_warm_reductions_are_idempotent_and_others_never_start_warm(kind, draw):
    reduction, states = KINDS[kind]
    a, b = draw.draw(states), draw.draw(states)
    if reduction.warm:
        assert same(a.merge(a), a)
        assert same(a.merge(b).merge(b), a.merge(b))
    else:
        np.testing.assert_array_equal(a.merge(a).count, 2 * a.count)


@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.data(), count=st.integers(1, 9))
def test_no_order_or_tree_of_merges_matters(kind, draw, count):
    states = KINDS[kind][1]
    tiles = []
    for _ in range(count):
        right = draw.draw(st.none() | states)
        tiles.append((TileResult(draw.draw(states), right), int(draw.draw(st.booleans()))))
    wanted = merge_states(*zip(*tiles, strict=True))
    shuffled = draw.draw(st.permutations(tiles))
    cut = draw.draw(st.integers(0, count - 1))
    parts = [some for some in (shuffled[:cut], shuffled[cut:]) if some]
    merged = [merge_states(*zip(*some, strict=True)) for some in parts]
    assert same(merge_states(merged, [0] * len(merged)), wanted)


@given(a=nearest_states(), parts=st.permutations(range(PARTS)))
def test_unions_are_merges_of_parts(a, parts):
    distance, index = a.union(list(parts))
    for i in range(ROWS):
        pairs = zip(a.distance[i].ravel(), a.index[i].ravel(), strict=True)
        wanted = sorted({pair for pair in pairs if pair[1] != NOBODY})[:K]
        assert [
            pair for pair in zip(distance[i], index[i], strict=True) if pair[1] != NOBODY
        ] == wanted


@given(a=nearest_states(), b=nearest_states(), q=quotient_states(True), rows=st.integers(0, 12))
def test_states_tell_what_they_know_of_later_rows(a, b, q, rows):
    assert a.is_within(rows) == all(j < rows or j == NOBODY for j in a.index.ravel())
    for found in (q.nearest, q.witness):
        if ((found >= rows) & (found != NOBODY)).any():
            assert not q.is_within(rows)
    assert TileResult(a, b).is_within(rows) == (a.is_within(rows) and b.is_within(rows))
    assert TileResult(a).is_within(rows) == a.is_within(rows)
