"""Sets of rows by address: their parts are found block by block, and no process holds all rows."""

import tracemalloc
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import row_sets, searches
from dskrobust.errors import InvalidOptionError
from dskrobust.row_sets import AllRows, GroupRows, ListedRows, cut_sets
from dskrobust.store import EvaluationRecords, arrays

ROWS, SPAN = 300, 32


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of three groups."""
    rng = np.random.default_rng(0)
    split = np.array(["a", "b", "c"])[rng.integers(0, 3, ROWS)]
    url = str(tmp_path_factory.mktemp("sets") / "a.zarr")
    X, y = rng.normal(size=(ROWS, 2)), rng.integers(0, 2, ROWS)
    return dr.create_store(url, X, y, split=split)


@contextmanager
def short_spans():
    """Cut the rows of a store into many spans, and their tallies into a tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_sets, "SPAN", SPAN)
        patch.setattr(row_sets, "RUN", 2)
        patch.setattr(row_sets, "AT_ONCE", 2)
        yield


def listed():
    rows = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=60)
    return rows.map(lambda rows: ListedRows(np.array(rows, np.int64)))


def codes_of(parts, blocks):
    found = [function(*args) for function, *args in (parts.task(*block) for block in blocks)]
    return np.concatenate(found)


@short_spans()
@settings(max_examples=12)
@given(
    data=st.data(),
    codes=st.lists(st.integers(0, 2), max_size=9),
    queries=st.none() | listed() | st.integers(0, 2),
    block=st.integers(1, ROWS),
)
def test_parts_are_those_of_all_rows_at_once(store, data, codes, queries, block):
    groups = [GroupRows(store.address, code) for code in codes]
    some = data.draw(st.lists(listed(), min_size=not codes, max_size=3))
    sets = data.draw(st.permutations([*groups, *some]))
    asked = GroupRows(store.address, queries) if isinstance(queries, int) else queries
    inside = np.zeros((ROWS, len(sets)), bool)
    for k, one in enumerate(sets):
        inside[one.within(0, ROWS), k] = True
    known, wanted = np.unique(inside, axis=0, return_inverse=True)
    wanted = wanted.ravel() - (not known[0].any())
    cut = cut_sets(ROWS, sets, asked)
    parts = cut.references
    edges = [*range(0, ROWS, block), ROWS]
    blocks = list(pairwise(edges))
    np.testing.assert_array_equal(codes_of(parts, blocks), wanted)
    for one, members in zip(sets, parts.members, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(np.isin(wanted, members)), np.unique(
            one.within(0, ROWS)))  # fmt: skip
    rows = np.flatnonzero(inside.any(axis=1))
    assert parts.total == len(rows)
    assert parts.count(blocks) == [int((wanted[lo:hi] >= 0).sum()) for lo, hi in blocks]
    ranges, sizes = parts.pieces(block)
    ends = np.cumsum(sizes)
    assert max(sizes) <= block
    assert ranges == [(rows[b - k], rows[b - 1] + 1) for k, b in zip(sizes, ends, strict=True)]
    mine = (asked or AllRows()).within(0, ROWS)
    assert cut.alike == np.array_equal(mine, rows)


def test_too_many_parts_are_refused_by_tasks(store, monkeypatch):
    monkeypatch.setattr(row_sets, "MOST_PARTS", 2)
    groups = [GroupRows(store.address, code) for code in range(3)]
    with pytest.raises(InvalidOptionError, match="the 3 subsets overlap in more than 2 ways"):
        cut_sets(ROWS, groups)


def test_a_group_is_found_as_its_row_numbers_are(store):
    rows = np.flatnonzero(store.split == "b")
    one, other = (dr.nearest_neighbours(store, 3, references=some) for some in ("b", rows))
    assert one.parameters == other.parameters  # what a store holds of it is found again
    with short_spans():
        lists = dr.nearest_neighbours(store, 3, queries="b", references="a")
    np.testing.assert_array_equal(lists.queries.compute(), rows)
    np.testing.assert_array_equal(lists.compute().queries, rows)


def test_setting_up_holds_no_rows(tmp_path, monkeypatch):
    """Tasks run in this process here, one after the other, and are measured with it."""
    monkeypatch.setattr(arrays, "UNIT_BYTES", 2**16)
    peaks = []
    for rows in (100_000, 500_000):
        X = np.arange(rows, dtype=np.float32)[:, None] % 251
        split = np.where(np.arange(rows) % 300, "train", "test")
        store = dr.create_store(str(tmp_path / f"{rows}.zarr"), X, X[:, 0] > 99, split=split)
        options = dr.RunOptions(dr.Resources(1, 1, 2**30), block_rows=rows // 4)
        sets = {"train": "train", "all": "test"}
        asked = {"queries": "test", "references": sets, "options": options}
        with dask.config.set(scheduler="sync"):
            dr.nearest_neighbours(store, 2, **asked)
            tracemalloc.start()
            try:
                lists = dr.nearest_neighbours(store, 2, **asked)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        tasks = lists["all"].search.graph.graph.values()
        values = [v for task in tasks for v in (task if isinstance(task, tuple) else (task,))]
        assert max(len(v) for v in values if isinstance(v, np.ndarray)) <= 3
    # groups of rows as they are read, once or twice; row numbers would be eight bytes each
    assert (peaks[1] - peaks[0]) / 400_000 < 4


def test_an_evaluation_reads_no_list_as_a_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    split = np.where(np.arange(200) < 150, "train", "test")
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split=split)
    dr.sample_robustness(store).write()
    trains = {"all": "train", "L": "train:L60", "M": "train:M90"}
    tests = {"t": "test", "L": "test:L20"}

    def refuse(*_):
        raise AssertionError("all rows of a subset in one process")

    monkeypatch.setattr(EvaluationRecords, "rows", refuse)
    found = dr.evaluate(
        store, train=trains, test=tests, models=[dr.Model("knn", {"neighbors": [3]})]
    )
    assert len(found.compute().table) == 6


def test_plans_are_for_the_memory_of_the_workers_machines(monkeypatch):
    hosts = {"tcp://1": {"host": "a"}, "tcp://2": {"host": "a"}, "tcp://3": {"host": "b"}}
    monkeypatch.setattr(searches, "shares_process", lambda: False)
    monkeypatch.setattr(searches, "current_client", SimpleNamespace)
    monkeypatch.setattr(searches, "workers_of", lambda client: hosts)
    free = {"tcp://1": (800, 7), "tcp://2": (800, 5), "tcp://3": (900, 1)}
    monkeypatch.setattr(searches, "ask", lambda client, function: free)
    assert searches.bounded(dr.Resources(3, 1, None)).memory_limit == 205
