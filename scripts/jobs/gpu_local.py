"""Run an experiment with networks on the GPUs of this machine: dask-cuda gives every GPU a worker.

    python scripts/jobs/gpu_local.py EXPERIMENT.toml STORE

A network of one training subset is one task with `resources={"GPU": 1}`, so that a GPU trains one
at a time; checkpoints in the store let the same command go on after a crash. Scores need no GPU.
`pip install dask-cuda 'dskrobust[cnn]'` (dask-cuda is for Linux with NVIDIA's driver). On several
machines: `dask scheduler` on one, `dask cuda worker ADDRESS --resources GPU=1` on each, and
`dskrobust run EXPERIMENT.toml STORE --scheduler ADDRESS`.
"""

import click
import dask
from dask_cuda import LocalCUDACluster
from distributed import Client

import dskrobust as dr
from dskrobust.cluster.local import CONFIG


@click.command()
@click.argument("experiment")
@click.argument("store")
def main(experiment, store):
    with (
        dask.config.set(CONFIG),  # for long runs; workers take it over
        LocalCUDACluster(resources={"GPU": 1}, host="127.0.0.1", threads_per_worker=1) as cluster,
        Client(cluster) as client,
    ):
        print("dashboard", client.dashboard_link)
        result = dr.evaluate(store, dr.read_experiment(experiment))
        for matrix in result.compute(client).matrices():
            print(matrix)


if __name__ == "__main__":
    main()
