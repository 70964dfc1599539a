"""The live view: bounds that only fall, what is shown where, and that results are the same."""

import io
import itertools
import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import dskrobust as dr
from dskrobust.engine import events
from dskrobust.engine.events import BOUND_STEPS, bounds_of, read_bounds, watch_tiles
from dskrobust.kernels import LargestQuotient
from dskrobust.show import live, terminal
from dskrobust.show.bounds import Bounds

SMALL = dr.RunOptions(dr.Resources(1, 1, None), block_rows=60)


def arrays(n=240, groups=2):
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    return X, y, np.array(["train", "test", "more"])[np.arange(n) % groups]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kind", ["arrays", "store"])
def test_bounds_fall_to_the_scores(tmp_path, groups, kind):
    data = arrays(groups=groups)
    if kind == "store":
        data = (dr.create_store(str(tmp_path / "own.zarr"), *data),)
    lazy = dr.sample_robustness(*data, options=SMALL)
    seen = []
    bounds = Bounds()

    def tell(pairs, event):
        before = dict(bounds._now)
        bounds.take(event)
        seen.append(event["resumed"])
        for first, values in before.items():
            assert (bounds._now[first] <= values).all()

    with watch_tiles(None, lazy.plan, tell, lazy.run):
        done = lazy.compute(scheduler="sync")
    assert len(seen) == len(lazy.plan.tiles) == 10
    steps = np.ceil(done.robustness * BOUND_STEPS)
    order = np.concatenate([bounds._now[lo] for lo, _ in lazy.plan.blocks])
    np.testing.assert_array_equal(order, steps)
    assert bounds.first.min() >= bounds.values.min()
    assert len(bounds.values) == 240
    if kind == "store":  # tiles that are found tell the same
        again, told = Bounds(), []
        with watch_tiles(None, lazy.plan, lambda pairs, e: (again.take(e), told.append(e))):
            dr.sample_robustness(data[0], options=SMALL).compute(scheduler="sync")
        assert all(event["resumed"] for event in told)
        np.testing.assert_array_equal(np.sort(again.values), np.sort(bounds.values))


def test_real_labels_have_bounds_too():
    X, _, _ = arrays()
    lazy = dr.sample_robustness(X, X[:, 0] * 3, options=SMALL)
    with dr.live(lazy) as view:
        done = lazy.compute(scheduler="threads")
    np.testing.assert_allclose(
        np.sort(view.bounds.values), np.sort(done.robustness), atol=1.01 / BOUND_STEPS
    )


def test_other_runs_are_not_listened_to():
    mine, other = (dr.sample_robustness(*arrays(), options=SMALL) for _ in range(2))
    other = dr.sample_robustness(*arrays(), metric="cityblock", options=SMALL)
    with dr.live(mine) as view:
        other.compute(scheduler="sync")
        assert not len(view.bounds.values)
        mine.compute(scheduler="sync")
    assert view.complete
    assert mine.run != other.run


def test_workers_tell_the_scheduler(client, tmp_path):
    store = dr.create_store(str(tmp_path / "own.zarr"), *arrays())
    lazy = dr.sample_robustness(store, options=SMALL)
    assert client.dashboard_link in lazy._repr_html_()
    with dr.live(lazy) as view:
        found = lazy.write()
    assert view.complete
    assert view.state == "done"
    assert client.dashboard_link in view._repr_html_()
    rounded = np.ceil(np.sort(np.asarray(found.robustness)) * BOUND_STEPS) / BOUND_STEPS
    np.testing.assert_array_equal(np.sort(view.bounds.values), rounded)
    with dr.live(found) as nothing:  # they are computed: nothing to look at, nothing to wait for
        found.write()
    assert nothing.progress.total is None


@given(st.integers(1, 400), st.integers(0, 10**9), st.integers(1, 12))
def test_of_many_rows_a_sample_is_told_of(rows, first, times):
    """About BOUND_ROWS of them, the same ones whatever the blocks are."""
    total = first + rows
    whole = events._told_of(first, total, total)
    assert len(whole) == rows if total <= events.BOUND_ROWS else len(whole) <= rows
    cuts = np.unique(np.linspace(first, total, times + 1).astype(int))
    parts = [a - first + events._told_of(a, b, total) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, int), *parts]), whole)


