"""Metrics that users wrote: compiled ones run inside a kernel, others are called."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Arrays, assert_states_equal, job_for, reduce_ranges
from numba import njit

import dskrobust as dr
from dskrobust.errors import InvalidDataError
from dskrobust.kernels import CountState, CountWithin, KNearest, LargestQuotient
from dskrobust.kernels.function import is_compiled
from dskrobust.metrics import resolve_metric

THREADS = {"scheduler": "threads", "num_workers": 2}
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


@njit
def steps(a, b):
    """Hamming's distance: whole numbers, the same in every order of summation."""
    count = 0
    for k in range(a.shape[0]):
        count += a[k] != b[k]
    return count / a.shape[0]


def plain_steps(a, b):
    return np.count_nonzero(a != b) / len(a)


@njit
def first_minus(a, b):
    """A distance that tells, in its last digits, whether the lower row comes first."""
    far = np.abs(a[0] - b[0])
    return far if a[0] <= b[0] else far * (1 + 1e-9)


@njit
def bad(a, b):
    return np.nan if a[0] + b[0] == 11.0 else abs(a[0] - b[0])


@njit
def negative(a, b):
    return -1.0 if a[0] + b[0] == 11.0 else abs(a[0] - b[0])


REDUCTIONS = {
    "categories": (LargestQuotient(), "categorical", "different"),
    "quotients": (LargestQuotient(True), "real", "different"),
    "nearest": (KNearest(3), "categorical", "any"),
    "counts": (CountWithin(), "categorical", "same"),
}


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("function", [steps, plain_steps])
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 6),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    panel=st.integers(3, 40),
    cut=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=20)
