"""Commands that compute: plan, compute, demo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    NewStore,
    asked_spec,
    cluster_options,
    done_segments,
    json_option,
    local_options,
    metric_options,
    opened_store,
    store_argument,
    wait_option,
    where_options,
)

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..engine.plan import Plan
    from ..engine.spec import PairSpec
    from ..folds import Folds
    from ..neighbours import Neighbours
    from ..scores import Scores
    from ..store import Store

FEWER = Hint("use larger blocks", "give the workers more memory, which makes fewer tasks")
MOST_HERE = 1_000_000  # rows of which this process makes tables itself


@click.command()
@store_argument
@metric_options
@local_options
@json_option
def plan(
    store: str,
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    as_json: bool,
    **local: Any,
) -> None:
    """Show what `compute` would do, and how much memory it needs; nothing runs.

    A plan that does not fit is refused with the numbers, and a non-zero exit code.

    \b
    Example:
      dskrobust plan mnist.zarr --workers 2 --memory-limit 512MiB
    """
    from ..cluster.local import local_resources
    from ..cluster.workers import found_resources
    from ..runs import RunOptions, plan_depths, plan_store
    from ..scores import run_memo

    opened = opened_store(store)
    spec = asked_spec(opened, metric, labels, label_bound)
    options = cluster_options(**local)
    resources = local_resources(options)
    done = done_segments(opened, spec)
    # once all is known the plan is that of all of it; `compute` has nothing to do
    known = 0 if done == len(opened.segments) else done
    made = plan_store(opened, spec, RunOptions(resources), done_segments=known)
    if made.small and options.is_open:  # then `compute` starts no cluster
        made = plan_store(opened, spec, RunOptions(found_resources()), done_segments=known)
    facts = plan_facts(made, spec)
    facts["computed"] = done == len(opened.segments)
    facts["finished_tiles"] = 0 if made.in_rounds else run_memo(opened, spec).count()
    depths = plan_depths(opened, spec, made)
    facts["prefixes"] = None if depths is None else [depths.short, depths.long]
    facts["columns"] = opened.columns
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        _print_plan(opened, made, facts)


def plan_facts(made: Plan, spec: PairSpec) -> dict[str, Any]:
    """Return a plan as plain values."""
    return {
        "metric": str(spec.metric),
        "labels": spec.labels.kind,
        "blocks": len(made.blocks),
        "block_rows": max(hi - lo for lo, hi in made.blocks),
        "panel_rows": list(made.panel_rows),
        "tiles": len(made.tiles),
        "tasks": made.tasks,
        "tasks_at_once": made.tasks_at_once,
        "pairs": made.pairs,
        "bytes_read": made.bytes_read,
        "operations": made.operations,
        "seconds": made.seconds,
        "tile_seconds": made.tile_seconds,
        "peak_bytes": made.peak_bytes,
        "workers": made.resources.workers,
        "threads": made.resources.threads,
        "memory_limit": made.resources.memory_limit,
    }


def _print_plan(store: Store, made: Plan, facts: dict[str, Any]) -> None:
    from ..show import terminal

    terminal.say(f"{store.spec.name}: {facts['metric']}, {facts['labels']} labels", style="bold")
    shown = terminal.table("", "", "", text=(0, 2), quiet=(0, 2))
    shown.show_header = False
    for name, value, remark in made.described():
        if name == "tiles" and facts["finished_tiles"]:
            remark += f", {facts['finished_tiles']:,} of them finished earlier"
        if name == "read":
            terminal.add_row(shown, "prefixes", *_prefix_remark(facts))
        terminal.add_row(shown, name, value, remark)
    terminal.show(shown)
    if facts["computed"]:
        terminal.say("The store has these results already; `compute` has nothing to do.")


def _prefix_remark(facts: dict[str, Any]) -> tuple[str, str]:
    columns = f"{facts['columns']:,} columns"
    if facts["prefixes"] is None:
        return "none", f"pairs are bounded by all {columns}"
    short, long = facts["prefixes"]
    return f"{short}, {long}", f"of {columns} bound a pair first; whole rows only prove"


# -- compute ---------------------------------------------------------------------------------


@click.command()
@store_argument
@metric_options
@click.option(
    "--folds",
    type=click.IntRange(2, 1_000),
    metavar="N",
    help="Score against N folds too: of the split, or drawn (by class) without rewriting the data.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of folds that are drawn.",
)
@wait_option
@where_options
def compute(
    store: str,
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    folds: int | None,
    seed: int,
    wait: bool,
    **where: Any,
) -> None:
    """Score every sample, on a local cluster or a running scheduler; results go into the store.

    Finished tiles are kept in the store: a run that was interrupted goes on where it stopped, and
    after `append` only what is new is computed. Up to 5,000 rows this process computes, unless
    workers, threads, a memory limit or a scheduler are named.

    \b
    Examples:
      dskrobust compute mnist.zarr
      dskrobust compute mnist.zarr --workers 2 --memory-limit 1GiB
      dskrobust compute mnist.zarr --folds 5
      dskrobust compute news.zarr -m cityblock --scheduler tcp://10.0.0.1:8786
    """
    from ..label_sets import warn_missing_classes
    from ..scores import read_scores
    from ..show import terminal
    from ..store import covering
    from .folds import against_folds, next_command, say_folds

    options = cluster_options(**where)
    opened = opened_store(store)
    fit_on_workers(opened, metric, options)
    spec = asked_spec(opened, metric, labels, label_bound)
    made, spec = against_folds(opened, folds, seed, spec)
    if known := covering(opened, spec.parameters()):
        result = known[-1]
        check_scheduler(options)
        terminal.say(
            f"{store} has these results already, computed "
            f"{terminal.moment(result.facts.get('date'))} ({result.name})."
        )
        if made is not None:
            say_folds(made, read_scores(opened, result, spec))
        terminal.fact("next", next_command(store, made))
        return
    projected: list[tuple[int, str]] = []
    try:
        references = made.references if made else None
        before = partial(_project, projected, opened, made)
        scores = run(opened, spec, options, wait=wait, references=references, before=before)
    except KeyboardInterrupt:
        terminal.say(
            "Stopped. Finished tiles are kept in the store: run the same command again to go on.",
            style="yellow",
            stderr=True,
        )
        raise click.exceptions.Exit(130) from None
    warn_missing_classes(opened)
    summarise_run(scores, store, made)
    for peak, of in projected:
        say_memory(peak, of)


def _project(
    projected: list[tuple[int, str]], store: Store, folds: Folds | None, plan: Plan
) -> None:
    """Tell how many bytes this process holds at most in a run and its summary, and as what."""
    from ..clients import shares_process
    from ..compute import client_memory
    from ..memory import projected_peak, tasks_at_once
    from ..show.overview import overview_memory
    from .folds import folds_summary_memory

    tasks = tasks_at_once()
    sets = len(store.groups) + (len(folds.references) if folds else 0)
    shown = overview_memory(store.rows, sets, tasks)
    shown = max(shown, folds_summary_memory(folds, tasks) if folds else 0)
    needed = client_memory(plan) + shown
    peak = projected_peak("a run's tasks and its summary", needed, FEWER)
    projected[:] = [(peak, "memory" if shares_process() else "client")]


def check_scheduler(options: ClusterOptions) -> None:
    """Refuse a scheduler that cannot be used also where nothing is left to compute on it."""
    from ..cluster import connect

    if options.is_remote:
        with connect(options):
            pass


@contextmanager
def workers_for(store: Store, options: ClusterOptions) -> Iterator[None]:
    """Have what is made of many rows run on a cluster's workers, of few rows in this process."""
    from ..cluster.checks import check_source
    from .run_view import connected

    if not options.is_remote and store.rows <= MOST_HERE:
        yield
        return
    with connected(options) as client:
        check_source(client, store.address)
        yield


