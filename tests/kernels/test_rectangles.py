"""Rectangles hold every pair that counts once, and are few where runs are short."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import job_for

from dskrobust.kernels import Rows
from dskrobust.kernels.panel import _sort, make_panel
from dskrobust.kernels.rectangles import rectangles
from dskrobust.kernels.reductions import Twins

NONE = np.empty(0, np.int64)


def panel_of(labels, parts, rule="different", silent=NONE):
    """A panel of rows that nothing but their labels, parts and silence is known of."""
    n = len(labels)
    labels = np.asarray(labels, np.float64).reshape(n, -1)
    X = np.zeros((n, 1))
    job = job_for(X, groups=("a", "b", "c"), rule=rule, plain=True)
    who = Rows(np.arange(n), labels, np.asarray(parts, np.int16))
    order, sorted_labels, runs = _sort(who, job, Twins(NONE, NONE, NONE.astype(np.int16), silent))
    panel = make_panel(who, X, job)
    return replace(panel, order=order, labels=sorted_labels, runs=runs), job.label_code


def counted(a, b, code):
    """How often every pair of positions is in a rectangle, those of uniform ones and of others."""
    held = np.zeros((2, len(a), len(b)), int)
    for rows, columns, uniform in rectangles(a, b, code):
        block = np.ones((rows.hi - rows.lo, columns.hi - columns.lo), int)
        if rows is columns:
            block = np.triu(block, 1)  # as blocks of one run with itself are taken
        held[int(uniform), rows.lo : rows.hi, columns.lo : columns.hi] += block
    return held


@st.composite
def panels(draw, rule):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = []
    for _ in range(2):
        n = draw(st.integers(1, 400))
        classes = draw(st.sampled_from((1, 2, 5, 40)))
        shares = rng.dirichlet(np.full(classes, draw(st.sampled_from((0.2, 5.0)))))
        labels = rng.choice(classes, n, p=shares) + draw(st.integers(0, 3))
        silent = np.flatnonzero(rng.random(n) < draw(st.sampled_from((0.0, 0.3))))
        made.append(panel_of(labels, rng.integers(-1, 3, n), rule, silent))
    return made


@pytest.mark.parametrize("rule", ["different", "same"])
@given(data=st.data())
def test_every_pair_that_counts_is_held_once(data, rule):
    (a, code), (b, _) = data.draw(panels(rule))
    one, other = data.draw(st.sampled_from([(a, b), (a, a)]))
    mixed, uniform = counted(one, other, code)
    counts = (one.labels[:, 0][:, None] == other.labels[:, 0]) == (rule == "same")
    if one is other:
        either = mixed + mixed.T + uniform + uniform.T
        np.fill_diagonal(counts, False)
    else:
        either = mixed + uniform
    assert (either[counts] == 1).all()
    assert (either <= 1).all()
    assert (uniform[~counts] == 0).all()


@given(data=st.data())
def test_a_rectangle_is_of_one_part_and_one_silence(data):
    (a, code), _ = data.draw(panels("different"))
    kinds = {run[:2]: (run.part, run.silent) for run in a.runs}
    for rows, columns, _ in rectangles(a, a, code):
        for side in (rows, columns):
            inside = [kind for (lo, hi), kind in kinds.items() if side.lo <= lo and hi <= side.hi]
            assert set(inside) == {(side.part, side.silent)}


def test_short_runs_make_few_rectangles():
    n, classes = 100 * 64, 100
    a, code = panel_of(np.arange(n) % classes, np.zeros(n))
    b, _ = panel_of(np.arange(n) % classes, np.ones(n))
    assert len(a.runs) == classes
    assert len(list(rectangles(a, a, code))) < classes  # of pairs of runs there are 4,950
    assert len(list(rectangles(a, b, code))) < 4 * classes
