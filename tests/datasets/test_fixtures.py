"""The shared fixtures do what other tests rely on."""

import dask.array as da
import pytest
from distributed import Client


def test_raise_if_dask_computes(raise_if_dask_computes):
    x = da.ones(4, chunks=2)
    with raise_if_dask_computes():
        total = x.sum()
        with pytest.raises(AssertionError, match="a graph was computed"):
            total.compute()
        with pytest.raises(AssertionError, match="a graph was computed"):
            total.persist()
    assert total.compute() == 4


def test_raise_if_dask_computes_with_a_client(client, raise_if_dask_computes):
    total = da.ones(4, chunks=2).sum()
    with raise_if_dask_computes(), pytest.raises(AssertionError, match="a graph was computed"):
        total.compute()
    assert total.compute() == 4


def test_client_is_local_and_ends_with_its_test(client):
    assert len(client.scheduler_info()["workers"]) == 2
    assert Client.current() is client
    assert client.scheduler.address.startswith("tcp://127.0.0.1:")
    assert client.dashboard_link.startswith("http://127.0.0.1:")