def fit_on_workers(store: Store, metric: str | None, options: ClusterOptions) -> None:
    """Fit a metric that is taken from the data where its rows are looked at; it is kept."""
    from ..runs import fitted_mahalanobis

    if metric == "mahalanobis":
        with workers_for(store, options):
            fitted_mahalanobis(store.address)


@contextmanager
def shown_work(title: str) -> Iterator[None]:
    """Show that something runs, and how much of each of its Dask graphs is done in this process."""
    from dask.callbacks import Callback

    from ..show import terminal

    with terminal.progress(title, unit="") as bar:

        def begin(_: Any, state: Mapping[str, Any]) -> None:
            bar.begin(title, len(state["waiting"]) + len(state["ready"]))

        def count(*_: Any) -> None:
            bar.add(1)

        with Callback(start_state=begin, posttask=count):
            yield


def run(
    store: Store,
    spec: PairSpec,
    options: ClusterOptions,
    *,
    quiet: bool = False,
    wait: bool = True,
    references: Mapping[str, Any] | None = None,
    before: Callable[[Plan], None] | None = None,
) -> Scores:
    """Compute scores on a cluster and show how far it is; quiet: nothing on stdout.

    wait: whether to wait where another process computes the same. references: those of `spec`.
    before: called with the plan before anything runs.
    """
    from ..compute import run_scores

    run_it = partial(run_scores, store, spec, options, wait=wait, references=references)
    title = spec.metric.name.capitalize()
    done: Scores = show_run(run_it, title, options, quiet=quiet, before=before)
    return done


