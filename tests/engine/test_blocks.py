"""What a worker keeps of its blocks: within its budget, never what is stale, gone with the run."""

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from helpers import wait_until, watched
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.engine.cache import BlockCache
from dskrobust.engine.events import listening
from dskrobust.engine.graph import build, start_graph
from dskrobust.engine.plan import Resources
from dskrobust.engine.prefixes import RunPrefixes
from dskrobust.engine.spec import TileSpec
from dskrobust.runs import RunOptions
from dskrobust.scores import lazy_scores
from dskrobust.store import Block, Store


@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60),
)
def test_the_last_used_are_kept_within_the_budget(budget, wanted):
    cache, sizes, made, expected = BlockCache(budget), {}, Counter(), {}
    for key, size in wanted:
        size = sizes.setdefault(key, 8 * size)

        def make(key=key, size=size):
            made[key] += 1
            return np.full(size // 8, key, np.float64)

        before = made[key]
        values = cache.get(key, make)
        assert (values == key).all()
        assert values.nbytes == size
        assert (made[key] == before) == (key in expected)
        expected.pop(key, None)
        if size <= budget:
            expected[key] = size
        while sum(expected.values()) > budget:
            del expected[next(iter(expected))]
        assert cache.held == sum(expected.values()) <= budget


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=40))
def test_values_are_replaced_and_caches_of_a_process_share_the_budget(puts):
    caches = [BlockCache(400), BlockCache(400)]
    for number, (key, size) in enumerate(puts):
        cache = caches[number % 2]
        cache.put(key, np.full(size, number, np.int64))
        assert sum(c.held for c in caches) <= 400
        for c in caches:
            assert c.held == sum(c.find(k).nbytes for k in range(4) if c.find(k) is not None)
        found = cache.find(key)
        assert found is None if 8 * size > 400 else (found == number).all()


def test_what_does_not_fit_drives_nothing_out():
    roomy, none = BlockCache(1_000), BlockCache(0)
    roomy.put("a", np.zeros(100))
    assert none.get("b", lambda: np.ones(3)).sum() == 3
    assert none.held == 0
    assert roomy.held == 800


def test_a_copy_starts_empty():
    cache = BlockCache(1_000)
    cache.get("a", lambda: np.zeros(100))
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.budget, copy.held) == (1_000, 0)
    assert len(pickle.dumps(cache)) < 200
    assert copy.get("a", lambda: np.ones(1)) == 1


def test_threads_share_what_is_kept():
    cache, made = BlockCache(10**6), Counter()

    def read(key):
        def make():
            made[key] += 1
            return np.full(100, key)

        return [int(cache.get(key, make)[0]) for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [k % 5 for k in range(40)]))
    assert all(set(values) == {k % 5} for k, values in enumerate(found))
    assert cache.held == 5 * 800
    assert sum(made.values()) <= 40  # of threads that miss at once each makes its own


