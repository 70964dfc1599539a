"""The commands `align` and `match`: is the training set as robust as the test set, and which is?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    File,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)
from .renamed import WithOldNames

if TYPE_CHECKING:
    import pandas as pd

    from ..cluster import ClusterOptions
    from ..matching import Match
    from ..scores import Scores
    from ..store import Store

SMALLER = Hint("compare smaller sets", "compare smaller sets, such as train:L40000")
SETS = ".csv", ".csv.gz", ".parquet", ".npz"


@click.command(cls=WithOldNames, old={"--figure": "--plot"})
@store_argument
@click.argument("train")
@click.argument("test")
@metric_option
@click.option("--plot", "figure", type=File(dir_okay=False), metavar="FILE",
              help="Draw both distributions and the pairs of R: .svg, .png or .pdf.")  # fmt: skip
@where_options
@json_option
def align(
    store: str,
    train: str,
    test: str,
    metric: str | None,
    figure: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Say how far the robustness of two sets is aligned (the paper's 3.5).

    TRAIN and TEST are groups or selections, such as train:L40000. Every sample of both is scored in
    either; scores against selections are computed once and kept in the store.

    \b
    Examples:
      dskrobust align mnist.zarr train test
      dskrobust align mnist.zarr train:L30000 test --plot aligned.svg
    """
    from ..alignments import alignment, alignment_memory
    from ..label_sets import warn_missing_classes
    from ..memory import projected_peak, tasks_at_once
    from ..outputs import FIGURES, check_output
    from .compute import MOST_HERE, workers_for

    path = check_output(figure, FIGURES) if figure else None
    options = cluster_options(**where)
    opened = opened_store(store)
    scores = _scored(opened, (train, test), metric, options, quiet=as_json)
    here = opened.rows <= MOST_HERE  # else workers sort
    needed = here * alignment_memory(opened.rows, tasks_at_once())
    projected = projected_peak("comparing two sets", needed, SMALLER)
    with workers_for(opened, options):
        warn_missing_classes(opened, train, test)
        made = alignment(scores, train, test)
        found = made.summary()
        if path is not None:
            from ..report import style
            from ..report.figures import aligned_robustness

            style.write(aligned_robustness(made), path)
    if as_json:
        click.echo(_json(asdict(found) | {"verdict": found.verdict}))
        return
    from ..show import terminal

    terminal.say(f"{opened.spec.name}: {train} and {test}", style=terminal.STRONG)
    for name, said in found.rows:
        terminal.fact(name, said, width=24)
    for line in found.words:
        terminal.say(line)
    if found.kolmogorov > found.chance:
        asked = f"--within {quote(train)} --to {quote(test)} --size {found.size_t}"
        terminal.fact("next", f"dskrobust match {quote(store)} {asked}")
    if path is not None:
        terminal.fact("saved", str(path))
    say_memory(projected)


@click.command()
@store_argument
@click.option("--within", "-w", required=True, metavar="SET", help="What to choose from.")
@click.option("--to", required=True, metavar="SET", help="What it is to be like.")
@click.option("--size", "sizes", multiple=True, required=True, type=click.IntRange(2),
              metavar="N", help="How many samples; several times for a curve.")  # fmt: skip
