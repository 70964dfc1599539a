"""The command `neighbours`: the exact graph of every sample's nearest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from ..extras import check_libraries
from .memory import say_memory
from .options import (
    File,
    cluster_options,
    metric_option,
    opened_store,
    store_argument,
    wait_option,
    where_options,
)
from .renamed import WithOldNames

if TYPE_CHECKING:
    from ..neighbours import Neighbours

COLUMNS = 3  # of distances that are told of
FEWER = Hint("ask for fewer neighbours", "ask for fewer with --k, or leave --out out")


@click.command(cls=WithOldNames, old={"--labels": "--rule"})
@store_argument
@click.option("--k", "-k", type=click.IntRange(1), default=15, show_default=True,
              help="How many neighbours of every sample.")  # fmt: skip
@click.option("--rule", "labels", type=click.Choice(["any", "same", "different"]), default="any",
              show_default=True, help="Which pairs count, by their labels.")  # fmt: skip
@metric_option
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.npz",
              help="Write the graph of distances, for scipy.sparse.load_npz.")  # fmt: skip
@wait_option
@where_options
def neighbours(
    store: str,
    k: int,
    labels: str,
    metric: str | None,
    out: str | None,
    wait: bool,
    **where: Any,
) -> None:
    """Find the k nearest samples of every sample, exactly; no sample is its own neighbour.

    The lists are kept in the store. As a sparse matrix they are what scikit-learn, umap-learn and
    cleanlab take for a precomputed neighbour graph.

    \b
    Examples:
      dskrobust neighbours mnist.zarr --k 15 --out graph.npz
      dskrobust neighbours mnist.zarr --k 5 --rule same
    """
    from ..memory import projected_peak
    from ..neighbours import graph_memory, nearest_neighbours
    from ..runs import RunOptions
    from .compute import fit_on_workers, run_lists, workers_for

    path = _checked(out)
    if path is not None:
        check_libraries("scipy")  # for the graph
    opened, options = opened_store(store), cluster_options(**where)
    fit_on_workers(opened, metric, options)
    if path is not None:  # before anything runs
        projected_peak("a graph of neighbours", graph_memory(opened.rows, k), FEWER)

    def prepare(resources: Any) -> Neighbours:
        made: Neighbours = nearest_neighbours(
            opened, k, labels=labels, metric=metric or "euclidean", options=RunOptions(resources)
        )
        return made

    lists = run_lists(opened, prepare, options, wait=wait)
    needed = max(_sorting(opened.rows), graph_memory(opened.rows, k) if path else 0)
    projected = projected_peak("neighbours", needed, FEWER)
    with workers_for(opened, options):
        _print(lists, k)
    if path is not None:
        from scipy.sparse import save_npz

        from ..outputs import whole_file
        from ..show import terminal

        with whole_file(path) as part, part.open("wb") as file:
            save_npz(file, lists.graph())
        terminal.fact("saved", str(path))
    say_memory(projected)


def _checked(out: str | None) -> Path | str | None:
    """Refuse a file that cannot take the graph before anything runs."""
    from ..outputs import check_output

    return None if out is None else check_output(out, (".npz",))


def _sorting(rows: int) -> int:
    """Return how many bytes the order of some columns of distances takes here at most."""
    from ..memory import tasks_at_once
    from ..ranking import sorting_memory
    from .compute import MOST_HERE

    return COLUMNS * sorting_memory(rows, tasks_at_once()) if rows <= MOST_HERE else 0


def _print(lists: Neighbours, k: int) -> None:
    """Say how far the neighbours are; sorted in chunks, and only quantiles come here."""
    import dask.array as da
    from dask.base import compute

    from ..distributions import quantiles
    from ..ranking import in_chunks, sorted_keys
    from ..show import terminal

    names = sorted({0, k // 2, k - 1})
    columns = [in_chunks(da.asarray(lists.distance)[:, name]) for name in names]
    there = compute(*(da.isfinite(column).sum() for column in columns))  # infinite ones come last
    found = compute(*(
        quantiles(sorted_keys(column, None, len(column)), int(count), (0.0, 0.5, 1.0))
        for column, count in zip(columns, there, strict=True) if count
    ))  # fmt: skip
    table = terminal.table("neighbour", "nearest", "median", "farthest")
    for name, row in zip(names, found, strict=False):  # farther ones are the first to be missing
        terminal.add_row(table, f"{name + 1}", *(terminal.number(float(v)) for v in row))
    terminal.show(table)
