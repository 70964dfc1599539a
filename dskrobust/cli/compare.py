"""The command `compare`: two stores, or two runs of one, before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .completion import complete_store
from .memory import say_memory
from .options import (
    Address,
    File,
    Number,
    anonymous_option,
    asked_result,
    json_option,
    metric_options,
    opened_store,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..comparison import Comparison, Side

FEWER = Hint(
    "run it on a machine with more memory",
    "run it on a machine with more memory, or with fewer tasks at once: DASK_NUM_WORKERS=1",
)
LINES = 10  # of a table in the terminal


@click.command()
@click.argument("before", type=Address(), metavar="BEFORE", shell_complete=complete_store)
@click.argument("after", type=Address(), metavar="[AFTER]", required=False,
                shell_complete=complete_store)  # fmt: skip
@metric_options
@click.option("--after-metric", metavar="METRIC",
              help="Of the second run, where it has another one than the first.")  # fmt: skip
@click.option("--after-labels", metavar="MAP",
              help="Label map of the second run, where it has another one.")  # fmt: skip
@click.option("--after-label-bound", type=Number(0, min_open=True), metavar="B",
              help="‖y‖∞ of the second run, where it has another one.")  # fmt: skip
@click.option("--top", "-n", type=click.IntRange(1, 10_000), default=50, show_default=True,
              help="How many of the rows whose R changed most to list.")  # fmt: skip
@click.option("--out", "-o", type=File(dir_okay=False), metavar="FILE",
              help="The page; by default BEFORE-AFTER.html, as the stores are called.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
@anonymous_option
@json_option
def compare(
    before: str,
    after: str | None,
    top: int,
    out: str | None,
    overwrite: bool,
    anonymous: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Show what changed between two stores, or two runs of one, and write it as a page.

    What differs in the data, how R, suspicious and contradictory rows changed, in which classes and
    rows most, and what that does to the models that both stores have evaluated. Rows are told by
    what `apply` did, by appended rows, embeddings or ids. Without AFTER two runs of one store are
    compared. Nothing is computed: `compute`, `issues` and `evaluate` make what is compared.

    \b
    Examples:
      dskrobust compare mnist.zarr mnist-cleaned.zarr
      dskrobust compare mnist.zarr --after-metric cityblock --out metrics.html
      dskrobust compare news.zarr news-scaled.zarr --json
    """
    from ..comparison import Comparison, comparison_memory, match_rows
    from ..memory import projected_peak, tasks_at_once
    from ..show import terminal
    from .compute import shown_work

    one, other = _sides(before, after, asked)
    page = _page(one, other, out, overwrite) if out is not None or not as_json else None
    with _workers_for(one, other):
        rows = match_rows(one.store, other.store)
        tasks = 0 if _is_large(one, other) else tasks_at_once()
        needed = comparison_memory(one, other, rows, tasks)
        projected = projected_peak("a comparison", needed, FEWER)
        with shown_work("Comparing"):
            made = Comparison.between(one, other, rows, top)
        written = None
        if page is not None:
            written = made.write(page, overwrite=overwrite, anonymous=anonymous)
    if as_json:
        click.echo(json.dumps(facts(made), indent=2))
        return
    _say(made)
    size = f", {terminal.size(written.stat().st_size)}" if isinstance(written, Path) else ""
    terminal.fact("written", f"{written}{size}")
    say_memory(projected)


def _sides(before: str, after: str | None, asked: dict[str, Any]) -> tuple[Side, Side]:
    """Return both sides: the runs that the options name, else those that fit each other."""
    from ..comparison import Side, sides

    second = {name: asked.pop(f"after_{name}") for name in tuple(asked) if f"after_{name}" in asked}
    store = opened_store(before)
    other = store if after is None else opened_store(after)
    if not _is_asked(asked) and not _is_asked(second):
        return sides(store, None if after is None else other)
    wanted = {name: asked[name] if value is None else value for name, value in second.items()}
    run = asked_result(other, wanted["metric"], wanted["labels"], wanted["label_bound"])
    if not _is_asked(asked):
        return sides(Side(store, _beside(store, run)) if after is None else store, Side(other, run))
    first = asked_result(store, asked["metric"], asked["labels"], asked["label_bound"])
    return sides(Side(store, first), Side(other, run))