def run_lists(
    store: Store,
    prepare: Callable[[Any], Neighbours],
    options: ClusterOptions,
    *,
    quiet: bool = False,
    wait: bool = True,
) -> Neighbours:
    """Search lists of neighbours on a cluster and write them, unless the store holds them.

    prepare: from what there is to compute with to the lists. quiet, wait: as for `run`.
    """
    from ..compute import run_and_write
    from ..store import made_once

    lists = prepare(None)
    if lists.search is None:
        check_scheduler(options)
        return lists
    with made_once(store, lists.parameters, wait=wait):
        run_it = partial(run_and_write, store, prepare, options)
        done: Neighbours = show_run(run_it, "Neighbours", options, quiet=quiet)
    return done


def show_run(
    run_it: Callable[..., Any],
    title: str,
    options: ClusterOptions,
    *,
    quiet: bool = False,
    before: Callable[[Plan], None] | None = None,
) -> Any:
    """Run something on a cluster and show how far it is; quiet: nothing on stdout.

    run_it: takes a `compute.Watch`. before: called with the plan before anything runs.
    """
    from ..compute import Watch
    from .run_view import RunView

    with RunView(title, options, quiet=quiet, before=before) as view:
        done = run_it(Watch(view.start, view.tell, view.begin))
    if not quiet:
        view.say_work()
    return done


def summarise_run(scores: Scores, address: str, folds: Folds | None = None) -> None:
    """Say what came out of a run; of folds, what every one of them is like too."""
    from ..show import terminal
    from ..show.overview import Overview
    from .folds import next_command, say_folds
    from .show import group_table

    overview = Overview.of(scores)
    terminal.show(group_table(overview))
    line = overview.contradiction_line()
    if line:
        terminal.say(line, style="yellow")
    if folds is not None:
        say_folds(folds, scores)
    assert scores.result is not None
    facts = scores.result.facts
    terminal.fact("took", terminal.clock(float(facts["seconds"])))
    if facts.get("peak_measured"):
        measured, projected = (terminal.size(facts[f"peak_{k}"]) for k in ("measured", "projected"))
        terminal.fact("memory", f"{measured} at most in a worker, {projected} projected")
    terminal.fact("results", f"{address}/results/{scores.result.name}")
    terminal.fact("next", next_command(address, folds))


@click.command()
@click.option(
    "--out",
    "-o",
    type=NewStore(),
    metavar="STORE",
    help="Keep the store here; it is temporary else.",
)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, metavar="N",
              help="Worker processes.")  # fmt: skip
def demo(out: str | None, workers: int) -> None:
    """Tell the story on scikit-learn's handwritten digits, in less than half a minute.

    \b
    Examples:
      dskrobust demo
      dskrobust demo --out digits.zarr
    """
    from . import story

    story.tell(out, workers)
