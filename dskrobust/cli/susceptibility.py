"""The command `susceptibility`: the accuracy of networks under attack."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from .evaluate import asked_models, named, run_steps, seed_option, test_option
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
from .outcome import say_failures
from .renamed import WithOldNames

if TYPE_CHECKING:
    from ..evaluation.susceptibility import Susceptibility


class Sizes(click.ParamType):
    """Numbers or fractions, with commas between."""

    name = "sizes"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(Fraction(part.strip())) for part in value.split(","))
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} are no sizes; write 2/255,8/255 or 0.1,0.3", param, ctx)


@click.command(cls=WithOldNames, old={"--figure": "--plot"})
@store_argument
@click.option("--model", "kind", default="cnn", show_default=True, metavar="MODEL",
              help="cnn, resnet56, or torch: and the import path of a torch module.")  # fmt: skip
@click.option("--attack", type=click.Choice(["pgd", "fgsm"]), default="pgd", show_default=True,
              help="Steps of projected gradient descent, or one step of the fast gradient sign "
              "method.")  # fmt: skip
@click.option("--sizes", type=Sizes(), metavar="A,B,…",
              help="How far a pixel may move, as shares of the range of the data; by default "
              "1/255,2/255,4/255,8/255,16/255,32/255. Others later train again.")  # fmt: skip
@click.option("--train", multiple=True, metavar="NAME=SELECTION",
              help="A training subset; train and its halves by default. Others are compared to "
              "the first.")  # fmt: skip
@test_option
@click.option("--set", "fixed", multiple=True, metavar="KEY=VALUE",
              help="A hyper-parameter of the network, such as epochs=10.")  # fmt: skip
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE",
              help="How it is run: device=cpu, attack_steps=40.")  # fmt: skip
@click.option("--trials", type=click.IntRange(1, 1_000_000), default=5, show_default=True,
              help="Networks on every training subset.")  # fmt: skip
@seed_option
@metric_option
@where_options
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE.csv",
              help="Write all accuracies with their intervals.")  # fmt: skip
@click.option("--plot", "figure", type=File(dir_okay=False), metavar="FILE.png",
              help="Draw accuracy by size: .png, .svg or .pdf.")  # fmt: skip
@json_option
def susceptibility(
    store: str,
    kind: str,
    attack: str,
    sizes: tuple[float, ...] | None,
    fixed: tuple[str, ...],
    options: tuple[str, ...],
    as_json: bool,
    **more: Any,
) -> None:
    """Say how networks' accuracy falls under attack, by what they were trained on.

    Networks are trained on all rows and on the least and most robust halves, and misled by
    adversarial examples of growing size on the same parts of the test spectrum (paper, section 5
    iii). The store must be of images.

    \b
    Examples:
      dskrobust susceptibility mnist.zarr --set epochs=12
      dskrobust susceptibility mnist.zarr --set epochs=4 --option device=cpu --trials 3
      dskrobust susceptibility cifar10.zarr --attack fgsm --sizes 2/255,8/255 --plot fall.png
    """
    from ..evaluation.susceptibility import SIZES
    from ..evaluation.susceptibility import susceptibility as make
    from ..export import write_csv
    from ..outputs import FIGURES, check_output

    out, figure = more.pop("out"), more.pop("figure")
    if out:
        check_output(out)
    if figure:
        check_output(figure, FIGURES)
    (model,) = asked_models([kind], (), fixed, options)
    subsets = [named(more.pop(side)) or None for side in ("train", "test")]
    parts = {name: more.pop(name) for name in ("trials", "seed", "metric")}
    cluster, opened = cluster_options(**more), opened_store(store)
    made = make(opened, *subsets, attack=attack, sizes=sizes or SIZES, model=model, **parts)
    projected = run_steps(made.evaluation, cluster, quiet=as_json, more=made.memory)
    if out:
        write_csv(made.to_frame(), out)
    if figure:
        from ..report import style
        from ..report.attacks import accuracy_under_attack

        style.write(accuracy_under_attack(made), figure)
    _report(made, as_json, [("table", out), ("figure", figure)])
    if not as_json:
        say_memory(projected)


def _report(made: Susceptibility, as_json: bool, written: list[tuple[str, str | None]]) -> None:
    """Print what came out; fail where steps failed, with a line for each."""
    from ..show import terminal

    if len(made.evaluation.failures) < len(made.evaluation.jobs):
        if as_json:
            cells = json.loads(made.to_frame().to_json(orient="records"))
            click.echo(json.dumps({"findings": made.findings(), "cells": cells}, indent=2))
        else:
            _print(made)
    for name, path in written:
        if path and not as_json:
            terminal.fact(name, path)
    say_failures(made.evaluation)


def _print(made: Susceptibility) -> None:
    from ..show import terminal

    decision, *more = made.findings()
    terminal.say(decision, style=terminal.STRONG)
    for line in more:
        terminal.say(line)
    for test in made.subsets[1]:
        head, lines = made.table(test)
        terminal.heading(f"accuracy on {test}")
        shown = terminal.table(*head, text=(0, len(head) - 1))
        for cells in lines:
            terminal.add_row(shown, *cells)
        terminal.show(shown)
    terminal.say(made.foot(), style=terminal.QUIET)
