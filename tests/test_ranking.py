"""Ranking in chunks: the order of one sort, whatever the chunks; nobody holds all rows."""

import tracemalloc
from dataclasses import fields, replace
from unittest import mock

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask.base import is_dask_collection
from distributed import get_task_stream
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import ranking
from dskrobust.errors import InvalidOptionError
from dskrobust.export import write_subsets
from dskrobust.subsets import select_subset, whole

GROUPS = ("train", "test")
SELECTIONS = (
    "train",
    "train:L{a}+M{b}",
    "train:L{c}-L{a}",
    "train:L{c}:M{a}+test:L{a}",
    "all:M{c}",
)


def scores_of(robustness, split):
    """Return scores of which only R and the groups are known."""
    nothing = dict.fromkeys(field.name for field in fields(dr.Scores))
    known = {"robustness": robustness, "split": split, "groups": GROUPS, "references": ()}
    return dr.Scores(**{**nothing, **known})


def small_chunks(rows=7, runs=128, samples=1024):
    return mock.patch.multiple(ranking, RUN_ROWS=rows, RUNS=runs, SAMPLES=samples)


def ranks_of(robustness, split, group):
    """Return rows from the least to the most robust, as one sort has them."""
    rows = np.arange(len(split)) if group is None else np.flatnonzero(split == group)
    return rows[np.argsort(robustness[rows], kind="stable")]


def in_one_order(robustness, *parts):
    rows = np.sort(np.concatenate(parts))
    return rows[np.argsort(robustness[rows], kind="stable")].tolist()


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), n=st.integers(40, 120), few=st.integers(1, 40),
       chunk=st.integers(1, 60), rows=st.integers(1, 60))  # fmt: skip
def test_the_order_is_that_of_one_sort(seed, n, few, chunk, rows):
    rng = np.random.default_rng(seed)
    values = np.r_[0.0, np.inf, rng.random(few)][rng.integers(0, few + 2, n)]  # many ties
    split = np.r_[np.zeros(15, np.int16), np.ones(15, np.int16), rng.integers(0, 2, n - 30)]
    split = split.astype(np.int16)
    scores = scores_of(da.from_array(values, chunks=chunk), split)
    train, test, every = (ranks_of(values, split, code) for code in (0, 1, None))
    a, b, c = 3, 4, 9
    wanted = [
        train.tolist(),
        in_one_order(values, train[:a], train[-b:]),
        train[a:c].tolist(),
        in_one_order(values, train[c - a : c], test[:a]),
        every[-c:].tolist(),
    ]
    with small_chunks(rows):
        subsets = [select_subset(scores, text.format(a=a, b=b, c=c)) for text in SELECTIONS]
        found = dask.compute(*subsets, scheduler="sync")
    assert [subset.indices.tolist() for subset in found] == wanted
    assert [len(subset) for subset in subsets] == [len(rows) for rows in wanted]
    eager = scores_of(values, split)
    for text, rows in zip(SELECTIONS, wanted, strict=True):
        subset = select_subset(eager, text.format(a=a, b=b, c=c))
        assert isinstance(subset.indices, np.ndarray)
        assert subset.indices.tolist() == rows


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), few=st.integers(1, 4000), sort=st.booleans())
def test_sampled_cuts_are_near_enough(seed, few, sort):
    """A run of more rows than are sampled: cuts are inexact, the order is not."""
    values = np.random.default_rng(seed).integers(0, few, 4000).astype(float)
    values = np.sort(values) if sort else values
    scores = scores_of(da.from_array(values, chunks=999), np.zeros(4000, np.int16))
    with small_chunks(100, runs=16, samples=128):
        indices = whole(scores).indices
        assert indices.chunks == ((250,) * 16,)
        assert (
            indices.compute(scheduler="sync").tolist() == np.argsort(values, kind="stable").tolist()
        )


