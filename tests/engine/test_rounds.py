"""Tiles in rounds and waves: every tile once, the same bits, and little that is kept."""

from pathlib import Path

import dask
import numpy as np
import pytest
from dask.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust import scores as results
from dskrobust.engine import plan as planning
from dskrobust.engine import rounds, tasks
from dskrobust.engine.events import listening
from dskrobust.engine.plan import Resources, make_plan
from dskrobust.engine.rounds import cut_waves, round_of
from dskrobust.engine.workload import Workload
from dskrobust.errors import StoreError
from dskrobust.kernels import NearestState, QuotientState
from dskrobust.runs import RunOptions
from dskrobust.scores import run_memo
from dskrobust.store import Block, TileMemo

GIB = 2**30
ROWS, BLOCK = 1_200, 100


@given(st.integers(1, 40))
def test_a_block_has_one_tile_a_round(count):
    tiles = [(i, j) for j in range(count) for i in range(j + 1)]
    seen = [(round_of(tile, count), block) for tile in tiles for block in set(tile)]
    assert len(set(seen)) == len(seen)
    assert max(number for number, _ in seen) <= count - 1 + count % 2  # as few rounds as can be


@pytest.mark.parametrize("rows", [10**6, 10**7, 10**8])
@pytest.mark.parametrize("columns", [100, 1_000, 10_000])
def test_no_task_is_long_and_no_graph_large(rows, columns):
    work = Workload(
        (rows,), columns, 4, 4, True, 16, max(1, 2**20 // columns), prefixed=True, stored=True,
        resumable=True,
    )  # fmt: skip
    plan = make_plan(work, Resources(64, 1, 8 * GIB))
    waves = cut_waves(plan) if plan.in_rounds else [plan.tiles]
    assert sum(map(len, waves)) == len(plan.tiles)
    assert plan.tile_seconds <= 60
    assert max(map(len, waves)) <= plan.tasks_at_once <= 10**5
    states = 1 if plan.in_rounds else len(plan.blocks) + 1
    assert states * 16 <= max(0.1 * 4 * columns, GIB / rows)  # what the memo has of a row


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, 30)).astype(np.float32), rng.integers(0, 3, ROWS)


@pytest.fixture
def in_rounds(monkeypatch):
    """Let small runs have rounds too: waves of three rounds."""
    monkeypatch.setattr(planning, "MEMO_SHARE", 0.0)
    monkeypatch.setattr(planning, "MEMO_BYTES", 0)
    monkeypatch.setattr(rounds, "WAVE_TILES", 20)


def scored(store, **more):
    return dr.sample_robustness(
        store, options=RunOptions(Resources(1, 2), block_rows=BLOCK), **more
    )


def same(found, alone):
    for name in ("robustness", "reach", "witness", "nearest_by_group"):
        assert np.array_equal(np.asarray(getattr(found, name)), np.asarray(getattr(alone, name)))


@pytest.mark.parametrize("labels", ["categorical", "real"])
def test_rounds_change_no_bit_and_keep_one_state_a_row(
    tmp_path, data, in_rounds, labels, monkeypatch
):
    X, y, split = *data, np.where(np.arange(ROWS) % 3, "a", "b")
    kept, save = set(), TileMemo.save
    monkeypatch.setattr(TileMemo, "save", lambda *given: (kept.add(given[1]), save(*given)))
    store = dr.create_store(str(tmp_path / "some.zarr"), X, y, split)
    scores = scored(store, labels=labels)
    waves = cut_waves(scores.plan)
    assert len(waves) > 2
    done = scores.write()
    assert len(kept) == len(scores.plan.blocks) + len(waves)
    assert run_memo(store, scores.spec).count() == 0
    same(done, dr.sample_robustness(X, y, split, labels=labels).compute(scheduler="threads"))


class StatesHeld(Callback):
    """The most bytes of states that a scheduler without workers holds between two tasks."""

    def __init__(self):
        self.most = self.tasks = 0

    def _posttask(self, key, result, dsk, state, worker_id):
        self.tasks, values = self.tasks + 1, state["cache"].values()
        held = {
            id(found): found for v in values for found in getattr(v, "__dict__", {"": v}).values()
        }
        sizes = (
            found.nbytes
            for found in held.values()
            if isinstance(found, (QuotientState, NearestState))
        )
        self.most = max(self.most, sum(sizes))


