"""Commands that bring data into a store, and check what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import absolute, store_argument

if TYPE_CHECKING:
    from ..store import Store

Command = Callable[..., Any]


def reader_options(command: Command) -> Command:
    """Add what readers may be told."""
    for option in (
        click.option(
            "--target",
            metavar="COLUMN",
            help="Label column of a table; the one called y, label, target or class by default.",
        ),
        click.option(
            "--split",
            metavar="NAME",
            help="Array, file or column with the group of every row; as the data set has it, or "
            "one group, by default.",
        ),
        click.option("--y", default=None, metavar="NAME", help="Label array in a file (y)."),
        click.option("--x", default=None, metavar="NAME", help="Feature array in a file (X)."),
        click.option(
            "--labels",
            type=click.Choice(["categorical", "real", "vector"]),
            help="What labels mean; told by their type by default.",
        ),
        click.option(
            "--source",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Folder of the official files, or one above it.",
        ),
        click.option(
            "--resize",
            metavar="WIDTHxHEIGHT",
            help="Pixels that all images of a folder are brought to; of one size by default.",
        ),
        click.option(
            "--gray",
            is_flag=True,
            default=None,
            help="Read images of a folder as grey ones; where all are grey by default.",
        ),
    ):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the command line gives."""
    return {name: value for name, value in options.items() if value is not None}


@click.command()
@click.argument("what", metavar="WHAT")
@reader_options
@click.option("--out", "-o", metavar="STORE", help="The new store (NAME.zarr by default).")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@click.option("--scale", type=float,
              help="Factor on all features before any distance; 1/255 for images of bytes, 1 for "
              "other data by default.")  # fmt: skip
@click.option("--seed", type=int, help="Of random train/test splits; 0 by default.")
@click.option(
    "--name", help="What the data set is called in titles; as the file or store by default."
)
def ingest(
    what: str, source: Path | None, out: str | None, overwrite: bool, **options: Any
) -> None:
    """Read a data set from its official files into a new store.

    WHAT is mnist, cifar10 or online-news; digits, iris, wine, breast-cancer or diabetes, which
    scikit-learn brings along; openml:NAME; a file: .npz, .npy, .csv, .csv.gz, .parquet, .h5 or
    .hdf5; or a folder of images, with a sub-folder per class (or train and test, with such
    sub-folders). MNIST and CIFAR-10 come from OpenML where no --source is given.

    \b
    Examples:
      dskrobust ingest mnist --source ~/data/mnist
      dskrobust ingest online-news --source ~/data --seed 1
      dskrobust ingest own.npz --x features --y labels --out own.zarr
      dskrobust ingest houses.csv --target price --labels real
      dskrobust ingest own.h5 --x images --y labels --split fold
      dskrobust ingest photos
      dskrobust ingest photos --resize 64x48 --gray
    """
    from ..datasets import ReaderOptions, open_reader
    from ..show import terminal
    from ..store import write_store

    out = out or _default_name(what)
    reader = open_reader(what, source, ReaderOptions(**_given(options)))
    with terminal.progress(f"Reading {what}", reader.rows) as job:
        store = write_store(
            out, reader.spec, reader.blocks(), overwrite=overwrite, progress=job.add
        )
    describe(store)
    for remark in reader.remarks:
        terminal.fact("note", remark)
    terminal.fact("store", f"{out}  ({terminal.clock(job.elapsed)})")
    terminal.fact("next", f"dskrobust compute {out}")


def _default_name(what: str) -> str:
    from ..datasets import without_end

    if what.startswith("openml:"):
        return f"{what.removeprefix('openml:')}.zarr"
    return f"{without_end(Path(what).expanduser().resolve().name)}.zarr"


def describe(store: Store) -> None:
    """Say in two or three lines what data a store holds."""
    from ..show import terminal

    dtype = store.row_shape("features")[1]
    terminal.say(store.spec.name, style=terminal.STRONG)
    terminal.fact(
        "features",
        f"{store.rows:,} × {store.columns:,} {dtype}"
        + (f", times {store.spec.scale:.6g}" if store.spec.scale != 1 else "")
        + f", {terminal.size(store.rows * store.columns * dtype.itemsize)}",
    )
    labels = store.spec.label_kind
    if store.spec.classes:
        shown = ", ".join(terminal.shown_name(name, 40) for name in store.spec.classes[:12])
        labels += f": {shown}{', …' if len(store.spec.classes) > 12 else ''}"
    terminal.fact("labels", labels)
    counts = store.summary.groups
    groups = (
        f"{terminal.shown_name(g, 40)} {counts[k].rows:,}"
        for k, g in enumerate(store.groups)
        if k in counts
    )
    terminal.fact("groups", ", ".join(groups))


