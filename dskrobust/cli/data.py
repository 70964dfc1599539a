"""Commands that bring data into a store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from ..paths import expand_path
from .memory import say_memory
from .options import (
    Address,
    NewStore,
    Number,
    asked_cluster,
    opened_store,
    say_next,
    store_argument,
    where_options,
)
from .renamed import WithOldNames
from .source_options import (
    keywords,
    kind_option,
    preparation_options,
    reader_options,
    split_options,
)

if TYPE_CHECKING:
    from ..cluster import ClusterOptions
    from ..datasets import Reader
    from ..engine.plan import Resources
    from ..store import Block, Store

NARROWER = Hint(
    "read fewer columns, or let workers with more memory read",
    "read fewer columns (--drop), or run it on a machine with more memory",
)
SMALLER_CHUNKS = Hint(
    "write the arrays in smaller chunks, or copy them block by block (link=False)",
    "write the arrays in smaller chunks, or run it on a machine with more memory",
)
name_option = click.option(
    "--name", help="What the data set is called in titles; as the file or store by default."
)
TASKS = {"classification": "categorical", "regression": "real"}


@click.command()
@click.argument("what", metavar="WHAT")
@reader_options
@click.option(
    "--out", "-o", type=NewStore(), metavar="STORE", help="The new store (NAME.zarr by default)."
)
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@preparation_options
@click.option("--dry-run", is_flag=True, help="Say what each column would become; write nothing.")
@split_options
@where_options
@name_option
def ingest(
    what: str,
    source: Path | None,
    out: str | None,
    overwrite: bool,
    dry_run: bool,
    task: str | None,
    **options: Any,
) -> None:
    """Read a data set from its official files into a new store.

    WHAT is mnist, cifar10 or online-news; digits, iris, wine, breast-cancer or diabetes, which
    scikit-learn brings along; plane, the points of the paper's Figure 1; openml:NAME; a file: .npz,
    .npy, .h5, .hdf5 or .h5ad; a table, also at a URL: .csv or .tsv (packed as .gz, .bz2 or .zst,
    too), .parquet, .feather or .arrow, a folder of such Parquet or Arrow files, or a Hugging Face
    dataset as save_to_disk writes it; or a folder of images, with a sub-folder per class (or train
    and test, with such sub-folders). MNIST and CIFAR-10 come from OpenML where no --source is
    given.

    This process reads. With --workers or --scheduler the workers read images, Parquet and Arrow
    files, .npy and HDF5 files, each another run of rows; they have to see the source.

    \b
    Examples:
      dskrobust ingest mnist --source ~/data/mnist
      dskrobust ingest online-news --source ~/data --seed 1
      dskrobust ingest own.npz --x features --y labels --out own.zarr
      dskrobust ingest houses.csv --target price --task regression
      dskrobust ingest messung.csv --delimiter ";" --decimal ","
      dskrobust ingest passengers.csv --target survived --drop ticket --dry-run
      dskrobust ingest own.h5 --x images --y labels --split fold
      dskrobust ingest visits.csv --target ill --test-size 0.2 --stratify
      dskrobust ingest visits.csv --target ill --folds 5 --group patient
      dskrobust ingest cells.h5ad --x obsm/X_pca --target cell_type --split batch
      dskrobust ingest photos
      dskrobust ingest photos --resize 64x48 --gray
      dskrobust ingest photos --workers 4
    """
    from ..datasets import ReaderOptions, open_reader
    from ..show import terminal
    from ..store import check_free

    cluster = asked_cluster(options)
    out = out or _default_name(what)
    if task is not None:
        if options["labels"] not in (None, TASKS[task]):
            raise click.UsageError(f"--task {task} means --labels {TASKS[task]}; give one of them")
        options["labels"] = TASKS[task]
    reader = open_reader(what, source, ReaderOptions.of(None, keywords(options)))
    projected = _projected_peak(reader)
    if not dry_run:
        check_free(out, overwrite=overwrite)
    if dry_run:
        _foretell(reader)
        terminal.fact("memory", f"{terminal.size(projected)} at most")
        terminal.fact("written", "nothing (dry run)")
        return
    store, seconds = _write(reader, (what, out), cluster, overwrite=overwrite)
    describe(store)
    say_memory(projected)
    terminal.fact("store", f"{out}  ({terminal.clock(seconds)})")
    say_next(store, out)


def _write(
    reader: Reader, names: tuple[str, str], cluster: ClusterOptions | None, *, overwrite: bool
) -> tuple[Store, float]:
    """Write a new store of a source, by the workers of a cluster where one is asked for."""
    from ..datasets import has_parts, write_reader
    from ..show import terminal

    what, out = names
    with ExitStack() as stack:
        if cluster is not None and not has_parts(reader):
            terminal.fact("read", f"{what} here: it is one stream, which no workers share")
        elif cluster is not None:
            each = _writing_memory(next(iter(reader.blocks())), reader.rows)
            _connect(stack, cluster, each)
        job = stack.enter_context(terminal.progress(f"Reading {what}", reader.rows))
        store = write_reader(out, reader, overwrite=overwrite, progress=job.add)
    return store, job.elapsed


def _connect(stack: ExitStack, cluster: ClusterOptions, each: int) -> None:
    """Connect to workers of which every thread holds so many bytes at once."""
    from ..cluster.local import local_resources
    from ..cluster.workers import found_resources
    from .run_view import connected

    if not cluster.is_remote:  # workers that are too small would not even start
        _check_workers(each, local_resources(cluster))
    stack.enter_context(connected(cluster))
    _check_workers(each, found_resources())


def _check_workers(each: int, workers: Resources) -> None:
    """Refuse workers whose memory does not hold what each of their threads reads and writes.

    Raises
    ------
    MemoryPlanError
    """
    from ..engine.plan import BASE_BYTES
    from ..errors import MemoryPlanError
    from ..show import terminal

    needed = BASE_BYTES + workers.threads * each
    if workers.memory_limit is not None and needed > workers.memory_limit:
        raise MemoryPlanError(
            f"a worker holds up to {terminal.size(needed)} while it reads and writes, but may use "
            f"{terminal.size(workers.memory_limit)}",
            Hint(
                "give workers more memory or fewer threads",
                "use --threads 1, or a larger --memory-limit",
            ),
        )


def _projected_peak(reader: Reader) -> int:
    """Return how many bytes this process holds at most until the source is a store."""
    from ..memory import projected_peak

    first = next(iter(reader.blocks()), None)
    needed = 0 if first is None else _writing_memory(first, reader.rows)
    return projected_peak("writing a store", needed, NARROWER)


def _writing_memory(block: Block, rows: int | None) -> int:
    from ..store import Layout, writing_memory

    return writing_memory(Layout.of(block.features, block.labels, block.ids), rows)


def _foretell(reader: Reader) -> None:
    """Say what a store would hold."""
    from ..show import terminal

    spec = reader.spec
    for decision in spec.decisions:
        terminal.fact("read", decision)
    names = spec.feature_names or ()
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12:,} more" if names[12:] else "")
    rows = "" if reader.rows is None else f"{reader.rows:,} × "
    if names:
        terminal.fact("features", f"{rows}{len(names):,}: {shown}")
    classes = f": {', '.join(spec.classes[:12])}" if spec.classes else ""
    terminal.fact("labels", f"{spec.label_kind}{classes}")
    terminal.fact("groups", ", ".join(spec.groups))


def _default_name(what: str) -> str:
    from ..datasets import without_end

    if what.startswith("openml:"):
        return f"{what.removeprefix('openml:')}.zarr"
    return f"{without_end(expand_path(what).resolve().name)}.zarr"


def describe(store: Store) -> None:
    """Say in a few lines what data a store holds, and what was noticed of it."""
    from ..show import terminal
    from ..store import READING

    dtype = store.row_shape("features")[1]
    terminal.say(store.spec.name, style=terminal.STRONG)
    terminal.fact(
        "features",
        f"{store.rows:,} × {store.columns:,} {dtype}"
        + (f", times {store.spec.scale:.6g}" if store.spec.scale != 1 else "")
        + f", {terminal.size(store.rows * store.columns * dtype.itemsize)}",
    )
    if store.spec.embedding:
        terminal.fact("embedding", store.spec.embedding)
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
    for note in store.notes or ():
        terminal.fact("read" if note.kind == READING else "note", note.on_command_line)
    if store.has_ids:
        column = (store.spec.preparation or {}).get("id")
        what = "text" if store.ids.dtype == object else "whole numbers"
        terminal.fact("ids", f"{what} (column {column})" if column else what)


@click.command(cls=WithOldNames, old={"--features": "--x", "--label-kind": "--labels"})
@click.argument("store", type=NewStore(), metavar="STORE")
@click.option("--x", required=True, metavar="PATH", help="Zarr array of the features (n, d).")
@click.option("--y", required=True, metavar="PATH", help="Zarr array of labels (n,) or (n, m).")
@click.option("--split", metavar="PATH", help="Zarr array (n,) with the group of every row.")
@click.option("--ids", type=Address(), metavar="PATH", help="Zarr array (n,) of the rows' ids.")
@click.option(
    "--scale", type=Number(), default=1.0, show_default=True, help="Factor on all features."
)
@kind_option
@name_option
@click.option("--overwrite", is_flag=True, help="Replace a store that is there already.")
@where_options
def link(
    store: str,
    x: str,
    y: str,
    split: str | None,
    ids: str | None,
    scale: float,
    labels: str | None,
    name: str | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Make a store of your own Zarr arrays, which stay where they are.

    The arrays are read once, to check and checksum them, by this process or, with --workers or
    --scheduler, by workers; nothing is copied.

    \b
    Example:
      dskrobust link own.zarr --x /data/x.zarr --y /data/y.zarr
    """
    import numpy as np

    from ..datasets import link_store
    from ..labels import infer_label_kind
    from ..memory import projected_peak
    from ..show import terminal
    from ..store import StoreSpec, linking_memory, open_array

    cluster = asked_cluster(where)
    features, target = open_array(x), open_array(y)
    groups, called = (open_array(path) if path else None for path in (split, ids))
    kind = labels or infer_label_kind(np.dtype(target.dtype), len(target.shape))
    spec = StoreSpec(name or Path(store).name.removesuffix(".zarr"), kind, scale=scale)
    needed = linking_memory([a for a in (features, target, groups, called) if a is not None])
    projected = projected_peak("reading the arrays", needed, SMALLER_CHUNKS)
    with ExitStack() as stack:
        if cluster is not None:
            _connect(stack, cluster, needed)
        stack.enter_context(terminal.progress("Reading", unit=""))
        made = link_store(
            store, features, target, groups, ids=called, spec=spec, overwrite=overwrite
        )
    describe(made)
    say_memory(projected)
    terminal.fact("store", f"{store} refers to {x} and {y}")
    say_next(made, store)


