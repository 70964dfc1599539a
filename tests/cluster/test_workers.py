"""Who the workers are."""

from concurrent.futures import ThreadPoolExecutor

from dskrobust.cluster.workers import workers_of


def test_workers_are_told_while_the_client_counts_them_itself(client):
    """A client's timer replaces what it keeps of its scheduler by something without workers."""

    def count_only(_):
        client.sync(client._update_scheduler_info)

    with ThreadPoolExecutor(1) as timer:
        counting = timer.map(count_only, range(300))
        assert {len(workers_of(client)) for _ in range(300)} == {2}
        list(counting)
