"""Who the workers are."""

from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect, workers
from dskrobust.cluster.workers import found_resources, memory_here, workers_of
from dskrobust.errors import ClusterError


def test_workers_are_told_while_the_client_counts_them_itself(client):
    """A client's timer replaces what it keeps of its scheduler by something without workers."""

    def count_only(_):
        client.sync(client._update_scheduler_info)

    with ThreadPoolExecutor(1) as timer:
        counting = timer.map(count_only, range(300))
        assert {len(workers_of(client)) for _ in range(300)} == {2}
        list(counting)


@pytest.mark.parametrize(("said", "limited"), [("268435456", True), ("max", False), (None, False)])
def test_a_container_has_less_memory_than_its_machine(tmp_path, monkeypatch, said, limited):
    limit = tmp_path / "memory.max"
    if said is not None:
        limit.write_text(f"{said}\n")
    monkeypatch.setattr(workers, "CONTAINER_LIMITS", (str(limit),))
    free, held = memory_here()
    assert (free + held <= max(2**28, held)) == limited
    assert (found_resources().memory_limit <= max(2**28, held)) == limited


def test_a_scheduler_that_there_is_not_is_named():
    with dask.config.set(scheduler="nosuch"), pytest.raises(ClusterError, match="'nosuch', which"):
        dr.sample_robustness(np.arange(4.0)[:, None], np.arange(4) % 2).compute()


@pytest.mark.parametrize("value", ["soon", [1]])
def test_a_time_in_the_configuration_that_is_none_is_named(value):
    message = (
        r"for distributed\.comm\.timeouts\.connect, .* DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"
    )
    with (
        dask.config.set({"distributed.comm.timeouts.connect": value}),
        pytest.raises(ClusterError, match=message),
        connect(ClusterOptions(workers=1)),
    ):
        pass


def test_an_asynchronous_client_is_told_of(monkeypatch):
    class Asynchronous:
        asynchronous = True

    monkeypatch.setattr("distributed.default_client", Asynchronous)
    with pytest.raises(ClusterError, match="client is asynchronous"):
        dr.sample_robustness(np.arange(4.0)[:, None], np.arange(4) % 2)
