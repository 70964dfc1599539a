"""The command `issues`: samples whose labels are suspicious, and what else is odd in the data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from ..extras import check_libraries
from .memory import say_memory
from .options import (
    File,
    Number,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)
from .renamed import WithOldNames

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..label_fit import LabelQuality
    from ..store import Store

BLOCK_BYTES = 16 * 2**20  # of records that a task makes
REMOTE = Hint("connect a client with workers", "give workers with --scheduler")
OTHERS = ("contradictions", "duplicates", "shared", "isolated", "witnesses", "overlaps")


@click.command(cls=WithOldNames, old={"--threshold": "--max-score"})
@store_argument
@click.option("--top", "-n", type=click.IntRange(1, 100_000), default=20, show_default=True,
              help="How many samples to list.")  # fmt: skip
@click.option("--max-score", type=Number(0, 1), metavar="SCORE",
              help="Largest score of an issue; by default every class has its own, told by planted "
              "errors.")  # fmt: skip
@click.option("--probabilities", metavar="WHAT",
              help="What a model gives to every class of every sample, out of sample: a file .npy "
              "(n, classes); or a model, which is fitted on folds: knn, forest, the import path of "
              "a scikit-learn classifier, or evaluation, what the newest one in the store found "
              "best.")  # fmt: skip
@click.option("--kind", type=click.Choice(("labels", *OTHERS)), default="labels",
              show_default=True, help="What to list.")  # fmt: skip
@click.option("--values", type=click.IntRange(0, 100), default=3, show_default=True,
              help="Of how many samples to show values beside their witnesses'.")  # fmt: skip
@metric_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="Write the list of all samples: .parquet, .csv or .csv.gz; beyond a million "
              "samples in the order of the rows.")  # fmt: skip
@json_option
def issues(store: str, kind: str, metric: str | None, as_json: bool, **asked: Any) -> None:
    """List samples whose labels are suspicious, the worst first, and other oddities.

    A label is suspicious where the nearest neighbour of another label is much closer than that of
    its own label (the ratio), and where the sample is the witness of many others. The score joins
    both, from 0 (does not fit) to 1; no model is trained. From which score on a label is
    suspicious is told by errors that are planted in about 1 % of the labels. Real labels are
    compared with those of the nearest samples. What is computed is kept in the store. Where rows
    have ids, the list gives them too.

    \b
    Examples:
      dskrobust issues mnist.zarr --top 50
      dskrobust issues mnist.zarr --out issues.csv
      dskrobust issues mnist.zarr --probabilities knn
      dskrobust issues mnist.zarr --kind shared
    """
    from .compute import fit_on_workers

    check_libraries("pandas", "scipy")
    where = {name: asked.pop(name) for name in list(asked) if name not in _OWN}
    opened, options = opened_store(store), cluster_options(**where)
    chosen = metric or "euclidean"
    fit_on_workers(opened, chosen, options)
    if opened.spec.label_kind == "real":
        _real(opened, chosen, asked, options, as_json=as_json)
    elif kind == "labels":
        _labels(opened, chosen, asked, options, as_json=as_json)
    else:
        _others(opened, chosen, (kind, asked["top"]), options, as_json=as_json)


_OWN = ("top", "max_score", "probabilities", "values", "out")


def _labels(
    store: Store, metric: str, asked: dict[str, Any], options: ClusterOptions, *, as_json: bool
) -> None:
    """List suspicious labels of classes."""
    from ..data_issues import find_data_issues
    from ..export import FORMATS, with_ids, write_frames
    from ..label_comparison import compare_samples
    from ..label_fit import label_quality
    from ..label_issues import Findings
    from ..outputs import check_output
    from . import issue_tables
    from .compute import workers_for
    from .label_models import asked_model, evidence_of
    from .label_search import search_labels

    path = check_output(asked["out"], FORMATS) if asked["out"] else None
    judged = label_quality(store, metric=metric)  # refuses what it cannot judge, before it runs
    model = asked_model(asked["probabilities"], store, judged)  # refused before anything runs
    search_labels(store, metric, options, quiet=as_json)
    projected = _projected(store, judged, options)
    with workers_for(store, options):
        quality = label_quality(store, metric=metric).staged()
        evidence = evidence_of(model, store, quality)
        findings = Findings.of(quality, asked["max_score"], evidence).persist()
        if path:
            write_frames(findings.frames(), path)
        found = findings.summary(asked["top"])
        others = None if as_json else find_data_issues(quality, top=1)
        shown = 0 if as_json or store.spec.image_shape else asked["values"]
        values = compare_samples(quality, found.worst[found.worst["is_issue"]].head(shown))
    worst = with_ids(found.worst, quality.scores.ids)
    plain = issue_tables.plain(worst if quality.scores.ids is None else worst.reset_index())
    if as_json:
        click.echo(json.dumps(plain, indent=2))
        return
    issue_tables.say_labels(found, findings, plain)
    issue_tables.say_values(values)
    issue_tables.say_why_weak(store)
    issue_tables.say_others(others)
    _say_saved(path)
    say_memory(projected)


def _projected(store: Store, quality: LabelQuality, options: ClusterOptions) -> int:
    """Return how many bytes this process holds at most, where it lists issues or workers do."""
    from ..label_planting import planting_memory
    from ..memory import CLUSTER, projected_peak, tasks_at_once
    from .compute import MOST_HERE

    needed = CLUSTER
    if not options.is_remote and store.rows <= MOST_HERE:
        needed = planting_memory(quality) + tasks_at_once() * BLOCK_BYTES
    return projected_peak("listing suspicious labels", needed, REMOTE)


def _others(
    store: Store, metric: str, asked: tuple[str, int], options: ClusterOptions, *, as_json: bool
) -> None:
    """List findings of one of the other kinds."""
    from ..data_issues import find_data_issues
    from ..label_fit import label_quality
    from . import issue_tables
    from .compute import workers_for
    from .label_search import search_labels

    kind, top = asked
    label_quality(store, metric=metric)
    search_labels(store, metric, options, quiet=as_json)
    with workers_for(store, options):
        quality = label_quality(store, metric=metric).staged()
        found = find_data_issues(quality, top=top, across=kind == "shared")
    named = quality.scores.ids is not None
    table = found.overlaps if kind == "overlaps" else found.of_kind(kind)
    listed = issue_tables.plain(table.reset_index() if named and kind != "overlaps" else table)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
    else:
        issue_tables.say_kind(kind, found, listed)


def _real(
    store: Store, metric: str, asked: dict[str, Any], options: ClusterOptions, *, as_json: bool
) -> None:
    """List suspicious labels that are numbers."""
    from ..export import FORMATS, with_ids, write_frames
    from ..label_regression import regression_quality
    from ..outputs import check_output
    from . import issue_tables
    from .compute import workers_for

    path = check_output(asked["out"], FORMATS) if asked["out"] else None
    with workers_for(store, options):
        found = regression_quality(store, metric=metric).findings(asked["max_score"])
    table = with_ids(found.table(), store.ids if store.has_ids else None)
    if path:
        write_frames([table], path)
    worst = table.head(asked["top"])
    listed = issue_tables.plain(worst.reset_index() if store.has_ids else worst)
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    issue_tables.say_real(found, listed)
    _say_saved(path)


def _say_saved(path: Any) -> None:
    from ..show import terminal

    if path:
        terminal.fact("saved", str(path))
