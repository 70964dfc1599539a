"""How the paper's networks are run: on a GPU, or on a slice of the images on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster
from tables import NOTEBOOKS

import dskrobust as dr
from dskrobust.cluster import ClusterOptions, connect
from dskrobust.evaluation import Experiment, read_experiment

EVERY = {  # which images of a group a slice has
    "cifar10": {"train": 100, "test": 10},
    "mnist": {"train": 20, "test": 10},
}


def experiment_of(name: str, small: bool) -> Experiment:
    """Return an experiment of notebooks/experiments, such as "cnn-table-2", or its small one."""
    return read_experiment(NOTEBOOKS / "experiments" / f"{name}{'-small' * small}.toml")


def size_words(store: dr.Store, every: Mapping[str, int] | None) -> str:
    """Return how much of the images is there: "every 100th train, every 10th test image"."""
    if every is None:
        return f"all {store.rows:,} images"
    return " and ".join(f"every {k}th {group} image" for group, k in every.items())


def slice_of(store: dr.Store, path: Path, every: Mapping[str, int]) -> dr.Store:
    """Return the small store with its own results; what is there already is not made again."""
    split = store.split
    rows = np.sort(np.concatenate([np.flatnonzero(split == g)[::k] for g, k in every.items()]))
    if path.exists():
        small = dr.open_store(str(path))
        if small.rows != len(rows):
            raise SystemExit(f"{path} is another slice, of {small.rows:,} images; remove it")
    else:
        small = dr.create_store(
            str(path), store.features[rows], store.labels[rows], split[rows], spec=store.spec
        )
    dr.sample_robustness(small).write()
    return small


@contextmanager
def cluster(scheduler: str | None, small: bool) -> Iterator[Client]:
    """Yield a client: of a scheduler, of this machine's GPUs, or of its CPU."""
    if scheduler or small:
        with connect(ClusterOptions(scheduler=scheduler)) as client:
            yield client
        return
    with ExitStack() as stack:
        try:
            from dask_cuda import LocalCUDACluster
        except ImportError:  # the first GPU alone
            made = LocalCluster(n_workers=1, resources={"GPU": 1}, host="127.0.0.1")
        else:
            made = LocalCUDACluster(resources={"GPU": 1}, host="127.0.0.1")
        client = stack.enter_context(Client(stack.enter_context(made), set_as_default=False))
        print(f"dashboard {client.dashboard_link}", flush=True)
        yield client