def _is_asked(options: dict[str, Any]) -> bool:
    return any(value is not None for value in options.values())


def _beside(store: Any, run: Any) -> Any:
    """Return the run of a store that is compared with another one of it."""
    from ..comparison import current_runs, run_words
    from ..errors import InvalidOptionError

    others = [one for one in current_runs(store) if one.name != run.name]
    if len(others) != 1:
        raise InvalidOptionError(
            f"{store.url} has {run_words(others)} beside that; name the first one with --metric"
        )
    return others[0]


def _page(one: Side, other: Side, out: str | None, overwrite: bool) -> Path | str:
    """Return where the page goes; refuse to replace one that nobody said may go."""
    from ..outputs import free_output

    names = dict.fromkeys(PurePosixPath(side.store.url).stem for side in (one, other))
    name = "-".join(names) if len(names) > 1 else f"{next(iter(names))}-compared"
    return free_output(out or f"{name}.html", overwrite=overwrite)


def _is_large(one: Side, other: Side) -> bool:
    from .compute import MOST_HERE

    return max(one.store.rows, other.store.rows) > MOST_HERE


@contextmanager
def _workers_for(one: Side, other: Side) -> Iterator[None]:
    """Have passes over many rows run on a cluster's workers, which see both stores."""
    from ..clients import current_client
    from ..cluster import ClusterOptions
    from ..cluster.checks import check_source
    from .compute import workers_for

    large, small = sorted((one.store, other.store), key=lambda store: -store.rows)
    with workers_for(large, ClusterOptions(dashboard=False)):
        client = current_client()
        if client is not None:
            check_source(client, small.address)
        yield


def _say(made: Comparison) -> None:
    """Say what changed in lines, and the classes and rows that did most."""
    from pandas.api.types import is_numeric_dtype

    from ..comparison.comparison import cell_text
    from ..show import terminal

    for line in made.headlines:
        terminal.say(f"• {line.words}")
        if line.command:
            terminal.say(f"  {line.command}", style=terminal.QUIET)
    if made.classes is not None and len(made.classes):
        shown = terminal.table("class", "rows", "after", "mean R", "after", "change")
        for label, row in made.classes.head(LINES).iterrows():
            counts = (f"{row['rows', side]:,.0f}" for side in ("before", "after"))
            means = (cell_text(row["R", side]) for side in ("before", "after"))
            terminal.add_row(shown, label, *counts, *means, cell_text(row["change", ""]))
        terminal.show(shown)
    if len(made.samples):
        names = [name for name in made.samples if name not in ("row before", "its label before")]
        text = [k for k, n in enumerate(names) if not is_numeric_dtype(made.samples[n])]
        shown = terminal.table(*names, text=text)
        for row in made.samples[names].head(LINES).to_numpy(object):
            terminal.add_row(shown, *map(cell_text, row))
        terminal.show(shown)


def facts(made: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values."""
    rows = made.rows
    return {
        "headlines": [line._asdict() for line in made.headlines],
        "rows": rows and {"how": rows.how, "before": rows.before, "after": rows.after,
                          "shared": rows.shared, "dropped": len(rows.dropped), "new": rows.new},
        "counts": dict(made.counts),
        "apart": {group: {"kolmogorov": one.distances.kolmogorov,
                          "wasserstein": one.distances.wasserstein, "chance": one.chance}
                  for group, one in made.apart.items()},
        **{name: _records(table) for name, table in (
            ("differences", made.differences), ("groups", made.groups.reset_index()),
            ("classes", None if made.classes is None else made.classes.reset_index()),
            ("relabelled", made.relabelled), ("dropped", made.dropped),
            ("samples", made.samples), ("models", made.models))},
    }  # fmt: skip


def _records(table: pd.DataFrame | None) -> list[dict[str, Any]] | None:
    """Return the rows of a table as values that JSON can hold; a number that is missing is null."""
    if table is None:
        return None
    flat = table.set_axis(
        [" ".join(filter(None, n)) if isinstance(n, tuple) else n for n in table.columns], axis=1
    )
    made: list[dict[str, Any]] = json.loads(flat.to_json(orient="records", double_precision=15))
    return made
