"""The command `export`: results as a table for other programs."""

from __future__ import annotations

import click

from ..errors import Hint
from .memory import say_memory
from .options import File, asked_result, metric_options, opened_store, store_argument

FEWER = Hint("leave by_group=True away", "leave --by-group away")


@click.command()
@store_argument
@click.option("--out", "-o", required=True, type=File(dir_okay=False), metavar="FILE",
              help="The new file: .parquet, .csv or .csv.gz.")  # fmt: skip
@metric_options
@click.option("--by-group", is_flag=True, help="Also Q, reach and witness against every group.")
def export(
    store: str,
    out: str,
    metric: str | None,
    labels: str | None,
    label_bound: float | None,
    by_group: bool,
) -> None:
    """Write the results as a table, one row per sample.

    Columns: row, split, label (by name), robustness, lipschitz (Q), reach and witness; where rows
    have ids, also id and witness_id.

    \b
    Examples:
      dskrobust export mnist.zarr --out scores.parquet
      dskrobust export news.zarr --out scores.csv --by-group
    """
    import pandas  # noqa: F401  so that it counts as held
    import pyarrow.parquet  # noqa: F401

    from ..export import FORMATS, frames_memory, score_frames, write_frames
    from ..memory import projected_peak
    from ..outputs import check_output
    from ..scores import read_scores
    from ..show import terminal

    path = check_output(out, FORMATS)
    opened = opened_store(store)
    scores = read_scores(opened, asked_result(opened, metric, labels, label_bound))
    projected = projected_peak("a table", frames_memory(scores, by_group), FEWER)
    with terminal.progress(f"Writing {out}", scores.rows) as job:
        write_frames(score_frames(scores, by_group), path, progress=job.add)
    terminal.fact("saved", f"{scores.rows:,} rows in {out}")
    say_memory(projected)