def test_rows_of_other_scores_and_of_several_groups_are_ranked_too():
    rng = np.random.default_rng(0)
    values, split = rng.integers(0, 9, 100) / 9, (np.arange(100) % 2).astype(np.int16)
    with small_chunks():
        scores = scores_of(da.from_array(values, chunks=30), split)
        other = scores_of(da.from_array(values[::-1], chunks=30), split)
        place = dr.least_robust(other, 40)
        own = dr.most_robust(scores, 8, place).compute(scheduler="sync")
        assert own.indices.tolist() == in_one_order(values, place)[-8:]
        both = select_subset(scores, "train:L20+test:L20")
        inner = dr.least_robust(scores, 10, both)
        assert inner.name == "(train_L20+test_L20)_L10"
        assert inner.compute(scheduler="sync").indices.tolist() == np.asarray(both)[:10].tolist()
        wrong = dr.least_robust(scores, 2, dr.Subset("own", np.array([5, 100]), 2))
        with pytest.raises(InvalidOptionError, match="of 2 samples has 1 rows"):
            wrong.compute(scheduler="sync")


def test_selections_that_leave_nothing_or_overlap():
    scores = scores_of(np.arange(20.0), (np.arange(20) % 2).astype(np.int16))
    for text, message in (
        ("train:L5-L6", "leaves no samples"),
        ("all:L5+train:L3", "joins all, .* such as train\\+test"),
        ("train:L5:M6", "cannot choose 6 of the 5 samples in train_L5"),
    ):
        with pytest.raises(InvalidOptionError, match=message):
            select_subset(scores, text)
    within = dr.least_robust(scores, 9, "train")
    assert select_subset(scores, "L2+M2", within).name == "train_L9_L2+train_L9_M2"
    assert np.asarray(select_subset(scores, "L2+M2", within)).tolist() == [0, 2, 14, 16]


# -- nobody holds all rows --------------------------------------------------------------------


class Largest(dask.callbacks.Callback):
    """The longest array that a task returns."""

    def __init__(self):
        super().__init__(posttask=self._seen)
        self.rows = self.tasks = 0

    def _seen(self, key, value, *_):
        self.tasks += 1
        if isinstance(value, np.ndarray) and not str(key).startswith("finalize"):
            self.rows = max(self.rows, len(value) if value.ndim else 1)


@pytest.mark.parametrize("text", ["all", "train:L3000+M400000", "train:L90000+test:L90000"])
def test_no_task_returns_more_than_a_chunk(text):
    n, chunk = 1_000_000, 2**16
    robustness = da.random.default_rng(0).random(n, chunks=chunk)
    scores = scores_of(robustness, (np.arange(n) % 2).astype(np.int16))
    with small_chunks(chunk):
        subset = select_subset(scores, text)
        assert max(subset.indices.chunks[0]) <= chunk
        with Largest() as largest:
            subset.compute(scheduler="sync")
    assert largest.rows <= 1.25 * chunk  # a part is an eighth off at either end


def test_few_tasks_where_there_is_one_chunk():
    scores = scores_of(da.from_array(np.arange(90.0), chunks=90), np.zeros(90, np.int16))
    with Largest() as largest:
        dr.least_robust(scores, 9, "train").compute(scheduler="sync")
    assert largest.tasks <= 8


def test_ranking_runs_on_workers(client):
    scores = scores_of(da.random.default_rng(0).random(5000, chunks=500), np.zeros(5000, np.int16))
    here = mock.Mock(side_effect=AssertionError("a graph is computed in the client"))
    no_local = mock.patch.multiple("dask.local", get_async=here, get_sync=here)
    with small_chunks(500), no_local, get_task_stream(client) as stream:
        subset = dr.least_robust(scores, 4000, "train").persist()
        assert is_dask_collection(subset)
        assert subset.indices.chunks == ((500,) * 8,)
        found = client.compute(subset).result()
    assert len({task["worker"] for task in stream.data}) == 2
    done = {str(task["key"]).strip("('").split("-")[0] for task in stream.data}
    assert {"sample", "cuts", "places", "begins", "piece", "part", "getitem"} <= done
    values = np.asarray(scores.robustness)
    assert found.name == subset.name
    assert found.indices.tolist() == np.argsort(values, kind="stable")[:4000].tolist()