def _store(tmp_path, rows=6_000, columns=128):
    rng = np.random.default_rng(0)
    centres = 8 * rng.standard_normal((10, 12)) @ rng.standard_normal((12, columns))
    y = rng.integers(0, 10, rows)
    X = centres[y] + rng.standard_normal((rows, 12)) @ rng.standard_normal((12, columns))
    X = (X + 0.1 * rng.standard_normal(X.shape)).astype(np.float32)
    return dr.create_store(str(tmp_path / "some.zarr"), X, y, rng.choice(["train", "test"], rows))


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "angular", "hamming"])
def test_a_run_reads_every_block_once_and_says_what_it_read(tmp_path, metric, monkeypatch):
    store, reads, events, prefixes = _store(tmp_path), [], [], []
    options = RunOptions(Resources(1, 1), block_rows=1_500)
    spec = TileSpec(dr.sample_robustness(store, metric=metric, options=options).spec, (1500, 1500))

    def run(kept):
        scores = dr.sample_robustness(store, metric=metric, options=options)
        plan = scores.plan
        assert plan.kept_bytes > 0
        plan = plan if kept else replace(plan, kept_bytes=0)
        for found in (reads, events, prefixes):
            found.clear()
        start = start_graph(store.address, scores.spec, plan.blocks, salt=kept)
        graph = build(start, replace(spec, budget=plan.panel_bytes), plan)
        with listening(events.append):
            found = lazy_scores(graph, scores.spec, plan).compute(scheduler="synchronous")
        return found, sum(event["bytes_read"] for event in events), Counter(reads)

    def counted(cls, name):
        read = getattr(cls, name)

        def count(self, *given):
            kind, lo, hi = given[:3] if name == "read" and cls is Store else ("prefix", *given)
            # samples and projections read other pieces, results the split once more
            if hi - lo == 1_500 and kind in ("features", "prefix"):
                reads.append((kind, lo, hi))
            values = read(self, *given)
            if kind == "prefix":
                prefixes.append(values.nbytes)
            return values

        monkeypatch.setattr(cls, name, count)

    counted(Store, "read")
    counted(RunPrefixes, "read")
    without, read_often, often = run(kept=False)
    with_cache, read_once, once = run(kept=True)
    for name in ("robustness", "reach", "witness", "lipschitz_by_group"):
        assert np.array_equal(getattr(with_cache, name), getattr(without, name))
    assert set(once.values()) == {1}
    assert sum(kind == "features" for kind, _, _ in once) == 4
    assert max(often.values()) >= 4  # four blocks: every one is part of four tiles
    assert read_once < read_often / 2
    assert read_once == 6_000 * 128 * 4 + sum(prefixes)


def test_tiles_start_from_all_that_their_worker_knows(tmp_path):
    store, proven = _store(tmp_path), {}
    options = RunOptions(Resources(1, 1), block_rows=1_000)
    for kept in (False, True):
        scores = dr.sample_robustness(store, options=options)
        plan = scores.plan if kept else replace(scores.plan, kept_bytes=0)
        start = start_graph(store.address, scores.spec, plan.blocks, salt=kept)
        graph, events = build(start, TileSpec(scores.spec, plan.panel_rows), plan), []
        with listening(events.append):
            lazy_scores(graph, scores.spec, plan).compute(scheduler="synchronous")
        proven[kept] = sum(event["proven"] for event in events)
    assert proven[True] < proven[False]


def test_tiles_of_a_grown_store_say_nothing_of_the_rows_before(tmp_path):
    """A handle opened before an append must not meet witnesses that came later."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 30)).astype(np.float32), np.arange(400) % 3
    url, options = str(tmp_path / "some.zarr"), RunOptions(Resources(1, 1), block_rows=50)
    before = dr.create_store(url, X[:200], y[:200])
    more = Block(X[200:], y[200:], np.zeros(200, np.int16))
    grown = dr.append_rows(dr.open_store(url), [more])
    for store, rows in ((grown, 400), (before, 200), (grown, 400)):
        found = dr.sample_robustness(store, options=options).compute(scheduler="synchronous")
        reach, witness = brute_force(X[:rows], y[:rows])
        assert np.array_equal(np.asarray(found.witness), witness)
        assert np.allclose(np.asarray(found.reach), reach, rtol=1e-12)


def brute_force(X, y):
    wide = X.astype(np.float64)
    distance = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))
    distance[y[:, None] == y[None, :]] = np.inf
    return distance.min(axis=1), distance.argmin(axis=1)


@pytest.mark.cluster
def test_a_worker_keeps_one_cache_for_a_run_and_drops_it_with_it(tmp_path, client):
    store = _store(tmp_path)
    count = len(client.scheduler_info()["workers"])
    with watched(client) as events:
        options = RunOptions(Resources(count, 1), block_rows=1_000)
        scores = dr.sample_robustness(store, metric="hamming", options=options)
        scores.write()
        wait_until(lambda: len(events) >= len(scores.plan.tiles))  # events follow the results
    # every worker reads every block at most once
    assert (
        6_000 * 128 * 4 <= sum(event["bytes_read"] for event in events) <= count * 6_000 * 128 * 4
    )
    wait_until(lambda: set(client.run(_held).values()) == {0})  # Dask tells workers a little later


def _held():
    import gc

    from dskrobust.engine.cache import BlockCache

    gc.collect()
    return sum(cache.held for cache in BlockCache._all)