@pytest.mark.parametrize("k", [0, 3])
def test_no_worker_holds_states_of_rows_it_does_not_work_on(tmp_path, data, in_rounds, k):
    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    options = RunOptions(Resources(1, 1), block_rows=BLOCK)
    with dask.config.set(scheduler="synchronous"), StatesHeld() as held:
        if k:
            dr.nearest_neighbours(store, k, options=options).write()
        else:
            dr.sample_robustness(store, options=options).write()
    assert held.tasks > 78
    assert held.most <= 2 * BLOCK * 16 * max(k, 1)  # of 12 blocks


def test_a_block_is_cut_where_results_are(tmp_path, data, in_rounds, monkeypatch):
    """Else all tables of a block wait until the next one is there too."""
    monkeypatch.setattr(results, "RESULT_ROWS", 30)
    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    scores = scored(store)
    for array in (scores.robustness, scores.nearest_by_group, scores.split):
        ends = np.cumsum(array.chunks[0])
        assert {*ends} == {*range(30, ROWS + 1, 30), *range(BLOCK, ROWS + 1, BLOCK)}
    same(scores.write(), dr.sample_robustness(*data).compute(scheduler="threads"))


def test_a_store_that_may_only_be_read_has_rounds_too(tmp_path, data, in_rounds, monkeypatch):
    def refuse(*given):
        raise PermissionError

    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    monkeypatch.setattr(rounds, "WAVE_TILES", 10**6)  # several graphs have to write
    monkeypatch.setattr(TileMemo, "save", refuse)
    scores, alone = scored(store), dr.sample_robustness(*data).compute(scheduler="threads")
    assert scores.plan.in_rounds
    assert scores.waves is None
    for name in ("reach", "witness"):
        found = getattr(scores, name).compute(scheduler="threads")
        assert np.array_equal(found, np.asarray(getattr(alone, name)))


def test_a_stopped_run_goes_on_where_it_stopped(tmp_path, data, in_rounds, monkeypatch):
    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    done, reduce = [], tasks.reduce_tile

    def stop(*given):
        if len(done) == 60:
            raise KeyboardInterrupt
        done.append(given)
        return reduce(*given)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "reduce_tile", stop)
        with pytest.raises(KeyboardInterrupt):
            scored(store).compute(scheduler="synchronous")
    events, scores = [], scored(store)
    with listening(events.append):
        scores.write()
    fresh = [event for event in events if not event["resumed"]]
    assert len(scores.plan.tiles) == 78
    assert 78 - 60 <= len(fresh) <= 78 - 60 + 6  # but for a round, of which a part was done
    same(scored(store), dr.sample_robustness(*data).compute(scheduler="threads"))


def test_a_state_that_is_damaged_is_made_again(tmp_path, data, in_rounds):
    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    scores = scored(store)
    scores.waves.run(scheduler="threads")
    (blob,) = Path(store.url, "tiles").glob("*/*-0-100-????????????.blob")
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(StoreError, match="several graphs"):
        scores.robustness.compute(scheduler="threads")
    same(scores.write(), dr.sample_robustness(*data).compute(scheduler="threads"))


def test_appended_rows_and_neighbours_have_rounds_too(tmp_path, data, in_rounds):
    X, y = data
    store = dr.create_store(str(tmp_path / "some.zarr"), X[:800], y[:800])
    scored(store).write()
    store = dr.append_rows(store, [Block(X[800:], y[800:], np.zeros(400, np.int16))])
    grown = scored(store)
    assert len(grown.plan.tiles) == 12 * 13 // 2 - 8 * 9 // 2
    same(grown.write(), dr.sample_robustness(X, y).compute(scheduler="threads"))
    lists = dr.nearest_neighbours(store, 3, options=RunOptions(Resources(1, 2), block_rows=BLOCK))
    assert lists.search.waves is not None
    alone = dr.nearest_neighbours(X, 3).compute(scheduler="threads")
    assert np.array_equal(np.asarray(lists.write().index), alone.index)


def test_building_computes_nothing(tmp_path, data, in_rounds, raise_if_dask_computes):
    store = dr.create_store(str(tmp_path / "some.zarr"), *data)
    with raise_if_dask_computes():
        assert len(scored(store).robustness.dask) < 60  # what reads states; tiles come in waves
