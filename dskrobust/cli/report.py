"""The command `report`: one HTML page of what a store holds, or a single figure of the paper."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..errors import Hint
from .memory import say_memory
from .options import (
    Address,
    File,
    Number,
    anonymous_option,
    asked_result,
    metric_options,
    opened_store,
)
from .renamed import WithOldNames

if TYPE_CHECKING:
    from ..report import StoredResults, Wishes
    from ..store import Store

PAGE = {"samples": "--samples", "pairs": "--pairs", "overwrite": "--overwrite"}
FIGURE = {"classes": "--class", "mark": "--mark", "images": "--images"}
MOST_OWN = 256 * 2**20  # bytes of images of one's own
FEWER = Hint(
    "show less: ReportOptions(samples, pairs)",
    "show less with --samples and --pairs, or run it on a machine with more memory",
)


@click.command(cls=WithOldNames, old={"--threshold": "--mark"})
@click.argument("store", type=Address(), metavar="STORE", required=False)
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="NAME.html by default, NAME as of the store; of a figure an .svg, .pdf or .png "
              "file.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
@metric_options
@click.option("--samples", type=click.IntRange(1, 1_000), default=4, show_default=True, metavar="N",
              help="Least and most robust samples of every class.")  # fmt: skip
@click.option("--pairs", type=click.IntRange(1, 10_000), default=20, show_default=True, metavar="N",
              help="Closest pairs of different labels.")  # fmt: skip
@click.option("--subset", "subsets", multiple=True, metavar="NAME=SELECTION",
              help="A subset whose labels are shown, GROUP:L500 or x_L5=GROUP:L500; those of the "
              "evaluations, or the halves of every group, by default.")  # fmt: skip
@click.option("--figure", "-f", metavar="FIGURE",
              help="Only this figure: its number in the paper, or its name.")  # fmt: skip
@click.option("--class", "classes", multiple=True, metavar="NAME",
              help="In Figures 2, 5 and 12: only this class; may be repeated.")  # fmt: skip
@click.option("--mark", type=Number(), metavar="T",
              help="Marked in Figure 3 (a label) and in Figure 9 (a value of R).")  # fmt: skip
@click.option("--images", type=File(), metavar="FILE",
              help="For Figure 13: your own images and labels, an .npz file with X and y or "
              "another that `ingest` takes.")  # fmt: skip
@anonymous_option
@click.option("--list", "listing", is_flag=True,
              help="List the paper's tables and figures, and what makes them.")  # fmt: skip
def report(
    store: str | None,
    out: str | None,
    overwrite: bool,
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    samples: int,
    pairs: int,
    subsets: tuple[str, ...],
    figure: str | None,
    classes: tuple[str, ...],
    mark: float | None,
    images: str | None,
    anonymous: bool,
    listing: bool,
) -> None:
    """Write one HTML page of what a store holds: data, robustness, samples, subsets, models.

    The page needs no network. It shows what is in the store and computes nothing: `compute` makes
    the scores, `evaluate` the performance matrices.

    \b
    Examples:
      dskrobust report mnist.zarr
      dskrobust report mnist.zarr --out again.html --samples 8
      dskrobust report mnist.zarr --figure 12 --out figure12.svg
      dskrobust report --list
    """
    from ..cluster import ClusterOptions
    from ..memory import projected_peak, tasks_at_once
    from ..outputs import free_output
    from ..report import ReportOptions, StoredResults, Wishes, write_report
    from ..report.further import further_memory
    from ..report.results import results_memory
    from ..show import terminal
    from .compute import MOST_HERE, workers_for
    from .evaluate import named

    _refuse_idle(figure, listing)
    if listing:
        _list()
        return
    if store is None:
        raise click.UsageError("give a STORE, or --list")
    opened = opened_store(store)
    page = None
    if figure is None:
        page = free_output(out or f"{PurePosixPath(opened.url).stem}.html", overwrite=overwrite)
    result = asked_result(opened, metric, labels, label_bound)
    asked = named(subsets)
    tasks = tasks_at_once() if opened.rows <= MOST_HERE else 0
    needed = results_memory(opened, result, (samples, pairs), tasks)
    needed += further_memory(opened, tasks)
    projected = projected_peak("a report", needed, FEWER)
    with workers_for(opened, ClusterOptions(dashboard=False)):
        if page is not None:
            options = ReportOptions(samples, pairs, subsets=asked, anonymous=anonymous)
            written = write_report(opened, page, result, options)
        else:
            wishes = Wishes(classes, mark, _own(opened, images))
            written = _draw(StoredResults(opened, result, asked), str(figure), wishes, out)
    size = f", {terminal.size(written.stat().st_size)}" if isinstance(written, Path) else ""
    terminal.fact("written", f"{written}{size}")
    say_memory(projected)


def _refuse_idle(figure: str | None, listing: bool) -> None:
    """Refuse options that what is asked for would pass over."""
    source = click.get_current_context().get_parameter_source
    idle, what = (FIGURE, "the page, but to a --figure") if figure is None else (PAGE, "a --figure")
    if listing:
        idle, what = {**PAGE, **FIGURE, "figure": "--figure", "out": "--out"}, "--list"
    given = [o for name, o in idle.items() if source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"{', '.join(given)}: means nothing to {what}")


def _draw(results: StoredResults, figure: str, wishes: Wishes, out: str | None) -> Path | str:
    from ..outputs import FIGURES, check_output
    from ..report import draw, style

    path = check_output(out or f"{'figure' * figure.isdigit()}{figure}.svg", FIGURES)
    style.write(draw(results, figure, wishes), path)
    return path


def _own(store: Store, path: str | None) -> tuple[Any, Any] | None:
    """Read own images and their labels, which are meant to be few; a folder as the store's was."""
    if path is None:
        return None
    import numpy as np

    from ..datasets import ReaderOptions, images_like, open_reader
    from ..errors import InvalidDataError
    from ..show import terminal

    like = images_like(store.spec) if Path(path).expanduser().is_dir() else {}
    reader = open_reader(path, options=ReaderOptions(**like))
    for remark in reader.remarks:
        terminal.fact("note", remark)
    blocks, held = [], 0
    for block in reader.blocks():
        blocks.append(block)
        held += block.features.nbytes
        if held > MOST_OWN:
            raise InvalidDataError(
                f"{path} holds more than {terminal.size(MOST_OWN)} of images; give the few to show"
            )
    features, labels = (np.concatenate([block[k] for block in blocks]) for k in (0, 1))
    classes = reader.spec.classes
    return features, labels if classes is None else np.array(classes)[labels]


def _list() -> None:
    from ..report import catalogue
    from ..show import terminal

    terminal.say("NAME.zarr is made by `dskrobust ingest NAME --source DIR` (plane has no source), "
                 "scored by `dskrobust compute NAME.zarr`.", style=terminal.QUIET)  # fmt: skip
    for entry in catalogue:
        terminal.say(f"{entry.name}: {entry.what} ({entry.section})")
        before = f"{entry.needs}, then " if entry.needs else ""
        terminal.say(f"  {before}{entry.command}", style=terminal.QUIET)
    terminal.say("The Python function behind each is in dskrobust.report.catalogue.",
                 style=terminal.QUIET)  # fmt: skip
