"""The command `verify`: whether a store is what was written, and its results are right."""

from __future__ import annotations

import click

from ..errors import Hint, InvalidOptionError
from .memory import say_memory
from .options import opened_store, store_argument

SAMPLE = 100  # rows that are proven
FEWER = Hint("prove fewer rows: sample=10", "prove fewer rows with --sample 10")


@click.command()
@store_argument
@click.option(
    "--sample",
    type=click.IntRange(0),
    metavar="N",
    help="Rows whose results are proven again by brute force; 100 by default.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the random sample.")  # fmt: skip
@click.option("--repair", is_flag=True,
              help="Remove what is damaged and can be made again.")  # fmt: skip
def verify(store: str, sample: int | None, seed: int, repair: bool) -> None:
    """Read every chunk and record again, and prove a random sample of results by brute force.

    \b
    Examples:
      dskrobust verify mnist.zarr --sample 500
      dskrobust verify mnist.zarr --repair
    """
    from ..memory import projected_peak
    from ..show import terminal
    from ..store import find_results
    from ..verify import verify_store, verifying_memory

    opened = opened_store(store)
    if sample is not None and sample > opened.rows:
        raise InvalidOptionError(f"--sample {sample:,}: there are only {opened.rows:,} rows")
    needed = verifying_memory(opened, SAMPLE if sample is None else sample)
    projected = projected_peak("checking a store", needed, FEWER)
    with terminal.progress("Checking", opened.rows) as job:
        report = verify_store(
            opened,
            sample=SAMPLE if sample is None else sample,
            seed=seed,
            repair=repair,
            progress=lambda done, total: job.add(done - job.done),
        )
    have = [r for r in find_results(opened, everything=True) if r.covers(opened)]
    for key in report.mended:
        terminal.fact("mended", f"{key} was damaged; what was computed is removed")
    terminal.say("All good." if not report.mended else "All good by now.", style="green")
    terminal.fact(
        "data", f"{report.rows:,} rows, {terminal.size(report.bytes_read)}: every checksum agrees"
    )
    for result in have:
        proof = f"{len(report.sampled):,} rows proven again by brute force, equal to the last bit"
        if result.name in report.unproven:
            proof = (
                "its metric or label norm is a function: prove it with "
                "dskrobust.verify_store(metric=…, label_norm=…)"
            )
        terminal.fact("result", f"{result.name}: every checksum agrees; {proof}")
    if not have:
        terminal.fact("result", "none for this data yet")
    terminal.fact("records", f"{report.objects:,}: every checksum agrees")
    terminal.fact("took", terminal.clock(job.elapsed))
    say_memory(projected)
