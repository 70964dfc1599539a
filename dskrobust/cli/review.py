"""The commands `review` and `apply`: a person's eye on suspicious labels, and a cleaned store."""

from __future__ import annotations

from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from .completion import Text
from .options import (
    Duration,
    File,
    NewStore,
    Number,
    cluster_options,
    metric_option,
    opened_store,
    say_next,
    store_argument,
    where_options,
)

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..reviews import Review, ReviewOptions
    from ..store import Store


@click.command()
@store_argument
@click.option("--top", "-n", type=click.IntRange(1, 100_000), default=100, show_default=True,
              help="How many samples to look at, at most.")  # fmt: skip
@click.option("--max-score", type=Number(0, 1), metavar="SCORE",
              help="Largest score of an issue; by default every class has its own.")  # fmt: skip
@click.option("--texts", type=File(dir_okay=False), metavar="FILE",
              help="What is shown beside the features, such as the text that they were made of: "
              ".csv or .parquet, a row per sample in the order of the store.")  # fmt: skip
@click.option("--reviewer", type=Text(), metavar="NAME",
              help="Who decides; the login name by default.")  # fmt: skip
@click.option("--anonymous", is_flag=True, help="Keep no name with the decisions.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0,
              help="Of the page on this machine; a free one by default.")  # fmt: skip
@click.option("--idle", type=Duration(), default="1h", show_default=True, metavar="TIME",
              help="The review ends when nobody has asked for anything that long.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@metric_option
@where_options
def review(store: str, metric: str | None, open_browser: bool, **asked: Any) -> None:
    """Look at the most suspicious samples one by one in a local page, and decide on each.

    They are those of `issues`, the worst first: each beside its witness and its nearest namesake,
    as images, texts or columns. Keep, relabel, drop or leave it as unsure, by keyboard or mouse;
    every decision is in the store at once, and a later review goes on where this one stops. The
    page is only reached from this machine, by an address with a secret. `apply` makes a cleaned
    store of the decisions, `export --decisions` a table.

    \b
    Examples:
      dskrobust review mnist.zarr
      dskrobust review mnist.zarr --top 500 --reviewer me
      dskrobust review news-emb.zarr --texts news.parquet
    """
    from ..reviews import review as hold
    from .compute import fit_on_workers, workers_for
    from .label_search import search_labels

    how = _how(asked)
    options: ClusterOptions = cluster_options(**asked)
    opened, chosen = opened_store(store), metric or "euclidean"
    _check(opened, chosen)
    fit_on_workers(opened, chosen, options)
    if opened.spec.label_kind == "categorical":
        search_labels(opened, chosen, options, quiet=False)
    with workers_for(opened, options):
        held = hold(opened, metric=chosen, options=how)
    with held:
        _say(held, how, open_browser)
        with suppress(KeyboardInterrupt):
            held.wait()
    _say_end(held, store)


def _how(asked: dict[str, Any]) -> ReviewOptions:
    """Take what says how a review is held out of the command's options."""
    from ..reviews import ReviewOptions

    anonymous, reviewer = asked.pop("anonymous"), asked.pop("reviewer")
    if anonymous and reviewer:
        raise click.UsageError("--anonymous and --reviewer exclude each other")
    return ReviewOptions(
        top=asked.pop("top"),
        threshold=asked.pop("max_score"),
        texts=asked.pop("texts"),
        reviewer="" if anonymous else reviewer,
        port=asked.pop("port"),
        idle=asked.pop("idle"),
    )


def _check(store: Store, metric: str) -> None:
    """Refuse what cannot be judged, before anything runs."""
    from ..label_fit import label_quality
    from ..label_regression import regression_quality

    judge = regression_quality if store.spec.label_kind == "real" else label_quality
    judge(store, metric=metric)


def _say(held: Review, how: ReviewOptions, open_browser: bool) -> None:
    import webbrowser

    from ..show import terminal

    open_rows = held.summary()["open"]
    rows = len(held.server.session.cases)
    done = f", {rows - open_rows:,} decided already" if open_rows < rows else ""
    terminal.fact("samples", f"{rows:,} to look at{done}")
    terminal.fact("reviewer", how.who or "nobody is named")
    terminal.fact("page", held.address)
    terminal.say("Ends with Done on the page, or Ctrl-C here; decisions are kept as they are made.",
                 style=terminal.QUIET)  # fmt: skip
    if open_browser and not webbrowser.open(held.address):
        terminal.say("No browser could be opened; open the page by its address.", style="yellow")


def _say_end(held: Review, store: str) -> None:
    from ..show import terminal

    counts = held.summary()
    left = counts.pop("open")
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
    terminal.fact("decisions", f"{told}; {left:,} open")
    if held.server.reason == "idle":
        terminal.say("Ended, as nobody asked for anything.", style="yellow")
    if left:
        terminal.fact("go on", f"dskrobust review {quote(store)}")
    if counts.get("relabel") or counts.get("drop"):
        name = store.rstrip("/").removesuffix(".zarr")
        terminal.fact("next", f"dskrobust apply {quote(store)} {quote(f'{name}-cleaned.zarr')}")


@click.command()
@store_argument
@click.argument("out", metavar="OUT", type=NewStore())
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@click.option("--anonymous", is_flag=True,
              help="Leave the store's folder and reviewers' names out of the new one.")  # fmt: skip
@click.option("--results/--no-results", default=True, show_default=True,
              help="Whether to take over what the store has computed; only what changes touch is "
              "searched again.")  # fmt: skip
def apply(store: str, out: str, overwrite: bool, anonymous: bool, results: bool) -> None:
    """Make a cleaned store: relabelled rows have their new labels, dropped rows are gone.

    The store itself stays as it is. What did not change shares its bytes on the disk with it, as
    hard links: features, split and ids up to where a first row was dropped. Elsewhere (several
    segments, another file system, a URL) they are copied. Searches for the nearest samples of
    classes are taken over: only rows with another label, those whose witness (or namesake) was
    changed or dropped, and pairs with changed rows are looked at, and `compute` has nothing to do.

    \b
    Example:
      dskrobust apply mnist.zarr mnist-cleaned.zarr
    """
    from ..display import counted
    from ..reviews import apply_decisions
    from ..show import terminal
    from ..store import check_free

    opened = opened_store(store)
    check_free(out, overwrite=overwrite)
    with terminal.progress(f"Writing {out}", opened.rows) as job:
        made = apply_decisions(opened, out, overwrite=overwrite, anonymous=anonymous,
                               results=results, progress=job.add)  # fmt: skip
    terminal.fact("relabelled", f"{made.relabelled:,} of {opened.rows:,} rows")
    terminal.fact("dropped", f"{counted(made.dropped, 'row')}, {made.store.rows:,} are left")
    linked = f"{terminal.size(made.linked_bytes)} as hard links" if made.linked_bytes else "nothing"
    terminal.fact("shared", f"{linked} with {store}")
    if made.carried:
        terminal.fact("results", f"{made.carried} taken over; only what changes touch was searched")
    terminal.fact("store", out)
    say_next(made.store, out)
    terminal.fact("then", f"dskrobust compare {quote(store)} {quote(out)}")
