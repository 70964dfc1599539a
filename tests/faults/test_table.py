"""What the matrix judges by: ends of commands, states of stores, and the table."""

import errno
import os

import pytest
from faults import damage, found, kills, pairs, writes
from faults.children import Ran
from faults.commands import ERROR, HANG, RIGHT, WRONG, judge

ROWS, MORE = {"rows": "a", "count": 4}, {"rows": "b", "count": 6}
BEFORE = {**ROWS, "results": {}}
AFTER = {**ROWS, "results": {"euclidean": "1"}}
OTHER = {**ROWS, "results": {"euclidean": "2"}}
GROWN = {**MORE, "results": {"euclidean": "3"}}


@pytest.mark.parametrize(
    ("code", "err", "outcome"),
    [
        (0, "Reading: 100 %", RIGHT),
        (None, "", HANG),
        (1, "Reading: 10 %\nError: no space is left in /a", ERROR),
        (2, "Usage: dskrobust\nError: no such option", ERROR),
        (1, "Error: KeyError: 'x' (set DSKROBUST_DEBUG=1 to see where)", WRONG),
        (1, "Traceback (most recent call last):\nError: x", WRONG),
        (1, "", WRONG),
        (1, "Error: a\nError: b", WRONG),
        (-11, "", WRONG),
    ],
)
def test_an_end_is_right_or_one_line(code, err, outcome):
    assert judge(Ran(code, "", err))[0] == outcome


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (BEFORE, ""),
        (AFTER, ""),
        (OTHER, "a result of neither"),
        (GROWN, "6 rows of neither"),
        ({"error": "x"}, "cannot be read"),
    ],
)
def test_after_a_kill_a_store_is_as_before_or_after(state, fault):
    said = kills.mixture(state, (BEFORE, AFTER))
    assert fault in said
    assert bool(fault) == bool(said)


@pytest.mark.parametrize(
    ("state", "orders", "fault"),
    [
        (AFTER, [AFTER], ""),
        (BEFORE, [AFTER], "1 are missing"),
        (OTHER, [BEFORE], "a result that no order gives"),
        (AFTER, [AFTER, GROWN], ""),
        (AFTER, [GROWN], "4 rows, which no order gives"),
    ],
)
def test_after_a_pair_a_store_is_as_after_an_order(state, orders, fault):
    said = pairs.unexplained(state, orders, [BEFORE, AFTER, GROWN])
    assert fault in said
    assert bool(fault) == bool(said)


def test_files_are_told_apart_by_their_paths():
    kinds = damage.kinds(
        ["zarr.json", "features/c/0/0", "results/x/reach/c/0", "tiles/1/zarr.json", "state.record"]
    )
    assert kinds == {
        "data, metadata": ["zarr.json", "state.record"],
        "data": ["features/c/0/0"],
        "results": ["results/x/reach/c/0"],
        "memo, metadata": ["tiles/1/zarr.json"],
    }


@pytest.mark.parametrize(
    ("where", "said", "named"),
    [
        ("features/c/0/0 bit 7", "Error: array 'features' of x.zarr: chunk 0", True),
        ("features/c/0/0 bit 7", "Error: array 'labels' of x.zarr: chunk 0", False),
        ("zarr.json bit 7", "Error: x.zarr is no store", True),
        ("tiles/3/c/0 and tiles/4/c/0", "Error: it is damaged", False),
    ],
)
def test_an_error_names_what_is_damaged(where, said, named):
    assert damage.named(Ran(1, "", said), where) is named


def test_the_table_counts_and_says_what_repeats_a_try():
    rows = [
        found.Row("kills", 3, found.Found("worker", "compute", RIGHT)),
        found.Row("kills", 4, found.Found("worker", "compute", WRONG, "other\nbytes")),
    ]
    assert "| kills: worker | compute | 2 | 1 | 0 | 1 | 0 |" in found.table(rows).splitlines()
    assert found.repeats(rows) == "--only kills --seed 4: worker, compute: wrong, other bytes"


def test_a_disk_is_full_from_a_write_on(tmp_path):
    plan = writes.Plan("ENOSPC", 2, "own.zarr", str(tmp_path / "tally"))
    assert writes.planned(plan.variable()) == plan
    hook, path = writes.Hook(plan), str(tmp_path / ".own.zarr.partial" / "c")
    hook("open", (path, "rb", os.O_RDONLY))
    hook("open", (str(tmp_path / "other"), "wb", os.O_WRONLY))
    hook("os.mkdir", (path, 0o777, -1))
    for _ in range(2):
        with pytest.raises(OSError, match=r"No space left") as caught:
            hook("open", (path, "wb", os.O_WRONLY | os.O_CREAT))
        assert caught.value.errno == errno.ENOSPC
    hook("os.remove", (path, -1))
    assert writes.tally_of(plan) == 4