@pytest.mark.parametrize("text", ["all", "train:L20000+test:M10000"])
def test_writing_rows_holds_few_chunks(text):
    """Without a client: at no time does the process that writes hold the keys of all rows."""
    n = 2**19
    split = (da.arange(n, chunks=2**14) % 2).astype(np.int16)
    scores = scores_of(da.random.default_rng(0).random(n, chunks=2**14), split)
    with small_chunks(2**14), dask.config.set(scheduler="sync"):
        subset = select_subset(scores, text)
        tracemalloc.start()
        written = sum(map(len, ranking.blocks_of(subset.indices)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert written == len(subset)
    assert peak < 0.8 * n * ranking.KEY.itemsize


@pytest.mark.parametrize("end", [".npz", ".parquet"])
def test_rows_are_written_as_they_are_ranked(tmp_path, end):
    rng = np.random.default_rng(0)
    values, split = rng.integers(0, 9, 100) / 9, (np.arange(100) % 2).astype(np.int16)
    ids = np.array([f"r{k}" for k in range(100)], object)
    eager, lazy = (scores_of(v, split) for v in (values, da.from_array(values, chunks=30)))
    with small_chunks():
        for path, scores, known in (("a", eager, None), ("b", lazy, None), ("c", lazy, ids)):
            subsets = [select_subset(scores, text) for text in ("train:L20+test:M9", "train")]
            rows = {subset.name: subset.indices for subset in subsets}
            write_subsets(tmp_path / f"{path}{end}", rows, known)
    wanted = {name: np.asarray(indices) for name, indices in rows.items()}
    for path in "abc":
        if end == ".npz":
            with np.load(tmp_path / f"{path}{end}", allow_pickle=False) as file:
                found = dict(file)
            named = {f"{name}_ids": ids[there] for name, there in wanted.items()}
            expected = wanted | (named if path == "c" else {})
        else:
            table = pd.read_parquet(tmp_path / f"{path}{end}")
            assert ("id" in table) == (path == "c")
            found = {name: part["row"].to_numpy() for name, part in table.groupby("subset")}
            expected = wanted
        assert {k: v.tolist() for k, v in found.items()} == {
            k: v.tolist() for k, v in expected.items()
        }


# -- Dask collections -------------------------------------------------------------------------


def test_subsets_and_scores_are_collections(tmp_path):
    X = np.random.default_rng(0).integers(0, 5, (60, 3))
    store = dr.create_store(str(tmp_path / "own.zarr"), X, np.arange(60) % 2)
    scores = dr.sample_robustness(store)
    subset = dr.least_robust(scores, 20)
    assert is_dask_collection(scores)
    assert is_dask_collection(subset)
    done, chosen = dask.compute(scores, subset)
    assert not is_dask_collection(done)
    assert not is_dask_collection(chosen)
    assert isinstance(done, dr.Scores)
    assert chosen.name == subset.name
    assert chosen.indices.tolist() == subset.compute().indices.tolist()
    for name in ("robustness", "witness", "split", "lipschitz_by_group"):
        np.testing.assert_array_equal(getattr(done, name), getattr(scores, name))
    (kept,) = dask.persist(scores)
    assert is_dask_collection(kept)
    np.testing.assert_array_equal(kept.robustness, done.robustness)
    token = dask.base.tokenize
    assert token(subset) == token(replace(subset)) != token(dr.least_robust(scores, 21))


def test_rows_are_written_by_way_of_a_temporary_folder_that_is_not_there_yet(tmp_path):
    """Dask makes its folder with its first cluster; here there was none."""
    scores = scores_of(
        da.random.default_rng(0).random(300, chunks=50), da.zeros(300, int, chunks=50)
    )
    with small_chunks(50), dask.config.set({"temporary-directory": str(tmp_path / "a" / "b")}):
        subset = select_subset(scores, "train:L200")
        found = np.concatenate(list(ranking.blocks_of(subset.indices)))
    assert found.tolist() == subset.compute().indices.tolist()
