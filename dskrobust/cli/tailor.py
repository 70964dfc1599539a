"""The commands `spectrum` and `tailor`: models by windows of the spectrum, and what to train on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .evaluate import (
    asked_models,
    model_option,
    named,
    project_steps,
    steps_here,
    training_options,
)
from .memory import say_memory
from .options import (
    MOST_SEED,
    File,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)
from .outcome import say_failures
from .renamed import WithOldNames

if TYPE_CHECKING:
    import pandas as pd

    from ..cluster import ClusterOptions
    from ..evaluation.evaluation import Progress
    from ..evaluation.windows import Spectrum
    from ..tailoring import Tailoring

SAMPLE = Hint("tailor on a sample of the rows", "tailor on a sample of the rows")
WIDE = 110  # columns of a terminal that has room for gains; sentences tell them too

windows_option = click.option(
    "--windows",
    type=click.IntRange(2, 100),
    default=5,
    show_default=True,
    help="Windows of the training spectrum, from its least to its most robust end.",
)
width_option = click.option(
    "--width",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the samples in each window.",
)
by_option = click.option(
    "--by",
    type=click.Choice(["acc", "loss"]),
    help="What is compared; ACC of classes and LOSS of real labels by default.",
)


@click.command(cls=WithOldNames, old={"--figure": "--plot"})
@store_argument
@model_option
@windows_option
@width_option
@by_option
@training_options
@metric_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.csv",
              help="Write the cells.")  # fmt: skip
@click.option("--plot", "figure", type=File(dir_okay=False), metavar="FILE.png",
              help="Draw the heat maps: .png, .svg or .pdf.")  # fmt: skip
@json_option
def spectrum(
    store: str,
    kinds: tuple[str, ...],
    windows: int,
    width: float,
    by: str | None,
    grid: tuple[str, ...],
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    out: str | None,
    figure: str | None,
    as_json: bool,
    **more: Any,
) -> None:
    """Train and test models on windows of both robustness spectra, and print heat maps.

    Windows slide from the least to the most robust samples of train and of test. A cell has the
    best performance and its hyper-parameters. They are best on that very test window: it shows how
    the best choice moves along the spectrum. `dskrobust tailor` chooses on held-out rows. Where
    steps run is decided as by `dskrobust evaluate`: few on few rows in this process.

    \b
    Examples:
      dskrobust spectrum mnist.zarr --model knn
      dskrobust spectrum news.zarr --model forest --windows 3 --plot map.png
    """
    from ..evaluation.windows import Windows
    from ..evaluation.windows import spectrum as make
    from ..export import write_csv
    from ..outputs import FIGURES, check_output

    if out:
        check_output(out)
    if figure:
        check_output(figure, FIGURES)
    experiment, cluster = _split(more)
    opened = opened_store(store)
    models = asked_models(kinds, grid, fixed, options)
    made = make(opened, models, Windows(windows, width), by=by, **experiment)
    here = steps_here(made.evaluation, cluster)
    projected = project_steps(made.evaluation, here=here)
    with _running(cluster, len(made.evaluation.jobs), here=here) as tell:
        made.compute(tell=tell)
    if out:
        write_csv(made.cells, out)
    if figure:
        from ..report import style
        from ..report.spectrum import heat_map

        style.write(heat_map(made), figure)
    if as_json:
        click.echo(json.dumps(_plain(made.cells), indent=2))
    else:
        _print_spectrum(made)
        _say_written(out, figure)
        say_memory(projected)
    say_failures(made.evaluation)


@click.command()
@store_argument
@model_option
@windows_option
@width_option
@click.option("--parts", type=click.IntRange(2, 20), default=3, show_default=True,
              help="Parts that the test spectrum is cut into.")  # fmt: skip
@click.option("--folds", type=click.IntRange(3, 50), default=5, show_default=True,
              help="Folds of the training rows, each held out once.")  # fmt: skip
@click.option("--place", type=click.Choice(["predicted", "label"]),
              help="What rows are placed by: the label that the nearest training row predicts "
              "(classes, by default) or their own, which new rows have not.")  # fmt: skip
@click.option("--candidate", "candidates", multiple=True, metavar="NAME=SELECTION",
              help="A further training set that is tried, such as L=train:L500.")  # fmt: skip
@by_option
@training_options
@metric_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.csv",
              help="Write what every option reached in every fold.")  # fmt: skip
@json_option
def tailor(
    store: str,
    kinds: tuple[str, ...],
    windows: int,
    width: float,
    candidates: tuple[str, ...],
    grid: tuple[str, ...],
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    out: str | None,
    as_json: bool,
    **more: Any,
) -> None:
    """Say which training rows and hyper-parameters to take for which part of the test spectrum.

    Windows of the training spectrum are tried on held-out training rows of every part, placed by
    their robustness, beside one model on everything. What a choice gains is cross-fitted: each fold
    is measured with what the scores of the others choose. Labels of the group test measure what was
    chosen and, with --place label, say in which part a row is. Where steps run is decided as by
    `dskrobust evaluate`: few on few rows in this process.

    \b
    Examples:
      dskrobust tailor mnist.zarr --model knn
      dskrobust tailor news.zarr --model forest --trials 3 --candidate L=train:L8000
    """
    from ..cluster import connect as connect  # imported by now, and so counted
    from ..evaluation.windows import Windows
    from ..export import write_csv
    from ..memory import CLUSTER, projected_peak
    from ..outputs import check_output
    from ..tailoring import tailor as make
    from ..validation import Validation

    if out:
        check_output(out)
    names = {"parts": "parts", "folds": "folds", "place": "placement", "by": "by"}
    cut = {own: more.pop(name) for name, own in names.items()}
    experiment, cluster = _split(more)
    opened = opened_store(store)
    validation = Validation(**cut, seed=experiment["seed"] % (MOST_SEED + 1))
    made = make(
        opened,
        asked_models(kinds, grid, fixed, options),
        windows=Windows(windows, width),
        validation=validation,
        candidates=named(candidates),
        **experiment,
    )
    evaluation, needed = made.plan.evaluation, CLUSTER + made.plan.memory
    if here := steps_here(evaluation, cluster, made.plan.repeats):
        needed += evaluation.training_memory()
    projected = projected_peak("tailoring", needed, SAMPLE)
    with _running(cluster, None, here=here) as tell:
        made.compute(tell=tell)
    if out:
        write_csv(made.advice.measured, out)
    if as_json:
        decision = {"findings": made.findings(), "parts": _plain(made.choices)}
        click.echo(json.dumps(decision, indent=2))
        return
    _print_tailoring(made)
    _say_written(out, None)
    say_memory(projected)


# -- running -------------------------------------------------------------------------------------


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], ClusterOptions]:
    """Return an experiment's further parts, and where to run."""
    names = ("trials", "seed", "threshold", "metric")
    experiment = {name: options.pop(name) for name in names}
    if experiment["metric"] is None:
        del experiment["metric"]
    return experiment, cluster_options(**options)