def test_the_sample_is_as_large_as_it_should_be():
    for total in (10**5, 10**6):
        told = len(events._told_of(0, total, total))
        assert abs(told - events.BOUND_ROWS) < 0.01 * events.BOUND_ROWS


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0.1, 1e3))
def test_what_is_told_is_an_upper_bound(reach, norm):
    state = LargestQuotient().empty(len(reach), 1)
    state.reach[:, 0] = reach
    told = read_bounds(bounds_of(state.lipschitz, None, norm, (0, len(reach))))
    with np.errstate(divide="ignore", over="ignore"):
        robustness = norm / (1 / state.reach[:, 0] + norm)
    assert (told / BOUND_STEPS >= robustness - 1e-15).all()
    assert (told / BOUND_STEPS <= robustness + 1.01 / BOUND_STEPS).all()


# -- what is shown -----------------------------------------------------------------------------


def view_of(**given):
    lazy = dr.sample_robustness(*arrays(**given), options=SMALL)
    view = live.LiveView(lazy, "http://127.0.0.1:8787/status")
    with watch_tiles(None, lazy.plan, view.tell, lazy.run):
        lazy.compute(scheduler="sync")
    return view


def test_in_a_terminal_there_are_bars():
    console = Console(width=90, force_terminal=True, record=True, file=io.StringIO())
    view = view_of()
    console.print(view)
    console.print(view.bounds)
    text = console.export_text()
    assert "R so far" in text
    assert "█" in text
    assert "░" in text  # where they were before
    assert f"at most {np.median(view.bounds.values):.4f} for half of them" in text
    assert max(map(len, text.splitlines())) <= 90
    empty = live.LiveView(dr.sample_robustness(*arrays(), options=SMALL))
    assert not str(empty)
    assert "R so far" not in empty._repr_html_()


def test_elsewhere_there_are_lines(capsys):
    lazy = dr.sample_robustness(*arrays(), options=SMALL)
    with dr.live(lazy):
        lazy.compute(scheduler="sync")
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert re.search(r"Euclidean: \d+ % · \d+ of 10 tiles · .* · R at most 0\.\d+ \(least\)", told)


def test_html_has_the_picture_and_the_link():
    view = view_of()
    view.state = "done"
    text = view._repr_html_()
    for part in ("10 of 10 tiles", "<svg", 'class="before"', "8787/status", "240 of 240 samples"):
        assert part in text


def test_what_fails_is_shown_as_stopped():
    lazy = dr.sample_robustness(*arrays(), options=SMALL)
    with pytest.raises(KeyboardInterrupt), dr.live(lazy) as view:
        raise KeyboardInterrupt
    assert view.state == "stopped"


def test_a_spark_has_a_character_for_every_count():
    assert terminal.spark(np.array([0, 1, 8, 16])) == " ▁▄█"
    assert terminal.spark(np.zeros(3, int)) == "   "


# Stands in for a Jupyter kernel: what IPython.display would be asked for.
KERNEL = """
import json, sys, time, types
import numpy as np
shown = []
class Handle:
    def update(self, view):
        shown.append(view._repr_html_())
def display(view, display_id):
    shown.append(view._repr_html_())
    return Handle()
ipython = types.ModuleType("IPython")
ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
ipython.display = types.ModuleType("IPython.display")
ipython.display.display = display
sys.modules |= {"IPython": ipython, "IPython.display": ipython.display}
import dskrobust as dr
from dskrobust.show import live
live.REFRESH = 0.01
rng = np.random.default_rng(0)
scores = dr.sample_robustness(rng.normal(size=(300, 3)), np.arange(300) % 2,
                              options=dr.RunOptions(dr.Resources(1, 1, None), block_rows=50))
with dr.live(scores):
    scores.compute(scheduler="threads")
print(json.dumps([len(shown), shown[0], shown[-1]]))
"""


def test_in_a_notebook_one_output_is_replaced():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KERNEL)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    count, first, last = json.loads(done.stdout)
    assert count >= 2
    assert "computing" in first
    assert "done" in last
    assert "21 of 21 tiles" in last
    assert not done.stderr  # no lines of text beside it