def test_a_function_equals_the_built_in_metric(kind, function, n, d, dtype, panel, cut, seed):
    rng = np.random.default_rng(seed)
    reduction, labels, rule = REDUCTIONS[kind]
    X = rng.integers(0, 3, (n, d)).astype(dtype)
    rows = Arrays(X, own.label_values(rng, n, labels, True), rng.integers(0, 2, n))
    tile = ((0, n // 2), (n // 2, n)) if cut else ((0, n), (0, n))
    found = []
    for metric in (function, "hamming"):
        job = job_for(X, resolve_metric(metric), labels, ("a", "b"), rule=rule, reduction=reduction)
        known = (None, None)
        if kind == "counts":
            sizes = [hi - lo for lo, hi in tile]
            known = tuple(
                CountState(np.full((m, 2), 0.4), np.zeros((m, 2), np.int64)) for m in sizes
            )
        found.append(reduce_ranges(rows, *tile, (panel, panel), job, known))
    for side in (0, 1):
        assert_states_equal(found[0][side], found[1][side])


def test_compiled_functions_are_called_inside_the_kernel():
    """Without the GIL: another thread runs meanwhile, and Python never sees the function."""
    assert is_compiled(steps)
    assert not is_compiled(plain_steps)

    @njit
    def slow(a, b):
        total = 0.0
        for _ in range(200):
            for k in range(a.shape[0]):
                total += abs(a[k] - b[k])
        return total / 200

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((700, 30)), np.arange(700) % 2
    job, tile = job_for(X, resolve_metric(slow)), ((0, 700), (0, 700), (700, 700))
    small = (0, 20), (0, 20), (20, 20)
    reduce_ranges(Arrays(X, y), *small, job)  # compiles
    done, ticks = threading.Event(), []

    def count():
        while not done.wait(0.001):
            ticks.append(1)

    thread = threading.Thread(target=count)
    thread.start()
    called = reduce_ranges(Arrays(X, y), *tile, job)[2]
    done.set()
    thread.join()
    assert called.proven == 350 * 350
    assert len(ticks) > 3


def test_rows_come_in_the_order_of_their_numbers():
    X = np.arange(40.0)[:, None]
    y = np.arange(40) % 3
    for tile in (((0, 40), (0, 40)), ((0, 25), (25, 40)), ((25, 40), (0, 25))):
        job = job_for(X, resolve_metric(first_minus))
        left, right, _ = reduce_ranges(Arrays(X, y), *tile, (7, 9), job)
        for state in (left, right):
            assert (state.reach == np.round(state.reach)).all()


@pytest.mark.parametrize(("function", "value"), [(bad, "nan"), (negative, "-1.0")])
@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_no_distance_names_both_rows(function, value, compiled):
    X, y = np.zeros((30, 2)), np.arange(30) % 2
    X[:, 0] = 100.0 + 7 * np.arange(30)
    X[4, 0], X[17, 0] = 5.0, 6.0
    metric = function if compiled else function.py_func
    scores = dr.sample_robustness(X, y, metric=metric, options=dr.RunOptions(block_rows=8))
    with pytest.raises(InvalidDataError, match=rf"returned {value} for rows 4 and 17; a distance"):
        scores.compute(**THREADS)


def divides(a, b):
    return 1 / 0 if a[0] == 3 else float(np.abs(a - b).sum())


@njit
def divides_compiled(a, b):
    return 1 // int(a[0] - 3) if a[0] == 3 else np.abs(a - b).sum()


@njit
def wide(a, b):
    return np.abs(a - b)


def leaves(a, b):
    raise SystemExit(3)


def lopsided(a, b):
    return float(max(0.0, (a - b).sum()) + 2 * max(0.0, (b - a).sum()))


def changes(a, b):
    a += 1
    return 1.0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (divides, "divides failed for rows 3 and 4; ZeroDivisionError"),
        (divides_compiled, "divides_compiled failed for rows 3 and 4; ZeroDivisionError"),
        (wide, "wide returned array.* for rows 0 and 1; a distance must be a number"),
        (leaves, "leaves failed for rows 0 and 1; .*SystemExit: 3"),
        (lopsided, "lopsided returned .* for rows 0 and 1; a distance is symmetric"),
        (changes, "changes changed its arguments for rows 0 and 1"),
        (lambda a: 1.0, "lambda> failed for rows 0 and 1; TypeError"),
    ],
)
def test_what_goes_wrong_in_a_metric_names_it_and_the_rows(metric, said):
    X = np.arange(12.0)[:, None]
    with pytest.raises(InvalidDataError, match=f"the metric function .*{said}"):
        dr.sample_robustness(X, np.arange(12) % 2, metric=metric).compute(scheduler="sync")


NAMED = """
from numba import njit
from dskrobust.metrics import resolve_metric
def plain(a, b):
    return abs(a[0] - b[0])
for function in (plain, njit(plain), njit(fastmath=True)(plain)):
    print(resolve_metric(function))
"""


def test_compiled_metrics_are_known_again_in_other_processes(tmp_path):
    """Results are found by the function's own code and how it was compiled."""
    (tmp_path / "named.py").write_text(NAMED)
    command = [sys.executable, str(tmp_path / "named.py")]
    one, two = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in "ab")
    assert one.stdout == two.stdout
    assert len(set(one.stdout.split("\n"))) == 4  # three names, and the end


def test_whole_runs_with_compiled_metrics():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (90, 5)).astype(np.uint8), rng.integers(0, 3, 90)
    ours = dr.sample_robustness(X, y, metric=steps).compute(**THREADS)
    theirs = dr.sample_robustness(X, y, metric="hamming").compute(**THREADS)
    for name in ("lipschitz", "reach", "witness"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    lists = dr.nearest_neighbours(X, 4, metric=steps).compute(**THREADS)
    wanted = dr.nearest_neighbours(X, 4, metric="hamming").compute(**THREADS)
    np.testing.assert_array_equal(lists.index, wanted.index)
    counts = dr.count_within(X, 0.4, metric=steps).compute(**THREADS)
    wanted = dr.count_within(X, 0.4, metric="hamming").compute(**THREADS)
    np.testing.assert_array_equal(counts, wanted)
