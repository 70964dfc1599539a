"""The command `export`: results as a table for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ..errors import Hint
from .memory import say_memory
from .options import File, asked_result, metric_options, opened_store, store_argument

if TYPE_CHECKING:
    from pathlib import Path

    from ..store import Store

FEWER = Hint("leave by_group=True away", "leave --by-group away")


@click.command()
@store_argument
@click.option("--out", "-o", required=True, type=File(dir_okay=False), metavar="FILE",
              help="The new file: .parquet, .csv or .csv.gz.")  # fmt: skip
@metric_options
@click.option("--by-group", is_flag=True, help="Also Q, reach and witness against every group.")
@click.option("--decisions", is_flag=True,
              help="Instead of results what reviewers decided, a line per row.")  # fmt: skip
@click.option("--history", is_flag=True,
              help="With --decisions: all that were ever made, also those taken back.")  # fmt: skip
def export(
    store: str,
    out: str,
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    by_group: bool,
    decisions: bool,
    history: bool,
) -> None:
    """Write the results as a table, one row per sample.

    Columns: row, split, label (by name), robustness, lipschitz (Q), reach and witness; where rows
    have ids, also id and witness_id.

    \b
    Examples:
      dskrobust export mnist.zarr --out scores.parquet
      dskrobust export news.zarr --out scores.csv --by-group
      dskrobust export mnist.zarr --decisions --out decisions.csv
    """
    import pandas  # noqa: F401  so that it counts as held
    import pyarrow.parquet  # noqa: F401

    from ..export import FORMATS, frames_memory, score_frames, write_frames
    from ..memory import projected_peak
    from ..outputs import check_output
    from ..scores import read_scores
    from ..show import terminal

    path = check_output(out, FORMATS)
    _refuse_idle(decisions)
    opened = opened_store(store)
    if decisions:
        _export_decisions(opened, path, history)
        return
    scores = read_scores(opened, asked_result(opened, metric, labels, label_bound))
    projected = projected_peak("a table", frames_memory(scores, by_group), FEWER)
    with terminal.progress(f"Writing {out}", scores.rows) as job:
        write_frames(score_frames(scores, by_group), path, progress=job.add)
    terminal.fact("saved", f"{scores.rows:,} rows in {out}")
    say_memory(projected)


def _refuse_idle(decisions: bool) -> None:
    """Refuse options that what is asked for would pass over."""
    source = click.get_current_context().get_parameter_source
    idle = ("metric", "labels", "label_bound", "by_group") if decisions else ("history",)
    given = [name for name in idle if source(name) is ParameterSource.COMMANDLINE]
    if given:
        what = "--decisions" if decisions else "results"
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{named}: means nothing to {what}")


def _export_decisions(store: Store, path: Path | str, history: bool) -> None:
    from ..export import write_frames
    from ..reviews import decisions
    from ..show import terminal

    table = decisions(store, history=history)
    write_frames([table], path)
    terminal.fact("saved", f"{terminal.counted(len(table), 'decision')} in {path}")
    if table.attrs["foreign"]:
        count = terminal.counted(table.attrs["foreign"], "decision")
        terminal.say(f"{count} on data that the store held before are not in it.", style="yellow")