@contextmanager
def _running(options: ClusterOptions, steps: int | None, *, here: bool) -> Iterator[Progress]:
    """Connect to workers, or to this process, and show how many steps are done."""
    from ..show import terminal
    from .run_view import connected

    with (
        connected(options, here=here),
        terminal.progress("Evaluating", steps, unit="steps") as bar,
    ):

        def tell(job: Any, record: Any, was_found: bool) -> None:
            bar.note = job.model.name
            bar.add(1, found=was_found)

        yield tell


# -- printing ------------------------------------------------------------------------------------


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as plain values; what is missing or infinite is None."""
    return list(json.loads(table.to_json(orient="records")))


def _print_spectrum(made: Spectrum) -> None:
    from ..show import terminal
    from ..show.heat import heat_table

    for title, *heat in made.maps():
        terminal.heading(title)
        terminal.show(heat_table(*heat))
    for line in made.findings():
        terminal.say(line)
    terminal.say(made.foot(), style=terminal.QUIET)


def _print_tailoring(made: Tailoring) -> None:
    from rich.text import Text

    from ..advice_tables import part_cells, part_heads
    from ..show import terminal

    decision, *more = made.findings()
    terminal.say(decision, style=terminal.STRONG)
    heads = part_heads(made.plan, made.advice)
    told = {"verdict"} if terminal.console().width >= WIDE else {"verdict", "gain"}
    shown = terminal.table(*(head for head in heads if head not in told), text=(0, 1, 2))
    for part in made.advice.parts:
        named = dict(zip(heads, part_cells(made.plan, part), strict=True))
        lines = {"with": named["with"].split(", "), "gain": [named["gain"], named["verdict"]]}
        cells = named | {name: Text("\n").join(map(Text, said)) for name, said in lines.items()}
        terminal.add_row(shown, *(cells[head] for head in heads if head not in told))
    terminal.show(shown)
    for line in more:
        terminal.say(line)


def _say_written(out: str | None, figure: str | None) -> None:
    from ..show import terminal

    for name, path in (("table", out), ("figure", figure)):
        if path:
            terminal.fact(name, path)
