"""The command `hardness`: how hard every sample is to classify, and why."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from ..extras import check_libraries
from .issue_tables import plain
from .memory import say_memory
from .options import (
    File,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    wait_option,
    where_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..cluster import ClusterOptions
    from ..hardness import InstanceHardness
    from ..neighbours import Neighbours
    from ..store import Store

FEWER = Hint("ask for fewer samples", "list fewer with --top")
MOST_CLASSES = 20  # lines of the table of classes


@click.command()
@store_argument
@click.option("--top", "-n", type=click.IntRange(1, 100_000), default=10, show_default=True,
              help="How many of the hardest samples to list.")  # fmt: skip
@click.option("--k", "-k", type=click.IntRange(1), default=10, show_default=True,
              help="How many nearest neighbours kDN looks at.")  # fmt: skip
@metric_option
@wait_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="Write the table of all samples: .parquet, .csv or .csv.gz.")  # fmt: skip
@json_option
def hardness(
    store: str,
    top: int,
    k: int,
    metric: str | None,
    wait: bool,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Measure how hard every sample is to classify, without training a model.

    kDN (share of the k nearest with another label), N2 (nearest of the same label against the
    nearest enemy), local set, usefulness, harmfulness and Tomek links, as in the literature; all
    exact, each in a sample's own group. What is computed is kept in the store.

    \b
    Examples:
      dskrobust hardness mnist.zarr
      dskrobust hardness mnist.zarr --k 5 --out hardness.parquet
    """
    from ..export import FORMATS
    from ..hard_samples import hardness_memory
    from ..label_fit import label_quality, most_labels
    from ..memory import projected_peak, tasks_at_once
    from ..outputs import check_output
    from .compute import fit_on_workers, workers_for

    path = check_output(out, FORMATS) if out else None
    check_libraries("pandas")
    opened, options = opened_store(store), cluster_options(**where)
    chosen = metric or "euclidean"
    fit_on_workers(opened, chosen, options)
    label_quality(opened, metric=chosen)  # refuses what has no classes before anything runs
    found = _measured(opened, k, chosen, options, quiet=as_json, wait=wait)
    classes_of_groups = most_labels(opened) * len(opened.groups)
    needed = hardness_memory(top, classes_of_groups, tasks_at_once())
    projected = projected_peak("tables of hard samples", needed, FEWER)
    with workers_for(opened, options):
        saved = found.export(path) if path else None
        hardest, classes = found.hardest(top), found.by_class()
    if as_json:
        click.echo(json.dumps(_plain(hardest, classes, k), indent=2))
        return
    _print(found, hardest, classes, store)
    if saved is not None:
        from ..show import terminal

        terminal.fact("saved", str(saved))
    say_memory(projected)


def _measured(
    store: Store, k: int, metric: str, options: ClusterOptions, *, quiet: bool, wait: bool
) -> InstanceHardness:
    """Compute what the store does not hold yet."""
    from ..hardness import instance_hardness
    from ..neighbours import group_neighbours
    from ..runs import PairData, RunOptions
    from .compute import run_lists, workers_for
    from .label_search import search_labels

    found: InstanceHardness = instance_hardness(store, k=k, metric=metric)
    if found.result is not None:
        return found
    search_labels(store, metric, options, quiet=quiet, wait=wait)

    def prepare(resources: Any) -> Neighbours:
        made: Neighbours = group_neighbours(PairData(store), metric, k, RunOptions(resources))
        return made

    run_lists(store, prepare, options, quiet=quiet, wait=wait)
    with workers_for(store, options):
        return instance_hardness(store, k=k, metric=metric).write(wait=wait)


def _plain(hardest: pd.DataFrame, classes: pd.DataFrame, k: int) -> dict[str, Any]:
    """Return both tables as plain values; what is missing or infinite is None."""
    table = hardest if hardest.index.name is None else hardest.reset_index()
    return {"k": k, "classes": classes.to_dict("records"), "hardest": plain(table)}


def _print(
    found: InstanceHardness, hardest: pd.DataFrame, classes: pd.DataFrame, address: str
) -> None:
    from ..hard_samples import CLASS_HEAD, class_rows, hardest_rows
    from ..show import terminal

    total = classes[["rows", "hard", "enemy_nearest", "tomek"]].sum()
    terminal.say(
        f"{total['hard']:,} of {terminal.counted(found.rows, 'sample')} are hard: most of their "
        f"{found.k} nearest have another label",
        style=terminal.STRONG,
    )
    shown = terminal.table(*CLASS_HEAD, text=(0, 1))
    for row in class_rows(classes, MOST_CLASSES):
        terminal.add_row(shown, *row)
    terminal.show(shown)
    if len(classes) > MOST_CLASSES:
        terminal.say(f"{len(classes) - MOST_CLASSES:,} classes with fewer hard samples left out",
                     style=terminal.QUIET)  # fmt: skip
    head, rows = hardest_rows(hardest)
    shown = terminal.table(*head, text=(1, 2), quiet=(5,))
    for cells in rows:
        terminal.add_row(shown, *cells)
    terminal.show(shown)
    terminal.say(
        f"kDN: share of the {found.k} nearest with another label; as a guess of how mixed a place "
        f"is, its standard error is up to {0.5 / found.k**0.5:.2g}. N2: above 0.5 the nearest is "
        "an enemy, a sample of another label. Local set: samples nearer than the nearest enemy. "
        "Useful: in how many local sets it lies. Harmful: of how many samples it is the nearest "
        "enemy. Tomek: an enemy, both being the nearest of each other.",
        style=terminal.QUIET,
    )
    _say_next(total, address)


def _say_next(total: pd.Series[Any], address: str) -> None:
    """Say what to do about what was found."""
    from ..show import terminal

    if total["hard"]:
        terminal.say("Some may have wrong labels.")
        terminal.fact("next", f"dskrobust issues {quote(address)}")
    elif total["tomek"]:
        terminal.say("RobustnessSampler(strategy='tomek') cleans the border of the larger classes.")
    else:
        terminal.say("Nothing to do: most of every sample's neighbours have its label.")
