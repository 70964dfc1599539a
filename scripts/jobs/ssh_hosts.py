"""Score a store on machines that are reached by SSH, without any queue.

    python scripts/jobs/ssh_hosts.py /shared/mnist.zarr node1 node2 node3 --threads 4 --memory 4GiB

The first host also gets the scheduler. Keys must be in the agent or in ~/.ssh, hosts in
known_hosts, and Python with dskrobust on every host at the same path (`--python`).
`pip install 'dskrobust[cluster]'`.
"""

import sys

import click
import dask
from distributed import Client, SSHCluster

import dskrobust as dr
from dskrobust.cluster.local import CONFIG


@click.command()
@click.argument("store")
@click.argument("hosts", nargs=-1, required=True)
@click.option("--workers", default=1, show_default=True, help="Of every host.")
@click.option("--threads", default=4, show_default=True, help="Of a worker.")
@click.option("--memory", default="4GiB", show_default=True, help="Of a worker.")
@click.option("--port", type=int, help="Of the hosts' SSH servers.")
@click.option("--python", default=sys.executable, show_default=True, help="On the hosts.")
def main(store, hosts, workers, threads, memory, port, python):
    with (
        dask.config.set(CONFIG),  # for long runs; workers take it over
        SSHCluster(
            [hosts[0], *hosts],
            connect_options={"port": port} if port else {},
            worker_options={"n_workers": workers, "nthreads": threads, "memory_limit": memory},
            scheduler_options={"host": hosts[0], "port": 0, "dashboard_address": ":0"},
            remote_python=python,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(len(hosts) * workers)
        print("dashboard", client.dashboard_link)
        scores = dr.sample_robustness(store)
        with dr.live(scores):
            print(scores.write())


if __name__ == "__main__":
    main()
