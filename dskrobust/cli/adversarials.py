"""The command `adversarials`: errors of the nearest neighbour by R of the reference."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    Number,
    asked_result,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    result_spec,
    store_argument,
    where_options,
)

if TYPE_CHECKING:
    from ..adversarials import NaturalAdversarials

FEWER = Hint("give fewer shares", "give --remove fewer times, or a --scheduler that searches")


@click.command()
@store_argument
@click.option("--train", "-x", default="train", show_default=True, metavar="GROUP",
              help="Group of the references.")  # fmt: skip
@click.option("--test", "-t", default="test", show_default=True, metavar="GROUP",
              help="Group of the test samples.")  # fmt: skip
@click.option("--remove", type=Number(0, 1, min_open=True, max_open=True), multiple=True,
              metavar="SHARE",
              help="Share of the references to remove; 0.01, 0.02, 0.05, 0.1 and 0.2 by "
              "default.")  # fmt: skip
@metric_option
@where_options
@json_option
def adversarials(
    store: str,
    train: str,
    test: str,
    remove: tuple[float, ...],
    metric: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Say from which references the nearest neighbour's errors come, and what removing them does.

    Less robust samples have others of another label close by, and so are natural adversarial
    examples for it (paper, 3.6). The store needs a result (dskrobust compute).

    \b
    Examples:
      dskrobust adversarials mnist.zarr
      dskrobust adversarials mnist.zarr --remove 0.05 --remove 0.3
    """
    from ..adversarials import SHARES, search_adversarials
    from ..memory import projected_peak
    from ..scores import read_scores
    from .compute import shown_work, workers_for

    options, opened = cluster_options(**where), opened_store(store)
    result = asked_result(opened, metric, None, None)
    with workers_for(opened, options):
        scores = read_scores(opened, result, result_spec(opened, result))
        search = search_adversarials(scores, train, test, remove or SHARES)
        projected = projected_peak("a search for the nearest references", search.memory, FEWER)
        with shown_work("Searching nearest references"):
            found = search.compute()
    if as_json:
        click.echo(json.dumps(found.facts(), indent=2))
    else:
        _print(found, store)
        say_memory(projected)


def _print(found: NaturalAdversarials, address: str) -> None:
    from ..show import terminal

    terminal.heading(
        f"1-NN from {found.x} on {found.t}: {found.errors:,} errors of {found.tested:,} "
        f"({found.error:.2%})"
    )
    table = terminal.table(
        "R of the reference", "references", "used", "errors", "error", "", text=(0, 5)
    )
    most = max((b.errors for b in found.bins), default=0) or 1
    for b in found.bins:
        share = f"{b.errors / b.used:.1%}" if b.used else "–"
        span = f"{b.low:.4f} to {b.high:.4f}"
        cells = (f"{b.references:,}", f"{b.used:,}", f"{b.errors:,}", share)
        drawn = terminal.bar(b.errors / most, 16) if b.errors else ""
        terminal.add_row(table, span, *cells, drawn)
    terminal.show(table)
    table = terminal.table("without the", "R up to", "error", "mended", "broken", "p", "at random")
    for one in found.removals:
        terminal.add_row(
            table,
            f"{100 * one.share:.3g}% least robust",
            f"{one.most:.4f}",
            f"{one.errors / found.tested:.2%}",
            f"{one.fixed:,}",
            f"{one.broken:,}",
            f"{one.p:.2g}",
            f"{one.random / found.tested:.2%}",
        )
    terminal.show(table)
    for text in found.words():
        terminal.say(text)
    if found.errors:
        terminal.fact("next", f"dskrobust issues {quote(address)}")