@click.command(cls=WithOldNames, old={"--group": "--into"})
@store_argument
@click.argument("what", metavar="WHAT")
@reader_options
@click.option("--into", "group", metavar="GROUP",
              help="Group of all new rows, an old or a new one.")  # fmt: skip
def append(store: str, what: str, source: Path | None, group: str | None, **options: Any) -> None:
    """Append new rows to a store; what is scored already stays so.

    WHAT is what `ingest` takes. Classes and groups are matched by their names; new ones are added.
    The next `compute` looks only at pairs with new rows in them.

    \b
    Examples:
      dskrobust append own.zarr monday.npz --into train
      dskrobust append news.zarr online-news --source monday.csv --into test
    """
    from ..datasets import ReaderOptions, more_rows
    from ..memory import projected_peak
    from ..show import terminal

    opened = opened_store(store)
    more = more_rows(opened, what, source, group, ReaderOptions.of(None, keywords(options)))
    projected = projected_peak("writing rows", more.memory, NARROWER)
    with terminal.progress(f"Reading {what}") as job:
        grown = more.append(job.add)
    terminal.say(f"{grown.rows - opened.rows:,} rows appended to {store}")
    describe(grown)
    for remark in more.reader.remarks:
        terminal.fact("read", remark)
    say_memory(projected)
    _say_what_is_left(grown, store)


def _say_what_is_left(store: Store, address: str) -> None:
    from ..store import find_results

    known = max((r.rows for r in find_results(store) if r.is_prefix_of(store)), default=0)
    remark = (
        ""
        if not known
        else (
            f"  (pairs of the {known:,} rows scored before are kept: only tiles with new rows run)"
        )
    )
    say_next(store, address, remark)
