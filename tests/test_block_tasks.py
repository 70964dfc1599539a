"""Every block of an array is one task, of all that no other block needs."""

import dask.array as da
import numpy as np
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from dskrobust.block_tasks import BlockTask, in_one_task


def columns(rows, chunks):
    """What has tasks of blocks, of several blocks, of none, and numbers that are here."""
    values = np.random.default_rng(rows).random(rows)
    first = da.from_array(values, chunks=chunks[0]).rechunk(chunks[1])
    shared = da.from_array(values * 2, chunks=rows).rechunk(chunks[1])
    return first * 2 + shared + first.sum() + da.arange(rows, chunks=chunks[1])


@settings(max_examples=15)
@given(rows=st.integers(1, 40), chunks=st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_the_same_values_in_one_task_a_block(rows, chunks):
    made = columns(rows, chunks)
    one = in_one_task(made)
    assert one.chunks == made.chunks
    assert one.dtype == made.dtype
    np.testing.assert_array_equal(one.compute(), made.compute())
    layer = one.dask.layers[one.name]
    assert len(layer) == one.npartitions
    assert all(isinstance(task[0], BlockTask) for task in layer.values())
    for task in layer.values():  # nothing that another block needs is in it
        assert not {key for key in task[0].tasks if key in one.dask.layers[f"{one.name}-others"]}


def test_columns_read_abreast_are_one_task_each():
    parts = [da.arange(100, chunks=10) * k for k in range(5)]
    made = da.map_blocks(lambda *blocks: sum(blocks), *parts, dtype=np.int64)
    one = in_one_task(made)
    assert len(one.dask.layers[one.name]) == 10
    assert not one.dask.layers[f"{one.name}-others"]
    np.testing.assert_array_equal(one.compute(), 10 * np.arange(100))


@pytest.mark.cluster
def test_what_workers_hold_is_taken_as_it_is():
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None):
        held = (da.arange(100, chunks=50) + 1).persist()
        whole = held.persist()
        made = held.rechunk(25) * 2 + whole.rechunk(25)
        assert in_one_task(made).sum().compute() == 3 * 5050
        assert in_one_task(held).sum().compute() == 5050  # nothing is left to do