@metric_option
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="Write row numbers and R: .csv, .csv.gz, .parquet or .npz.")  # fmt: skip
@where_options
@json_option
def match(
    store: str,
    within: str,
    to: str,
    sizes: tuple[int, ...],
    metric: str | None,
    out: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Choose samples of one set that are as robust, among themselves, as another set's.

    The choice is scored among itself and corrected until it stays as it is. With several sizes a
    table shows what is gained in likeness by taking fewer. Up to 5,000 rows this process computes,
    unless workers, threads, a memory limit or a scheduler are named.

    \b
    Examples:
      dskrobust match mnist.zarr --within train --to test --size 10000 --out rows.csv
      dskrobust match mnist.zarr -w train --to test:M5000 --size 5000 --size 10000
    """
    from ..cluster.checks import check_source
    from ..compute import stays_here
    from ..matching import match as matched
    from ..matching import matching_memory
    from ..memory import CLUSTER, KERNELS, projected_peak
    from ..outputs import check_output
    from .run_view import connected

    if out and len(sizes) > 1:
        raise click.UsageError("--out takes the rows of one --size")
    path = check_output(out, SETS) if out else None
    options = cluster_options(**where)
    opened = opened_store(store)
    scores = _scored(opened, (within, to), metric, options, quiet=as_json)
    here = stays_here(opened, options)
    needed = CLUSTER + matching_memory(sizes) + (here and KERNELS)
    projected = projected_peak("matched sets", needed, SMALLER)
    with connected(options, here=here) as client:
        check_source(client, opened.address)
        made = [matched(scores, within, to, size) for size in sizes]
    if path is not None:
        _write(made[0], path)
    if as_json:
        click.echo(_json([_plain(one) for one in made]))
        return
    from ..show import terminal

    _print(opened, made)
    if path is not None:
        terminal.fact("saved", str(path))
    elif len(made) == 1:
        asked = f"--within {quote(within)} --to {quote(to)} --size {sizes[0]}"
        terminal.fact("next", f"dskrobust match {quote(store)} {asked} --out rows.csv")
    say_memory(projected)


def _scored(
    store: Store, texts: Sequence[str], metric: str | None, options: ClusterOptions, *, quiet: bool
) -> Scores:
    """Return stored scores against groups and selections; what the store lacks is computed."""
    from ..compute import run_and_write
    from ..robustness import sample_robustness
    from ..runs import RunOptions
    from ..scores import read_scores
    from ..subsets import select_subset
    from .compute import check_scheduler, show_run
    from .options import asked_result, result_spec

    result = asked_result(store, metric, None, None)
    stored, used = read_scores(store, result), result_spec(store, result)
    asked = [text for text in dict.fromkeys(texts) if text not in store.groups]
    references = {text: select_subset(stored, text).compute() for text in asked}

    def prepare(resources: Any) -> Scores:
        return sample_robustness(
            store, metric=used.metric, labels=used.labels, references=references or None,
            options=RunOptions(resources),
        )  # fmt: skip

    scores = prepare(None)
    if scores.result is not None:
        check_scheduler(options)
        return scores
    run_it = partial(run_and_write, store, prepare, options)
    done: Scores = show_run(run_it, "Robustness in both sets", options, quiet=quiet)
    return done


def _json(facts: Any) -> str:
    """Return facts as JSON; numbers that are not finite, which it does not have, are null."""
    return json.dumps(json.loads(json.dumps(facts), parse_constant=lambda _: None), indent=2)


def _write(made: Match, path: Any) -> None:
    from ..export import with_ids, write_frames, write_subsets

    assert made.scores is not None
    if str(path).lower().endswith(".npz"):
        write_subsets(path, {made.name: made.indices}, made.scores.ids)
    else:
        frame: pd.DataFrame = with_ids(made.to_frame(), made.scores.ids)
        write_frames([frame], path)


def _plain(made: Match) -> dict[str, Any]:
    names = ("name", "size", "within", "to", "best", "stable", "chance")
    return {name: getattr(made, name) for name in names} | {
        "rounds": [one._asdict() for one in made.rounds]
    }


def _print(store: Store, made: Sequence[Match]) -> None:
    from ..show import terminal

    first = made[0]
    title = f"{store.spec.name}: {first.within}, as robust as {first.to}"
    terminal.say(title, style=terminal.STRONG)
    shown = terminal.table(
        "samples", "Kolmogorov", "Wasserstein", "even steps", "chance", "choices", "", text=(6,)
    )
    for one in made:
        found = one.distances
        terminal.add_row(
            shown, f"{one.size:,}", f"{found.kolmogorov:.4f}", f"{found.wasserstein:.4f}",
            f"{one.rounds[0].kolmogorov:.4f}", f"{one.chance:.4f}", len(one.rounds),
            "stable" if one.stable else "not stable",
        )  # fmt: skip
    terminal.show(shown)
    terminal.say(
        "Distances of R among the chosen from R in the other set. Even steps: as many samples, "
        "whatever their R. Chance: 95 % of random draws of these sizes lie nearer.",
        style=terminal.QUIET,
    )
    several = [f"{one.size:,} samples. {one.words[-1]}" for one in made if not one.stable]
    for line in first.words if len(made) == 1 else several:
        terminal.say(line)