@click.command()
@store_argument
@click.option("--x", required=True, metavar="PATH", help="Zarr array of the features (n, d).")
@click.option("--y", required=True, metavar="PATH", help="Zarr array of labels (n,) or (n, m).")
@click.option("--split", metavar="PATH", help="Zarr array (n,) with the group of every row.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor on all features.")
@click.option(
    "--labels",
    type=click.Choice(["categorical", "real", "vector"]),
    help="What labels mean; told by their type by default.",
)
@click.option(
    "--name", help="What the data set is called in titles; as the file or store by default."
)
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
def link(
    store: str,
    x: str,
    y: str,
    split: str | None,
    scale: float,
    labels: str | None,
    name: str | None,
    overwrite: bool,
) -> None:
    """Make a store of your own Zarr arrays, which stay where they are.

    The arrays are read once, to check and checksum them; nothing is copied.

    \b
    Example:
      dskrobust link own.zarr --x /data/x.zarr --y /data/y.zarr
    """
    import numpy as np

    from ..datasets import link_store
    from ..labels import infer_label_kind
    from ..show import terminal
    from ..store import StoreSpec, open_array

    features, target = open_array(absolute(x)), open_array(absolute(y))
    groups = open_array(absolute(split)) if split else None
    kind = labels or infer_label_kind(np.dtype(target.dtype), len(target.shape))
    spec = StoreSpec(name or Path(store).name.removesuffix(".zarr"), kind, scale=scale)
    with terminal.progress("Reading", unit=""):
        made = link_store(store, features, target, groups, spec=spec, overwrite=overwrite)
    describe(made)
    terminal.fact("store", f"{store} refers to {x} and {y}")
    terminal.fact("next", f"dskrobust compute {store}")


@click.command()
@store_argument
@click.argument("what", metavar="WHAT")
@reader_options
@click.option("--group", metavar="NAME", help="Group of all new rows, an old or a new one.")
def append(store: str, what: str, source: Path | None, group: str | None, **options: Any) -> None:
    """Append new rows to a store; what is scored already stays so.

    WHAT is what `ingest` takes. Classes and groups are matched by their names; new ones are added.
    The next `compute` looks only at pairs with new rows in them.

    \b
    Examples:
      dskrobust append own.zarr monday.npz --group train
      dskrobust append news.zarr online-news --source monday.csv --group test
    """
    from ..datasets import append as append_to
    from ..show import terminal
    from ..store import open_store

    opened = open_store(store)
    before = opened.rows
    remarks: list[str] = []
    with terminal.progress(f"Reading {what}") as job:
        how: dict[str, Any] = {"progress": job.add, "remark": remarks.append, **_given(options)}
        grown = append_to(opened, what, source, group=group, **how)
    terminal.say(f"{grown.rows - before:,} rows appended to {store}")
    describe(grown)
    for remark in remarks:
        terminal.fact("note", remark)
    _say_what_is_left(grown, store)


def _say_what_is_left(store: Store, address: str) -> None:
    from ..show import terminal
    from ..store import find_results

    known = max((r.rows for r in find_results(store) if r.is_prefix_of(store)), default=0)
    remark = (
        ""
        if not known
        else (
            f"  (pairs of the {known:,} rows scored before are kept: only tiles with new rows run)"
        )
    )
    terminal.fact("next", f"dskrobust compute {address}{remark}")


@click.command()
@store_argument
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    metavar="N",
    help="Rows whose results are proven again by brute force.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the random sample.")  # fmt: skip
def verify(store: str, sample: int, seed: int) -> None:
    """Read every chunk again, and prove a random sample of results by brute force.

    \b
    Example:
      dskrobust verify mnist.zarr --sample 500
    """
    from ..show import terminal
    from ..store import find_results, open_store
    from ..verify import verify_store

    opened = open_store(store)
    have = [r for r in find_results(opened, everything=True) if r.covers(opened)]
    with terminal.progress("Checking", opened.rows) as job:
        report = verify_store(
            opened,
            sample=sample,
            seed=seed,
            progress=lambda done, total: job.add(done - job.done),
        )
    terminal.say("All good.", style="green")
    terminal.fact(
        "data", f"{report.rows:,} rows, {terminal.size(report.bytes_read)}: every checksum agrees"
    )
    for result in have:
        proof = f"{len(report.sampled):,} rows proven again by brute force, equal to the last bit"
        if result.name in report.unproven:
            proof = "its metric is a function: prove it with dskrobust.verify_store(metric=…)"
        terminal.fact("result", f"{result.name}: every checksum agrees; {proof}")
    if not have:
        terminal.fact("result", "none for this data yet")
    terminal.fact("took", terminal.clock(job.elapsed))
